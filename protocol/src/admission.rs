//! What a node lets into its part of the DHT and onto the gossip topic.
//!
//! Sans-IO: time comes in as an argument, verdicts go out. A record is checked before it is kept
//! or believed: key bound to signer, signature, size, network, expiry, sequence.

use hashlink::LruCache;

use crate::cbor::CborError;
use crate::domain;
use crate::id::NodeId;
use crate::limits::{MAX_ADDRESS_LEN, MAX_ADDRESSES, MAX_RECORD, ROLE_BUCKETS};
use crate::network::Network;
use crate::record::{MAX_OFFER_LIFE, MediatorRecord, StorageOffer, check_life};
use crate::signed::{RecordError, Signed, Verified};
use crate::time::UnixTime;

/// A role that announces itself in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnouncedRole {
    /// Mediators, whom clients look for.
    Mediator,
    /// Storage nodes, whom new mediators look for.
    Storage,
}

/// DHT key under which providers of `role` in one of 16 buckets are found.
#[must_use]
pub fn role_key(role: AnnouncedRole, bucket: u8) -> [u8; 32] {
    let name: &[u8] = match role {
        AnnouncedRole::Mediator => b"mediator",
        AnnouncedRole::Storage => b"storage",
    };
    domain::ROLE.hash(&[name, &[0, bucket % ROLE_BUCKETS]])
}

/// The bucket in which a node announces its roles.
#[must_use]
pub fn role_bucket(node: &NodeId) -> u8 {
    node.as_bytes()[0] % ROLE_BUCKETS
}

/// DHT key under which the holders of an account's shards are found.
#[must_use]
pub fn holders_key(account: &crate::AccountId) -> [u8; 32] {
    domain::HOLDERS.hash(&[account.as_bytes()])
}

/// DHT key of a mediator's record.
#[must_use]
pub fn mediator_record_key(node: &NodeId) -> [u8; 32] {
    domain::MEDIATOR_RECORD_KEY.hash(&[node.as_bytes()])
}

fn check_size(bytes: &[u8]) -> Result<(), RecordError> {
    let len = bytes.len();
    if len > MAX_RECORD { Err(CborError::TooLong { len, limit: MAX_RECORD }.into()) } else { Ok(()) }
}

fn check_addresses(addresses: &[serde_bytes::ByteBuf]) -> Result<(), RecordError> {
    let fits = addresses.len() <= MAX_ADDRESSES && addresses.iter().all(|a| a.len() <= MAX_ADDRESS_LEN);
    if fits { Ok(()) } else { Err(RecordError::Inconsistent) }
}

/// Checks a mediator's record as it came under a DHT key.
///
/// # Errors
/// The first check that fails.
pub fn admit_mediator_record(
    key: &[u8],
    bytes: &[u8],
    network: Network,
    now: UnixTime,
) -> Result<Verified<MediatorRecord>, RecordError> {
    check_size(bytes)?;
    let record = Signed::<MediatorRecord>::from_bytes(bytes)?.verify(network, now)?;
    if key != mediator_record_key(&record.node) {
        return Err(RecordError::WrongKey);
    }
    check_life(&*record, now, MAX_OFFER_LIFE)?;
    check_addresses(&record.addresses)?;
    Ok(record)
}

/// Checks a storage offer as it came over gossip or as an answer.
///
/// # Errors
/// The first check that fails.
pub fn admit_offer(
    bytes: &[u8],
    network: Network,
    now: UnixTime,
) -> Result<Verified<StorageOffer>, RecordError> {
    check_size(bytes)?;
    let offer = Signed::<StorageOffer>::from_bytes(bytes)?.verify(network, now)?;
    check_life(&*offer, now, MAX_OFFER_LIFE)?;
    check_addresses(&offer.addresses)?;
    Ok(offer)
}

/// What to do with an offer that came over gossip.
#[derive(Debug, PartialEq, Eq)]
pub enum GossipVerdict {
    /// Keep it and pass it on.
    Accept,
    /// Drop it silently: known already, or too frequent.
    Ignore,
    /// Drop it and think less of whoever sent it.
    Reject,
}

/// Sequences and arrival times of the offers seen, bounded in number.
#[derive(Debug)]
pub struct OfferGate {
    seen: LruCache<NodeId, (u64, UnixTime)>,
    min_interval: u64,
}

impl OfferGate {
    /// A gate that remembers at most `most` nodes and lets each speak every `min_interval` seconds.
    #[must_use]
    pub fn new(most: usize, min_interval: u64) -> Self {
        Self { seen: LruCache::new(most), min_interval }
    }

    /// Judges an offer, and remembers it if accepted.
    pub fn judge(
        &mut self,
        bytes: &[u8],
        network: Network,
        now: UnixTime,
    ) -> (GossipVerdict, Option<Verified<StorageOffer>>) {
        let Ok(offer) = admit_offer(bytes, network, now) else {
            return (GossipVerdict::Reject, None);
        };
        // Looked at, not used: who repeats what is ignored keeps no place.
        if let Some((sequence, at)) = self.seen.peek(&offer.node)
            && (offer.sequence <= *sequence || now.secs() < at.secs() + self.min_interval)
        {
            return (GossipVerdict::Ignore, None);
        }
        self.seen.insert(offer.node, (offer.sequence, now));
        (GossipVerdict::Accept, Some(offer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Price;
    use crate::key::SigningKey;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn offer(seed: u8, sequence: u64) -> Vec<u8> {
        let key = SigningKey::from_seed(&Zeroizing::new([seed; 32]));
        let body = StorageOffer {
            network: Network::Test,
            node: key.node(),
            price: Price::new(5),
            egress_price: Price::FREE,
            condition: crate::record::Condition::Serving,
            free_bytes: 1,
            grace_days: 90,
            minimum_days: 30,
            payout: vec![],
            addresses: vec![],
            sequence,
            expiry: UnixTime::from_secs(1_000 + 3600),
        };
        Signed::seal(&body, &key).and_then(|signed| signed.to_bytes()).expect("encodes")
    }

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    #[test]
    fn an_offer_is_accepted_once_and_a_replay_is_ignored() {
        let mut gate = OfferGate::new(10, 5);
        assert_eq!(gate.judge(&offer(1, 1), Network::Test, NOW).0, GossipVerdict::Accept);
        assert_eq!(
            gate.judge(&offer(1, 1), Network::Test, NOW.plus(std::time::Duration::from_secs(9))).0,
            GossipVerdict::Ignore
        );
        assert_eq!(gate.judge(&offer(1, 2), Network::Test, NOW).0, GossipVerdict::Ignore, "too soon");
    }

    #[test]
    fn an_expired_foreign_or_broken_offer_is_rejected() {
        let mut gate = OfferGate::new(10, 5);
        assert_eq!(gate.judge(&offer(1, 1), Network::Main, NOW).0, GossipVerdict::Reject);
        assert_eq!(
            gate.judge(&offer(1, 1), Network::Test, UnixTime::from_secs(9_999)).0,
            GossipVerdict::Reject
        );
        let mut broken = offer(1, 1);
        if let Some(last) = broken.last_mut() {
            *last ^= 1;
        }
        assert_eq!(gate.judge(&broken, Network::Test, NOW).0, GossipVerdict::Reject);
        assert_eq!(
            gate.judge(&offer(1, 1), Network::Test, UnixTime::from_secs(0)).0,
            GossipVerdict::Accept,
            "within two days"
        );
    }

    #[test]
    fn the_gate_remembers_a_bounded_number_of_nodes() {
        let mut gate = OfferGate::new(3, 0);
        for seed in 1..20 {
            gate.judge(&offer(seed, 1), Network::Test, NOW);
        }
        assert_eq!(gate.seen.len(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
            let mut gate = OfferGate::new(3, 0);
            prop_assert_eq!(gate.judge(&bytes, Network::Test, NOW).0, GossipVerdict::Reject);
            prop_assert!(admit_mediator_record(&[0; 32], &bytes, Network::Test, NOW).is_err());
        }
    }
}
