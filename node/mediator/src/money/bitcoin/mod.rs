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
mod paid_at;
mod payout_failures;
mod payout_intents;
mod payout_loop;
mod payout_reports;
mod payout_sender;
mod transfers;
mod view;
mod wallets;
mod withdrawals;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::{Ledger, LedgerError};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, Clock, NodeId, Random, Refusal};
use fincrypt_state::state::State;
use fincrypt_treasury::onchain::TreasuryError;
use parking_lot::Mutex;
use tokio::sync::watch;

use channel_costs::ChannelCosts;
use deposits::Deposits;
use destination::Destinations;
use due::PayoutTerms;
use paid_at::PaidAt;
pub use payout_failures::PayoutFailure;
use payout_failures::PayoutFailures;
use payout_intents::PayoutIntents;
use payout_loop::PayoutLoop;
use payout_reports::PayoutReports;
use payout_sender::PayoutSender;
pub use transfers::MoveError;
use transfers::Transfers;
pub use view::{LightningView, WalletView};
use wallets::Wallets;
use withdrawals::Withdrawals;

use super::{HolderLink, MoneyError, MoneyOptions, Settlement};

/// The services of the money.
pub struct Money {
    wallets: Arc<Wallets>,
    deposits: Arc<Deposits>,
    destinations: Arc<Destinations>,
    failures: Arc<PayoutFailures>,
    intents: Arc<PayoutIntents>,
    withdrawals: Withdrawals,
    sender: PayoutSender,
    transfers: Transfers,
    reports: Arc<PayoutReports>,
    channel_costs: ChannelCosts,
    /// Why the chain cannot be read.
    chain_down: Mutex<Option<String>>,
}

fn payout_terms(options: &MoneyOptions) -> PayoutTerms {
    let interval = Duration::from_secs(options.payout_interval);
    PayoutTerms {
        threshold: options.payout_threshold,
        interval: Some(interval).filter(|interval| !interval.is_zero()),
        channel_from: Msat::new(options.credit_bound.get() / 2),
        routing_permille: options.routing_fee_permille,
    }
}

impl Money {
    /// Opens the books, and what else the configuration has.
    ///
    /// # Errors
    /// [`MoneyError`]: nothing may be paid or promised then.
    pub fn open(
        options: &MoneyOptions,
        state: State,
        clock: Clock,
        random: Random,
    ) -> Result<Self, MoneyError> {
        let failures = Arc::new(PayoutFailures::new(clock.clone()));
        let wallets = Arc::new(Wallets::open(options, clock, random)?);
        let deposits = Arc::new(Deposits::new(Arc::clone(&wallets), state.clone()));
        let destinations = Arc::new(Destinations::new(state.clone(), wallets.network()));
        let reports = Arc::new(PayoutReports::new(Arc::clone(&wallets), state.clone()));
        let paid_at = PaidAt::new(state);
        let intents = Arc::new(PayoutIntents {
            wallets: Arc::clone(&wallets),
            failures: Arc::clone(&failures),
            paid_at: paid_at.clone(),
            terms: payout_terms(options),
        });
        Ok(Self {
            withdrawals: Withdrawals {
                wallets: Arc::clone(&wallets),
                destinations: Arc::clone(&destinations),
                intents: Arc::clone(&intents),
                reports: Arc::clone(&reports),
            },
            sender: PayoutSender { wallets: Arc::clone(&wallets), failures: Arc::clone(&failures), paid_at },
            transfers: Transfers { wallets: Arc::clone(&wallets) },
            channel_costs: ChannelCosts::new(Arc::clone(&wallets), Arc::clone(&deposits)),
            wallets,
            deposits,
            destinations,
            failures,
            intents,
            reports,
            chain_down: Mutex::default(),
        })
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.wallets.ledger
    }

    /// Books what came in, sends what is to be sent, and books what has arrived. Blocks.
    fn move_money(&self) -> Result<(), LedgerError> {
        let treasury = self.wallets.treasury();
        if let Some(treasury) = treasury {
            match treasury.sync() {
                Ok(()) => {
                    *self.chain_down.lock() = None;
                    self.sender.reopen(treasury)?;
                    self.deposits.collect_outputs(treasury)?;
                    self.sender.push_transactions(treasury)?;
                    self.transfers.push(treasury)?;
                    self.sender.bury(treasury);
                }
                Err(error) => self.note_chain_down(&error),
            }
        }
        self.deposits.collect_payments()?;
        self.sender.push_payments()?;
        treasury.map_or(Ok(()), |treasury| self.channel_costs.settle(treasury))
    }

    /// Notes, once, that the chain cannot be read: deposits and payouts on it wait.
    fn note_chain_down(&self, error: &TreasuryError) {
        let reason = error.to_string();
        let mut down = self.chain_down.lock();
        if down.as_ref() != Some(&reason) {
            tracing::warn!(reason, "chain_unreadable");
        }
        *down = Some(reason);
    }
}

impl Settlement for Money {
    fn books(&self) -> &Ledger {
        &self.wallets.ledger
    }

    fn takes_deposits(&self) -> bool {
        self.wallets.lightning_keeper().is_some()
    }

    fn deposit_to(&self, account: AccountId) -> Result<(Option<String>, Option<String>), Refusal> {
        self.deposits.deposit_to(account)
    }

    fn pending(&self, account: &AccountId) -> Vec<Pending> {
        self.deposits.pending(account)
    }

    fn withdraw(&self, account: AccountId, withdrawal: &Withdrawal) -> Result<Payout, Refusal> {
        self.withdrawals.withdraw(account, withdrawal)
    }

    fn repeat_reports(&self, node: &NodeId) -> Result<(), Refusal> {
        self.reports.repeat(node)
    }

    async fn run(self: Arc<Self>, holders: HolderLink, epoch: Duration, mut stop: watch::Receiver<bool>) {
        match self.wallets.lightning_keeper() {
            Some(keeper) => {
                let payouts = PayoutLoop::new(Arc::clone(&self), holders, epoch);
                tokio::join!(Arc::clone(keeper).run(stop.clone()), payouts.run(stop));
            }
            // A sender that is gone is a stop, too.
            None => drop(stop.changed().await),
        }
    }
}
