//! The node's offer, which is published, and what it announces in the DHT.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::admission::{AnnouncedRole, holders_key, role_bucket, role_key};
use fincrypt_protocol::record::{Condition, PayoutKind, StorageOffer};
use fincrypt_protocol::{AccountId, Clock, RecordError, Signed, SigningKey};
use tokio::sync::watch;

use fincrypt_net::{Net, encode_all};
use fincrypt_shards::ShardStore;

use crate::StorageTerms;
use crate::health::Health;

/// An offer lives so long; it is repeated four times in that time.
const OFFER_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Between repetitions of an offer that was heard.
const OFFER_REFRESH: Duration = Duration::from_secs(6 * 3600);
/// Between tries until there is anyone to tell.
const OFFER_RETRY: Duration = Duration::from_millis(500);

/// What [`Advertiser`] is made of.
pub(crate) struct AdvertiseOptions {
    pub(crate) net: Net,
    pub(crate) store: ShardStore,
    pub(crate) health: Health,
    pub(crate) key: SigningKey,
    pub(crate) terms: Arc<StorageTerms>,
    pub(crate) clock: Clock,
}

/// Says what the node offers.
pub(crate) struct Advertiser(AdvertiseOptions);

impl Advertiser {
    pub(crate) fn new(options: AdvertiseOptions) -> Self {
        Self(options)
    }

    /// The node's offer as of now, signed. The sequence is the time, so that it grows over restarts.
    ///
    /// # Errors
    /// If the offer cannot be sealed.
    pub(crate) async fn offer(&self) -> Result<Signed<StorageOffer>, RecordError> {
        let AdvertiseOptions { net, store, health, key, terms, clock } = &self.0;
        let (now, condition) = (clock.now(), health.condition());
        let offer = StorageOffer {
            network: net.network(),
            node: net.own(),
            price: terms.price,
            egress_price: terms.egress_price,
            condition,
            free_bytes: if condition == Condition::Serving { store.free() } else { 0 },
            grace_days: terms.grace_days,
            minimum_days: terms.minimum_days,
            payout: vec![PayoutKind::Lightning, PayoutKind::OnChain],
            addresses: encode_all(&net.own_addresses().await),
            sequence: now.secs(),
            expiry: now.plus(OFFER_LIFE),
        };
        Signed::seal(&offer, key)
    }

    /// Announces that shards of an account are held here.
    pub(crate) async fn announce_account(&self, account: &AccountId) {
        self.0.net.provide(holders_key(account)).await;
    }

    /// Announces role and accounts once there is anyone to tell. Kademlia repeats it from then on.
    async fn announce(&self) {
        while self.0.net.dht_peers().await == 0 {
            tokio::time::sleep(OFFER_RETRY).await;
        }
        self.0.net.provide(role_key(AnnouncedRole::Storage, role_bucket(&self.0.net.own()))).await;
        for account in self.0.store.accounts() {
            self.announce_account(&account).await;
        }
    }

    /// Repeats the offer until `stop` changes.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            _ = stop.changed() => return,
            () = self.announce() => {}
        }
        let mut next_offer = tokio::time::Instant::now();
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                () = self.0.health.disk.changed.notified() => next_offer = tokio::time::Instant::now(),
                () = tokio::time::sleep_until(next_offer) => {
                    let heard = match self.offer().await.and_then(|offer| offer.to_bytes()) {
                        Ok(bytes) => self.0.net.publish(bytes).await,
                        Err(error) => {
                            tracing::error!(%error, "offer_not_sealed");
                            false
                        }
                    };
                    next_offer = tokio::time::Instant::now() + if heard { OFFER_REFRESH } else { OFFER_RETRY };
                }
            }
        }
    }
}
