//! The node's part of the DHT: verified records and bounded provider lists.
//!
//! Kademlia asks this store synchronously before it acknowledges, so a refused record is never
//! counted by its publisher. Nothing is persisted: publishers repeat themselves.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{KBucketDistance as Distance, KBucketKey, ProviderRecord, Record, RecordKey};

use fincrypt_protocol::Network;
use fincrypt_protocol::UnixTime;
use fincrypt_protocol::admission::admit_mediator_record;

/// Addresses kept with a provider, and the most bytes of one: an answer of 16 KiB has room for those
/// of twenty providers.
const MAX_PROVIDER_ADDRESSES: usize = 4;
const MAX_PROVIDER_ADDRESS: usize = 128;

/// Records kept: at 4 KiB each, at most 16 MiB.
const MAX_RECORDS: usize = 4096;
/// Pairs of key and provider kept: at about 300 bytes each, 20 MiB.
const MAX_PROVIDED: usize = 65_536;
/// Providers of one key: a popular bucket lists as many mediators, a vault as many holders.
const MAX_PROVIDERS: usize = 64;
/// A full store is searched for what has expired at most this often.
const PURGE: Duration = Duration::from_secs(60);
/// Keys for which one peer may be provider here.
const MAX_KEYS_PER_PEER: usize = 8192;

/// A record store that verifies before it keeps, with quotas per peer.
///
/// When it is full, a newcomer takes the place of what its own node is least responsible for: the
/// farthest key of the peer that provides most. So a flood only pushes out itself, and a peer's
/// single key is always taken. What this node publishes itself is exempt.
#[derive(Debug)]
pub struct AdmittingStore {
    own: PeerId,
    network: Network,
    most: usize,
    records: HashMap<RecordKey, Kept>,
    providers: HashMap<RecordKey, Vec<ProviderRecord>>,
    /// By distance from this node, so that the farthest is at hand.
    keys_of: HashMap<PeerId, BTreeMap<Distance, RecordKey>>,
    /// Other peers by the number of their keys.
    by_weight: BTreeSet<(usize, PeerId)>,
    provided: usize,
    purged: Instant,
}

#[derive(Debug)]
struct Kept {
    sequence: u64,
    distance: Distance,
    record: Record,
}

impl AdmittingStore {
    /// An empty store of node `own`.
    #[must_use]
    pub fn new(own: PeerId, network: Network) -> Self {
        Self {
            own,
            network,
            most: MAX_PROVIDED,
            records: HashMap::new(),
            providers: HashMap::new(),
            keys_of: HashMap::new(),
            by_weight: BTreeSet::new(),
            provided: 0,
            purged: Instant::now(),
        }
    }

    fn drop_expired_records(&mut self) {
        let now = Instant::now();
        self.records.retain(|_, kept| !kept.record.is_expired(now));
    }

    /// Makes room for a record at `distance`, if it is nearer to this node than the farthest one.
    fn make_room_for_record(&mut self, distance: Distance) -> bool {
        self.drop_expired_records();
        if self.records.len() < MAX_RECORDS {
            return true;
        }
        let others = self.records.values().filter(|kept| kept.record.publisher != Some(self.own));
        let farthest = others.max_by_key(|kept| kept.distance);
        let farthest = farthest.filter(|farthest| distance < farthest.distance);
        let Some(key) = farthest.map(|farthest| farthest.record.key.clone()) else { return false };
        self.records.remove(&key).is_some()
    }

    fn distance(&self, key: &RecordKey) -> Distance {
        KBucketKey::new(key.clone()).distance(&KBucketKey::from(self.own))
    }

    fn weight(&self, peer: &PeerId) -> usize {
        self.keys_of.get(peer).map_or(0, BTreeMap::len)
    }

    /// Changes the keys of a peer, and its place among the others.
    fn reweigh<T>(&mut self, peer: PeerId, change: impl FnOnce(&mut BTreeMap<Distance, RecordKey>) -> T) {
        let keys = self.keys_of.entry(peer).or_default();
        let before = keys.len();
        change(keys);
        let after = keys.len();
        if after == 0 {
            self.keys_of.remove(&peer);
        }
        self.provided = self.provided - before + after;
        self.by_weight.remove(&(before, peer));
        if peer != self.own && after > 0 {
            self.by_weight.insert((after, peer));
        }
    }

    fn drop_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        let Some(list) = self.providers.get_mut(key) else { return };
        list.retain(|provider| provider.provider != *peer);
        if list.is_empty() {
            self.providers.remove(key);
        }
        let distance = self.distance(key);
        self.reweigh(*peer, |keys| keys.remove(&distance));
    }

    fn drop_expired_providers(&mut self, key: &RecordKey) {
        let now = Instant::now();
        let expired =
            self.providers.get(key).into_iter().flatten().filter(|provider| provider.is_expired(now));
        for peer in expired.map(|provider| provider.provider).collect::<Vec<_>>() {
            self.drop_provider(key, &peer);
        }
    }

    /// Makes room for a key of `peer`: whoever provides more loses its farthest.
    fn make_room_for_provider(&mut self, peer: &PeerId) -> bool {
        if self.purged.elapsed() >= PURGE {
            self.purged = Instant::now();
            for key in self.providers.keys().cloned().collect::<Vec<_>>() {
                self.drop_expired_providers(&key);
            }
            if self.provided < self.most {
                return true;
            }
        }
        let Some((weight, heaviest)) = self.by_weight.last().copied() else { return false };
        if weight <= self.weight(peer) {
            return false;
        }
        let farthest = self.keys_of.get(&heaviest).and_then(BTreeMap::last_key_value);
        let Some(farthest) = farthest.map(|(_, key)| key.clone()) else { return false };
        self.drop_provider(&farthest, &heaviest);
        true
    }

    /// Makes room in the list of `key` for `peer`: a provider of more keys than it has gives way.
    fn make_room_in_list(&mut self, key: &RecordKey, peer: &PeerId) -> bool {
        self.drop_expired_providers(key);
        let list = self.providers.get(key).map_or(&[][..], Vec::as_slice);
        if list.len() < MAX_PROVIDERS {
            return true;
        }
        let others = list.iter().map(|provider| provider.provider).filter(|other| *other != self.own);
        match others.max_by_key(|other| self.weight(other)) {
            Some(heaviest) if self.weight(&heaviest) > self.weight(peer) + 1 => {
                self.drop_provider(key, &heaviest);
                true
            }
            _ => false,
        }
    }
}

impl RecordStore for AdmittingStore {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).map(|kept| Cow::Borrowed(&kept.record))
    }

    fn put(&mut self, record: Record) -> Result<()> {
        let admitted =
            admit_mediator_record(record.key.as_ref(), &record.value, self.network, UnixTime::now())
                .map_err(|_| Error::ValueTooLarge)?;
        let distance = self.distance(&record.key);
        match self.records.get(&record.key) {
            Some(known)
                if known.sequence > admitted.sequence
                    || (known.sequence == admitted.sequence && known.record.value != record.value) =>
            {
                return Err(Error::ValueTooLarge);
            }
            Some(_) => {}
            None => {
                let own = record.publisher == Some(self.own);
                if self.records.len() >= MAX_RECORDS && !self.make_room_for_record(distance) && !own {
                    return Err(Error::MaxRecords);
                }
            }
        }
        let sequence = admitted.sequence;
        self.records.insert(record.key.clone(), Kept { sequence, distance, record });
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }

    /// Only what this node published itself: records of others are not replicated onwards.
    fn records(&self) -> Self::RecordsIter<'_> {
        let own = |record: &&Record| record.publisher == Some(self.own);
        let records: Vec<_> =
            self.records.values().map(|kept| &kept.record).filter(own).map(Cow::Borrowed).collect();
        records.into_iter()
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        record.addresses.retain(|address| address.len() <= MAX_PROVIDER_ADDRESS);
        record.addresses.truncate(MAX_PROVIDER_ADDRESSES);
        let ProviderRecord { key, provider: peer, .. } = &record;
        let (key, peer) = (key.clone(), *peer);
        if let Some(list) = self.providers.get_mut(&key)
            && let Some(old) = list.iter_mut().find(|old| old.provider == peer)
        {
            *old = record;
            return Ok(());
        }
        if peer != self.own {
            let allowed = self.weight(&peer) < MAX_KEYS_PER_PEER
                && self.make_room_in_list(&key, &peer)
                && (self.provided < self.most || self.make_room_for_provider(&peer));
            if !allowed {
                return Err(Error::MaxProvidedKeys);
            }
        }
        let distance = self.distance(&key);
        self.reweigh(peer, |keys| keys.insert(distance, key.clone()));
        self.providers.entry(key).or_default().push(record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let mut list = self.providers.get(key).cloned().unwrap_or_default();
        // An answer has room for twenty: whoever came first must not hide all others.
        if let Some(turn) = random_below(list.len()) {
            list.rotate_left(turn);
        }
        list
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = |record: &&ProviderRecord| record.provider == self.own;
        let provided: Vec<_> = self.providers.values().flatten().filter(own).map(Cow::Borrowed).collect();
        provided.into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        self.drop_provider(key, peer);
    }
}

/// A random number below `bound`; none if that is zero, or the system gives no randomness.
fn random_below(bound: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    (u64::from_le_bytes(bytes) as usize).checked_rem(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::Redundancy;
    use fincrypt_protocol::Signed;
    use fincrypt_protocol::SigningKey;
    use fincrypt_protocol::admission::mediator_record_key;
    use fincrypt_protocol::record::MediatorRecord;
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

    fn store(most: usize) -> AdmittingStore {
        AdmittingStore { most, ..AdmittingStore::new(PeerId::random(), Network::Test) }
    }

    fn key(number: u32) -> RecordKey {
        RecordKey::new(&fincrypt_protocol::domain::ROLE.hash(&[&number.to_le_bytes()]))
    }

    fn provide(store: &mut AdmittingStore, peer: PeerId, keys: std::ops::Range<u32>) -> usize {
        keys.filter(|at| store.add_provider(ProviderRecord::new(key(*at), peer, vec![])).is_ok()).count()
    }

    fn check(store: &AdmittingStore) {
        let pairs: usize = store.providers.values().map(Vec::len).sum();
        assert_eq!(pairs, store.provided);
        assert_eq!(pairs, store.keys_of.values().map(BTreeMap::len).sum());
        let others = store.keys_of.iter().filter(|(peer, _)| **peer != store.own);
        assert_eq!(others.map(|(peer, keys)| (keys.len(), *peer)).collect::<BTreeSet<_>>(), store.by_weight);
    }

    #[test]
    fn greedy_peers_cannot_keep_out_single_keys_of_honest_ones() {
        let mut store = store(1000);
        for _ in 0..8 {
            provide(&mut store, PeerId::random(), 0..1000);
            check(&store);
        }
        assert_eq!(store.provided, 1000);
        for honest in 0..200 {
            assert_eq!(provide(&mut store, PeerId::random(), 5000 + honest..5001 + honest), 1);
        }
        check(&store);
        for honest in 0..200 {
            assert_eq!(store.providers(&key(5000 + honest)).len(), 1, "and they stay");
        }
        assert_eq!(store.provided, 1000);
    }

    #[test]
    fn the_flood_loses_what_is_farthest_from_this_node() {
        let mut store = store(100);
        let greedy = PeerId::random();
        provide(&mut store, greedy, 0..100);
        provide(&mut store, PeerId::random(), 500..520);
        let kept = &store.keys_of[&greedy];
        let all = (0..100).map(|at| store.distance(&key(at)));
        let lost: Vec<_> = all.filter(|distance| !kept.contains_key(distance)).collect();
        assert_eq!(lost.len(), 20);
        assert!(lost.iter().all(|distance| Some(distance) > kept.keys().max()));
    }

    #[test]
    fn own_keys_are_exempt_and_never_give_way() {
        let mut store = store(50);
        let own = store.own;
        assert_eq!(provide(&mut store, own, 0..60), 60);
        assert_eq!(provide(&mut store, PeerId::random(), 100..110), 0, "nothing else is there to go");
        assert_eq!(store.provided().count(), 60);
        check(&store);
    }

    #[test]
    fn a_full_list_takes_whom_it_is_the_only_key_of() {
        let mut store = store(10_000);
        for _ in 0..MAX_PROVIDERS {
            assert_eq!(provide(&mut store, PeerId::random(), 0..20), 20);
        }
        let honest = PeerId::random();
        assert_eq!(provide(&mut store, honest, 0..1), 1);
        assert_eq!(store.providers(&key(0)).len(), MAX_PROVIDERS);
        store.remove_provider(&key(0), &honest);
        check(&store);
    }
}
