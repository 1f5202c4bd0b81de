use std::fmt;

use fincrypt_protocol::amount::Msat;
use ldk_node::lightning_invoice::{Bolt11InvoiceDescription, Description};
use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus};

use super::error::LightningError;
use super::node::Lightning;

/// Seconds that an invoice may be paid.
const INVOICE_LIFE: u32 = 24 * 3600;

/// The identity of an offer, by which a deposit is attributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(pub [u8; 32]);

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A payment that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// Its identity at this node, the same whenever it is asked for.
    pub id: [u8; 32],
    /// The offer that it answers; none for keysend and invoices.
    pub offer: Option<OfferId>,
    /// How much came.
    pub amount: Msat,
}

pub(super) fn deposit(details: &PaymentDetails) -> Option<Deposit> {
    let came = details.direction == PaymentDirection::Inbound && details.status == PaymentStatus::Succeeded;
    let offer = match &details.kind {
        PaymentKind::Onchain { .. } => return None,
        PaymentKind::Bolt12Offer { offer_id, .. } => Some(OfferId(offer_id.0)),
        _ => None,
    };
    let amount = Msat::new(details.amount_msat.filter(|_| came)?);
    Some(Deposit { id: details.id.0, offer, amount })
}

impl Lightning {
    /// A new offer for any amount, to be handed to one client; what comes for it is theirs.
    ///
    /// # Errors
    /// [`LightningError::Offer`].
    pub fn offer(&self, description: &str) -> Result<(OfferId, String), LightningError> {
        let offer = self.node.bolt12_payment().receive_variable_amount(description, None);
        let offer = offer.map_err(|error| LightningError::Offer(error.to_string()))?;
        Ok((OfferId(offer.id().0), offer.to_string()))
    }

    /// An invoice over `amount`, for whoever cannot pay offers; it may be paid once, within a day.
    ///
    /// # Errors
    /// [`LightningError::Offer`].
    pub fn invoice(&self, amount: Msat, description: &str) -> Result<String, LightningError> {
        let failed = |error: &dyn fmt::Display| LightningError::Offer(error.to_string());
        let description = Description::new(description.to_owned()).map_err(|error| failed(&error))?;
        let description = Bolt11InvoiceDescription::Direct(description);
        let invoice = self.node.bolt11_payment().receive(amount.get(), &description, INVOICE_LIFE);
        invoice.map(|invoice| invoice.to_string()).map_err(|error| failed(&error))
    }

    /// Everything that ever came in, for a ledger that compares.
    #[must_use]
    pub fn deposits(&self) -> Vec<Deposit> {
        self.node.list_payments().iter().filter_map(deposit).collect()
    }
}
