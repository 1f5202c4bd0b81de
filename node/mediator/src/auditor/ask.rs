//! Asking for proofs, and checking them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::shard::{Audited, Challenge, Challenged, GetShard, Proofs, Verdict};
use fincrypt_protocol::{AccountId, AnswerDigest, NodeId, Nonce, Refusal, ShardId, ShardLen};
use fincrypt_shards::proof::{answer_digest, shard_id};

use super::Auditor;
use crate::context::nonce;
use fincrypt_net::CallError;
use fincrypt_net::blocking;
use fincrypt_shards::answer::{Shown, judge};
use fincrypt_upkeep::{Came, Epoch, Tally};

/// How long a node may take for all its proofs: 300 groups from a slow disk, and 400 KB at 64 KiB/s.
const PATIENCE: Duration = Duration::from_secs(40);

/// What became of a challenge.
pub(super) enum Asked {
    /// There was nothing to ask for.
    Nothing,
    /// Nobody answered.
    Unanswered(Came),
    /// The node answered.
    Answered {
        tally: Tally,
        /// Shards that it does not have, whatever it says.
        lost: Vec<Challenged>,
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
    /// Challenges a node; what came of it, and the shards that were asked for. One that knows no mandate
    /// is brought it and asked once more: after that, what it refuses counts as missing.
    pub(super) async fn ask_for_proofs(
        &self,
        node: NodeId,
        shards: Vec<Challenged>,
        epoch: Epoch,
    ) -> Result<(Asked, Vec<Challenged>), Refusal> {
        let seconds = u32::try_from(self.standings.terms().epoch.as_secs()).unwrap_or(u32::MAX);
        let audited = Audited { epoch, seconds };
        let mut again = false;
        loop {
            let (this, wanted) = (self.clone(), shards.clone());
            let known = blocking(move || this.still_asked(node, &wanted)).await?;
            if known.is_empty() {
                return Ok((Asked::Nothing, Vec::new()));
            }
            let nonce = nonce()?;
            let asked: Vec<Challenged> = known.iter().map(|known| known.asked).collect();
            let request = Challenge { nonce, shards: asked.clone(), audited: Some(audited) };
            if !self.link.connect(node).await {
                return Ok((Asked::Unanswered(Came::Offline), asked));
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
                    if !self.migration_out.is_dismissed(&account, node).await {
                        // A node that lost the mandate has lost the account's undo and rewind as well.
                        let outbox = self.outbox.clone();
                        blocking(move || outbox.introduce(&account, &[node])).await?;
                    }
                }
                continue;
            }
            let came = match answer {
                Ok(Ok((Proofs { verdicts }, payload))) => {
                    blocking(move || Ok(count(&nonce, &known, &verdicts, &payload))).await?
                }
                Ok(Err(CallError::Connect(_))) => Asked::Unanswered(Came::Offline),
                Ok(Err(CallError::Stopped)) => Asked::Nothing,
                Ok(Err(_)) | Err(_) => Asked::Unanswered(Came::Timeout),
            };
            return Ok((came, asked));
        }
    }

    /// Of some shards those that the node still is to hold and that may be asked for: their owner's
    /// mandate has the right to audit, and has not ended.
    fn still_asked(&self, node: NodeId, shards: &[Challenged]) -> Result<Vec<Known>, Refusal> {
        let mut allowed: HashMap<AccountId, bool> = HashMap::new();
        let mut known = Vec::with_capacity(shards.len());
        for asked in shards {
            let Challenged { account, segment, index } = *asked;
            let may = match allowed.get(&account) {
                Some(may) => *may,
                None => {
                    let mandate = self.records.mandate(&account)?;
                    let valid = mandate
                        .and_then(|mandate| mandate.verify(self.context.network, self.context.now()).ok());
                    let may = valid.is_some_and(|mandate| mandate.rights.audit);
                    allowed.insert(account, may);
                    may
                }
            };
            // What is to be deleted may be gone.
            if !may || self.releases.due(&account, &segment)?.is_some() {
                continue;
            }
            let record = self.records.known(&account, &segment)?;
            let record = record.filter(|record| record.holders().any(|holder| holder == (index, node)));
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
    ) -> Result<Option<Challenged>, Refusal> {
        let at = self.context.below(shards.len().max(1) as u64) as usize;
        let Some(asked) = shards.get(at).copied() else { return Ok(None) };
        let Challenged { account, segment, index } = asked;
        let get = GetShard { account, segment, index };
        let answer = tokio::time::timeout(PATIENCE, self.link.call(node, get, Bytes::new())).await;
        let Ok(Ok((_, payload))) = answer else { return Ok(None) };
        let records = self.records.clone();
        blocking(move || {
            let record = records.known(&account, &segment)?;
            let expected = record.and_then(|record| record.manifest.shard(index));
            Ok(expected.is_some_and(|expected| shard_id(&payload) != expected).then_some(asked))
        })
        .await
    }
}

/// Counts what an answer shows.
fn count(nonce: &Nonce, known: &[Known], verdicts: &[Verdict], payload: &[u8]) -> Asked {
    let named: Vec<_> = known.iter().map(|known| (known.id, known.length)).collect();
    let shown = judge(nonce, &named, verdicts, payload);
    let mut tally = Tally::default();
    for one in &shown {
        *match one {
            Shown::Proved => &mut tally.passed,
            Shown::Wrong => &mut tally.wrong,
            Shown::Missing => &mut tally.missing,
            Shown::Damaged => &mut tally.reported,
        } += 1;
    }
    let lost = known.iter().zip(&shown).filter(|(_, shown)| **shown != Shown::Proved);
    let answer = AnswerDigest::from_bytes(answer_digest(nonce, payload));
    Asked::Answered { tally, lost: lost.map(|(known, _)| known.asked).collect(), answer }
}
