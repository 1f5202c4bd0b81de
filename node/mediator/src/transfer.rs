//! Shards to keepers: data as it arrives, then parity, with substitutes for nodes that fail.

use bytes::Bytes;
use fincrypt_protocol::record::Receipt;
use fincrypt_protocol::shard::{GetShard, PutShard};
use fincrypt_protocol::{AccountId, NodeId, Refusal, SegmentId, ShardIndex, Signed, UnixTime};
use fincrypt_shards::proof::shard_id;
use futures::StreamExt;

use super::MediatorRole;
use super::open::OpenSegment;
use super::records::SegmentRecord;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;
use fincrypt_upkeep::placement::{draw, system_random};

/// Substitutes tried for one shard before it is left for later.
const MAX_SUBSTITUTES: usize = 4;

impl MediatorRole {
    /// Brings one shard to its node, or to a substitute; the payload is not looked at, as the
    /// keeper checks it against the client's own id.
    pub(super) async fn place(
        &self,
        segment: &OpenSegment,
        index: ShardIndex,
        payload: Bytes,
    ) -> Result<(), Refusal> {
        for _ in 0..=MAX_SUBSTITUTES {
            let slot = segment.slot(index).ok_or(Refusal::Invalid)?;
            if slot.receipt.is_some() {
                return Ok(());
            }
            if let Some(node) = slot.node {
                match self.put_at(segment, index, node, payload.clone()).await {
                    Ok(()) => return Ok(()),
                    // The client's fault, which another node would not forgive either.
                    Err(
                        refusal @ (Refusal::WrongShard
                        | Refusal::NotMandated
                        | Refusal::Invalid
                        | Refusal::OtherRegistration
                        | Refusal::Dismissed),
                    ) => return Err(refusal),
                    Err(refusal) => {
                        tracing::info!(%node, %refusal, "a storage node did not take a shard");
                        match refusal {
                            // It takes none before it is paid.
                            Refusal::Failed | Refusal::CreditBound => self.directory.rest(&node),
                            // It promised room in an offer that is hours old.
                            Refusal::Full => self.directory.ask(node).await,
                            _ => {}
                        }
                    }
                }
            }
            let length = segment.record().manifest.shard_len().get();
            // Asked first, claimed after: another shard may be looking for a substitute too.
            let candidates = self.candidates(length.into(), segment.max_price()).await;
            let holders: Vec<NodeId> = segment.record().slots.iter().filter_map(|slot| slot.node).collect();
            let caps = self.caps(segment.record().manifest.code(), &holders, &candidates);
            let order = draw(&candidates, candidates.len(), &caps, system_random);
            if !segment.reassign(index, &order) {
                break;
            }
        }
        let record = segment.record();
        let have = u8::try_from(record.receipts().count()).unwrap_or(u8::MAX);
        Err(Refusal::NotStored { have, need: record.manifest.code().stored_threshold() })
    }

    async fn put_at(
        &self,
        segment: &OpenSegment,
        index: ShardIndex,
        node: NodeId,
        payload: Bytes,
    ) -> Result<(), Refusal> {
        let record = segment.record();
        let placement = PutShard {
            registration: segment.registration.clone(),
            mandate: segment.mandate.clone(),
            run: record.run,
            index,
            tag: record.tag,
            manifest: record.manifest,
        };
        let receipt = self.put_shard(segment.account, node, placement, payload).await?;
        segment.receipted(index, node, receipt);
        Ok(())
    }

    /// Brings a shard to a node; the node's receipt for it, checked.
    pub(super) async fn put_shard(
        &self,
        account: AccountId,
        node: NodeId,
        placement: PutShard,
        payload: Bytes,
    ) -> Result<Signed<Receipt>, Refusal> {
        self.net.connect(node, self.directory.addresses(&node)).await.map_err(|_| Refusal::Failed)?;
        if !self.catch_up(&account, &node).await {
            return Err(Refusal::Failed);
        }
        let (index, segment) = (placement.index, placement.manifest.id());
        let shard = placement.manifest.shard(index);
        let receipt = match self.net.shard_with(node, placement, payload).await {
            Ok((receipt, _)) => receipt,
            Err(error) if error.refusal() == Some(Refusal::NotMandated) => {
                let dismissed = self.is_dismissed(&account, node).await;
                return Err(if dismissed { Refusal::Dismissed } else { Refusal::NotMandated });
            }
            Err(error) => return Err(error.refusal().unwrap_or(Refusal::Failed)),
        };
        let checked = receipt.verify(self.network, UnixTime::now()).map_err(|_| Refusal::Failed)?;
        let fits = checked.node == node
            && checked.account == account
            && checked.segment == segment
            && checked.index == index
            && Some(checked.shard) == shard;
        if fits { Ok(receipt) } else { Err(Refusal::Failed) }
    }

    /// Makes sure that all data came and that the parity is placed.
    pub(super) async fn finish(&self, segment: &OpenSegment) -> Result<(), Refusal> {
        if !segment.has_data() {
            return Err(Refusal::Incomplete);
        }
        self.place_parity(segment).await
    }

    /// Computes and places the parity, once. Data shards that are not in memory (after a restart)
    /// are fetched from their keepers.
    pub(super) async fn place_parity(&self, segment: &OpenSegment) -> Result<(), Refusal> {
        let run = || async {
            let record = segment.record();
            let code = record.manifest.code();
            let first = usize::from(code.data());
            let unplaced = || {
                let receipted =
                    |index: &ShardIndex| segment.slot(*index).is_some_and(|slot| slot.receipt.is_some());
                code.indices().skip(first).any(|index| !receipted(&index))
            };
            if !unplaced() {
                return Ok(());
            }
            let _turn = self.parity_turns.acquire().await.map_err(|_| Refusal::Failed)?;
            let data = self.all_data(segment, &record).await?;
            let encoders = self.encoders.clone();
            let parity = blocking(move || {
                let shards: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
                encoders.encode(code, &shards).map_err(|error| failed(&error))
            })
            .await?;
            let placing =
                parity.into_iter().zip(code.indices().skip(first)).map(|(shard, index)| async move {
                    if let Err(refusal) = self.place(segment, index, shard).await {
                        tracing::warn!(%refusal, "a parity shard found no keeper");
                    }
                });
            futures::stream::iter(placing).buffer_unordered(usize::from(code.parity())).collect::<()>().await;
            if unplaced() {
                let have = u8::try_from(segment.record().receipts().count()).unwrap_or(u8::MAX);
                return Err(Refusal::NotStored { have, need: code.stored_threshold() });
            }
            Ok(())
        };
        segment.parity.get_or_try_init(run).await?;
        segment.forget_data();
        Ok(())
    }

    async fn all_data(&self, segment: &OpenSegment, record: &SegmentRecord) -> Result<Vec<Bytes>, Refusal> {
        let mut all = Vec::new();
        for (index, known) in record.manifest.code().indices().zip(segment.data()) {
            all.push(match known {
                Some(bytes) => bytes,
                None => match self.fetch(segment.account, record, index).await {
                    Ok(bytes) if record.manifest.shard(index) == Some(shard_id(&bytes)) => bytes,
                    // Its keeper does not have it, whatever it signed: the client has to send it again.
                    Ok(_) | Err(Refusal::NotHeld) => {
                        tracing::warn!(index = index.get(), "a keeper does not give back what it signed for");
                        segment.lost(index);
                        return Err(Refusal::Incomplete);
                    }
                    Err(refusal) => return Err(refusal),
                },
            });
        }
        Ok(all)
    }

    /// Fetches a shard from its keeper, unchecked.
    pub(super) async fn fetch(
        &self,
        account: AccountId,
        record: &SegmentRecord,
        index: ShardIndex,
    ) -> Result<Bytes, Refusal> {
        let keeper = record.holders().find(|(held, _)| *held == index);
        let (_, node) = keeper.ok_or(Refusal::NotHeld)?;
        self.fetch_from(node, account, record.manifest.id(), index).await
    }

    /// Fetches a shard from a node, unchecked.
    pub(super) async fn fetch_from(
        &self,
        node: NodeId,
        account: AccountId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, Refusal> {
        self.net.connect(node, self.directory.addresses(&node)).await.map_err(|_| Refusal::NotHeld)?;
        match self.net.shard_with(node, GetShard { account, segment, index }, Bytes::new()).await {
            Ok((_, payload)) => Ok(payload),
            Err(error) if error.refusal() == Some(Refusal::NotMandated) => {
                let dismissed = self.is_dismissed(&account, node).await;
                Err(if dismissed { Refusal::Dismissed } else { Refusal::NotHeld })
            }
            Err(error) => Err(error.refusal().unwrap_or(Refusal::NotHeld)),
        }
    }
}
