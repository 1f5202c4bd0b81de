//! The client's side of `/shard/1`: straight to the holders of an account's shards.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_net::Multiaddr;
use fincrypt_protocol::Refusal;
use fincrypt_protocol::admission::holders_key;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::record::{Head, Mandate, Registration, Undo};
use fincrypt_protocol::shard::{
    GetHeads, GetShard, Heads, HeldSegment, Hello, ListShards, LocateSegments, Login, Request, RewindAccount,
    UndoReleases,
};
use fincrypt_protocol::{
    AccountId, Call, Network, NodeId, Rewound, SegmentId, ShardIndex, Signed, SigningKey, UnixTime, Verified,
};
use futures::StreamExt;

use super::mediator_client::login_proof;
use fincrypt_net::{CallError, Net};

/// Holders asked at once.
const AT_ONCE: usize = 16;
/// How long one holder may take for what is not a shard.
const ANSWER: Duration = Duration::from_secs(10);

/// A shard's place in the order of a holder's list.
pub(crate) type Place = (SegmentId, ShardIndex);

/// The storage nodes that hold shards of one account and answered.
pub(crate) struct Holders {
    net: Net,
    account: AccountId,
    nodes: Vec<NodeId>,
    /// The mandates they hold shards under, which name the account's mediator.
    mandates: Vec<Signed<Mandate>>,
}

impl Holders {
    /// Looks an account's holders up in the DHT and logs in with each.
    pub(crate) async fn find(net: &Net, account: &SigningKey, registration: &Signed<Registration>) -> Self {
        let id = account.account();
        let found = net.providers(holders_key(&id)).await;
        let logins = found.into_iter().map(|node| async move {
            match login(net, account, registration, node, Vec::new()).await {
                Ok(mandate) => Some((node, mandate)),
                Err(error) => {
                    tracing::debug!(%error, "a holder did not let us in");
                    None
                }
            }
        });
        let reached: Vec<_> = futures::stream::iter(logins)
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let nodes = reached.iter().map(|(node, _)| *node).collect();
        let mandates = reached.into_iter().filter_map(|(_, mandate)| mandate).collect();
        Self { net: net.clone(), account: id, nodes, mandates }
    }

    /// The newest mandate, which names the account's mediator.
    pub(crate) fn newest_mandate(&self) -> Option<Verified<Mandate>> {
        newest_of(&self.mandates, self.net.network(), self.account)
    }

    /// The account's mediator, by its newest mandate.
    pub(crate) fn mediator(&self) -> Option<NodeId> {
        self.newest_mandate().map(|mandate| mandate.mediator)
    }

    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    async fn ask_all<C: Call<Request = Request>>(&self, call: C) -> Vec<(NodeId, C::Response)> {
        let asking = self.nodes.iter().copied().map(|node| {
            let call = call.clone();
            async move { Some((node, self.ask(node, call).await?)) }
        });
        futures::stream::iter(asking).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// Asks one holder; `None` if it did not answer in time, or refused.
    async fn ask<C: Call<Request = Request>>(&self, node: NodeId, call: C) -> Option<C::Response> {
        tokio::time::timeout(ANSWER, self.net.shard(node, call)).await.ok()?.ok()
    }

    /// Brings an undo to every holder; what each answered that did in time: whether a release was pending
    /// there, or why it refuses.
    pub(crate) async fn undo(&self, undo: &Signed<Undo>) -> Vec<Result<bool, Refusal>> {
        let asking = self.nodes.iter().copied().map(|node| async move {
            let asked = self.net.shard(node, UndoReleases { undo: undo.clone() });
            match tokio::time::timeout(ANSWER, asked).await.ok()? {
                Ok(undone) => Some(Ok(undone.pending)),
                Err(error) => error.refusal().map(Err),
            }
        });
        futures::stream::iter(asking).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// Brings a rewind to every holder; how many took it.
    pub(crate) async fn rewind(&self, rewound: &Rewound) -> usize {
        self.ask_all(RewindAccount { rewound: rewound.clone() }).await.len()
    }

    /// All valid heads of the account that the holders have, as often as they have each; and the
    /// rewinds that they show, unchecked.
    pub(crate) async fn heads(&self) -> (Vec<Verified<Head>>, Vec<Rewound>) {
        let answers = self.ask_all(GetHeads { account: self.account }).await;
        let (network, now) = (self.net.network(), fincrypt_protocol::UnixTime::now());
        let (mut valid, mut rewounds) = (Vec::new(), Vec::new());
        for (_, Heads { heads, rewound }) in answers {
            let heads = heads.into_iter().filter_map(|head| head.verify(network, now).ok());
            valid.extend(heads.filter(|head| head.account == self.account));
            rewounds.extend(rewound.map(|rewound| *rewound));
        }
        (valid, rewounds)
    }

    /// What the holders know about some segments.
    pub(crate) async fn locate(
        &self,
        segments: &[SegmentId],
    ) -> HashMap<SegmentId, Vec<(NodeId, HeldSegment)>> {
        let mut located: HashMap<SegmentId, Vec<(NodeId, HeldSegment)>> = HashMap::new();
        for page in segments.chunks(MAX_LOCATE) {
            let ask = LocateSegments { account: self.account, segments: page.to_vec() };
            let answers = self.ask_all(ask).await.into_iter();
            for (node, held) in
                answers.flat_map(|(node, held)| held.segments.into_iter().map(move |held| (node, held)))
            {
                located.entry(held.manifest.id()).or_default().push((node, held));
            }
        }
        located
    }

    /// A page of what one holder says it has, and whether it says that more follow; `None` if it did
    /// not answer in time.
    pub(crate) async fn list(&self, node: NodeId, after: Option<Place>) -> Option<(Vec<Place>, bool)> {
        let page = self.ask(node, ListShards { account: self.account, after }).await?;
        let places = page.shards.into_iter().map(|(segment, index, _)| (segment, index));
        Some((places.collect(), page.more))
    }

    /// What one holder knows about some segments, at most [`MAX_LOCATE`]; `None` if it did not answer
    /// in time.
    pub(crate) async fn locate_at(&self, node: NodeId, segments: &[SegmentId]) -> Option<Vec<HeldSegment>> {
        let ask = LocateSegments { account: self.account, segments: segments.to_vec() };
        Some(self.ask(node, ask).await?.segments)
    }

    /// Fetches a shard, unchecked.
    pub(crate) async fn get(
        &self,
        node: NodeId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, CallError> {
        let ask = GetShard { account: self.account, segment, index };
        Ok(self.net.shard_with(node, ask, Bytes::new()).await?.1)
    }
}

/// Logs an account in with a node that listens at `addresses`, or wherever it is found.
pub(crate) async fn login(
    net: &Net,
    account: &SigningKey,
    registration: &Signed<Registration>,
    node: NodeId,
    addresses: Vec<Multiaddr>,
) -> Result<Option<Signed<Mandate>>, CallError> {
    net.connect(node, addresses).await?;
    let nonce = net.shard(node, Hello {}).await?.nonce;
    let proof = login_proof(net, account, &node, &nonce);
    Ok(net.shard(node, Login { registration: registration.clone(), proof }).await?.mandate)
}

/// Whether a mandate is one of `account` that holds now.
fn newest_of(
    mandates: &[Signed<Mandate>],
    network: Network,
    account: AccountId,
) -> Option<Verified<Mandate>> {
    let now = UnixTime::now();
    let valid = mandates.iter().filter_map(|mandate| mandate.verify(network, now).ok());
    // A holder could show somebody else's mandate, to lead us to a mediator of its choice.
    valid.filter(|mandate| mandate.account == account).max_by_key(|mandate| mandate.sequence)
}
