//! Asking for proofs, and checking them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::shard::{Audited, Challenge, Challenged, GetShard, Proofs, Verdict};
use fincrypt_protocol::{AccountId, AnswerDigest, NodeId, Nonce, Refusal, ShardId, ShardLen};
use fincrypt_shards::proof::{answer_digest, shard_id};

use super::{AuditError, Auditor};
use crate::context::nonce;
use crate::error::{Interrupted, StoreError, blocking};
use fincrypt_net::CallError;
use fincrypt_shards::answer::{ProofVerdict, check_proofs};
use fincrypt_upkeep::{AuditOutcome, Epoch, ProofCounts};

/// How long a node may take for all its proofs: 300 groups from a slow disk, and 400 KB at 64 KiB/s.
const PATIENCE: Duration = Duration::from_secs(40);

/// The outcome of a challenge.
pub(super) enum ChallengeOutcome {
    /// There was nothing to ask for.
    Nothing,
    /// Nobody answered.
    Unanswered(AuditOutcome),
    /// The node answered.
    Answered {
        counts: ProofCounts,
        /// Shards that it did not prove.
        missing: Vec<Challenged>,
        /// The digest of its answer.
        answer: AnswerDigest,
    },
}

/// A shard as the records know it.
struct Known {
    asked: Challenged,
    id: ShardId,
    length: ShardLen,
}

impl Auditor {
    /// Challenges a node; the outcome, and the shards that were asked for. One that knows no mandate
    /// is brought it and asked once more: after that, what it refuses counts as missing.
    pub(super) async fn ask_for_proofs(
        &self,
        node: NodeId,
        shards: Vec<Challenged>,
        epoch: Epoch,
    ) -> Result<(ChallengeOutcome, Vec<Challenged>), AuditError> {
        let seconds = u32::try_from(self.reputations.terms().epoch.as_secs()).unwrap_or(u32::MAX);
        let audited = Audited { epoch, seconds };
        let mut again = false;
        loop {
            let (this, wanted) = (self.clone(), shards.clone());
            let known = blocking(move || this.still_asked(node, &wanted)).await?;
            if known.is_empty() {
                return Ok((ChallengeOutcome::Nothing, Vec::new()));
            }
            let nonce = nonce()?;
            let asked: Vec<Challenged> = known.iter().map(|known| known.asked).collect();
            let request = Challenge { nonce, shards: asked.clone(), audited: Some(audited) };
            if !self.link.connect(node).await {
                return Ok((ChallengeOutcome::Unanswered(AuditOutcome::Offline), asked));
            }
            let answer = tokio::time::timeout(PATIENCE, self.link.call(node, request, Bytes::new())).await;
            let refused: BTreeSet<AccountId> = match &answer {
                Ok(Ok((Proofs { verdicts }, _))) => {
                    let refused = asked.iter().zip(verdicts).filter(|(_, said)| **said == Verdict::Refused);
                    refused.map(|(shard, _)| shard.account).collect()
                }
                Ok(Err(CallError::Refused { refusal: Refusal::NotMandated, .. })) => {
                    asked.iter().map(|shard| shard.account).collect()
                }
                _ => BTreeSet::new(),
            };
            if !refused.is_empty() && !again {
                again = true;
                for account in refused {
                    if !self.migration_out.check_departed(&account, node).await {
                        // A node that lost the mandate has lost the account's undo and rewind as well.
                        let outbox = self.outbox.clone();
                        blocking(move || outbox.introduce(&account, &[node])).await?;
                    }
                }
                continue;
            }
            let outcome = match answer {
                Ok(Ok((Proofs { verdicts }, payload))) => {
                    let counted = move || Ok::<_, Interrupted>(count(&nonce, &known, &verdicts, &payload));
                    blocking(counted).await?
                }
                Ok(Err(CallError::Connect(_))) => ChallengeOutcome::Unanswered(AuditOutcome::Offline),
                Ok(Err(CallError::Stopped)) => ChallengeOutcome::Nothing,
                Ok(Err(_)) | Err(_) => ChallengeOutcome::Unanswered(AuditOutcome::Timeout),
            };
            return Ok((outcome, asked));
        }
    }

    /// Of some shards those that the node still is to hold and that may be asked for: their owner's
    /// mandate has the right to audit, and has not ended.
    fn still_asked(&self, node: NodeId, shards: &[Challenged]) -> Result<Vec<Known>, StoreError> {
        let mut allowed: HashMap<AccountId, bool> = HashMap::new();
        let mut known = Vec::with_capacity(shards.len());
        for asked in shards {
            let Challenged { account, segment, index } = *asked;
            let may = match allowed.get(&account) {
                Some(may) => *may,
                None => {
                    let mandate = self.stores.mandates.valid(&account, self.context.now())?;
                    let may = mandate.is_some_and(|mandate| mandate.rights.audit);
                    allowed.insert(account, may);
                    may
                }
            };
            // What is to be deleted may be gone.
            if !may || self.releases.due(&account, &segment)?.is_some() {
                continue;
            }
            let record = self.stores.segments.get(&account, &segment)?;
            let record = record.filter(|record| record.holder(index) == Some(node));
            let Some(manifest) = record.map(|record| record.manifest) else { continue };
            if let Some(id) = manifest.shard(index) {
                known.push(Known { asked: *asked, id, length: manifest.shard_len() });
            }
        }
        Ok(known)
    }

    /// Fetches one of the shards and compares all of it, as leaves alone could be kept without the
    /// rest; the shard if it is not what it should be.
    pub(super) async fn fetch_whole(
        &self,
        node: NodeId,
        shards: &[Challenged],
    ) -> Result<Option<Challenged>, StoreError> {
        let at = self.context.below(shards.len().max(1) as u64) as usize;
        let Some(asked) = shards.get(at).copied() else { return Ok(None) };
        let Challenged { account, segment, index } = asked;
        let get = GetShard { account, segment, index };
        let answer = tokio::time::timeout(PATIENCE, self.link.call(node, get, Bytes::new())).await;
        let Ok(Ok((_, payload))) = answer else { return Ok(None) };
        let segments = self.stores.segments.clone();
        blocking(move || {
            let record = segments.get(&account, &segment)?;
            let expected = record.and_then(|record| record.manifest.shard(index));
            Ok(expected.is_some_and(|expected| shard_id(&payload) != expected).then_some(asked))
        })
        .await
    }
}

/// Counts what an answer proves.
fn count(nonce: &Nonce, known: &[Known], verdicts: &[Verdict], payload: &[u8]) -> ChallengeOutcome {
    let named: Vec<_> = known.iter().map(|known| (known.id, known.length)).collect();
    let proved = check_proofs(nonce, &named, verdicts, payload);
    let mut counts = ProofCounts::default();
    for verdict in &proved {
        *match verdict {
            ProofVerdict::Proved => &mut counts.passed,
            ProofVerdict::Wrong => &mut counts.wrong,
            ProofVerdict::Missing => &mut counts.missing,
            ProofVerdict::Damaged => &mut counts.reported,
        } += 1;
    }
    let missing = known.iter().zip(&proved).filter(|(_, verdict)| **verdict != ProofVerdict::Proved);
    let missing = missing.map(|(known, _)| known.asked).collect();
    let answer = AnswerDigest::from_bytes(answer_digest(nonce, payload));
    ChallengeOutcome::Answered { counts, missing, answer }
}
