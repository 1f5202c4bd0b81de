//! Asking storage nodes for proofs, as owner, straight.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::MAX_CHALLENGE;
use fincrypt_protocol::mediate::NodeAddresses;
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::shard::{Challenged, Request, Response, Verdict};
use fincrypt_protocol::{
    AccountId, Frame, Manifest, NodeId, Nonce, Refusal, SegmentId, ShardIndex, Signed, SigningKey,
};
use fincrypt_storage::proof::{LeafProof, challenged_leaf, shard_id};
use futures::StreamExt;
use libp2p::Multiaddr;
use tokio::sync::{Mutex, OnceCell};

use super::Outcome;
use crate::client::holders::{Holders, login};
use crate::engine::{CallError, Net, decode_all};

/// How long a node may take to be reached and to let us in, and then for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Tries of a request that was refused as the node was busy, and the pause between two.
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// Whole shards fetched from one node at once; of sixteen nodes, 32 MiB at most.
const FETCHES: usize = 2;

/// One shard that a node is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard {
    pub(crate) segment: SegmentId,
    pub(crate) index: ShardIndex,
}

/// How a shard is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// One leaf that nobody could foresee.
    Leaf,
    /// All its bytes.
    Data,
}

/// Asks storage nodes, and logs in with each once.
pub(crate) struct Asker {
    net: Net,
    account: SigningKey,
    registration: Signed<Registration>,
    addresses: Mutex<HashMap<NodeId, Vec<Multiaddr>>>,
    logins: Mutex<HashMap<NodeId, Arc<OnceCell<bool>>>>,
}

impl Asker {
    pub(crate) fn new(net: Net, account: SigningKey, registration: Signed<Registration>) -> Self {
        Self { net, account, registration, addresses: Mutex::default(), logins: Mutex::default() }
    }

    /// Notes where nodes listen.
    pub(crate) async fn learn(&self, nodes: Vec<NodeAddresses>) {
        let known = nodes.into_iter().map(|node| (node.node, decode_all(&node.addresses)));
        self.addresses.lock().await.extend(known);
    }

    /// Notes that these have let us in already.
    pub(crate) async fn let_in_by(&self, holders: &Holders) {
        let mut logins = self.logins.lock().await;
        for node in holders.nodes() {
            logins.insert(*node, Arc::new(OnceCell::new_with(Some(true))));
        }
    }

    /// Whether a node lets us in. A second login would end the first, so all wait for one.
    async fn is_in(&self, node: NodeId) -> bool {
        let cell = Arc::clone(self.logins.lock().await.entry(node).or_default());
        let log_in = || async {
            let addresses = self.addresses.lock().await.get(&node).cloned().unwrap_or_default();
            let login = login(&self.net, &self.account, &self.registration, node, addresses);
            match tokio::time::timeout(ANSWER, login).await {
                Ok(Ok(_)) => true,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a holder did not let us in");
                    false
                }
                Err(_) => false,
            }
        };
        *cell.get_or_init(log_in).await
    }

    /// Asks, and again a few times while the node is busy.
    async fn call(&self, node: NodeId, request: Request) -> Result<Frame<Response>, CallError> {
        let mut tries = 0;
        loop {
            let asked = self.net.shard(node, Frame::bare(request.clone()));
            let silent = CallError::NoAnswer { node, reason: "time is over" };
            tries += 1;
            match tokio::time::timeout(ANSWER, asked).await.unwrap_or(Err(silent)) {
                Err(error) if error.refusal() == Some(Refusal::Busy) && tries < BUSY_TRIES => {
                    tokio::time::sleep(BUSY_PAUSE * tries).await;
                }
                other => return other,
            }
        }
    }

    /// What a node shows of some shards, in order.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        shards: &[(&Manifest, ShardIndex)],
        depth: Depth,
    ) -> Vec<Outcome> {
        if !self.is_in(node).await {
            return vec![Outcome::Unreachable; shards.len()];
        }
        let mut outcomes = Vec::with_capacity(shards.len());
        match depth {
            Depth::Leaf => {
                for page in shards.chunks(MAX_CHALLENGE) {
                    outcomes.extend(self.challenge(node, page).await);
                }
            }
            Depth::Data => {
                let fetches = shards.iter().map(|(manifest, index)| self.fetch(node, manifest, *index));
                outcomes = futures::stream::iter(fetches).buffered(FETCHES).collect().await;
            }
        }
        outcomes
    }

    async fn challenge(&self, node: NodeId, shards: &[(&Manifest, ShardIndex)]) -> Vec<Outcome> {
        let mut random = [0; Nonce::LEN];
        if getrandom::fill(&mut random).is_err() {
            // A nonce that could be foreseen proves nothing.
            return vec![Outcome::Unreachable; shards.len()];
        }
        let nonce = Nonce::from_bytes(random);
        let account = self.account.account();
        let request = Request::Challenge { nonce, shards: challenged(account, shards) };
        match self.call(node, request).await {
            Ok(Frame { header: Response::Proofs { verdicts }, payload }) => {
                judge(&nonce, shards, &verdicts, &payload)
            }
            Ok(_) => vec![Outcome::Wrong; shards.len()],
            Err(error) => {
                tracing::debug!(%error, "a challenge was not answered");
                vec![Outcome::Unreachable; shards.len()]
            }
        }
    }

    async fn fetch(&self, node: NodeId, manifest: &Manifest, index: ShardIndex) -> Outcome {
        let account = self.account.account();
        match self.call(node, Request::Get { account, segment: manifest.id(), index }).await {
            Ok(Frame { header: Response::Shard, payload })
                if manifest.shard(index) == Some(shard_id(&payload)) =>
            {
                Outcome::Proved
            }
            Ok(_) => Outcome::Wrong,
            Err(error) if error.refusal() == Some(Refusal::NotHeld) => Outcome::Missing,
            // It has it, and cannot read it.
            Err(error) if error.refusal() == Some(Refusal::Failed) => Outcome::Damaged,
            Err(_) => Outcome::Unreachable,
        }
    }
}

fn challenged(account: AccountId, shards: &[(&Manifest, ShardIndex)]) -> Vec<Challenged> {
    let one = |(manifest, index): &(&Manifest, ShardIndex)| Challenged {
        account,
        segment: manifest.id(),
        index: *index,
    };
    shards.iter().map(one).collect()
}

/// What an answer shows of each shard. One that does not fit the question shows nothing good.
fn judge(
    nonce: &Nonce,
    shards: &[(&Manifest, ShardIndex)],
    verdicts: &[Verdict],
    mut payload: &[u8],
) -> Vec<Outcome> {
    if verdicts.len() != shards.len() {
        return vec![Outcome::Wrong; shards.len()];
    }
    let one = |((manifest, index), verdict): (&(&Manifest, ShardIndex), &Verdict)| match verdict {
        Verdict::Missing => Outcome::Missing,
        Verdict::Damaged => Outcome::Damaged,
        Verdict::Proved => {
            let (Some(id), length) = (manifest.shard(*index), manifest.shard_len()) else {
                return Outcome::Wrong;
            };
            let leaf = challenged_leaf(nonce, &id, length);
            let proof = LeafProof::read(&mut payload, length, leaf);
            let good = proof.is_some_and(|proof| proof.verify(&id, length, leaf));
            if good { Outcome::Proved } else { Outcome::Wrong }
        }
    };
    shards.iter().zip(verdicts).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Code, ShardLen};
    use fincrypt_storage::proof::{GROUP, LEAF, groups, prove};

    #[test]
    fn only_the_leaf_that_was_asked_for_of_the_very_shard_is_a_proof() {
        let length = ShardLen::new(64 << 10).expect("valid");
        let data: [Vec<u8>; 2] = [1, 2].map(|seed| {
            let bytes = blake3::Hasher::new().update(&[seed]).finalize_xof();
            let (mut bytes, mut out) = (bytes, vec![0; length.get() as usize]);
            bytes.fill(&mut out);
            out
        });
        let ids = data.iter().map(|shard| shard_id(shard)).collect();
        let manifest = Manifest::new(Code::new(1, 1).expect("valid"), length, ids).expect("valid");
        let shards: Vec<_> = manifest.code().indices().map(|index| (&manifest, index)).collect();
        let nonce = Nonce::from_bytes([7; 32]);
        let proof = |of: usize, nonce: &Nonce| {
            let id = manifest.ids()[of];
            let leaf = challenged_leaf(nonce, &id, length);
            let start = leaf as usize * LEAF / GROUP * GROUP;
            let mut out = Vec::new();
            let shard = &data[of];
            prove(length, leaf, &shard[start..start + GROUP], &groups(shard)).expect("fits").write(&mut out);
            out
        };
        let proved = [Verdict::Proved, Verdict::Proved];
        let judged = |verdicts: &[Verdict], payload: Vec<u8>| judge(&nonce, &shards, verdicts, &payload);
        let both = [proof(0, &nonce), proof(1, &nonce)].concat();
        assert_eq!(judged(&proved, both.clone()), [Outcome::Proved, Outcome::Proved]);
        let second = judged(&[Verdict::Missing, Verdict::Proved], proof(1, &nonce));
        assert_eq!(second, [Outcome::Missing, Outcome::Proved]);
        let stale = Nonce::from_bytes([8; 32]);
        let other = judged(&proved, [proof(0, &stale), proof(1, &nonce)].concat());
        assert_eq!(other[0], Outcome::Wrong, "a leaf of an older challenge");
        let swapped = judged(&proved, [proof(1, &nonce), proof(0, &nonce)].concat());
        assert_eq!(swapped, [Outcome::Wrong, Outcome::Wrong]);
        assert_eq!(judged(&proved, both[..both.len() - 1].to_vec())[1], Outcome::Wrong);
        assert_eq!(judged(&proved[..1], both), [Outcome::Wrong, Outcome::Wrong]);
    }
}
