//! The node's part of the DHT: verified records and bounded provider lists.
//!
//! Kademlia asks this store synchronously before it acknowledges, so a refused record is never
//! counted by its publisher. Nothing is persisted: publishers repeat themselves.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

use crate::admission::admit_mediator_record;
use crate::network::Network;
use crate::time::UnixTime;

/// Records kept: at 4 KiB each, at most 16 MiB.
const MAX_RECORDS: usize = 4096;
/// Keys with providers.
const MAX_KEYS: usize = 65_536;
/// Providers of one key: a popular bucket lists as many mediators, a vault as many holders.
const MAX_PROVIDERS: usize = 64;
/// Keys for which one peer may be provider here.
const MAX_KEYS_PER_PEER: usize = 8192;

/// A record store that verifies before it keeps, with quotas per peer.
#[derive(Debug)]
pub struct AdmittingStore {
    own: PeerId,
    network: Network,
    records: HashMap<RecordKey, (u64, Record)>,
    providers: HashMap<RecordKey, Vec<ProviderRecord>>,
    keys_per_peer: HashMap<PeerId, usize>,
}

impl AdmittingStore {
    /// An empty store of node `own`.
    #[must_use]
    pub fn new(own: PeerId, network: Network) -> Self {
        Self {
            own,
            network,
            records: HashMap::new(),
            providers: HashMap::new(),
            keys_per_peer: HashMap::new(),
        }
    }

    fn drop_expired_records(&mut self) {
        let now = Instant::now();
        self.records.retain(|_, (_, record)| !record.is_expired(now));
    }

    fn drop_expired_providers(&mut self) {
        let now = Instant::now();
        for list in self.providers.values_mut() {
            list.retain(|provider| !provider.is_expired(now));
        }
        self.providers.retain(|_, list| !list.is_empty());
        self.keys_per_peer.clear();
        for provider in self.providers.values().flatten() {
            *self.keys_per_peer.entry(provider.provider).or_default() += 1;
        }
    }
}

impl RecordStore for AdmittingStore {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).map(|(_, record)| Cow::Borrowed(record))
    }

    fn put(&mut self, record: Record) -> Result<()> {
        let admitted =
            admit_mediator_record(record.key.as_ref(), &record.value, self.network, UnixTime::now())
                .map_err(|_| Error::ValueTooLarge)?;
        match self.records.get(&record.key) {
            Some((known, old))
                if *known > admitted.sequence
                    || (*known == admitted.sequence && old.value != record.value) =>
            {
                return Err(Error::ValueTooLarge);
            }
            Some(_) => {}
            None => {
                if self.records.len() >= MAX_RECORDS {
                    self.drop_expired_records();
                }
                if self.records.len() >= MAX_RECORDS && record.publisher != Some(self.own) {
                    return Err(Error::MaxRecords);
                }
            }
        }
        self.records.insert(record.key.clone(), (admitted.sequence, record));
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }

    /// Only what this node published itself: records of others are not replicated onwards.
    fn records(&self) -> Self::RecordsIter<'_> {
        let own = |record: &&Record| record.publisher == Some(self.own);
        let records: Vec<_> =
            self.records.values().map(|(_, record)| record).filter(own).map(Cow::Borrowed).collect();
        records.into_iter()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let own = record.provider == self.own;
        if !own && self.providers.len() >= MAX_KEYS && !self.providers.contains_key(&record.key) {
            self.drop_expired_providers();
            if self.providers.len() >= MAX_KEYS {
                return Err(Error::MaxProvidedKeys);
            }
        }
        let list = self.providers.entry(record.key.clone()).or_default();
        if let Some(old) = list.iter_mut().find(|old| old.provider == record.provider) {
            *old = record;
            return Ok(());
        }
        let now = Instant::now();
        if list.len() >= MAX_PROVIDERS {
            list.retain(|provider| !provider.is_expired(now));
        }
        let keys = self.keys_per_peer.entry(record.provider).or_default();
        if !own && (list.len() >= MAX_PROVIDERS || *keys >= MAX_KEYS_PER_PEER) {
            return Err(Error::MaxProvidedKeys);
        }
        *keys += 1;
        list.push(record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.get(key).cloned().unwrap_or_default()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = |record: &&ProviderRecord| record.provider == self.own;
        let provided: Vec<_> = self.providers.values().flatten().filter(own).map(Cow::Borrowed).collect();
        provided.into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        let Some(list) = self.providers.get_mut(key) else { return };
        let before = list.len();
        list.retain(|provider| provider.provider != *peer);
        if list.len() < before
            && let Some(keys) = self.keys_per_peer.get_mut(peer)
        {
            *keys = keys.saturating_sub(1);
        }
        if list.is_empty() {
            self.providers.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::mediator_record_key;
    use crate::geometry::Redundancy;
    use crate::key::SigningKey;
    use crate::record::MediatorRecord;
    use crate::signed::Signed;
    use zeroize::Zeroizing;

    fn record(sequence: u64, fee: u16) -> Record {
        let key = SigningKey::from_seed(&Zeroizing::new([3; 32]));
        let body = MediatorRecord {
            network: Network::Test,
            node: key.node(),
            fee_permille: fee,
            floor: Redundancy::MIN,
            payment_networks: vec![],
            addresses: vec![],
            sequence,
            expiry: UnixTime::now().plus(std::time::Duration::from_secs(60)),
        };
        let bytes = Signed::seal(&body, &key).and_then(|signed| signed.to_bytes()).expect("encodes");
        Record::new(mediator_record_key(&key.node()).to_vec(), bytes)
    }

    #[test]
    fn an_older_or_contradicting_record_does_not_replace_a_newer_one() {
        let mut store = AdmittingStore::new(PeerId::random(), Network::Test);
        assert!(store.put(record(5, 10)).is_ok());
        assert!(store.put(record(4, 10)).is_err());
        assert!(store.put(record(5, 11)).is_err());
        assert!(store.put(record(6, 11)).is_ok());
    }

    #[test]
    fn a_record_under_a_foreign_key_or_from_another_network_is_refused() {
        let mut store = AdmittingStore::new(PeerId::random(), Network::Test);
        let mut foreign = record(5, 10);
        foreign.key = RecordKey::new(&[1; 32]);
        assert!(store.put(foreign).is_err());
        assert!(AdmittingStore::new(PeerId::random(), Network::Main).put(record(5, 10)).is_err());
    }

    #[test]
    fn a_key_lists_a_bounded_number_of_providers() {
        let mut store = AdmittingStore::new(PeerId::random(), Network::Test);
        let key = RecordKey::new(&[1; 32]);
        let added = (0..200)
            .filter(|_| {
                store.add_provider(ProviderRecord::new(key.clone(), PeerId::random(), vec![])).is_ok()
            })
            .count();
        assert_eq!(added, MAX_PROVIDERS);
    }
}
