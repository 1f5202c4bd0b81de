//! Answers to each request of `/mediate/1`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::mediate::{
    CommitSegment, CurrentHead, Done, GetBalance, GetDeposit, GetHead, GetHistory, GetQuote, GetRecord,
    GetShard, GetStatements, Hello, History, KeepRun, LocateSegments, Located, LocatedSegment, Login,
    LoginNonce, MigrateIn, MigrateOut, NodeAddresses, OpenSegment as Open, Opened, PutShard, Quote, Receipts,
    ReleaseSegments, ReportMissing, Request as Ask, RewindAccount, Statements, SwapHead, UndoReleases,
    Welcome, Withdraw,
};
use fincrypt_protocol::record::{MAX_MANDATE_LIFE, Mandate, Registration, check_life};
use fincrypt_protocol::{
    AccountId, Code, GeometryError, Manifest, Network, NodeId, Redundancy, Refusal, RunId, SegmentId,
    ShardIndex, Signature, Signed, Tag, UnixTime, Verified,
};
use fincrypt_state::kv::Batch;

use super::MediatorRole;
use super::open::OpenSegment;
use super::records::{SegmentRecord, Slot};
use fincrypt_accounts::failed;
use fincrypt_net::encode_all;
use fincrypt_net::{Answer, Request, blocking, reply, reply_with};
use fincrypt_upkeep::placement::{draw, system_random};

/// A storage node counts only if it has room for at least one full shard.
const MIN_FREE: u64 = 1 << 20;

fn count(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

impl MediatorRole {
    pub(super) async fn handle(self: Arc<Self>, request: Request<Ask>) -> Answer {
        let Request { from, header, payload } = request;
        match header {
            Ask::GetRecord(_) => reply::<GetRecord>(self.record().await.map_err(|error| failed(&error))?),
            Ask::Hello(_) => {
                reply::<Hello>(LoginNonce { nonce: self.sessions.hello(from).ok_or(Refusal::Busy)? })
            }
            Ask::Login(login) => {
                reply::<Login>(blocking(move || self.login(from, &login.registration, &login.proof)).await?)
            }
            Ask::GetQuote(ask) => reply::<GetQuote>(self.quote(ask.redundancy, ask.max_price).await?),
            Ask::OpenSegment(open) => reply::<Open>(self.open(from, *open).await?),
            Ask::PutShard(put) => {
                reply::<PutShard>(self.put(self.account(from)?, put.segment, put.index, payload).await?)
            }
            Ask::CommitSegment(ask) => {
                let account = self.account(from)?;
                reply::<CommitSegment>(self.commit(account, ask.segment).await?)
            }
            Ask::KeepRun(ask) => {
                let account = self.account(from)?;
                self.keep(account, &ask.keep).await?;
                // The run is over: nothing more will gather.
                let role = Arc::clone(&self);
                self.tasks.spawn(async move { role.flush_holders(Some(account)).await });
                reply::<KeepRun>(Done {})
            }
            Ask::ReleaseSegments(ask) => {
                let account = self.account(from)?;
                self.register(from).await?;
                reply::<ReleaseSegments>(self.release(account, &ask.release).await?)
            }
            Ask::UndoReleases(ask) => {
                // Anyone may bring it. An owner who does is known from then on.
                let undo = &ask.undo;
                let about = undo.verify(self.network, UnixTime::now()).map_err(|_| Refusal::Invalid)?.account;
                if self.sessions.account(&from) == Some(about) {
                    self.register(from).await?;
                }
                self.undo(undo).await?;
                reply::<UndoReleases>(Done {})
            }
            Ask::RewindAccount(ask) => {
                self.rewind(from, &ask.rewound).await?;
                reply::<RewindAccount>(Done {})
            }
            Ask::MigrateIn(ask) => reply::<MigrateIn>(self.adopt(self.registration(from)?, *ask).await?),
            Ask::MigrateOut(ask) => {
                self.dismiss(&ask.adopt).await?;
                reply::<MigrateOut>(Done {})
            }
            Ask::GetShard(ask) => {
                reply_with::<GetShard>(Done {}, self.get(self.account(from)?, ask.segment, ask.index).await?)
            }
            Ask::LocateSegments(ask) => {
                reply::<LocateSegments>(self.locate(self.account(from)?, ask.segments).await?)
            }
            Ask::ReportMissing(ask) => {
                let account = self.account(from)?;
                self.doubt(account, ask.shards).await?;
                reply::<ReportMissing>(Done {})
            }
            Ask::GetDeposit(_) => {
                let account = self.account(from)?;
                self.register(from).await?;
                reply::<GetDeposit>(self.prepayments.deposit_to(account).await?)
            }
            Ask::GetBalance(_) => reply::<GetBalance>(self.prepayments.balance(self.account(from)?).await?),
            Ask::GetHistory(ask) => {
                let (entries, more) = self.prepayments.entries(self.account(from)?, ask.after).await?;
                reply::<GetHistory>(History { entries, more })
            }
            Ask::GetStatements(ask) => {
                let (statements, more) = self.prepayments.statements(self.account(from)?, ask.after);
                reply::<GetStatements>(Statements { statements, more })
            }
            Ask::Withdraw(ask) => {
                let account = self.account(from)?;
                reply::<Withdraw>(self.prepayments.withdraw(account, ask.withdrawal).await?)
            }
            Ask::GetHead(_) => {
                let (records, account) = (self.records.clone(), self.account(from)?);
                reply::<GetHead>(CurrentHead { head: blocking(move || records.head(&account)).await? })
            }
            Ask::SwapHead(ask) => {
                self.account(from)?;
                self.register(from).await?;
                self.swap_head(&self.registration(from)?, ask.expected, &ask.head).await?;
                reply::<SwapHead>(Done {})
            }
        }
    }

    fn account(&self, from: NodeId) -> Result<AccountId, Refusal> {
        let account = self.sessions.account(&from).ok_or(Refusal::NotLoggedIn)?;
        self.stays(&account)?;
        Ok(account)
    }

    /// Refuses an account that has gone to another mediator.
    fn stays(&self, account: &AccountId) -> Result<(), Refusal> {
        if self.dismissals.sequence(account).is_some() { Err(Refusal::Dismissed) } else { Ok(()) }
    }

    fn registration(&self, from: NodeId) -> Result<Verified<Registration>, Refusal> {
        self.sessions.registration(&from).ok_or(Refusal::NotLoggedIn)
    }

    fn login(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        proof: &Signature,
    ) -> Result<Welcome, Refusal> {
        let login = self.sessions.login(from, registration, proof).map_err(|_| Refusal::BadLogin)?;
        let known = self.accounts.registration(&login.account)?;
        if known.as_ref().is_some_and(|known| **known != *login) {
            self.sessions.end(&from);
            return Err(Refusal::OtherRegistration);
        }
        Ok(Welcome { known: known.is_some() })
    }

    /// Remembers who is logged in, as it does something that is remembered. A login alone leaves
    /// nothing behind, so that strangers cannot fill the state for free.
    async fn register(&self, from: NodeId) -> Result<(), Refusal> {
        let (accounts, registration) = (self.accounts.clone(), self.registration(from)?);
        blocking(move || Ok(accounts.register(&registration)?)).await
    }

    async fn quote(&self, redundancy: Redundancy, max_price: Option<Price>) -> Result<Quote, Refusal> {
        let redundancy = redundancy.max(self.terms.floor);
        self.directory.settle().await;
        let eligible = self.candidates(MIN_FREE, max_price).await;
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

    async fn open(
        self: &Arc<Self>,
        from: NodeId,
        Open { run, mandate, manifest, tag }: Open,
    ) -> Result<Opened, Refusal> {
        let registration = self.registration(from)?;
        let (account, now) = (registration.account, UnixTime::now());
        self.stays(&account)?;
        let given = mandate.verify(self.network, now).map_err(|_| Refusal::NotMandated)?;
        check_life(&*given, now, MAX_MANDATE_LIFE).map_err(|_| Refusal::NotMandated)?;
        if given.account != account || given.mediator != self.net.own() || !given.rights.put {
            return Err(Refusal::NotMandated);
        }
        if !manifest.code().keeps(self.terms.floor) {
            return Err(Refusal::Invalid);
        }
        let (role, asked, wanted) = (Arc::clone(self), registration.clone(), given.clone());
        let newer = blocking(move || {
            role.accounts.admit_registration(&asked, &mut Batch::default())?;
            role.is_newer(&wanted)
        });
        let newer = newer.await?;
        let id = manifest.id();
        let mut opened = None;
        if !self.open.adopt(from, account, id) {
            let known = self.records.find(account, id).await?;
            let mut is_new = false;
            let record = match known {
                Some(record) if record.manifest == manifest && record.may_have(tag) => {
                    let record = SegmentRecord { tag, ..(*record).clone() }.signed_for();
                    if self.releases.due(&account, &id)?.is_some() { record.released() } else { record }
                }
                Some(_) => return Err(Refusal::Conflict),
                None => {
                    is_new = true;
                    self.assign(run, manifest, tag, given.max_price).await?
                }
            };
            let (prepayments, wanted) = (self.prepayments.clone(), record.clone());
            blocking(move || prepayments.admit_cost(account, &wanted)).await?;
            let signed = registration.signed().clone();
            let mandate = given.signed().clone();
            // Room first: what finds none leaves nothing behind.
            let make = || OpenSegment::new(account, signed, mandate, record).with_limit(given.max_price);
            opened = Some((self.open.open(from, id, make, account)?, is_new));
        }
        let (role, fresh) = (Arc::clone(self), opened.is_some());
        let remember = move || {
            role.accounts.register(&registration)?;
            if newer {
                role.records.put_mandate(&given)?;
            }
            if let Some((segment, true)) = opened {
                role.records.make_room(&account, |account, segment| role.open.contains(account, segment))?;
                role.records.put_segment(&account, &segment.record())?;
            }
            Ok(())
        };
        if let Err(refusal) = blocking(remember).await {
            if fresh {
                self.open.close(account, id);
            }
            return Err(refusal);
        }
        let segment = self.open.get(account, id).ok_or(Refusal::Busy)?;
        Ok(Opened { missing: segment.missing_data() })
    }

    /// Chooses a node for every shard.
    async fn assign(
        &self,
        run: RunId,
        manifest: Manifest,
        tag: Tag,
        max_price: Option<Price>,
    ) -> Result<SegmentRecord, Refusal> {
        let total = usize::from(manifest.code().total());
        let candidates = self.candidates(manifest.shard_len().get().into(), max_price).await;
        let caps = self.caps(manifest.code(), &[], &candidates);
        let nodes = draw(&candidates, total, &caps, system_random);
        // A node or two fewer than when the run was quoted still let the segment count as stored.
        let needed = usize::from(manifest.code().stored_threshold());
        if nodes.len() < needed {
            return Err(Refusal::TooFewPeers { eligible: count(nodes.len()), needed: count(needed) });
        }
        let nodes = nodes.into_iter().map(Some).chain(std::iter::repeat(None));
        let slots = nodes.take(total).map(|node| Slot { node, receipt: None }).collect();
        Ok(SegmentRecord { manifest, tag, run, slots, sequence: 1 })
    }

    /// Whether a mandate is to be remembered: audits and repairs go on with it when its owner is away.
    /// An older one than is known is refused.
    fn is_newer(&self, mandate: &Verified<Mandate>) -> Result<bool, Refusal> {
        let known = self.records.mandate(&mandate.account)?;
        if known.as_ref() == Some(mandate.signed()) {
            return Ok(false);
        }
        let known = known.and_then(|known| known.verify(self.network, UnixTime::from_secs(0)).ok());
        if known.is_some_and(|known| known.sequence > mandate.sequence) {
            return Err(Refusal::NotMandated);
        }
        Ok(true)
    }

    async fn put(
        &self,
        account: AccountId,
        segment: SegmentId,
        index: ShardIndex,
        payload: Bytes,
    ) -> Result<Done, Refusal> {
        let open = self.open.get(account, segment).ok_or(Refusal::UnknownSegment)?;
        let manifest = open.record().manifest;
        let is_data = index.get() < usize::from(manifest.code().data());
        if !is_data || payload.len() != manifest.shard_len().get() as usize {
            return Err(Refusal::Invalid);
        }
        let all = open.remember(index, payload.clone());
        let parity = async {
            // The parity need not wait for the data's keepers. What fails here, the commit repeats.
            if all && let Err(refusal) = self.place_parity(&open).await {
                tracing::debug!(%refusal, "the parity is not placed yet");
            }
        };
        let (placed, ()) = tokio::join!(self.place(&open, index, payload), parity);
        match placed {
            Ok(()) => {}
            // No node is left for it. It is in the parity all the same, and the commit tells whether
            // enough keepers have theirs.
            Err(Refusal::NotStored { .. }) if open.remembers(index) || open.has_data() => {}
            Err(refusal) => {
                open.forget(index);
                return Err(refusal);
            }
        }
        Ok(Done {})
    }

    async fn commit(self: Arc<Self>, account: AccountId, segment: SegmentId) -> Result<Receipts, Refusal> {
        let Some(open) = self.open.get(account, segment) else {
            let record = self.records.find(account, segment).await?.ok_or(Refusal::UnknownSegment)?;
            if self.releases.due(&account, &segment)?.is_some() {
                return Err(Refusal::UnknownSegment);
            }
            // Without its receipts it was open when this mediator ended: to be announced again.
            return Self::receipts(&record).map_err(|_| Refusal::UnknownSegment);
        };
        match self.finish(&open).await {
            // Some keepers are missing, but enough are there.
            Err(Refusal::NotStored { have, need }) if have >= need => {}
            other => other?,
        }
        let record = open.record();
        let (role, stored) = (Arc::clone(&self), record.clone());
        let introduced = blocking(move || {
            let new = role.records.put_segment(&account, &stored)?;
            role.releases.want(&account, &segment)?;
            role.introduce(&account, &new)?;
            // One that was stored before may have found other keepers.
            let keepers: Vec<_> = stored.holders().map(|(_, node)| node).collect();
            role.tell_kept(&account, &stored.run, &keepers)?;
            Ok(!new.is_empty())
        });
        let complete = record.is_complete();
        if introduced.await? {
            self.deliver_soon(account);
        }
        let answer = Self::receipts(&record)?;
        self.open.close(account, segment);
        if !complete {
            self.lacking.notify_one();
        }
        self.tasks.spawn(Arc::clone(&self).share_holders(account, record, Vec::new()));
        Ok(answer)
    }

    fn receipts(record: &SegmentRecord) -> Result<Receipts, Refusal> {
        let receipts: Vec<_> = record.receipts().cloned().collect();
        let need = record.manifest.code().stored_threshold();
        if receipts.len() < usize::from(need) {
            let have = u8::try_from(receipts.len()).unwrap_or(u8::MAX);
            return Err(Refusal::NotStored { have, need });
        }
        Ok(Receipts { receipts })
    }

    async fn get(&self, account: AccountId, segment: SegmentId, index: ShardIndex) -> Result<Bytes, Refusal> {
        let record = self.records.find(account, segment).await?.ok_or(Refusal::UnknownSegment)?;
        self.fetch(account, &record, index).await
    }

    async fn locate(&self, account: AccountId, segments: Vec<SegmentId>) -> Result<Located, Refusal> {
        if segments.len() > MAX_LOCATE {
            return Err(Refusal::Invalid);
        }
        let mut located = Vec::new();
        let mut nodes = BTreeSet::new();
        for record in self.records.find_all(account, segments).await? {
            let holders: Vec<_> = record.holders().collect();
            nodes.extend(holders.iter().map(|(_, node)| *node));
            located.push(LocatedSegment { manifest: record.manifest.clone(), tag: record.tag, holders });
        }
        let nodes = nodes.into_iter().map(|node| {
            let addresses = encode_all(&self.directory.addresses(&node));
            NodeAddresses { node, addresses }
        });
        Ok(Located { segments: located, nodes: nodes.collect() })
    }
}
