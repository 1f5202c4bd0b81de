//! Answers to challenges: a leaf of each shard asked for, and its proof.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use fincrypt_protocol::limits::{MAX_CHALLENGE, MAX_PAYLOAD};
use fincrypt_protocol::shard::{Audited, Challenged, Verdict};
use fincrypt_protocol::{AccountId, AnswerDigest, NodeId, Nonce, SegmentId, ShardIndex};
use fincrypt_shards::proof::answer_digest;
use fincrypt_shards::{Found, ShardStore, StoreError};

use crate::Disk;
use crate::access::{Access, AccessError, Right};
use crate::counting::{AuditCounts, CountError};

/// Why a challenge is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    /// It asks for too many shards, or for proofs that are too long together.
    #[error("the challenge asks for too much")]
    TooMuch,
    /// The peer may audit none of the accounts.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit could not be counted.
    #[error(transparent)]
    Count(#[from] CountError),
}

/// An answer to a challenge.
pub(crate) struct ProofAnswer {
    /// One for each shard asked for.
    pub(crate) verdicts: Vec<Verdict>,
    /// The proofs of those that were proved, one after the other.
    pub(crate) proofs: Vec<u8>,
}

/// What [`Proofs`] is made of.
pub(crate) struct ProofOptions {
    pub(crate) access: Access,
    pub(crate) store: ShardStore,
    pub(crate) disk: Arc<Disk>,
    pub(crate) counts: AuditCounts,
}

/// Answers challenges.
pub(crate) struct Proofs(ProofOptions);

impl Proofs {
    pub(crate) fn new(options: ProofOptions) -> Self {
        Self(options)
    }

    /// Proves what is held of the shards asked for, and counts the audit.
    ///
    /// # Errors
    /// [`ProofError`].
    pub(crate) fn answer(
        &self,
        from: NodeId,
        nonce: &Nonce,
        shards: &[Challenged],
        audited: Option<Audited>,
    ) -> Result<ProofAnswer, ProofError> {
        if shards.len() > MAX_CHALLENGE {
            return Err(ProofError::TooMuch);
        }
        let allowed = self.allowed(from, shards)?;
        let mut proofs = Vec::new();
        let mut verdicts = Vec::with_capacity(shards.len());
        for shard in shards {
            verdicts.push(if allowed.get(&shard.account) == Some(&true) {
                self.prove(shard, nonce, &mut proofs)?
            } else {
                Verdict::Refused
            });
        }
        // 300 proofs of full shards are 40 % of it.
        if proofs.len() > MAX_PAYLOAD as usize {
            return Err(ProofError::TooMuch);
        }
        if let Some(audited) = audited {
            let digest = AnswerDigest::from_bytes(answer_digest(nonce, &proofs));
            self.0.counts.count(from, audited, digest)?;
        }
        Ok(ProofAnswer { verdicts, proofs })
    }

    /// Which accounts the peer may audit; of several, one must not keep the others from being audited.
    fn allowed(&self, from: NodeId, shards: &[Challenged]) -> Result<BTreeMap<AccountId, bool>, AccessError> {
        let mut allowed: BTreeMap<AccountId, bool> = BTreeMap::new();
        for shard in shards {
            if let Entry::Vacant(vacant) = allowed.entry(shard.account) {
                vacant.insert(match self.0.access.authorize(from, &shard.account, Right::Audit) {
                    Ok(()) => true,
                    Err(AccessError::NotMandated) => false,
                    Err(error) => return Err(error),
                });
            }
        }
        // Strangers learn nothing.
        if !allowed.values().any(|allowed| *allowed) {
            return Err(AccessError::NotMandated);
        }
        Ok(allowed)
    }

    fn prove(&self, shard: &Challenged, nonce: &Nonce, proofs: &mut Vec<u8>) -> Result<Verdict, StoreError> {
        let Challenged { account, segment, index } = shard;
        match self.0.store.prove(account, segment, *index, nonce) {
            Ok(Some(proof)) => {
                proof.write(proofs);
                Ok(Verdict::Proved)
            }
            Ok(None) if self.0.store.was_damaged(account, segment, *index)? => Ok(Verdict::Damaged),
            Ok(None) => Ok(Verdict::Missing),
            Err(error @ (StoreError::Damaged(_) | StoreError::Io { .. })) => {
                tracing::warn!(%error, "challenged_shard_not_proved");
                self.check(account, segment, *index);
                Ok(Verdict::Damaged)
            }
            Err(error) => Err(error),
        }
    }

    /// A shard whose leaf is wrong is removed if all of it is not what it should be.
    fn check(&self, account: &AccountId, segment: &SegmentId, index: ShardIndex) {
        match self.0.store.check(account, segment, index) {
            Ok(Found::Rotten) => self.0.disk.rot(),
            Ok(Found::Unreadable(error)) | Err(error) => self.0.disk.note(&error),
            Ok(Found::Good | Found::Gone) => {}
        }
    }
}
