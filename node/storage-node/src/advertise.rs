//! Background work: advertising, announcing in the DHT.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::admission::{AnnouncedRole, holders_key, role_bucket, role_key};
use fincrypt_protocol::record::{Condition, PayoutKind, StorageOffer};
use fincrypt_protocol::{RecordError, Signed, UnixTime};
use tokio::sync::watch;

use super::StorageRole;
use fincrypt_net::encode_all;

/// An offer lives so long; it is repeated four times in that time.
const OFFER_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Between repetitions of an offer that was heard.
const OFFER_REFRESH: Duration = Duration::from_secs(6 * 3600);
/// Between tries until there is anyone to tell.
const OFFER_RETRY: Duration = Duration::from_millis(500);

impl StorageRole {
    /// The node's offer as of now, signed. The sequence is the time, so that it grows over restarts.
    pub(crate) async fn offer(&self) -> Result<Signed<StorageOffer>, RecordError> {
        let (now, condition) = (UnixTime::now(), self.condition());
        let offer = StorageOffer {
            network: self.network,
            node: self.net.own(),
            price: self.terms.price,
            egress_price: self.terms.egress_price,
            condition,
            free_bytes: if condition == Condition::Serving { self.store.free() } else { 0 },
            grace_days: self.terms.grace_days,
            minimum_days: self.terms.minimum_days,
            payout: vec![PayoutKind::Lightning, PayoutKind::OnChain],
            addresses: encode_all(&self.net.own_addresses().await),
            sequence: now.secs(),
            expiry: now.plus(OFFER_LIFE),
        };
        Signed::seal(&offer, &self.key)
    }

    /// How the node is, by its own word.
    pub(crate) fn condition(&self) -> Condition {
        match (self.leaving.is_wished(), self.disk.is_failing()) {
            (true, _) => Condition::Leaving,
            (false, true) => Condition::Failing,
            (false, false) => Condition::Serving,
        }
    }

    /// Announces role and accounts once there is anyone to tell. Kademlia repeats it from then on.
    async fn announce(&self) {
        while self.net.dht_peers().await == 0 {
            tokio::time::sleep(OFFER_RETRY).await;
        }
        self.net.provide(role_key(AnnouncedRole::Storage, role_bucket(&self.net.own()))).await;
        for account in self.store.accounts() {
            self.net.provide(holders_key(&account)).await;
        }
    }

    pub(super) async fn advertise(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            _ = stop.changed() => return,
            () = self.announce() => {}
        }
        let mut next_offer = tokio::time::Instant::now();
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                () = self.disk.changed.notified() => next_offer = tokio::time::Instant::now(),
                () = tokio::time::sleep_until(next_offer) => {
                    let heard = match self.offer().await.and_then(|offer| offer.to_bytes()) {
                        Ok(bytes) => self.net.publish(bytes).await,
                        Err(error) => {
                            tracing::error!(%error, "the offer could not be made");
                            false
                        }
                    };
                    next_offer = tokio::time::Instant::now() + if heard { OFFER_REFRESH } else { OFFER_RETRY };
                }
            }
        }
    }
}
