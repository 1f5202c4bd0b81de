use bitcoin::hashes::Hash;
use fincrypt_protocol::PayoutId;
use fincrypt_protocol::amount::Msat;
use ldk_node::NodeError;
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning::routing::router::RouteParametersConfig;
use ldk_node::lightning_types::payment::PaymentHash;
use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus};

use super::destination::Destination;
use super::error::LightningError;
use super::keysend;
use super::limits::{MAX_IN_FLIGHT, MAX_OFFERS_IN_FLIGHT};
use super::node::Lightning;

/// A payment as the ledger has written it down.
#[derive(Debug, Clone)]
pub struct Payment {
    /// Its identity; the same one is never paid twice.
    pub id: PayoutId,
    /// Where it goes.
    pub to: Destination,
    /// How much arrives.
    pub amount: Msat,
    /// The most that its route may cost.
    pub fee_cap: Msat,
}

/// How a payment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// It was never sent.
    Unknown,
    /// It is under way.
    Pending,
    /// It arrived.
    Paid {
        /// Its payment hash, in hexadecimal, as the payee's node shows it.
        hash: String,
        /// What its route cost.
        fee: Msat,
    },
    /// It failed for good: nothing arrived, and it may be sent again.
    Failed,
}

/// The name under which a payment to an offer is found again.
fn note(id: PayoutId) -> String {
    format!("fincrypt payout {id}")
}

fn hash_of(kind: &PaymentKind) -> Option<PaymentHash> {
    match kind {
        PaymentKind::Bolt11 { hash, .. }
        | PaymentKind::Bolt11Jit { hash, .. }
        | PaymentKind::Spontaneous { hash, .. } => Some(*hash),
        PaymentKind::Bolt12Offer { hash, .. } | PaymentKind::Bolt12Refund { hash, .. } => *hash,
        PaymentKind::Onchain { .. } => None,
    }
}

/// What several attempts at one payment come to.
fn sum_up(attempts: impl Iterator<Item = PaymentDetails>) -> Stands {
    let mut stands = Stands::Unknown;
    for attempt in attempts {
        match attempt.status {
            PaymentStatus::Succeeded => {
                let hash = hash_of(&attempt.kind).map(|hash| hex::encode(hash.0)).unwrap_or_default();
                return Stands::Paid { hash, fee: Msat::new(attempt.fee_paid_msat.unwrap_or(0)) };
            }
            PaymentStatus::Pending => stands = Stands::Pending,
            PaymentStatus::Failed if stands == Stands::Unknown => stands = Stands::Failed,
            PaymentStatus::Failed => {}
        }
    }
    stands
}

impl Lightning {
    /// How a payment stands, by what this node remembers.
    #[must_use]
    pub fn stands(&self, payment: &Payment) -> Stands {
        let by_hash = |hash: [u8; 32]| sum_up(self.node.payment(&PaymentId(hash)).into_iter());
        match &payment.to {
            Destination::Node(node) => {
                by_hash(PaymentHash::from(keysend::preimage(&self.keysend, payment.id, node)).0)
            }
            Destination::Invoice(invoice) => by_hash(invoice.payment_hash().to_byte_array()),
            Destination::Offer(_) => {
                let note = note(payment.id);
                let ours = self.node.list_payments_with_filter(|known| {
                    let PaymentKind::Bolt12Offer { payer_note: Some(known_note), .. } = &known.kind else {
                        return false;
                    };
                    known.direction == PaymentDirection::Outbound && known_note.0 == note
                });
                sum_up(ours.into_iter())
            }
        }
    }

    /// Payments that are under way.
    pub(super) fn in_flight(&self) -> Vec<PaymentDetails> {
        self.node.list_payments_with_filter(|known| {
            known.direction == PaymentDirection::Outbound
                && known.status == PaymentStatus::Pending
                && !matches!(known.kind, PaymentKind::Onchain { .. })
        })
    }

    /// Whether as much is under way as may be, beside a payment to `to`.
    fn is_busy(&self, to: &Destination) -> bool {
        let under_way = self.in_flight();
        let offers = under_way.iter().filter(|known| matches!(known.kind, PaymentKind::Bolt12Offer { .. }));
        under_way.len() >= MAX_IN_FLIGHT
            || matches!(to, Destination::Offer(_)) && offers.count() >= MAX_OFFERS_IN_FLIGHT
    }

    /// Sends a payment that the ledger has written down, unless it was sent already; how it stands
    /// now. What becomes of it later comes as an [`super::Event`].
    ///
    /// # Errors
    /// [`LightningError::Busy`], [`LightningError::Amount`] or [`LightningError::NotSent`]: nothing was
    /// sent.
    pub fn pay(&self, payment: &Payment) -> Result<Stands, LightningError> {
        match self.stands(payment) {
            Stands::Unknown | Stands::Failed => {}
            known => return Ok(known),
        }
        if self.is_busy(&payment.to) {
            return Err(LightningError::Busy);
        }
        let cap = RouteParametersConfig {
            max_total_routing_fee_msat: Some(payment.fee_cap.get()),
            ..RouteParametersConfig::default()
        };
        let amount = payment.amount.get();
        let sent = match &payment.to {
            Destination::Offer(offer) => self.node.bolt12_payment().send_using_amount(
                offer,
                amount,
                None,
                Some(note(payment.id)),
                Some(cap),
            ),
            Destination::Invoice(invoice) => match invoice.amount_milli_satoshis() {
                Some(wanted) if wanted != amount => {
                    let (wanted, amount) = (Msat::new(wanted), payment.amount);
                    return Err(LightningError::Amount(format!(
                        "the invoice asks for {wanted}, and {amount} are to be paid: ask for an invoice over that, or without an amount"
                    )));
                }
                Some(_) => self.node.bolt11_payment().send(invoice, Some(cap)),
                None => self.node.bolt11_payment().send_using_amount(invoice, amount, Some(cap)),
            },
            Destination::Node(node) => {
                let preimage = keysend::preimage(&self.keysend, payment.id, node);
                self.node.spontaneous_payment().send_with_preimage(amount, *node, preimage, Some(cap))
            }
        };
        match sent {
            // The library knows it after all: it was sent between the look and the payment.
            Ok(_) | Err(NodeError::DuplicatePayment) => Ok(Stands::Pending),
            Err(NodeError::InvalidAmount) => {
                Err(LightningError::Amount(format!("the offer asks for more than {}", payment.amount)))
            }
            Err(error) => Err(LightningError::NotSent(error.to_string())),
        }
    }
}
