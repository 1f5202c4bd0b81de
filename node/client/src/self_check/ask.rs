//! Asking storage nodes for proofs, as owner, straight.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_net::Multiaddr;
use fincrypt_protocol::limits::MAX_CHALLENGE;
use fincrypt_protocol::mediate::NodeAddresses;
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::shard::{Challenge, Challenged, GetShard, Proofs, Request};
use fincrypt_protocol::{
    AccountId, Call, Manifest, NodeId, Nonce, Refusal, ShardId, ShardIndex, ShardLen, Signed, SigningKey,
};
use fincrypt_shards::proof::shard_id;
use futures::StreamExt;
use tokio::sync::{Mutex, OnceCell};

use super::findings::Outcome;
use crate::holders::{Holders, login};
use fincrypt_net::{CallError, Net, decode_all};
use fincrypt_shards::answer::check_proofs;

/// How long a node may take to be reached and to let us in, and then for one answer; one that takes
/// longer is not asked again. So a silent node holds a check up for 20 s at most.
const ANSWER: Duration = Duration::from_secs(10);
/// The same for a whole shard: at 64 KiB/s, one takes 16 s.
const SHARD: Duration = Duration::from_secs(60);
/// Tries of a request that was refused as the node was busy, and the pause between two.
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// Whole shards fetched from one node at once; of sixteen nodes, 32 MiB at most.
const FETCHES: usize = 2;

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
    async fn call<C: Call<Request = Request>>(
        &self,
        node: NodeId,
        call: C,
        limit: Duration,
    ) -> Result<(C::Response, Bytes), CallError> {
        let mut tries = 0;
        loop {
            let asked = self.net.shard_with(node, call.clone(), Bytes::new());
            tries += 1;
            match tokio::time::timeout(limit, asked).await {
                Ok(Err(error)) if error.refusal() == Some(Refusal::Busy) && tries < BUSY_TRIES => {
                    tokio::time::sleep(BUSY_PAUSE * tries).await;
                }
                Ok(answer) => return answer,
                Err(_) => {
                    let silent = Arc::new(OnceCell::new_with(Some(false)));
                    self.logins.lock().await.insert(node, silent);
                    return Err(CallError::NoAnswer { node, reason: "time is over" });
                }
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
        let request = Challenge { nonce, shards: challenged(account, shards), audited: None };
        match self.call(node, request, ANSWER).await {
            Ok((Proofs { verdicts }, payload)) => {
                let asked: Vec<_> = shards.iter().filter_map(named).collect();
                check_proofs(&nonce, &asked, &verdicts, &payload).into_iter().map(Outcome::from).collect()
            }
            Err(CallError::Unexpected { .. }) => vec![Outcome::Wrong; shards.len()],
            Err(error) => {
                tracing::debug!(%error, "a challenge was not answered");
                vec![Outcome::Unreachable; shards.len()]
            }
        }
    }

    async fn fetch(&self, node: NodeId, manifest: &Manifest, index: ShardIndex) -> Outcome {
        if !self.is_in(node).await {
            return Outcome::Unreachable;
        }
        let request = GetShard { account: self.account.account(), segment: manifest.id(), index };
        match self.call(node, request, SHARD).await {
            Ok((_, payload)) if manifest.shard(index) == Some(shard_id(&payload)) => Outcome::Proved,
            Ok(_) | Err(CallError::Unexpected { .. }) => Outcome::Wrong,
            Err(error) if error.refusal() == Some(Refusal::NotHeld) => Outcome::Missing,
            // It has it, and cannot read it.
            Err(error) if error.refusal() == Some(Refusal::Failed) => Outcome::Damaged,
            Err(_) => Outcome::Unreachable,
        }
    }
}

/// A shard's id and length. Positions come from the manifest itself, so it has one.
fn named((manifest, index): &(&Manifest, ShardIndex)) -> Option<(ShardId, ShardLen)> {
    Some((manifest.shard(*index)?, manifest.shard_len()))
}

fn challenged(account: AccountId, shards: &[(&Manifest, ShardIndex)]) -> Vec<Challenged> {
    let one = |(manifest, index): &(&Manifest, ShardIndex)| Challenged {
        account,
        segment: manifest.id(),
        index: *index,
    };
    shards.iter().map(one).collect()
}
