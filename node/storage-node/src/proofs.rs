//! Answers to challenges: a leaf of each shard asked for, and its proof.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use fincrypt_protocol::limits::{MAX_CHALLENGE, MAX_PAYLOAD};
use fincrypt_protocol::shard::{Audited, Challenged, Response, Verdict};
use fincrypt_protocol::{AccountId, AnswerDigest, NodeId, Nonce, Refusal, SegmentId, ShardIndex};
use fincrypt_shards::proof::answer_digest;
use fincrypt_shards::{Found, StoreError};

use super::StorageRole;
use super::handle::{Right, refuse_store};
use fincrypt_net::Answer;

impl StorageRole {
    pub(super) fn challenge(
        &self,
        from: NodeId,
        nonce: &Nonce,
        shards: &[Challenged],
        audited: Option<Audited>,
    ) -> Answer<Response> {
        if shards.len() > MAX_CHALLENGE {
            return Err(Refusal::Invalid);
        }
        let mut allowed: BTreeMap<AccountId, bool> = BTreeMap::new();
        for shard in shards {
            if let Entry::Vacant(vacant) = allowed.entry(shard.account) {
                vacant.insert(match self.authorize(from, &shard.account, Right::Audit) {
                    Ok(()) => true,
                    Err(Refusal::NotMandated) => false,
                    Err(refusal) => return Err(refusal),
                });
            }
        }
        // Strangers learn nothing; of several accounts, one must not keep the others from being audited.
        if !allowed.values().any(|allowed| *allowed) {
            return Err(Refusal::NotMandated);
        }
        let mut proofs = Vec::new();
        let mut verdicts = Vec::with_capacity(shards.len());
        for Challenged { account, segment, index } in shards {
            if allowed.get(account) != Some(&true) {
                verdicts.push(Verdict::Refused);
                continue;
            }
            verdicts.push(match self.store.prove(account, segment, *index, nonce) {
                Ok(Some(proof)) => {
                    proof.write(&mut proofs);
                    Verdict::Proved
                }
                Ok(None) => match self.store.was_damaged(account, segment, *index) {
                    Ok(true) => Verdict::Damaged,
                    Ok(false) => Verdict::Missing,
                    Err(error) => return Err(refuse_store(&error)),
                },
                Err(error @ (StoreError::Damaged(_) | StoreError::Io { .. })) => {
                    tracing::warn!(%error, "a challenged shard cannot be proved");
                    self.look_closer(account, segment, *index);
                    Verdict::Damaged
                }
                Err(error) => return Err(refuse_store(&error)),
            });
        }
        // 300 proofs of full shards are 40 % of it.
        if proofs.len() > MAX_PAYLOAD as usize {
            return Err(Refusal::Invalid);
        }
        if let Some(audited) = audited {
            self.count(from, audited, AnswerDigest::from_bytes(answer_digest(nonce, &proofs)))?;
        }
        Ok((Response::Proofs { verdicts }, Bytes::from(proofs)))
    }

    /// A shard whose leaf is wrong is removed if all of it is not what it should be.
    fn look_closer(&self, account: &AccountId, segment: &SegmentId, index: ShardIndex) {
        match self.store.check(account, segment, index) {
            Ok(Found::Rotten) => self.disk.rot(),
            Ok(Found::Unreadable(error)) | Err(error) => self.disk.note(&error),
            Ok(Found::Good | Found::Gone) => {}
        }
    }
}
