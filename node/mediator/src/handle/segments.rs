//! Requests about segments: quotes, announcements, shards and where they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use fincrypt_net::encode_all;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::mediate::{
    Located, LocatedSegment, NodeAddresses, OpenSegment, Opened, PutShard, Quote, Receipts,
};
use fincrypt_protocol::{Code, GeometryError, Network, NodeId, Redundancy, Refusal, SegmentId, ShardIndex};

use crate::MediatorRole;
use crate::upload::Announcement;

/// A storage node counts only if it has room for at least one full shard.
const MIN_FREE: u64 = 1 << 20;

fn count(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

impl MediatorRole {
    pub(super) async fn quote(
        &self,
        redundancy: Redundancy,
        max_price: Option<Price>,
    ) -> Result<Quote, Refusal> {
        let redundancy = redundancy.max(self.terms.floor);
        self.registry.await_untried().await;
        let eligible = self.services.placement.candidates(MIN_FREE, max_price).await;
        let code = Code::for_peers(eligible.len(), redundancy).map_err(|error| match error {
            GeometryError::TooFewPeers { eligible, needed } => {
                Refusal::TooFewPeers { eligible: count(eligible), needed: count(needed) }
            }
            _ => Refusal::Invalid,
        })?;
        let sum: u64 = eligible.iter().map(|candidate| candidate.price.get()).fold(0, u64::saturating_add);
        let average = sum / u64::try_from(eligible.len().max(1)).unwrap_or(1);
        Ok(Quote {
            eligible: count(eligible.len()),
            code,
            price: Price::new(average),
            egress_price: Price::FREE,
            fee_permille: self.terms.fee_permille,
            caps_off: self.network == Network::Local,
        })
    }

    pub(super) async fn open(self: &Arc<Self>, from: NodeId, ask: OpenSegment) -> Result<Opened, Refusal> {
        let registration = self.registration(from)?;
        let (prepayments, account) = (self.payments.prepayments.clone(), registration.account);
        self.stays(&account)?;
        let OpenSegment { run, mandate, manifest, tag } = ask;
        let announced = Announcement { from, registration, run, mandate, manifest, tag };
        let admit = move |segment: &_| prepayments.admit_cost(account, segment);
        let missing = self.services.uploads.open(announced, admit).await?;
        Ok(Opened { missing })
    }

    pub(super) async fn put(&self, from: NodeId, ask: PutShard, payload: Bytes) -> Result<(), Refusal> {
        Ok(self.services.uploads.put(self.account(from)?, ask.segment, ask.index, payload).await?)
    }

    pub(super) async fn commit(&self, from: NodeId, segment: SegmentId) -> Result<Receipts, Refusal> {
        let receipts = self.services.uploads.commit(self.account(from)?, segment).await?;
        Ok(Receipts { receipts })
    }

    pub(super) async fn report(
        &self,
        from: NodeId,
        shards: Vec<(SegmentId, ShardIndex)>,
    ) -> Result<(), Refusal> {
        Ok(self.services.missing_reports.report(self.account(from)?, shards).await?)
    }

    pub(super) async fn get(
        &self,
        from: NodeId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, Refusal> {
        let account = self.account(from)?;
        let record = self.stores.segments.find(account, segment).await?.ok_or(Refusal::UnknownSegment)?;
        Ok(self.services.transfer.fetch(account, &record, index).await?)
    }

    pub(super) async fn locate(&self, from: NodeId, segments: Vec<SegmentId>) -> Result<Located, Refusal> {
        let account = self.account(from)?;
        if segments.len() > MAX_LOCATE {
            return Err(Refusal::Invalid);
        }
        let mut located = Vec::new();
        let mut nodes = BTreeSet::new();
        for record in self.stores.segments.find_all(account, segments).await? {
            let holders: Vec<_> = record.holders().collect();
            nodes.extend(holders.iter().map(|(_, node)| *node));
            located.push(LocatedSegment { manifest: record.manifest.clone(), tag: record.tag, holders });
        }
        let nodes = nodes.into_iter().map(|node| {
            let addresses = encode_all(&self.registry.addresses(&node));
            NodeAddresses { node, addresses }
        });
        Ok(Located { segments: located, nodes: nodes.collect() })
    }
}
