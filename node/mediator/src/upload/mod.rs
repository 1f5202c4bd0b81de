//! Uploads: segments whose shards are arriving, from their announcement to their receipts.

mod encoders;
mod error;
mod open_segments;
mod parity;
mod shard_placer;

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::Releases;
use fincrypt_protocol::record::{
    MAX_MANDATE_LIFE, Mandate, Receipt, Registration, check_life, is_too_far_ahead,
};
use fincrypt_protocol::{
    AccountId, Manifest, NodeId, Redundancy, RunId, SegmentId, ShardIndex, Signed, Tag, Verified,
};
use fincrypt_state::kv::Batch;

use crate::context::Context;
use crate::error::{StoreError, blocking};
use crate::holder_lists::HolderLists;
use crate::missing_shards::MissingShards;
use crate::outbox::Outbox;
use crate::prepayment::AdmitError;
use crate::stores::{MandateStore, SegmentRecord, SegmentStore, Stores};
pub(crate) use error::UploadError;
use open_segments::OpenSegment;
pub(crate) use open_segments::OpenSegments;
use parity::Parity;
pub(crate) use shard_placer::ShardPlacer;

/// A client's announcement of a segment.
pub(crate) struct Announcement {
    pub(crate) from: NodeId,
    pub(crate) registration: Verified<Registration>,
    pub(crate) run: RunId,
    pub(crate) mandate: Signed<Mandate>,
    pub(crate) manifest: Manifest,
    pub(crate) tag: Tag,
}

/// Takes in segments. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Uploads {
    open: OpenSegments,
    placer: ShardPlacer,
    parity: Parity,
    accounts: Accounts,
    segments: SegmentStore,
    mandates: MandateStore,
    releases: Arc<Releases>,
    outbox: Outbox,
    holder_lists: HolderLists,
    missing: MissingShards,
    /// Redundancy that no segment may go under.
    floor: Redundancy,
    context: Context,
}

/// The services and stores that [`Uploads`] works with.
pub(crate) struct UploadParts {
    pub(crate) placer: ShardPlacer,
    pub(crate) accounts: Accounts,
    pub(crate) stores: Stores,
    pub(crate) releases: Arc<Releases>,
    pub(crate) outbox: Outbox,
    pub(crate) holder_lists: HolderLists,
    pub(crate) missing: MissingShards,
}

impl Uploads {
    pub(crate) fn new(parts: UploadParts, floor: Redundancy, context: Context) -> Self {
        let UploadParts { placer, accounts, stores, releases, outbox, holder_lists, missing } = parts;
        let (open, parity) = (OpenSegments::default(), Parity::new(placer.clone()));
        Self {
            open,
            placer,
            parity,
            accounts,
            segments: stores.segments,
            mandates: stores.mandates,
            releases,
            outbox,
            holder_lists,
            missing,
            floor,
            context,
        }
    }

    /// The segments that are open.
    pub(crate) fn open_segments(&self) -> &OpenSegments {
        &self.open
    }

    /// Opens a segment, if `admit` finds that its storage can be paid for; bit `i` of the answer is set
    /// if data shard `i` is missing.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(crate) async fn open(
        &self,
        announced: Announcement,
        admit: impl FnOnce(&SegmentRecord) -> Result<(), AdmitError> + Send + 'static,
    ) -> Result<u32, UploadError> {
        let Announcement { from, registration, run, mandate, manifest, tag } = announced;
        let (account, id) = (registration.account, manifest.id());
        let given = verify_mandate(&self.context, account, &mandate)?;
        if !manifest.code().keeps(self.floor) {
            return Err(UploadError::Invalid);
        }
        let (this, asked, wanted) = (self.clone(), registration.clone(), given.clone());
        let newer = blocking(move || {
            this.accounts.admit_registration(&asked, &mut Batch::default())?;
            this.is_newer(&wanted)
        });
        let newer = newer.await?;
        let mut opened = None;
        if !self.open.adopt(from, account, id) {
            let (record, is_new) = self.prepare(account, run, manifest, tag, &given).await?;
            let wanted = record.clone();
            blocking(move || admit(&wanted)).await?;
            let (signed, mandate) = (registration.signed().clone(), given.signed().clone());
            // Room first: what finds none leaves nothing behind.
            let make = || OpenSegment::new(account, signed, mandate, record).with_limit(given.max_price);
            opened = Some((self.open.open(from, id, make, account)?, is_new));
        }
        let (this, fresh) = (self.clone(), opened.is_some());
        let remember = move || {
            this.accounts.register(&registration)?;
            if newer {
                this.mandates.put(&given)?;
            }
            if let Some((segment, true)) = opened {
                this.segments.make_room(&account, |account, segment| this.open.contains(account, segment))?;
                this.segments.put(&account, &segment.record())?;
            }
            Ok::<_, UploadError>(())
        };
        if let Err(error) = blocking(remember).await {
            if fresh {
                self.open.close(account, id);
            }
            return Err(error);
        }
        let segment = self.open.get(account, id).ok_or(UploadError::Closed)?;
        Ok(segment.missing_data())
    }

    /// The record of a segment that is to be opened, and whether it is new.
    async fn prepare(
        &self,
        account: AccountId,
        run: RunId,
        manifest: Manifest,
        tag: Tag,
        given: &Verified<Mandate>,
    ) -> Result<(SegmentRecord, bool), UploadError> {
        let id = manifest.id();
        match self.segments.find(account, id).await? {
            Some(record) if record.manifest == manifest && record.accepts_tag(tag) => {
                let record = SegmentRecord { tag, ..(*record).clone() }.with_receipts_only();
                let released = self.releases.due(&account, &id)?.is_some();
                Ok((if released { record.without_holders() } else { record }, false))
            }
            Some(_) => Err(UploadError::Conflict),
            None => Ok((self.placer.assign(run, manifest, tag, given.max_price).await?, true)),
        }
    }

    /// Whether a mandate is to be remembered: audits and repairs go on with it when its owner is away.
    /// An older one than is known is refused.
    fn is_newer(&self, mandate: &Verified<Mandate>) -> Result<bool, UploadError> {
        let known = self.mandates.newest(&mandate.account)?;
        if known.as_ref().is_some_and(|known| known.signed() == mandate.signed()) {
            return Ok(false);
        }
        if known.is_some_and(|known| known.sequence > mandate.sequence) {
            return Err(UploadError::NotMandated);
        }
        Ok(true)
    }

    /// Takes a data shard in, and puts it on a storage node.
    ///
    /// # Errors
    /// Why it is not taken: its client may send it again.
    pub(crate) async fn put(
        &self,
        account: AccountId,
        segment: SegmentId,
        index: ShardIndex,
        payload: Bytes,
    ) -> Result<(), UploadError> {
        let open = self.open.get(account, segment).ok_or(UploadError::UnknownSegment)?;
        let manifest = open.record().manifest;
        let is_data = index.get() < usize::from(manifest.code().data());
        if !is_data || payload.len() != manifest.shard_len().get() as usize {
            return Err(UploadError::Invalid);
        }
        let all = open.buffer(index, payload.clone());
        let parity = async {
            // The parity need not wait for the data's holders. What fails here, the commit repeats.
            if all && let Err(error) = self.parity.place(&open).await {
                tracing::debug!(%error, "parity_not_placed");
            }
        };
        let (placed, ()) = tokio::join!(self.placer.place(&open, index, payload), parity);
        match placed {
            Ok(()) => {}
            // No node is left for it. It is in the parity all the same, and the commit tells whether
            // enough nodes have theirs.
            Err(UploadError::TooFewReceipts { .. }) if open.is_buffered(index) || open.has_data() => {}
            Err(error) => {
                open.unbuffer(index);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Finishes a segment: its receipts, once enough storage nodes have signed.
    ///
    /// # Errors
    /// [`UploadError::TooFewReceipts`] or [`UploadError::Incomplete`] while shards are missing.
    pub(crate) async fn commit(
        &self,
        account: AccountId,
        segment: SegmentId,
    ) -> Result<Vec<Signed<Receipt>>, UploadError> {
        let Some(open) = self.open.get(account, segment) else {
            let record = self.segments.find(account, segment).await?.ok_or(UploadError::UnknownSegment)?;
            if self.releases.due(&account, &segment)?.is_some() {
                return Err(UploadError::UnknownSegment);
            }
            // Without its receipts it was open when this mediator ended: to be announced again.
            return receipts(&record).map_err(|_| UploadError::UnknownSegment);
        };
        match self.parity.finish(&open).await {
            // Some shards are missing, but enough are there.
            Err(UploadError::TooFewReceipts { have, need }) if have >= need => {}
            other => other?,
        }
        let record = open.record();
        let (this, stored) = (self.clone(), record.clone());
        let introduced = blocking(move || {
            let new = this.segments.put(&account, &stored)?;
            this.releases.want(&account, &segment)?;
            this.outbox.introduce(&account, &new)?;
            // One that was stored before may have found other nodes.
            let nodes: Vec<_> = stored.holders().map(|(_, node)| node).collect();
            this.outbox.pin(&account, &stored.run, &nodes)?;
            Ok::<_, StoreError>(!new.is_empty())
        });
        let complete = record.is_complete();
        if introduced.await? {
            self.outbox.deliver_soon(account);
        }
        let answer = receipts(&record)?;
        self.open.close(account, segment);
        if !complete {
            self.missing.notify();
        }
        self.holder_lists.share_soon(account, record, Vec::new());
        Ok(answer)
    }

    /// Closes segments that nobody will finish. Those without a single receipt leave no record.
    pub(crate) async fn close_abandoned(&self, present: impl Fn(&NodeId) -> bool) {
        let empty = self.open.drop_abandoned(present);
        if !empty.is_empty() {
            let segments = self.segments.clone();
            let remove = move |(account, segment): &_| segments.remove_announced(account, segment);
            // What cannot be removed now is removed when it is old.
            if let Err(error) = blocking(move || empty.iter().try_for_each(remove)).await {
                tracing::error!(%error, "announced_segment_not_removed");
            }
        }
    }

    /// Removes records of segments that were announced long ago and are not open.
    pub(crate) async fn sweep_announced(&self) {
        let (open, segments, now) = (self.open.clone(), self.segments.clone(), self.context.now());
        let is_open = move |account, segment| open.contains(account, segment);
        if let Err(error) = blocking(move || segments.sweep_announced(now, is_open)).await {
            tracing::error!(%error, "announced_segments_not_swept");
        }
    }
}

/// A mandate, if it lets this mediator store for the account. One that storage refuses for its sequence is not
/// taken, as repairs would go on with it.
fn verify_mandate(
    context: &Context,
    account: AccountId,
    mandate: &Signed<Mandate>,
) -> Result<Verified<Mandate>, UploadError> {
    let now = context.now();
    let given = mandate.verify(context.network, now).map_err(|_| UploadError::NotMandated)?;
    check_life(&*given, now, MAX_MANDATE_LIFE).map_err(|_| UploadError::NotMandated)?;
    let fits = given.account == account
        && given.mediator == context.own
        && given.rights.put
        && !is_too_far_ahead(given.sequence, now);
    if fits { Ok(given) } else { Err(UploadError::NotMandated) }
}

/// The receipts of a segment, if they are enough for it to count as stored.
fn receipts(record: &SegmentRecord) -> Result<Vec<Signed<Receipt>>, UploadError> {
    let receipts: Vec<_> = record.receipts().map(|receipt| receipt.signed().clone()).collect();
    let (have, need) = (receipts.len(), record.manifest.code().stored_threshold().into());
    if have < need {
        return Err(UploadError::TooFewReceipts { have, need });
    }
    Ok(receipts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::testing::context;
    use crate::testing::{mandate, owner};
    use fincrypt_protocol::limits::MAX_MANDATE_AHEAD;

    #[test]
    fn a_mandate_of_a_clock_more_than_a_day_ahead_is_not_taken() {
        let (context, owner) = (context(), owner(1));
        let now = context.now();
        let given = |sequence| mandate(&owner, context.own, sequence, now);
        let furthest = now.secs() + MAX_MANDATE_AHEAD;
        verify_mandate(&context, owner.account(), &given(furthest)).expect("a day");
        let refused = verify_mandate(&context, owner.account(), &given(furthest + 1));
        assert!(matches!(refused, Err(UploadError::NotMandated)), "{refused:?}");
    }
}
