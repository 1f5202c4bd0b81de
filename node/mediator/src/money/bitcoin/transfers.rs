//! Money moved from the wallet on the chain to the Lightning node. A move waits and is replaced like a
//! payout on the chain.

use std::sync::Arc;

use fincrypt_ledger::{Event, LedgerError, Rail};
use fincrypt_protocol::TxId;
use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_treasury::onchain::{StandsOnChain, Treasury, TreasuryError};

use super::chain_payouts::{TARGET, msat, replaced, send};
use super::wallets::Wallets;

/// Moves money between the wallets.
pub(super) struct Transfers {
    pub(super) wallets: Arc<Wallets>,
}

impl Transfers {
    /// What the wallet sends that is no payout moves its money to the Lightning node.
    pub(super) fn push(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let _deciding = self.wallets.decide();
        for move_ in treasury.pending() {
            let known = self.wallets.ledger.books(|books| books.payout(move_.payout).is_some());
            if known || move_.versions.is_empty() {
                continue;
            }
            let first = move_.versions[0];
            match self.record_move(first.transaction, move_.outputs, first.fee) {
                Err(LedgerError::Books(refused)) => tracing::error!(%refused, "move_not_booked"),
                other => other?,
            }
            let newest = match treasury.stands(move_.payout) {
                Some(StandsOnChain::Waiting { newest, blocks }) => {
                    let most = self.wallets.unpromised().min(msat(move_.outputs)).whole_sat();
                    let newest = replaced(treasury, move_.payout, most, newest, blocks);
                    send(treasury, move_.payout);
                    newest
                }
                Some(StandsOnChain::Mined { version, .. }) => version,
                Some(StandsOnChain::Dead) | None => continue,
            };
            let event = Event::MoveReplaced { first: first.transaction, fee: msat(newest.fee) };
            match self.wallets.record(&event) {
                Err(LedgerError::Books(refused)) => tracing::error!(%refused, "move_fee_not_booked"),
                other => drop(other?),
            }
        }
        Ok(())
    }

    fn record_move(&self, transaction: TxId, amount: Sat, fee: Sat) -> Result<(), LedgerError> {
        let (amount, fee) = (msat(amount), msat(fee));
        let event = Event::Moved { transaction, to: Rail::Lightning, amount, fee };
        self.wallets.record(&event).map(drop)
    }

    /// Moves the wallet's money to the Lightning node's own coins, from which it opens channels. Blocks.
    pub(super) fn fund_lightning(&self, amount: Sat) -> Result<TxId, MoveError> {
        let treasury = self.wallets.treasury().ok_or(MoveError::NoWallet)?;
        let lightning = self.wallets.lightning().ok_or(MoveError::NoWallet)?;
        let free = self.wallets.unpromised();
        let address = lightning.funding_address().map_err(|error| MoveError::Lightning(error.to_string()))?;
        let outputs = [fincrypt_treasury::onchain::Output { address, amount }];
        let fee = treasury.quote(&outputs, TARGET)?;
        if msat(amount).checked_add(msat(fee)).is_none_or(|needed| needed > free) {
            return Err(MoveError::Promised { free });
        }
        let payout = self.wallets.draw();
        let prepared = treasury.prepare(payout, &outputs, fee)?;
        self.record_move(prepared.transaction, amount, prepared.fee)?;
        send(treasury, payout);
        Ok(prepared.transaction)
    }
}

/// Money could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is no wallet, or it does not run.
    #[error("the wallet or the Lightning node does not run")]
    NoWallet,
    /// The Lightning node gives no address.
    #[error("the Lightning node gives no address: {0}")]
    Lightning(String),
    /// The rest is promised to payouts.
    #[error("only {free} are not promised to payouts")]
    Promised {
        /// What is not promised.
        free: Msat,
    },
    /// The wallet on the chain.
    #[error(transparent)]
    Treasury(#[from] TreasuryError),
    /// The books.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
