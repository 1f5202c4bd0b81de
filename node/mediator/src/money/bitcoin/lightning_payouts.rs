//! Payouts over Lightning: carried out from what the books say, so that a crash anywhere repeats
//! nothing and forgets nothing.
//!
//! ```text
//! intent in the books → payment of that id, unless the node knows it → sent and settled in the books
//!                                   └ failed for good: the intent fails, what it was for is owed again
//! ```

use fincrypt_ledger::{Event, LedgerError, PayTo, PayoutBook, Rail};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::Sending;
use fincrypt_protocol::{PaymentHash, PayoutId};
use fincrypt_treasury::lightning::{Lightning, LightningError, Payment, Stands};

use super::payout_sender::PayoutSender;

/// The outcome of an open payout.
enum Came {
    /// It is under way, or waits.
    Nothing,
    Paid {
        hash: PaymentHash,
        fee: Msat,
    },
    Failed(String),
}

fn payment(id: PayoutId, to: &PayTo, total: Msat) -> Option<Payment> {
    let fee_cap = total.checked_sub(to.amount)?;
    Some(Payment { id, to: to.destination.parse().ok()?, amount: to.amount, fee_cap })
}

fn look(lightning: &Lightning, payment: &Payment) -> Came {
    let stands = match lightning.stands(payment) {
        Stands::Unknown => match lightning.pay(payment) {
            Ok(stands) => stands,
            Err(LightningError::Busy) => return Came::Nothing,
            // Nothing was sent.
            Err(error) => return Came::Failed(error.to_string()),
        },
        known => known,
    };
    match stands {
        Stands::Paid { hash, fee } => match hash.parse() {
            Ok(hash) => Came::Paid { hash, fee },
            Err(_) => Came::Nothing,
        },
        Stands::Failed => Came::Failed("no route, or nobody took it".to_owned()),
        Stands::Pending | Stands::Unknown => Came::Nothing,
    }
}

impl PayoutSender {
    /// Sends what is to be sent over Lightning, and books what has arrived or failed. Blocks.
    pub(super) fn push_payments(&self) -> Result<(), LedgerError> {
        let Some(lightning) = self.wallets.lightning() else { return Ok(()) };
        let open: Vec<(PayoutId, PayoutBook)> = self.wallets.ledger.books(|books| {
            let open = books.open_payouts().filter(|(_, book)| book.rail == Rail::Lightning);
            open.map(|(id, book)| (id, book.clone())).collect()
        });
        for (id, book) in open {
            let payment = book.to.first().and_then(|to| payment(id, to, book.total()));
            let came = match &payment {
                Some(payment) => look(&lightning, payment),
                None => Came::Failed("its destination cannot be read".to_owned()),
            };
            let now = self.wallets.now();
            match came {
                Came::Nothing => {}
                Came::Paid { hash, fee } => {
                    let sending = Sending::Payment(hash);
                    let arrived = payment.map_or(Msat::ZERO, |payment| payment.amount);
                    let left = arrived.checked_add(fee).unwrap_or(arrived);
                    self.wallets.record(&Event::PayoutSent { payout: id, sending })?;
                    let settled = Event::PayoutSettled { payout: id, round: book.round, sending, left };
                    self.wallets.record(&settled)?;
                    self.paid(&book, now);
                }
                Came::Failed(reason) => {
                    tracing::warn!(payout = %id, reason, "lightning_payout_failed");
                    self.wallets.record(&Event::PayoutFailed { payout: id })?;
                    self.not_paid(&book, &reason);
                }
            }
        }
        Ok(())
    }
}
