//! Offers of storage nodes that come over gossip.

use fincrypt_protocol::admission::{GossipVerdict, OfferGate};
use fincrypt_protocol::record::StorageOffer;
use fincrypt_protocol::{Network, UnixTime, Verified};
use libp2p::gossipsub::MessageAcceptance;
use tokio::sync::mpsc;

/// Offers of one node are passed on at most this often.
const INTERVAL_SECONDS: u64 = 2;
/// Nodes whose offers are remembered for that.
const MAX_OFFERERS: usize = 65_536;

/// Decides which offers are passed on, and hands them to this node's role.
pub(super) struct Offers {
    gate: OfferGate,
    inbox: Option<mpsc::Sender<Verified<StorageOffer>>>,
}

impl Offers {
    /// Offers for this inbox; without one, they are only passed on.
    pub(super) fn new(inbox: Option<mpsc::Sender<Verified<StorageOffer>>>) -> Self {
        Self { gate: OfferGate::new(MAX_OFFERERS, INTERVAL_SECONDS), inbox }
    }

    /// Takes in an offer; whether it is passed on.
    pub(super) fn take(&mut self, data: &[u8], network: Network) -> MessageAcceptance {
        let (verdict, offer) = self.gate.judge(data, network, UnixTime::now());
        if let (Some(offer), Some(inbox)) = (offer, &self.inbox) {
            // A full inbox drops the offer; it is repeated.
            let _ = inbox.try_send(offer);
        }
        match verdict {
            GossipVerdict::Accept => MessageAcceptance::Accept,
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => MessageAcceptance::Reject,
        }
    }
}
