//! Every label that separates one use of a hash, a signature or a derived key from all others.
//!
//! A label never contains a zero byte; where it is followed by variable data it is terminated by
//! one, so that no label followed by data can equal another label followed by other data.

use sha3::{Digest, Sha3_256};

/// One use of a hash, a signature or a derived key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// The label's bytes, without terminator.
    #[must_use]
    pub const fn label(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// SHA3-256 over `label ‖ 0 ‖ parts…`.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = Sha3_256::new();
        hasher.update(self.label());
        hasher.update([0]);
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// `label ‖ 0 ‖ body`: the bytes that a signature covers.
    #[must_use]
    pub fn message(self, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.0.len() + 1 + body.len());
        message.extend_from_slice(self.label());
        message.push(0);
        message.extend_from_slice(body);
        message
    }
}

macro_rules! domains {
    ($($(#[$meta:meta])* $name:ident = $label:literal;)*) => {
        $($(#[$meta])* pub const $name: Domain = Domain($label);)*
        /// All labels, for the test that no two are equal.
        pub const ALL: &[Domain] = &[$($name),*];
    };
}

domains! {
    /// HKDF: the vault's root secret, from the words' entropy.
    ROOT = "fincrypt/1/root";
    /// HKDF: a slot's guard key, from the words' entropy.
    GUARD = "fincrypt/1/guard";
    /// HKDF: a slot's account key, from the root.
    ACCOUNT = "fincrypt/1/account";
    /// HKDF: a slot's head key, from the root.
    HEAD_KEY = "fincrypt/1/head-key";
    /// HKDF: the key of a slot's heads after a rewind, from the words' entropy, the slot and the rewind's
    /// sequence.
    REWOUND_HEAD_KEY = "fincrypt/1/rewound-head-key";
    /// HKDF: the key that seals a slot's head body, from the root.
    HEAD_SEAL = "fincrypt/1/head-seal";
    /// HKDF: the key of blob ids, from the root.
    BLOB_ID = "fincrypt/1/blob-id";
    /// HKDF: the key of tags, from the root.
    TAG = "fincrypt/1/tag";
    /// HKDF: the keys of one segment, from the root and the segment's nonce.
    SEGMENT = "fincrypt/1/segment";
    /// HKDF: the key of extent checks, from a segment's directory key.
    EXTENT_CHECK = "fincrypt/1/extent-check";
    /// HKDF: the key of names in the local file cache, from the root.
    FILE_CACHE = "fincrypt/1/file-cache";
    /// Associated data of the keyfile's seal.
    KEYFILE = "fincrypt/1/keyfile";
    /// Hash: a segment's id over its manifest.
    SEGMENT_ID = "fincrypt/1/segment-id";
    /// Hash: a signed record's identity.
    RECORD_HASH = "fincrypt/1/record-hash";
    /// Hash: DHT key under which a role's providers are found.
    ROLE = "fincrypt/1/role";
    /// Hash: DHT key under which the holders of an account are found.
    HOLDERS = "fincrypt/1/holders";
    /// Hash: DHT key of a mediator's record.
    MEDIATOR_RECORD_KEY = "fincrypt/1/mediator-record-key";
    /// Hash: the leaf of a shard that a challenge asks for.
    CHALLENGED_LEAF = "fincrypt/1/challenged-leaf";
    /// Hash: what a node answered to a challenge.
    ANSWER = "fincrypt/1/answer";
    /// Hash: a contract's id over its terms.
    CONTRACT_ID = "fincrypt/1/contract-id";
    /// Hash: a ledger up to one of its records.
    LEDGER = "fincrypt/1/ledger";
    /// Hash: an account's withdrawal.
    WITHDRAWAL = "fincrypt/1/withdrawal";
    /// Signature: login of an account.
    LOGIN = "fincrypt/1/login";
    /// Signature: an account's registration.
    REGISTRATION = "fincrypt/1/registration";
    /// Signature: a mandate.
    MANDATE = "fincrypt/1/mandate";
    /// Signature: an owner's move to another mediator.
    ADOPT = "fincrypt/1/adopt";
    /// Signature: a storage receipt.
    RECEIPT = "fincrypt/1/receipt";
    /// Signature: the holder list of a segment.
    HOLDER_LIST = "fincrypt/1/holder-list";
    /// Signature: a head.
    HEAD = "fincrypt/1/head";
    /// Signature: an owner's wish to keep a run.
    KEEP = "fincrypt/1/keep";
    /// Signature: an owner's wish to delete.
    RELEASE = "fincrypt/1/release";
    /// Signature: a guard's cancellation of all deletions.
    UNDO = "fincrypt/1/undo";
    /// Signature: a guard's word on which head an account goes on from, under which key.
    REWIND = "fincrypt/1/rewind";
    /// Signature: a storage offer.
    STORAGE_OFFER = "fincrypt/1/storage-offer";
    /// Signature: a statement, by its mediator.
    STATEMENT = "fincrypt/1/statement";
    /// Signature: a statement, by its storage node.
    COUNTERSIGNATURE = "fincrypt/1/countersignature";
    /// Signature: a mediator's record.
    MEDIATOR_RECORD = "fincrypt/1/mediator-record";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_labels_are_equal_and_none_contains_a_zero() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(!a.label().contains(&0));
            for b in &ALL[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }
}
