//! The head's body: the only thing of a vault that changes in place, sealed for its owner.
//!
//! Padded with zeros to 4 KiB; integers are little-endian:
//!
//! ```text
//! version 1 │ refs 1 │ releases 1 │ 0 │ slots u32 │ time u64 │ refs × 40 │ releases × 32 │ zeros
//! ref:  segment id 32 │ k 1 │ n 1 │ length class 1 │ level 1 │ 0000
//! ```
//!
//! A release is the hash of a signed one, after which nothing of the catalog before counts as stored;
//! or 16 zero bytes and 16 random ones, which no hash is: the catalog was written anew without what
//! is not used any more, and an index made of the one before is to be made anew.
//!
//! On the wire: nonce 24 ‖ XChaCha20-Poly1305 of the body; associated data are account, sequence
//! and the previous head's hash, so that a body cannot be moved to another place in the history.

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use fincrypt_protocol::limits::{HEAD_BODY_LEN, MAX_CATALOG_REFS};
use fincrypt_protocol::record::Head;
use fincrypt_protocol::{
    AccountId, Code, HeadHash, Network, RecordError, SegmentId, ShardLen, Signed, UnixTime, domain,
};
use serde_bytes::ByteBuf;

use crate::keyfile::VaultKeys;
use crate::root::Root;

const VERSION: u8 = 1;
const FIXED: usize = 16;
/// Bytes of an encoded reference.
pub(crate) const REF: usize = 40;
const NONCE: usize = 24;
/// Pending releases a head has room for.
pub const MAX_RELEASES: usize = 16;

/// A head could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Too many references or releases.
    #[error("a head has no room for {refs} catalog references and {releases} releases")]
    TooMuch {
        /// References.
        refs: usize,
        /// Releases.
        releases: usize,
    },
    /// The body was altered, or is sealed for another vault or place in the history.
    #[error("the head was altered or belongs to another vault")]
    Sealed,
    /// The body is malformed or of a later version.
    #[error("the head is malformed, or written by a later version")]
    Malformed,
    /// The signed head could not be made.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

/// A segment that holds part of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogRef {
    /// The segment.
    pub segment: SegmentId,
    /// Its code.
    pub code: Code,
    /// The length of its shards.
    pub shard_len: ShardLen,
    /// Its level in the log-structured catalog; [`crate::lists::LIST`] if it holds references to
    /// further segments of it.
    pub level: u8,
}

/// A head's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadBody {
    /// The catalog, at most 48 segments; of a larger one, some of these hold references to others.
    pub refs: Vec<CatalogRef>,
    /// Bit `i` is set if slot `i` is in use.
    pub slots: u32,
    /// When it was written, by the writer's clock.
    pub time: UnixTime,
    /// Hashes of releases whose delay is not over, at most 16.
    pub releases: Vec<[u8; 32]>,
}

fn encode(body: &HeadBody) -> Result<Vec<u8>, HeadError> {
    let (refs, releases) = (body.refs.len(), body.releases.len());
    if refs > MAX_CATALOG_REFS || releases > MAX_RELEASES {
        return Err(HeadError::TooMuch { refs, releases });
    }
    // Both counts are small.
    let mut out = vec![VERSION, refs as u8, releases as u8, 0];
    out.extend_from_slice(&body.slots.to_le_bytes());
    out.extend_from_slice(&body.time.secs().to_le_bytes());
    body.refs.iter().for_each(|reference| out.extend_from_slice(&encode_ref(reference)));
    body.releases.iter().for_each(|release| out.extend_from_slice(release));
    out.resize(HEAD_BODY_LEN, 0);
    Ok(out)
}

pub(crate) fn encode_ref(reference: &CatalogRef) -> [u8; REF] {
    let mut out = [0; REF];
    let (segment, rest) = out.split_at_mut(32);
    segment.copy_from_slice(reference.segment.as_bytes());
    let (code, class) = (reference.code, reference.shard_len.class());
    rest[..4].copy_from_slice(&[code.data(), code.total(), class, reference.level]);
    out
}

pub(crate) fn decode_ref(bytes: &[u8; REF]) -> Option<CatalogRef> {
    let (segment, rest) = bytes.split_first_chunk::<32>()?;
    let [data, total, class, level, 0, 0, 0, 0] = rest else { return None };
    Some(CatalogRef {
        segment: SegmentId::from_bytes(*segment),
        code: Code::new(*data, total.checked_sub(*data)?).ok()?,
        shard_len: ShardLen::from_class(*class).ok()?,
        level: *level,
    })
}

fn decode(bytes: &[u8]) -> Option<HeadBody> {
    let (fixed, rest) = bytes.split_first_chunk::<FIXED>()?;
    let [VERSION, refs, releases, 0, rest_of_fixed @ ..] = fixed else { return None };
    let (refs, releases) = (usize::from(*refs), usize::from(*releases));
    if bytes.len() != HEAD_BODY_LEN || refs > MAX_CATALOG_REFS || releases > MAX_RELEASES {
        return None;
    }
    let (slots, time) = rest_of_fixed.split_first_chunk::<4>()?;
    let (ref_bytes, rest) = rest.split_at_checked(refs * REF)?;
    let (release_bytes, zeros) = rest.split_at_checked(releases * 32)?;
    if zeros.iter().any(|byte| *byte != 0) {
        return None;
    }
    Some(HeadBody {
        refs: ref_bytes.as_chunks().0.iter().map(decode_ref).collect::<Option<_>>()?,
        slots: u32::from_le_bytes(*slots),
        time: UnixTime::from_secs(u64::from_le_bytes(time.try_into().ok()?)),
        releases: release_bytes.as_chunks().0.to_vec(),
    })
}

fn associated(account: &AccountId, sequence: u64, previous: Option<&HeadHash>) -> Vec<u8> {
    let mut out = domain::HEAD_SEAL.message(account.as_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    if let Some(previous) = previous {
        out.extend_from_slice(previous.as_bytes());
    }
    out
}

/// Zeros before the random bytes of a rewriting's name.
const REWRITTEN: usize = 16;

/// A name for a catalog that is written anew, to stand among the releases.
///
/// # Errors
/// If there is no randomness.
pub fn rewriting() -> Result<[u8; 32], HeadError> {
    let mut name = [0; 32];
    getrandom::fill(&mut name[REWRITTEN..]).map_err(|_| HeadError::Randomness)?;
    Ok(name)
}

/// Whether one of a head's releases only says that the catalog was written anew.
#[must_use]
pub fn is_rewriting(release: &[u8; 32]) -> bool {
    release[..REWRITTEN] == [0; REWRITTEN]
}

impl HeadBody {
    /// Names a release beside those named before, as many as fit.
    pub fn name_release(&mut self, release: [u8; 32]) {
        self.releases.push(release);
        let superfluous = self.releases.len().saturating_sub(MAX_RELEASES);
        self.releases.drain(..superfluous);
    }
}

/// Seals and signs a head.
///
/// # Errors
/// If the body holds too much, or there is no randomness.
pub fn seal_head(
    keys: &VaultKeys,
    slot: u32,
    network: Network,
    sequence: u64,
    previous: Option<HeadHash>,
    body: &HeadBody,
) -> Result<Signed<Head>, HeadError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|_| HeadError::Randomness)?;
    let account = keys.root.account(slot).account();
    let head_key = keys.head_key(slot);
    let mut sealed = encode(body)?;
    XChaCha20Poly1305::new((&*keys.root.head_seal(slot)).into())
        .encrypt_in_place(&nonce.into(), &associated(&account, sequence, previous.as_ref()), &mut sealed)
        .map_err(|_| HeadError::Sealed)?;
    let body = ByteBuf::from([nonce.as_slice(), &sealed].concat());
    let head = Head { network, account, head_key: head_key.head_key(), sequence, previous, body };
    Ok(Signed::seal(&head, &head_key)?)
}

/// Opens a head's body. The head's signature is checked before, by whoever took it in.
///
/// # Errors
/// [`HeadError`] if it is not of this vault, or malformed.
pub fn open_head(root: &Root, slot: u32, head: &Head) -> Result<HeadBody, HeadError> {
    let (nonce, sealed) = head.body.split_first_chunk::<NONCE>().ok_or(HeadError::Malformed)?;
    let mut plain = sealed.to_vec();
    XChaCha20Poly1305::new((&*root.head_seal(slot)).into())
        .decrypt_in_place(
            nonce.into(),
            &associated(&head.account, head.sequence, head.previous.as_ref()),
            &mut plain,
        )
        .map_err(|_| HeadError::Sealed)?;
    decode(&plain).ok_or(HeadError::Malformed)
}

/// Whether one head, given by sequence and hash, wins over another: the higher sequence, and of
/// two equal ones the larger hash.
#[must_use]
pub fn supersedes(new: (u64, HeadHash), old: (u64, HeadHash)) -> bool {
    new > old
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn root(seed: u8) -> Root {
        Root::from_bytes(&Zeroizing::new([seed; 32]))
    }

    fn keys(seed: u8) -> VaultKeys {
        VaultKeys::new(root(seed), Vec::new())
    }

    fn body(refs: usize, releases: usize) -> HeadBody {
        let reference = |at: usize| CatalogRef {
            segment: SegmentId::from_bytes([at as u8; 32]),
            code: Code::new(4, 4).expect("valid"),
            shard_len: ShardLen::FULL,
            level: (at % 5) as u8,
        };
        HeadBody {
            refs: (0..refs).map(reference).collect(),
            slots: 5,
            time: UnixTime::from_secs(1_700_000_000),
            releases: vec![[8; 32]; releases],
        }
    }

    proptest! {
        #[test]
        fn bodies_round_trip(refs in 0usize..=MAX_CATALOG_REFS, releases in 0usize..=MAX_RELEASES, sequence: u64) {
            let body = body(refs, releases);
            let signed = seal_head(&keys(1), 2, Network::Test, sequence, Some(HeadHash::from_bytes([7; 32])), &body)?;
            let head = signed.verify(Network::Test, UnixTime::from_secs(0))?;
            prop_assert_eq!(open_head(&root(1), 2, &head)?, body);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..5000), exact: bool) {
            if exact {
                bytes.resize(HEAD_BODY_LEN, 0);
            }
            if let Some(body) = decode(&bytes) {
                prop_assert_eq!(encode(&body)?, bytes);
            }
        }
    }

    #[test]
    fn a_head_opens_only_for_its_vault_slot_and_place() {
        let signed = seal_head(&keys(1), 0, Network::Test, 5, None, &body(1, 0)).expect("seals");
        let head = signed.verify(Network::Test, UnixTime::from_secs(0)).expect("verifies").into_body();
        assert!(open_head(&root(1), 0, &head).is_ok());
        assert!(matches!(open_head(&root(2), 0, &head), Err(HeadError::Sealed)));
        assert!(matches!(open_head(&root(1), 1, &head), Err(HeadError::Sealed)));
        let moved = Head { sequence: 6, ..head };
        assert!(matches!(open_head(&root(1), 0, &moved), Err(HeadError::Sealed)));
    }

    #[test]
    fn too_many_references_are_refused() {
        let result = seal_head(&keys(1), 0, Network::Test, 1, None, &body(MAX_CATALOG_REFS + 1, 0));
        assert!(matches!(result, Err(HeadError::TooMuch { .. })));
    }

    #[test]
    fn a_head_names_the_newest_releases_and_tells_rewritings_from_deletions() {
        let mut body = body(0, MAX_RELEASES);
        let name = rewriting().expect("random");
        body.name_release(name);
        assert_eq!((body.releases.len(), body.releases.last()), (MAX_RELEASES, Some(&name)));
        assert!(is_rewriting(&name) && !is_rewriting(&[8; 32]));
    }

    #[test]
    fn the_larger_hash_wins_among_equal_sequences() {
        let (low, high) = (HeadHash::from_bytes([1; 32]), HeadHash::from_bytes([2; 32]));
        assert!(supersedes((4, high), (4, low)) && !supersedes((4, low), (4, high)));
        assert!(supersedes((5, low), (4, high)));
    }

    #[test]
    fn a_body_is_what_the_fixture_says() {
        fincrypt_vectors::check(
            "head-body.txt",
            &fincrypt_vectors::hex(&encode(&body(2, 1)).expect("encodes")),
        );
    }
}
