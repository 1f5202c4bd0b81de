//! Answers to each request of `/shard/1`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::admission::holders_key;
use fincrypt_protocol::limits::{MAX_HOLDER_LISTS, MAX_LIST, MAX_LOCATE};
use fincrypt_protocol::record::{
    Condition, Head, HolderList, Keep, Mandate, Receipt, Registration, Release, Undo,
};
use fincrypt_protocol::shard::{
    Challenge, Countersign, Destination, Done, GetDestination, GetHeads, GetOffer, GetShard, Heads,
    HeldSegment, HeldSegments, Hello, KeepRun, ListShards, LocateSegments, Login, LoginNonce, NewestMandate,
    NoteHolders, NotePayout, PutHead, PutShard, ReleaseDue, ReleaseSegments, ReleasesUndone, RenewMandate,
    Request as Ask, RewindAccount, ShardList, UndoReleases, Welcome,
};
use fincrypt_protocol::{
    AccountId, Body, NodeId, Refusal, Rewound, SegmentId, ShardIndex, Signature, Signed, UnixTime, Verified,
};
use fincrypt_shards::{CheckedShard, PutOutcome, ShardMeta, StoreError};
use fincrypt_state::kv::Batch;

use super::StorageRole;
use fincrypt_accounts::{AccountsError, failed};
use fincrypt_net::{Answer, Request, blocking, reply, reply_with};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn refuse_store(error: &StoreError) -> Refusal {
    match error {
        StoreError::Full { .. } => Refusal::Full,
        StoreError::Conflict => Refusal::Conflict,
        error => failed(error),
    }
}

/// What a reader may want to do with an account's shards.
#[derive(Clone, Copy)]
pub(super) enum Right {
    Read,
    Write,
    Audit,
}

impl StorageRole {
    pub(super) async fn handle(self: Arc<Self>, request: Request<Ask>) -> Answer {
        let Request { from, header, payload } = request;
        match header {
            Ask::GetOffer(_) => reply::<GetOffer>(self.offer().await.map_err(|error| failed(&error))?),
            Ask::Hello(_) => {
                reply::<Hello>(LoginNonce { nonce: self.sessions.hello(from).ok_or(Refusal::Busy)? })
            }
            Ask::PutShard(put) => reply::<PutShard>(self.put(from, *put, payload).await?),
            ask => blocking(move || self.answer(from, ask)).await,
        }
    }

    /// Requests that need the disk and nothing of the network.
    fn answer(&self, from: NodeId, ask: Ask) -> Answer {
        match ask {
            Ask::GetOffer(_) | Ask::Hello(_) | Ask::PutShard(_) => Err(Refusal::Failed),
            Ask::Login(ask) => reply::<Login>(self.login(from, &ask.registration, &ask.proof)?),
            Ask::GetShard(ask) => {
                reply_with::<GetShard>(Done {}, self.get(from, ask.account, ask.segment, ask.index)?)
            }
            Ask::Challenge(ask) => {
                let (proofs, payload) = self.challenge(from, &ask.nonce, &ask.shards, ask.audited)?;
                reply_with::<Challenge>(proofs, payload)
            }
            Ask::Countersign(ask) => reply::<Countersign>(self.bill(from, ask.bills)?),
            Ask::GetDestination(ask) => {
                reply::<GetDestination>(Destination { to: self.pay_to(from, ask.lightning)? })
            }
            Ask::NotePayout(ask) => reply::<NotePayout>(self.paid(from, ask.payout)?),
            Ask::ListShards(ask) => reply::<ListShards>(self.list(from, ask.account, ask.after)?),
            Ask::LocateSegments(ask) => {
                reply::<LocateSegments>(self.locate(from, ask.account, &ask.segments)?)
            }
            Ask::NoteHolders(ask) => reply::<NoteHolders>(self.holders(from, &ask.lists)?),
            Ask::KeepRun(ask) => reply::<KeepRun>(self.keep(&ask.keep)?),
            Ask::RenewMandate(ask) => {
                reply::<RenewMandate>(self.mandate(from, &ask.registration, &ask.mandate)?)
            }
            Ask::ReleaseSegments(ask) => reply::<ReleaseSegments>(self.release(from, &ask.release)?),
            Ask::UndoReleases(ask) => reply::<UndoReleases>(self.undo(&ask.undo)?),
            Ask::RewindAccount(ask) => reply::<RewindAccount>(self.rewind(&ask.rewound)?),
            Ask::PutHead(ask) => reply::<PutHead>(self.put_head(from, &ask.registration, &ask.head)?),
            Ask::GetHeads(ask) => reply::<GetHeads>(self.heads(from, ask.account)?),
        }
    }

    fn verify<T: Body>(&self, signed: &Signed<T>) -> Result<Verified<T>, Refusal> {
        signed.verify(self.network, UnixTime::now()).map_err(|_| Refusal::Invalid)
    }

    /// Owners may do everything with their own account; a mediator what its mandate says.
    pub(super) fn authorize(&self, from: NodeId, account: &AccountId, right: Right) -> Result<(), Refusal> {
        if self.sessions.account(&from) == Some(*account) {
            return Ok(());
        }
        let mandate = self.accounts.mandate(account, &from, UnixTime::now())?.ok_or(Refusal::NotMandated)?;
        let allowed = match right {
            Right::Read => mandate.rights.get,
            Right::Write => mandate.rights.put,
            Right::Audit => mandate.rights.audit,
        };
        if allowed { Ok(()) } else { Err(Refusal::NotMandated) }
    }

    /// Refuses what the store refused, and takes note of what that says about the disk.
    fn refuse(&self, error: &StoreError) -> Refusal {
        self.disk.note(error);
        refuse_store(error)
    }

    fn login(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        proof: &Signature,
    ) -> Result<Welcome, Refusal> {
        let now = UnixTime::now();
        let login = self.sessions.login(from, registration, proof).map_err(|_| Refusal::BadLogin)?;
        if let Some(known) = self.accounts.registration(&login.account)?
            && *known != *login
        {
            self.sessions.end(&from);
            return Err(Refusal::OtherRegistration);
        }
        Ok(Welcome { mandate: self.accounts.current_mandate(&login.account, now)? })
    }

    async fn put(
        self: Arc<Self>,
        from: NodeId,
        placement: PutShard,
        payload: Bytes,
    ) -> Result<Signed<Receipt>, Refusal> {
        let role = Arc::clone(&self);
        let (receipt, new_account) = blocking(move || role.store_shard(from, placement, payload)).await?;
        if let Some(account) = new_account {
            self.net.provide(holders_key(&account)).await;
        }
        Ok(receipt)
    }

    pub(super) fn store_shard(
        &self,
        from: NodeId,
        placement: PutShard,
        payload: Bytes,
    ) -> Result<(Signed<Receipt>, Option<AccountId>), Refusal> {
        let PutShard { registration, mandate, run, manifest, index, tag } = placement;
        let now = UnixTime::now();
        let admitted = self.admitted.get(&registration, &mandate, now);
        let is_new = admitted.is_none();
        let (registration, mandate) = match admitted {
            Some(pair) => pair,
            None => (self.verify(&registration)?, self.verify(&mandate)?),
        };
        let account = mandate.account;
        if mandate.mediator != from || !mandate.rights.put {
            return Err(Refusal::NotMandated);
        }
        let shard = manifest.shard(index).ok_or(Refusal::Invalid)?;
        let length = manifest.shard_len().get();
        if registration.account != account || payload.len() != length as usize {
            return Err(Refusal::Invalid);
        }
        let held = self.store.bytes_of(&account);
        if held.saturating_add(length.into()) > mandate.byte_cap {
            return Err(Refusal::NotMandated);
        }
        let segment = manifest.id();
        let _position = self.positions.claim(account, segment, index)?;
        let known = self.store.positions(&account, &segment).map_err(|error| refuse_store(&error))?;
        if known.iter().any(|held| *held != index) {
            return Err(Refusal::Conflict);
        }
        let new = held == 0;
        let checked = CheckedShard::check(payload, shard).map_err(|_| Refusal::WrongShard)?;
        if self.condition() != Condition::Serving && !known.contains(&index) {
            return Err(Refusal::Full);
        }
        let unbilled = !known.contains(&index) && self.admit_credit(from, account)?;
        // Nobody is remembered for a shard that finds no room.
        if !known.contains(&index) && self.store.free() < length.into() {
            return Err(Refusal::Full);
        }
        if unbilled {
            self.wait_for_bill(from, account)?;
        }
        if is_new {
            let mut batch = Batch::default();
            self.admit_registration(&registration, &mut batch)?;
            self.accounts.admit_mandate(&mandate, now, &mut batch)?;
            self.accounts.commit(&batch)?;
            self.admitted.remember(registration, mandate.clone());
        }
        let hash = mandate.signed().mandate_hash();
        // Before the shard is looked for: it is spared now, or gone already and stored anew.
        self.releases.want(&account, &segment)?;
        let meta =
            ShardMeta { account, manifest, index, tag, run, mandate: mandate.signed().clone(), stored: now };
        let put = self.store.put(&checked, &meta).map_err(|error| self.refuse(&error))?;
        if put == PutOutcome::New {
            self.fresh.note(now, account, length.into());
        }
        let receipt = Receipt {
            network: self.network,
            node: self.net.own(),
            account,
            mandate: hash,
            segment,
            index,
            shard,
            length,
            price: self.terms.price,
            time: now,
            paid_until: now.plus(DAY * u32::from(self.terms.grace_days)),
        };
        let receipt = Signed::seal(&receipt, &self.key).map_err(|error| failed(&error))?;
        Ok((receipt, new.then_some(account)))
    }

    fn get(
        &self,
        from: NodeId,
        account: AccountId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, Refusal> {
        self.authorize(from, &account, Right::Read)?;
        let bytes = self.store.get(&account, &segment, index).map_err(|error| self.refuse(&error))?;
        bytes.ok_or(Refusal::NotHeld)
    }

    fn list(
        &self,
        from: NodeId,
        account: AccountId,
        after: Option<(SegmentId, ShardIndex)>,
    ) -> Result<ShardList, Refusal> {
        self.authorize(from, &account, Right::Read)?;
        let mut shards =
            self.store.list(&account, after, MAX_LIST + 1).map_err(|error| refuse_store(&error))?;
        let more = shards.len() > MAX_LIST;
        shards.truncate(MAX_LIST);
        Ok(ShardList { shards, more })
    }

    fn locate(
        &self,
        from: NodeId,
        account: AccountId,
        segments: &[SegmentId],
    ) -> Result<HeldSegments, Refusal> {
        self.authorize(from, &account, Right::Read)?;
        if segments.len() > MAX_LOCATE {
            return Err(Refusal::Invalid);
        }
        let mut known = Vec::new();
        for segment in segments {
            if let Some(held) = self.store.segment(&account, segment).map_err(|error| refuse_store(&error))? {
                let holders = self.accounts.holders(&account, segment)?.map(|list| list.signed().clone());
                let indices = held.shards.iter().map(|shard| shard.index).collect();
                let (manifest, tag, run) = (held.manifest, held.tag, held.run);
                let due = self.releases.due(&account, segment)?;
                known.push(HeldSegment { manifest, tag, run, held: indices, holders, due });
            }
        }
        Ok(HeldSegments { segments: known })
    }

    fn holders(&self, from: NodeId, lists: &[Signed<HolderList>]) -> Result<Done, Refusal> {
        if lists.len() > MAX_HOLDER_LISTS {
            return Err(Refusal::Invalid);
        }
        let mut batch = Batch::default();
        let mut authorized = None;
        for list in lists {
            let list = self.verify(list)?;
            if list.mediator != from {
                return Err(Refusal::NotMandated);
            }
            if authorized != Some(list.account) {
                self.authorize(from, &list.account, Right::Write)?;
                authorized = Some(list.account);
            }
            if self.store.holds(&list.account, &list.segment).map_err(|error| refuse_store(&error))? {
                self.accounts.admit_holders(&list, &mut batch)?;
            }
        }
        self.accounts.commit(&batch)?;
        Ok(Done {})
    }

    /// Takes a mandate in, unless a newer one is known; the newest.
    fn mandate(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        mandate: &Signed<Mandate>,
    ) -> Result<NewestMandate, Refusal> {
        let (registration, mandate) = (self.verify(registration)?, self.verify(mandate)?);
        let account = mandate.account;
        if registration.account != account {
            return Err(Refusal::Invalid);
        }
        if mandate.mediator != from && self.sessions.account(&from) != Some(account) {
            return Err(Refusal::NotMandated);
        }
        // Whoever holds nothing for an account need not know its mediator. A node that holds something
        // and does not know the account has lost its state, not its shards.
        let mut batch = Batch::default();
        match self.accounts.registration(&account)? {
            None if self.store.shard_bytes_of(&account) == 0 => return Err(Refusal::NotHeld),
            _ => self.admit_registration(&registration, &mut batch)?,
        }
        match self.accounts.admit_mandate(&mandate, UnixTime::now(), &mut batch) {
            Ok(()) => {
                self.accounts.commit(&batch)?;
                self.admitted.remember(registration, mandate.clone());
            }
            Err(AccountsError::Superseded) => {}
            Err(error) => return Err(error.into()),
        }
        let newest = self.accounts.current_mandate(&account, UnixTime::now())?;
        Ok(NewestMandate { mandate: newest.unwrap_or_else(|| mandate.signed().clone()) })
    }

    /// Keeps a registration. An account of which something is held already, and that is not known, was lost
    /// with the state.
    fn admit_registration(
        &self,
        registration: &Verified<Registration>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let account = registration.account;
        if self.accounts.registration(&account)?.is_none() && self.store.bytes_of(&account) > 0 {
            self.accounts.regain(registration, self.runs(&account)?, UnixTime::now(), batch)?;
            return Ok(());
        }
        Ok(self.accounts.admit_registration(registration, batch)?)
    }

    /// The owner's signature suffices, whoever brings it.
    fn keep(&self, keep: &Signed<Keep>) -> Result<Done, Refusal> {
        let keep = self.verify(keep)?;
        if self.accounts.registration(&keep.account)?.is_none() {
            return Err(Refusal::NotHeld);
        }
        self.accounts.keep(&keep, UnixTime::now(), || self.runs(&keep.account))?;
        Ok(Done {})
    }

    /// The owner's signature alone does not suffice: who brings a release must be the owner, or a
    /// mediator that has the account's mandate.
    fn release(&self, from: NodeId, release: &Signed<Release>) -> Result<ReleaseDue, Refusal> {
        let release = self.verify(release)?;
        self.authorize(from, &release.account, Right::Write)?;
        let known = self.accounts.registration(&release.account)?.ok_or(Refusal::NotHeld)?;
        self.accounts.check_head_key(&known, release.head_key)?;
        let due = self.releases.release(&release, UnixTime::now(), self)?;
        self.released.notify_one();
        Ok(ReleaseDue { due })
    }

    /// The guard's signature suffices, whoever brings it.
    fn undo(&self, undo: &Signed<Undo>) -> Result<ReleasesUndone, Refusal> {
        let undo = self.verify(undo)?;
        let known = self.accounts.registration(&undo.account)?.ok_or(Refusal::NotHeld)?;
        let pending = self.releases.undo(&undo, &known.guard_key, UnixTime::now())?;
        Ok(ReleasesUndone { pending })
    }

    /// The guard's signature suffices, whoever brings it.
    fn rewind(&self, rewound: &Rewound) -> Result<Done, Refusal> {
        let account = self.verify(&rewound.rewind)?.account;
        let known = self.accounts.registration(&account)?.ok_or(Refusal::NotHeld)?;
        let rewound = rewound.verify(self.network, &known.guard_key, UnixTime::now());
        let mut batch = Batch::default();
        if self.accounts.admit_rewind(&known, &rewound.map_err(|_| Refusal::Invalid)?, &mut batch)? {
            // Before the rewind is noted: repeated after a crash, it must be new again.
            self.releases.void(&account)?;
            self.accounts.commit(&batch)?;
        }
        Ok(Done {})
    }

    fn put_head(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        head: &Signed<Head>,
    ) -> Result<Done, Refusal> {
        let (registration, head) = (self.verify(registration)?, self.verify(head)?);
        self.authorize(from, &registration.account, Right::Write)?;
        let known = self.accounts.registration(&registration.account)?.ok_or(Refusal::NotHeld)?;
        if *known != *registration {
            return Err(Refusal::OtherRegistration);
        }
        self.accounts.put_head(&known, &head, UnixTime::now())?;
        Ok(Done {})
    }

    fn heads(&self, from: NodeId, account: AccountId) -> Result<Heads, Refusal> {
        self.authorize(from, &account, Right::Read)?;
        let (heads, rewound) = (self.accounts.heads(&account)?, self.accounts.rewound(&account)?);
        Ok(Heads { heads, rewound: rewound.map(Box::new) })
    }
}
