//! Payouts on the chain, carried out from what the books and
//! the wallet's journal say.
//!
//! ```text
//! intent in the books → signed, durable in the wallet → sent in the books → sent, again and again
//!      │                      └ another version with a higher fee, if it waits for long
//!      └ a crash before anything was signed: the intent fails, what it was for is owed again
//! ```
//!
//! A payout is settled at six confirmations, and reopened if the chain is reorganised after that.

use fincrypt_ledger::{Event, LedgerError, PayoutBook, PayoutStage, Rail};
use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::money::Sending;
use fincrypt_protocol::{PayoutId, UnixTime};
use fincrypt_treasury::onchain::{Prepared, StandsOnChain, Treasury};

use super::payout_sender::PayoutSender;

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

pub(super) fn msat(sat: Sat) -> Msat {
    sat.to_msat().unwrap_or(Msat::new(u64::MAX))
}

impl PayoutSender {
    /// Reopens payouts whose transactions are no longer in the chain. Before deposits are taken back:
    /// what a payout spent is there again.
    pub(super) fn reopen(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let settled: Vec<(PayoutId, u32)> = self.wallets.ledger.books(|books| {
            let on_chain = books.payouts().filter(|(_, book)| book.rail == Rail::OnChain);
            let settled = on_chain.filter(|(_, book)| matches!(book.stage, PayoutStage::Settled { .. }));
            settled.map(|(id, book)| (id, book.round)).collect()
        });
        for (payout, round) in settled {
            // Buried ones are not known there any more.
            if matches!(treasury.stands(payout), Some(StandsOnChain::Waiting { .. } | StandsOnChain::Dead)) {
                tracing::warn!(%payout, "payout_reorganised");
                self.wallets.record(&Event::PayoutReopened { payout, round })?;
            }
        }
        Ok(())
    }

    /// Sends what is to be sent on the chain, and books what has arrived or failed.
    pub(super) fn push_transactions(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let _deciding = self.wallets.decide();
        let open: Vec<(PayoutId, PayoutBook)> = self.wallets.ledger.books(|books| {
            let open = books.open_payouts().filter(|(_, book)| book.rail == Rail::OnChain);
            open.map(|(id, book)| (id, book.clone())).collect()
        });
        for (payout, book) in open {
            let now = self.wallets.now();
            match treasury.stands(payout) {
                Some(StandsOnChain::Waiting { newest, blocks }) => {
                    let newest = replaced(treasury, payout, book.total().whole_sat(), newest, blocks);
                    let sending = Sending::Transaction(newest.transaction);
                    self.wallets.record(&Event::PayoutSent { payout, sending })?;
                    send(treasury, payout);
                }
                Some(StandsOnChain::Mined { version, confirmations }) => {
                    let sending = Sending::Transaction(version.transaction);
                    self.wallets.record(&Event::PayoutSent { payout, sending })?;
                    if confirmations >= SETTLED {
                        self.settle(payout, &book, version, now)?;
                    }
                }
                // What was sent is not sent for anything else, even if the wallet's journal was lost.
                None if !book.sent.is_empty() => self.find_sent(treasury, payout, &book, now)?,
                // Never signed, so never sent; or its coins are gone for good.
                None | Some(StandsOnChain::Dead) => {
                    tracing::warn!(%payout, "chain_payout_not_made");
                    self.wallets.record(&Event::PayoutFailed { payout })?;
                    self.not_paid(&book, "the payout on the chain was not made");
                }
            }
        }
        Ok(())
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
        self.wallets.record(&Event::PayoutSettled { payout, round, sending, left })?;
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
            self.wallets.ledger.books(|books| {
                books.payout(payout).is_none_or(|book| matches!(book.stage, PayoutStage::Settled { .. }))
            })
        };
        if let Err(error) = treasury.bury(over) {
            tracing::warn!(%error, "settled_payouts_not_buried");
        }
    }
}

/// The version of what pays `worth` that is to be sent: another one, if the newest has waited for long and
/// costs too little.
pub(super) fn replaced(
    treasury: &Treasury,
    payout: PayoutId,
    worth: Sat,
    newest: Prepared,
    blocks: u32,
) -> Prepared {
    if blocks < REPLACE_AFTER {
        return newest;
    }
    let most = Sat::new(worth.get() / 1000 * REPLACE_PERMILLE);
    match treasury.better_fee(payout, SOON) {
        Ok(Some(fee)) if fee <= most => treasury.replace(payout, fee).unwrap_or_else(|error| {
            tracing::warn!(%payout, %error, "transaction_not_replaced");
            newest
        }),
        _ => newest,
    }
}

/// Sends it; it is sent again in the next round, whatever becomes of it now.
pub(super) fn send(treasury: &Treasury, payout: PayoutId) {
    if let Err(error) = treasury.send(payout) {
        tracing::warn!(%payout, %error, "transaction_not_sent");
    }
}
