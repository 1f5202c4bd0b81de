//! The money that moves: the wallet on the chain, the Lightning node, and who is paid when.
//!
//! Everything is carried out from the books: what they say is under way is looked up, and only what
//! was never sent is sent. So a crash between any two steps is followed by the step that was next.
//!
//! Services share [`wallets`], and each owns what else it needs:
//!
//! | Service | Owns |
//! | --- | --- |
//! | [`deposits`] | addresses and offers of accounts, and their deposits |
//! | [`payout_intents`] with [`batch`] and [`channels`] | decisions on payouts to storage nodes |
//! | [`withdrawals`] | decisions on payouts to clients |
//! | [`payout_sender`] with [`chain_payouts`] and [`lightning_payouts`] | what becomes of decisions |
//! | [`transfers`] | money moved between the wallets |
//! | [`channel_costs`] | what channels cost and earn |
//! | [`payout_reports`] | what creditors were told |
//! | [`payout_failures`] | who could not be paid, and when that is tried again |
//! | [`payout_loop`] | the task that does all of this in rounds |

mod batch;
mod chain_payouts;
mod channel_costs;
mod channels;
mod deposits;
mod destination;
mod due;
mod lightning_payouts;
mod money;
mod paid_at;
mod payout_failures;
mod payout_intents;
mod payout_loop;
mod payout_reports;
mod payout_sender;
mod transfers;
mod view;
mod wallets;
pub(super) mod withdrawals;

pub use money::Money;
pub use payout_failures::PayoutFailure;
pub use transfers::MoveError;
pub use view::{LightningView, WalletView};
