//! Payouts on the chain, and money moved to the Lightning node: carried out from what the books and
//! the wallet's journal say.
//!
//! ```text
//! intent in the books → signed, durable in the wallet → sent in the books → sent, again and again
//!      │                      └ another version with a higher fee, if it waits for long
//!      └ a crash before anything was signed: the intent fails, what it was for is owed again
//! ```
//!
//! A move waits and is replaced likewise. A payout is settled at six confirmations, and reopened if the chain is reorganised after that.

use fincrypt_ledger::{Account, Event, LedgerError, PayoutBook, PayoutStage, Rail};
use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::money::Sending;
use fincrypt_protocol::{PayoutId, TxId, UnixTime};
use fincrypt_treasury::onchain::{Prepared, StandsOnChain, Treasury, TreasuryError};

use super::Money;

/// Blocks on a payout from which on it counts as arrived.
pub(super) const SETTLED: u32 = 6;
/// Blocks after which a payout that waits is replaced by a version with a higher fee.
const REPLACE_AFTER: u32 = 6;
/// What a replacement may cost, in permille of what is paid.
const REPLACE_PERMILLE: u64 = 100;
/// Blocks in which a payout ought to be mined.
pub(super) const TARGET: u16 = 12;
/// And one that has waited.
const SOON: u16 = 2;

fn msat(sat: Sat) -> Msat {
    sat.to_msat().unwrap_or(Msat::new(u64::MAX))
}

impl Money {
    /// Reopens payouts whose transactions are no longer in the chain. Before deposits are taken back:
    /// what a payout spent is there again.
    pub(super) fn reopen(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let settled: Vec<(PayoutId, u32)> = self.ledger.books(|books| {
            let on_chain = books.payouts().filter(|(_, book)| book.rail == Rail::OnChain);
            let settled = on_chain.filter(|(_, book)| matches!(book.stage, PayoutStage::Settled { .. }));
            settled.map(|(id, book)| (id, book.round)).collect()
        });
        for (payout, round) in settled {
            // Buried ones are not known there any more.
            if matches!(treasury.stands(payout), Some(StandsOnChain::Waiting { .. } | StandsOnChain::Dead)) {
                tracing::warn!(%payout, "a payout's transaction is no longer in the chain");
                self.ledger.record(UnixTime::now(), &Event::PayoutReopened { payout, round })?;
            }
        }
        Ok(())
    }

    /// Sends what is to be sent on the chain, and books what has arrived or failed.
    pub(super) fn push_transactions(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let _deciding = self.decide();
        let open: Vec<(PayoutId, PayoutBook)> = self.ledger.books(|books| {
            let open = books.open_payouts().filter(|(_, book)| book.rail == Rail::OnChain);
            open.map(|(id, book)| (id, book.clone())).collect()
        });
        for (payout, book) in open {
            let now = UnixTime::now();
            match treasury.stands(payout) {
                Some(StandsOnChain::Waiting { newest, blocks }) => {
                    let newest = replaced(treasury, payout, book.total().whole_sat(), newest, blocks);
                    let sending = Sending::Transaction(newest.transaction);
                    self.ledger.record(now, &Event::PayoutSent { payout, sending })?;
                    send(treasury, payout);
                }
                Some(StandsOnChain::Mined { version, confirmations }) => {
                    let sending = Sending::Transaction(version.transaction);
                    self.ledger.record(now, &Event::PayoutSent { payout, sending })?;
                    if confirmations >= SETTLED {
                        self.settle(payout, &book, version, now)?;
                    }
                }
                // What was sent is not sent for anything else, even if the wallet's journal was lost.
                None if !book.sent.is_empty() => self.find_sent(treasury, payout, &book, now)?,
                // Never signed, so never sent; or its coins are gone for good.
                None | Some(StandsOnChain::Dead) => {
                    tracing::warn!(%payout, "a payout on the chain was not made");
                    self.ledger.record(now, &Event::PayoutFailed { payout })?;
                    self.not_paid(&book, "the payout on the chain was not made");
                }
            }
        }
        self.push_moves(treasury)
    }

    /// Books a payout that one of its transactions has made.
    fn settle(
        &self,
        payout: PayoutId,
        book: &PayoutBook,
        version: Prepared,
        now: UnixTime,
    ) -> Result<(), LedgerError> {
        // What is beyond the parts, as of a replacement, is the mediator's.
        let left = book.arrives().checked_add(msat(version.fee)).unwrap_or_default().max(book.total());
        let (round, sending) = (book.round, Sending::Transaction(version.transaction));
        self.ledger.record(now, &Event::PayoutSettled { payout, round, sending, left })?;
        self.paid(book, now);
        Ok(())
    }

    /// Looks in the chain for a payout that was sent and that the wallet knows nothing of.
    fn find_sent(
        &self,
        treasury: &Treasury,
        payout: PayoutId,
        book: &PayoutBook,
        now: UnixTime,
    ) -> Result<(), LedgerError> {
        let found = book.sent.iter().find_map(|sending| match sending {
            Sending::Transaction(id) => treasury.sent(*id),
            Sending::Payment(_) => None,
        });
        match found {
            Some((version, confirmations)) if confirmations >= SETTLED => {
                self.settle(payout, book, version, now)
            }
            Some(_) => Ok(()),
            None => {
                self.not_paid(book, "its transaction was sent, and is neither in the chain nor in the wallet's journal: it may still arrive, so nothing is sent again");
                Ok(())
            }
        }
    }

    /// Lets the wallet forget what is deep in the chain and over by the books.
    pub(super) fn bury(&self, treasury: &Treasury) {
        let over = |payout| {
            self.ledger.books(|books| {
                books.payout(payout).is_none_or(|book| matches!(book.stage, PayoutStage::Settled { .. }))
            })
        };
        if let Err(error) = treasury.bury(over) {
            tracing::warn!(%error, "payouts that are over are not forgotten");
        }
    }

    /// What the wallet sends that is no payout moves its money to the Lightning node.
    fn push_moves(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        for move_ in treasury.pending() {
            let known = self.ledger.books(|books| books.payout(move_.payout).is_some());
            if known || move_.versions.is_empty() {
                continue;
            }
            let first = move_.versions[0];
            match self.record_move(first.transaction, move_.outputs, first.fee) {
                Err(LedgerError::Books(refused)) => tracing::error!(%refused, "a move is not booked"),
                other => other?,
            }
            let newest = match treasury.stands(move_.payout) {
                Some(StandsOnChain::Waiting { newest, blocks }) => {
                    let most = self.unpromised().min(msat(move_.outputs)).whole_sat();
                    let newest = replaced(treasury, move_.payout, most, newest, blocks);
                    send(treasury, move_.payout);
                    newest
                }
                Some(StandsOnChain::Mined { version, .. }) => version,
                Some(StandsOnChain::Dead) | None => continue,
            };
            let event = Event::MoveReplaced { first: first.transaction, fee: msat(newest.fee) };
            match self.ledger.record(UnixTime::now(), &event) {
                Err(LedgerError::Books(refused)) => tracing::error!(%refused, "a move's fee is not booked"),
                other => drop(other?),
            }
        }
        Ok(())
    }

    fn record_move(&self, transaction: TxId, amount: Sat, fee: Sat) -> Result<(), LedgerError> {
        let (amount, fee) = (msat(amount), msat(fee));
        let event = Event::Moved { transaction, to: Rail::Lightning, amount, fee };
        self.ledger.record(UnixTime::now(), &event).map(drop)
    }

    /// What of the wallet's money is not promised to payouts.
    pub(super) fn unpromised(&self) -> Msat {
        let free = self.ledger.books(|books| {
            u128::from(books.balance(Account::OnChain).get()).saturating_sub(books.committed(Rail::OnChain))
        });
        Msat::new(u64::try_from(free).unwrap_or(u64::MAX))
    }

    /// Moves the wallet's money to the Lightning node's own coins, from which it opens channels. Blocks.
    pub fn fund_lightning(&self, amount: Sat) -> Result<TxId, MoveError> {
        let treasury = self.treasury().ok_or(MoveError::NoWallet)?;
        let lightning = self.lightning().ok_or(MoveError::NoWallet)?;
        let free = self.unpromised();
        let address = lightning.funding_address().map_err(|error| MoveError::Lightning(error.to_string()))?;
        let outputs = [fincrypt_treasury::onchain::Output { address, amount }];
        let fee = treasury.quote(&outputs, TARGET)?;
        if msat(amount).checked_add(msat(fee)).is_none_or(|needed| needed > free) {
            return Err(MoveError::Promised { free });
        }
        let payout = super::payout_intents::draw().map_err(|_| MoveError::NoWallet)?;
        let prepared = treasury.prepare(payout, &outputs, fee)?;
        self.record_move(prepared.transaction, amount, prepared.fee)?;
        send(treasury, payout);
        Ok(prepared.transaction)
    }
}

/// The version of what pays `worth` that is to be sent: another one, if the newest has waited for long and
/// costs too little.
fn replaced(treasury: &Treasury, payout: PayoutId, worth: Sat, newest: Prepared, blocks: u32) -> Prepared {
    if blocks < REPLACE_AFTER {
        return newest;
    }
    let most = Sat::new(worth.get() / 1000 * REPLACE_PERMILLE);
    match treasury.better_fee(payout, SOON) {
        Ok(Some(fee)) if fee <= most => treasury.replace(payout, fee).unwrap_or_else(|error| {
            tracing::warn!(%payout, %error, "what waits on the chain could not be replaced");
            newest
        }),
        _ => newest,
    }
}

/// Sends it; it is sent again in the next round, whatever becomes of it now.
fn send(treasury: &Treasury, payout: PayoutId) {
    if let Err(error) = treasury.send(payout) {
        tracing::warn!(%payout, %error, "a transaction could not be sent; it is sent again");
    }
}

/// Money could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is no wallet, or it does not run.
    #[error(
        "the wallet or the Lightning node does not run: look whether the bitcoind of the configuration answers"
    )]
    NoWallet,
    /// The Lightning node gives no address.
    #[error("the Lightning node gives no address: {0}")]
    Lightning(String),
    /// The rest is promised to payouts.
    #[error("{free} are not promised to payouts: move less, or add capital")]
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
