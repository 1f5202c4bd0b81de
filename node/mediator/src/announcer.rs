//! Announces the mediator in the DHT, and looks for storage there.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_net::{Net, encode_all};
use fincrypt_protocol::admission::{AnnouncedRole, mediator_record_key, role_bucket, role_key};
use fincrypt_protocol::record::MediatorRecord;
use fincrypt_protocol::{RecordError, Redundancy, Signed};
use tokio::sync::watch;

use super::context::Context;
use super::registry::StorageRegistry;

/// Life of the record in the DHT, and the time between its renewals and searches for storage.
const RECORD_LIFE: Duration = Duration::from_secs(24 * 3600);
const RECORD_REFRESH: Duration = Duration::from_secs(30 * 60);
/// At first it is done again soon: a node that has just started knows few peers, and finds few others.
const RECORD_FIRST: Duration = Duration::from_secs(3);
const RECORD_RETRY: Duration = Duration::from_millis(500);

/// Announces the mediator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Announcer {
    net: Net,
    registry: Arc<StorageRegistry>,
    fee_permille: u16,
    floor: Redundancy,
    context: Context,
}

impl Announcer {
    /// For a mediator that takes `fee_permille` of what storage earns, and goes under no redundancy
    /// below `floor`.
    pub(crate) fn new(
        net: Net,
        registry: Arc<StorageRegistry>,
        (fee_permille, floor): (u16, Redundancy),
        context: Context,
    ) -> Self {
        Self { net, registry, fee_permille, floor, context }
    }

    /// The mediator's record as it is now.
    ///
    /// # Errors
    /// If it is too long to be signed.
    pub(crate) async fn record(&self) -> Result<Signed<MediatorRecord>, RecordError> {
        let now = self.context.now();
        let record = MediatorRecord {
            network: self.context.network,
            node: self.context.own,
            fee_permille: self.fee_permille,
            floor: self.floor,
            payment_networks: Vec::new(),
            addresses: encode_all(&self.net.own_addresses().await),
            sequence: now.secs(),
            expiry: now.plus(RECORD_LIFE),
        };
        Signed::seal(&record, &self.context.key)
    }

    /// Announces until told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let own = self.context.own;
        let mut refresh = RECORD_FIRST;
        loop {
            let put = match self.record().await.and_then(|record| record.to_bytes()) {
                Ok(bytes) => self.net.put_record(mediator_record_key(&own), bytes).await,
                Err(error) => {
                    tracing::error!(%error, "mediator_record_not_made");
                    false
                }
            };
            if put || self.net.dht_peers().await > 0 {
                self.net.provide(role_key(AnnouncedRole::Mediator, role_bucket(&own))).await;
                self.registry.discover().await;
            }
            let pause = if put { refresh } else { RECORD_RETRY };
            if put {
                refresh = (refresh * 4).min(RECORD_REFRESH);
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
