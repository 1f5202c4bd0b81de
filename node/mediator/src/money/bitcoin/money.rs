//! The services of the money, put together, and as the rest of the mediator knows them.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::{Ledger, LedgerError};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, Clock, NodeId, Random};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use fincrypt_treasury::onchain::TreasuryError;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::channel_costs::ChannelCosts;
use super::deposits::Deposits;
use super::destination::Destinations;
use super::due::PayoutTerms;
use super::paid_at::PaidAt;
use super::payout_failures::PayoutFailures;
use super::payout_intents::PayoutIntents;
use super::payout_loop::PayoutLoop;
use super::payout_reports::PayoutReports;
use super::payout_sender::PayoutSender;
use super::transfers::Transfers;
use super::wallets::Wallets;
use super::withdrawals::Withdrawals;

use crate::holder_link::HolderLink;
use crate::money::options::{MoneyError, MoneyOptions};
use crate::money::settlement::{DepositTargets, Settlement, SettlementError};

/// The services of the money.
pub struct Money {
    pub(super) wallets: Arc<Wallets>,
    pub(super) deposits: Arc<Deposits>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) failures: Arc<PayoutFailures>,
    pub(super) intents: Arc<PayoutIntents>,
    pub(super) withdrawals: Withdrawals,
    pub(super) sender: PayoutSender,
    pub(super) transfers: Transfers,
    pub(super) reports: Arc<PayoutReports>,
    pub(super) channel_costs: ChannelCosts,
    /// Why the chain cannot be read.
    pub(super) chain_down: Mutex<Option<String>>,
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
    pub(super) fn move_money(&self) -> Result<(), LedgerError> {
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

    fn deposit_to(&self, account: AccountId) -> Result<DepositTargets, SettlementError> {
        self.deposits.deposit_to(account)
    }

    fn pending(&self, account: &AccountId) -> Vec<Pending> {
        self.deposits.pending(account)
    }

    fn withdraw(&self, account: AccountId, withdrawal: &Withdrawal) -> Result<Payout, SettlementError> {
        Ok(self.withdrawals.withdraw(account, withdrawal)?)
    }

    fn repeat_reports(&self, node: &NodeId) -> Result<(), KvError> {
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
