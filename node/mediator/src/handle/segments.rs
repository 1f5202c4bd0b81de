//! Requests about segments: quotes, announcements, shards and where they are.

use std::collections::BTreeSet;

use bytes::Bytes;
use fincrypt_net::encode_all;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::mediate::{
    Located, LocatedSegment, NodeAddresses, OpenSegment, Opened, PutShard, Quote, Receipts,
};
use fincrypt_protocol::{
    AccountId, Code, GeometryError, Network, NodeId, Redundancy, Refusal, SegmentId, ShardIndex,
};

use crate::MediatorRole;
use crate::upload::Announcement;

/// A storage node counts only if it has room for at least one full shard.
const MIN_FREE: u64 = 1 << 20;

fn count(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Requests about segments, of one peer.
pub(super) struct SegmentRequests<'r> {
    pub(super) role: &'r MediatorRole,
    pub(super) from: NodeId,
}

impl SegmentRequests<'_> {
    pub(super) async fn quote(
        &self,
        redundancy: Redundancy,
        max_price: Option<Price>,
    ) -> Result<Quote, Refusal> {
        let redundancy = redundancy.max(self.role.terms.floor);
        self.role.registry.await_untried().await;
        let eligible = self.role.services.placement.candidates(MIN_FREE, max_price).await;
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
            fee_permille: self.role.terms.fee_permille,
            caps_off: self.role.network == Network::Local,
        })
    }

    pub(super) async fn open(&self, ask: OpenSegment) -> Result<Opened, Refusal> {
        let registration = self.role.registration(self.from)?;
        let (prepayments, account) = (self.role.payments.prepayments.clone(), registration.account);
        self.role.stays(&account)?;
        let OpenSegment { run, mandate, manifest, tag } = ask;
        let announced = Announcement { from: self.from, registration, run, mandate, manifest, tag };
        let admit = move |segment: &_| prepayments.admit_cost(account, segment);
        let missing = self.role.services.uploads.open(announced, admit).await?;
        Ok(Opened { missing })
    }

    pub(super) async fn put(&self, ask: PutShard, payload: Bytes) -> Result<(), Refusal> {
        Ok(self.role.services.uploads.put(self.account()?, ask.segment, ask.index, payload).await?)
    }

    pub(super) async fn commit(&self, segment: SegmentId) -> Result<Receipts, Refusal> {
        let receipts = self.role.services.uploads.commit(self.account()?, segment).await?;
        Ok(Receipts { receipts })
    }

    pub(super) async fn report(&self, shards: Vec<(SegmentId, ShardIndex)>) -> Result<(), Refusal> {
        Ok(self.role.services.missing_reports.report(self.account()?, shards).await?)
    }

    pub(super) async fn get(&self, segment: SegmentId, index: ShardIndex) -> Result<Bytes, Refusal> {
        let account = self.account()?;
        let record =
            self.role.stores.segments.find(account, segment).await?.ok_or(Refusal::UnknownSegment)?;
        Ok(self.role.services.transfer.fetch(account, &record, index).await?)
    }

    pub(super) async fn locate(&self, segments: Vec<SegmentId>) -> Result<Located, Refusal> {
        let account = self.account()?;
        if segments.len() > MAX_LOCATE {
            return Err(Refusal::Invalid);
        }
        let mut located = Vec::new();
        let mut nodes = BTreeSet::new();
        for record in self.role.stores.segments.find_all(account, segments).await? {
            let holders: Vec<_> = record.holders().collect();
            nodes.extend(holders.iter().map(|(_, node)| *node));
            located.push(LocatedSegment { manifest: record.manifest.clone(), tag: record.tag, holders });
        }
        let nodes = nodes.into_iter().map(|node| {
            let addresses = encode_all(&self.role.registry.addresses(&node));
            NodeAddresses { node, addresses }
        });
        Ok(Located { segments: located, nodes: nodes.collect() })
    }

    fn account(&self) -> Result<AccountId, Refusal> {
        self.role.account(self.from)
    }
}
