//! Shards that are taken in: what has to hold before one is stored, and the receipt for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_accounts::AccountsError;
use fincrypt_accounts::releases::Releases;
use fincrypt_protocol::record::{Condition, Mandate, Receipt};
use fincrypt_protocol::shard::PutShard;
use fincrypt_protocol::{
    AccountId, NodeId, RecordError, SegmentId, ShardId, ShardIndex, ShardLen, Signed, SigningKey, UnixTime,
    Verified,
};
use fincrypt_shards::{CheckedShard, PutOutcome, ShardMeta, ShardStore, StoreError, WrongShard};

use crate::StorageTerms;
use crate::access::Access;
use crate::admissions::{AdmissionError, Admissions, VerifiedPair};
use crate::counting::FreshShards;
use crate::credit::{Admission, CreditControl, CreditError};
use crate::health::Health;
use crate::segment_guard::{OtherPosition, SegmentGuard};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a shard is not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// The mandate is another mediator's, lets nothing be put, or its bytes are used up.
    #[error("no mandate to store this here")]
    NotMandated,
    /// The manifest does not name the position, or another length.
    #[error("the placement contradicts itself")]
    Inconsistent,
    /// The node takes no new shards, or none of this length fits.
    #[error("no new shards are taken")]
    Full,
    /// Another shard of the segment is held.
    #[error("another shard of the segment is held")]
    OtherPositionHeld,
    /// Another shard of the segment is being stored.
    #[error(transparent)]
    OtherPosition(#[from] OtherPosition),
    /// The bytes are not those of the shard.
    #[error(transparent)]
    WrongShard(#[from] WrongShard),
    /// The registration or mandate is not taken in.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The mediator owes too much.
    #[error(transparent)]
    Credit(#[from] CreditError),
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is released could not be read or changed.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The receipt could not be sealed.
    #[error("the receipt could not be sealed")]
    Receipt(#[from] RecordError),
}

/// What [`ShardIntake`] is made of.
pub(crate) struct IntakeOptions {
    pub(crate) access: Access,
    pub(crate) admissions: Admissions,
    pub(crate) credit: CreditControl,
    pub(crate) store: ShardStore,
    pub(crate) releases: Releases,
    pub(crate) fresh: FreshShards,
    pub(crate) health: Health,
    pub(crate) key: SigningKey,
    pub(crate) terms: Arc<StorageTerms>,
}

/// Takes shards in.
pub(crate) struct ShardIntake {
    options: IntakeOptions,
    guard: SegmentGuard,
}

/// A shard that was stored.
pub(crate) struct Stored {
    /// The node's word for it.
    pub(crate) receipt: Signed<Receipt>,
    /// The account, if it is the first that is held for it.
    pub(crate) new_account: Option<AccountId>,
}

/// Where a shard belongs that is put.
struct Place {
    account: AccountId,
    segment: SegmentId,
    index: ShardIndex,
    shard: ShardId,
    length: ShardLen,
}

impl Place {
    fn of(placement: &PutShard, account: AccountId, payload: &Bytes) -> Result<Self, IntakeError> {
        let PutShard { manifest, index, .. } = placement;
        let shard = manifest.shard(*index).ok_or(IntakeError::Inconsistent)?;
        let length = manifest.shard_len();
        if payload.len() != length.get() as usize {
            return Err(IntakeError::Inconsistent);
        }
        Ok(Self { account, segment: manifest.id(), index: *index, shard, length })
    }
}

impl ShardIntake {
    pub(crate) fn new(options: IntakeOptions) -> Self {
        Self { options, guard: SegmentGuard::default() }
    }

    /// Stores a shard, durably, and receipts it. A shard that is held already is receipted again.
    ///
    /// # Errors
    /// [`IntakeError`]; then nothing is stored.
    pub(crate) fn store(
        &self,
        from: NodeId,
        placement: PutShard,
        payload: Bytes,
    ) -> Result<Stored, IntakeError> {
        let now = self.options.access.now();
        let pair = self.options.admissions.authorize(&placement.authority)?;
        let account = pair.mandate.account;
        if pair.mandate.mediator != from || !pair.mandate.rights.put {
            return Err(IntakeError::NotMandated);
        }
        let place = Place::of(&placement, account, &payload)?;
        let held = self.options.store.bytes_of(&account);
        if held.saturating_add(place.length.get().into()) > pair.mandate.byte_cap {
            return Err(IntakeError::NotMandated);
        }
        let _claim = self.guard.claim(account, place.segment, place.index)?;
        let is_held = self.is_held(&place)?;
        let checked = CheckedShard::check(payload, place.shard)?;
        if is_held {
            self.options.admissions.admit(&pair)?;
        } else {
            self.admit_new(from, &place, &pair)?;
        }
        // Before the shard is looked for: it is spared now, or gone already and stored again.
        self.options.releases.want(&account, &place.segment)?;
        let PutShard { manifest, index, tag, run, .. } = placement;
        let mandate = pair.mandate.signed().clone();
        let meta = ShardMeta { account, manifest, index, tag, run, mandate, stored: now };
        let put = self.options.store.put(&checked, &meta);
        if let Err(error) = &put {
            self.options.health.disk.note(error);
        }
        if put? == PutOutcome::New {
            self.options.fresh.record(now, account, place.length.get().into());
        }
        let receipt = self.receipt(&place, &pair.mandate, now)?;
        Ok(Stored { receipt, new_account: (held == 0).then_some(account) })
    }

    /// Whether the shard's place is held already, and no other of the segment.
    fn is_held(&self, place: &Place) -> Result<bool, IntakeError> {
        let known = self.options.store.positions(&place.account, &place.segment)?;
        if known.iter().any(|held| *held != place.index) {
            return Err(IntakeError::OtherPositionHeld);
        }
        Ok(known.contains(&place.index))
    }

    /// Checks that a shard that is not held may be: nobody is remembered for one that finds no room.
    fn admit_new(&self, from: NodeId, place: &Place, pair: &VerifiedPair) -> Result<(), IntakeError> {
        if self.options.health.condition() != Condition::Serving {
            return Err(IntakeError::Full);
        }
        let relation = (from, place.account);
        let holds = self.options.store.shard_bytes_of(&place.account) > 0;
        let admission = self.options.credit.admit(&relation, holds)?;
        if self.options.store.free() < place.length.get().into() {
            return Err(IntakeError::Full);
        }
        if admission == Admission::Unbilled {
            self.options.credit.wait_for_statement(&relation)?;
        }
        Ok(self.options.admissions.admit(pair)?)
    }

    fn receipt(
        &self,
        place: &Place,
        mandate: &Verified<Mandate>,
        now: UnixTime,
    ) -> Result<Signed<Receipt>, RecordError> {
        let receipt = Receipt {
            network: mandate.network,
            node: self.options.key.node(),
            account: place.account,
            mandate: mandate.signed().mandate_hash(),
            segment: place.segment,
            index: place.index,
            shard: place.shard,
            length: place.length.get(),
            price: self.options.terms.price,
            time: now,
            paid_until: now.plus(DAY * u32::from(self.options.terms.grace_days)),
        };
        Signed::seal(&receipt, &self.options.key)
    }
}
