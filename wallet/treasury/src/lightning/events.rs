use fincrypt_protocol::amount::Msat;
use ldk_node::Event as Inner;

use super::error::LightningError;
use super::node::Lightning;
use super::receive::{Deposit, deposit};

/// What happened. Each is told until it is [`Lightning::noted`], so whoever takes it in must bear to
/// hear it twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Some payment arrived, or failed for good: those that are under way are to be looked at.
    PaymentSettled,
    /// A payment came in.
    Received(Deposit),
    /// A channel is ready, or is no more.
    Channels,
    /// A payment was forwarded for others.
    Forwarded {
        /// What that earned.
        earned: Msat,
    },
    /// Something that needs nothing done.
    Other,
}

impl Lightning {
    /// The next event, once there is one. The same again until it is [`Lightning::noted`].
    pub async fn next(&self) -> Event {
        match self.node.next_event_async().await {
            Inner::PaymentSuccessful { .. } | Inner::PaymentFailed { .. } => Event::PaymentSettled,
            Inner::PaymentReceived { payment_id: Some(id), .. } => {
                let known = self.node.payment(&id);
                known.as_ref().and_then(deposit).map_or(Event::Other, Event::Received)
            }
            Inner::ChannelReady { .. } | Inner::ChannelClosed { .. } | Inner::ChannelPending { .. } => {
                Event::Channels
            }
            Inner::PaymentForwarded { total_fee_earned_msat, .. } => {
                Event::Forwarded { earned: Msat::new(total_fee_earned_msat.unwrap_or(0)) }
            }
            _ => Event::Other,
        }
    }

    /// The event was taken in, durably: the next one follows.
    ///
    /// # Errors
    /// [`LightningError::Failed`] if the node cannot remember that.
    pub fn noted(&self) -> Result<(), LightningError> {
        self.node.event_handled().map_err(|error| LightningError::Failed(error.to_string()))
    }
}
