//! A mediator's money: the ledger always, and with the feature `bitcoin` the wallets that move it.
//!
//! The rest of the mediator knows the money by [`Settlement`] alone. Which implementation is built in
//! is decided here and nowhere else.

#[cfg(feature = "bitcoin")]
mod bitcoin;
#[cfg(not(feature = "bitcoin"))]
mod books_only;
mod options;
mod settlement;

#[cfg(feature = "bitcoin")]
pub(super) use bitcoin::withdrawals::WithdrawalError;
#[cfg(feature = "bitcoin")]
pub use bitcoin::{LightningView, Money, MoveError, PayoutFailure, WalletView};
#[cfg(not(feature = "bitcoin"))]
pub use books_only::Money;
pub use options::{MoneyError, MoneyOptions, MoneyPaths};
pub(super) use settlement::{Settlement, SettlementError};
