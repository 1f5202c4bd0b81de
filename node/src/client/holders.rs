//! The client's side of `/shard/1`: straight to the holders of an account's shards.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::admission::holders_key;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::record::{Head, Mandate, Registration, Undo};
use fincrypt_protocol::shard::{HeldSegment, Request, Response};
use fincrypt_protocol::{AccountId, Frame, NodeId, SegmentId, ShardIndex, Signed, SigningKey, Verified};
use futures::StreamExt;
use libp2p::Multiaddr;

use super::link::login_proof;
use super::mediators::newest_of;
use crate::engine::{CallError, Net};

/// Holders asked at once.
const AT_ONCE: usize = 16;
/// How long one holder may take for what is not a shard.
const ANSWER: Duration = Duration::from_secs(10);
/// Shards that one holder's list may name: 1 TiB of full ones.
const MAX_LISTED: usize = 1 << 20;

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

    async fn ask_all<T>(&self, request: &Request, read: impl Fn(Response) -> Option<T>) -> Vec<(NodeId, T)> {
        let asking = self.nodes.iter().map(|node| {
            let (frame, read) = (Frame::bare(request.clone()), &read);
            async move {
                let answer = tokio::time::timeout(ANSWER, self.net.shard(*node, frame)).await.ok()?.ok()?;
                read(answer.header).map(|value| (*node, value))
            }
        });
        futures::stream::iter(asking).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// Brings an undo to every holder; for each that took it, whether a release was pending there.
    pub(crate) async fn undo(&self, undo: &Signed<Undo>) -> Vec<bool> {
        let request = Request::Undo { undo: undo.clone() };
        let answers = self.ask_all(&request, |answer| match answer {
            Response::Undone { pending } => Some(pending),
            _ => None,
        });
        answers.await.into_iter().map(|(_, pending)| pending).collect()
    }

    /// All valid heads that the holders have, as often as they have each.
    pub(crate) async fn heads(&self, head_key: fincrypt_protocol::HeadKey) -> Vec<Verified<Head>> {
        let request = Request::Heads { account: self.account };
        let answers = self.ask_all(&request, |answer| match answer {
            Response::Heads(heads) => Some(heads),
            _ => None,
        });
        let (network, now) = (self.net.network(), fincrypt_protocol::UnixTime::now());
        let heads = answers.await.into_iter().flat_map(|(_, heads)| heads);
        let valid = heads.filter_map(|head| head.verify(network, now).ok());
        valid.filter(|head| head.account == self.account && head.head_key == head_key).collect()
    }

    /// What the holders know about some segments.
    pub(crate) async fn locate(
        &self,
        segments: &[SegmentId],
    ) -> HashMap<SegmentId, Vec<(NodeId, HeldSegment)>> {
        let mut located: HashMap<SegmentId, Vec<(NodeId, HeldSegment)>> = HashMap::new();
        for page in segments.chunks(MAX_LOCATE) {
            let request = Request::Locate { account: self.account, segments: page.to_vec() };
            let answers = self.ask_all(&request, |answer| match answer {
                Response::Located(held) => Some(held),
                _ => None,
            });
            for (node, held) in
                answers.await.into_iter().flat_map(|(node, held)| held.into_iter().map(move |h| (node, h)))
            {
                located.entry(held.manifest.id()).or_default().push((node, held));
            }
        }
        located
    }

    /// What one holder knows about some segments, at most [`MAX_LOCATE`].
    pub(crate) async fn locate_at(&self, node: NodeId, segments: &[SegmentId]) -> Vec<HeldSegment> {
        let request = Request::Locate { account: self.account, segments: segments.to_vec() };
        let asking = self.net.shard(node, Frame::bare(request));
        match tokio::time::timeout(ANSWER, asking).await {
            Ok(Ok(Frame { header: Response::Located(held), .. })) => held,
            _ => Vec::new(),
        }
    }

    /// Every segment of which any holder has a shard.
    pub(crate) async fn segments(&self) -> Vec<SegmentId> {
        let listing = self.nodes.iter().map(|node| self.segments_at(*node));
        let listed: Vec<Vec<SegmentId>> =
            futures::stream::iter(listing).buffer_unordered(AT_ONCE).collect().await;
        let all: std::collections::BTreeSet<SegmentId> = listed.into_iter().flatten().collect();
        all.into_iter().collect()
    }

    /// Every segment of which one holder has a shard.
    pub(crate) async fn segments_at(&self, node: NodeId) -> Vec<SegmentId> {
        let mut segments = Vec::new();
        let mut after = None;
        loop {
            let request = Request::List { account: self.account, after };
            let Ok(answer) = self.net.shard(node, Frame::bare(request)).await else { return segments };
            let Response::Listed { shards, more } = answer.header else { return segments };
            segments.extend(shards.iter().map(|(segment, ..)| *segment));
            let last = shards.last().map(|(segment, index, _)| (*segment, *index));
            // A page that does not go on ends the list, whatever the node says.
            if !more || last.is_none() || last <= after || segments.len() >= MAX_LISTED {
                return segments;
            }
            after = last;
        }
    }

    /// Fetches a shard, unchecked.
    pub(crate) async fn get(
        &self,
        node: NodeId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, CallError> {
        let request = Request::Get { account: self.account, segment, index };
        match self.net.shard(node, Frame::bare(request)).await? {
            Frame { header: Response::Shard, payload } => Ok(payload),
            _ => Err(CallError::Unexpected { node }),
        }
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
    let Response::Nonce(nonce) = net.shard(node, Frame::bare(Request::Hello)).await?.header else {
        return Err(CallError::Unexpected { node });
    };
    let proof = login_proof(net, account, &node, &nonce);
    let request = Request::Login { registration: registration.clone(), proof };
    match net.shard(node, Frame::bare(request)).await?.header {
        Response::Welcome { mandate } => Ok(mandate),
        _ => Err(CallError::Unexpected { node }),
    }
}
