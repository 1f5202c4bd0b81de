//! Vaults that come from another mediator: their holders are found, told, and asked what they hold.
//!
//! No shard moves. What is left to do is durable, so that it goes on after a crash; everything in it
//! may be done twice.

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::admission::holders_key;
use fincrypt_protocol::limits::{
    MAX_ADOPT_HINTS, MAX_ADOPT_KEEPS, MAX_ADOPT_RELEASES, MAX_LOCATE, MAX_REQUEST_HEADER,
};
use fincrypt_protocol::mediate::{MigrateIn, MigrationProgress};
use fincrypt_protocol::record::{Keep, MAX_MANDATE_LIFE, Mandate, Registration, Release, check_life};
use fincrypt_protocol::shard::{
    HeldSegment, KeepRun, ListShards, LocateSegments, ReleaseSegments, RenewMandate, Request, RewindAccount,
    ShardList,
};
use fincrypt_protocol::{AccountId, Call, NodeId, Refusal, SegmentId, Signed, UnixTime, Verified, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::MediatorRole;
use super::holder_link::Delivery;
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Holdings;
use fincrypt_accounts::{AccountsError, HeadAuthority};
use fincrypt_net::blocking;
use fincrypt_net::decode_all;

/// `account` → [`Takeover`].
const TAKEOVERS: Tree = Tree("takeovers");
/// `account ‖ node` → whether the holder has told what it holds: one byte.
const FOUND: Tree = Tree("takeover_holders");

/// `account` → [`Statements`] of its owner for every holder, until the takeover is complete.
const STATEMENTS: Tree = Tree("takeover_statements");

/// The most bytes of [`Statements`]: they came in one request.
const MAX_STATEMENTS: usize = MAX_REQUEST_HEADER as usize;
/// The most bytes of a [`Takeover`].
const MAX_TAKEOVER: usize = 4096;
/// Holders looked into for one vault, far more than one has; each is 65 bytes.
const MAX_FOUND: usize = 4096;
/// Shards that one holder's list may name: 1 TiB of full ones.
const MAX_LISTED: usize = 1 << 20;
/// Holders asked at once.
const AT_ONCE: usize = 8;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// Holders that do not answer are looked for so long.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A vault on its way here.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Takeover {
    registration: Signed<Registration>,
    mandate: Signed<Mandate>,
    keep: Signed<Keep>,
    sequence: u64,
    since: UnixTime,
    /// Whether the owner knows a head: then there must be holders.
    used: bool,
    complete: bool,
}

/// What holders may not have heard from the mediator before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Statements {
    keeps: Vec<Signed<Keep>>,
    /// Oldest first, as a holder refuses one that is older than the last.
    releases: Vec<Signed<Release>>,
}

impl Statements {
    fn requests(&self) -> impl Iterator<Item = Request> {
        let releases = self.releases.iter().cloned().map(|release| ReleaseSegments { release }.into());
        self.keeps.iter().cloned().map(|keep| KeepRun { keep }.into()).chain(releases)
    }
}

/// Takeovers in durable state.
pub(super) struct Takeovers {
    state: State,
    /// Accounts whose holders are being asked now.
    running: Mutex<HashSet<AccountId>>,
    /// Held while a takeover is begun.
    beginning: Mutex<()>,
}

impl Takeovers {
    pub(super) fn new(state: State) -> Self {
        Self { state, running: Mutex::default(), beginning: Mutex::default() }
    }

    fn get(&self, account: &AccountId) -> Result<Option<Takeover>, Refusal> {
        let bytes = self.state.get(TAKEOVERS, account.as_bytes()).map_err(|error| failed(&error))?;
        bytes.map(|bytes| cbor::decode(&bytes, MAX_TAKEOVER).map_err(|error| failed(&error))).transpose()
    }

    fn statements(&self, account: &AccountId) -> Result<Statements, Refusal> {
        let bytes = self.state.get(STATEMENTS, account.as_bytes()).map_err(|error| failed(&error))?;
        let read = |bytes: Vec<u8>| cbor::decode(&bytes, MAX_STATEMENTS).map_err(|error| failed(&error));
        bytes.map_or_else(|| Ok(Statements::default()), read)
    }

    fn put(&self, account: &AccountId, takeover: &Takeover, mut batch: Batch) -> Result<(), Refusal> {
        let bytes = cbor::encode(takeover).map_err(|error| failed(&error))?;
        batch.put(TAKEOVERS, *account.as_bytes(), bytes);
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    /// Forgets what is left to do for an account that has gone elsewhere.
    pub(super) fn forget(&self, account: &AccountId) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.remove(TAKEOVERS, *account.as_bytes());
        batch.remove(STATEMENTS, *account.as_bytes());
        self.forget_found(account, &mut batch)?;
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    fn forget_found(&self, account: &AccountId, batch: &mut Batch) -> Result<(), Refusal> {
        self.found(account)?.into_iter().for_each(|(node, _)| batch.remove(FOUND, key(account, &node)));
        Ok(())
    }

    /// The holders found, and whether each has told what it holds.
    fn found(&self, account: &AccountId) -> Result<Vec<(NodeId, bool)>, Refusal> {
        let entries = self.state.scan(FOUND, account.as_bytes(), None, MAX_FOUND);
        let parse = |(key, value): (Vec<u8>, Vec<u8>)| {
            let node = key.get(32..64)?.try_into().ok().map(NodeId::from_bytes)?;
            Some((node, value == [1]))
        };
        Ok(entries.map_err(|error| failed(&error))?.into_iter().filter_map(parse).collect())
    }

    /// Notes holders that were not known; how many.
    fn add(&self, account: &AccountId, nodes: impl IntoIterator<Item = NodeId>) -> Result<usize, Refusal> {
        let known: BTreeSet<_> = self.found(account)?.into_iter().map(|(node, _)| node).collect();
        let new: BTreeSet<_> = nodes.into_iter().filter(|node| !known.contains(node)).collect();
        let mut batch = Batch::default();
        let room = MAX_FOUND.saturating_sub(known.len());
        let new: Vec<_> = new.into_iter().take(room).collect();
        new.iter().for_each(|node| batch.put(FOUND, key(account, node), vec![0]));
        if !new.is_empty() {
            self.state.commit(&batch).map_err(|error| failed(&error))?;
        }
        Ok(new.len())
    }

    fn heard(&self, account: &AccountId, node: &NodeId) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(FOUND, key(account, node), vec![1]);
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    fn unfinished(&self) -> Result<Vec<AccountId>, Refusal> {
        let entries = self.state.scan(TAKEOVERS, &[], None, usize::MAX).map_err(|error| failed(&error))?;
        let open = |bytes: &[u8]| cbor::decode::<Takeover>(bytes, MAX_TAKEOVER).is_ok_and(|t| !t.complete);
        let open = entries.into_iter().filter(|(_, bytes)| open(bytes));
        Ok(open.filter_map(|(key, _)| key.try_into().ok().map(AccountId::from_bytes)).collect())
    }
}

fn key(account: &AccountId, node: &NodeId) -> Vec<u8> {
    [account.as_bytes().as_slice(), node.as_bytes()].concat()
}

impl MediatorRole {
    /// Begins to take a vault over, or tells how far that is.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        registration: Verified<Registration>,
        adoption: MigrateIn,
    ) -> Result<MigrationProgress, Refusal> {
        let account = registration.account;
        let hints: Vec<_> =
            adoption.holders.iter().map(|hint| (hint.node, decode_all(&hint.addresses))).collect();
        let role = Arc::clone(self);
        let begun = blocking(move || role.begin_takeover(&registration, &adoption)).await?;
        if begun {
            let role = Arc::clone(self);
            self.tasks.spawn(async move {
                let reaching = hints.into_iter().map(|(node, addresses)| role.net.reach(node, addresses));
                let reaching = futures::stream::iter(reaching).buffer_unordered(AT_ONCE);
                // Whoever is not there is looked for in the DHT.
                reaching.for_each(|_| std::future::ready(())).await;
                role.take_over(account).await;
            });
        }
        let role = Arc::clone(self);
        blocking(move || role.progress(&account)).await
    }

    fn begin_takeover(
        &self,
        registration: &Verified<Registration>,
        adoption: &MigrateIn,
    ) -> Result<bool, Refusal> {
        let (account, now) = (registration.account, UnixTime::now());
        let adopt = adoption.adopt.verify(self.network, now).map_err(|_| Refusal::Invalid)?;
        let mandate = adoption.mandate.verify(self.network, now).map_err(|_| Refusal::NotMandated)?;
        let keep = adoption.keep.verify(self.network, now).map_err(|_| Refusal::Invalid)?;
        check_life(&*mandate, now, MAX_MANDATE_LIFE).map_err(|_| Refusal::NotMandated)?;
        let own = self.net.own();
        let fits = adopt.account == account
            && mandate.account == account
            && keep.account == account
            && adopt.new == own
            && mandate.mediator == own
            && mandate.sequence == adopt.sequence
            && adoption.holders.len() <= MAX_ADOPT_HINTS
            && adoption.keeps.len() <= MAX_ADOPT_KEEPS
            && adoption.releases.len() <= MAX_ADOPT_RELEASES;
        if !fits {
            return Err(Refusal::Invalid);
        }
        let rewound = adoption.rewound.as_ref();
        let rewound = rewound.map(|r| r.verify(self.network, &registration.guard_key, now)).transpose();
        let rewound = rewound.map_err(|_| Refusal::Invalid)?;
        for keep in &adoption.keeps {
            let keep = keep.verify(self.network, now).map_err(|_| Refusal::Invalid)?;
            if keep.account != account {
                return Err(Refusal::Invalid);
            }
        }
        for release in &adoption.releases {
            let release = release.verify(self.network, now).map_err(|_| Refusal::Invalid)?;
            if release.account != account {
                return Err(Refusal::Invalid);
            }
        }
        let head = adoption.head.as_ref().map(|head| head.verify(self.network, now)).transpose();
        let head = head.map_err(|_| Refusal::Invalid)?;
        if head.as_ref().is_some_and(|h| h.account != account) {
            return Err(Refusal::Invalid);
        }
        let _one = self.takeovers.beginning.lock();
        if self.dismissals.sequence(&account).is_some_and(|dismissed| dismissed >= adopt.sequence) {
            return Err(Refusal::Dismissed);
        }
        if let Some(known) = self.takeovers.get(&account)?
            && known.sequence >= adopt.sequence
        {
            return if known.sequence == adopt.sequence { Ok(false) } else { Err(Refusal::Stale) };
        }
        self.accounts.register(registration)?;
        if let Some(rewound) = rewound {
            let mut batch = Batch::default();
            match self.accounts.admit_rewind(registration, &rewound, &mut batch) {
                Ok(_) | Err(AccountsError::OldRewind) => {}
                Err(error) => return Err(error.into()),
            }
            self.accounts.commit(&batch)?;
        }
        // What was known may be older than what the last mediator has done.
        let before = self.records.holders(&account, MAX_FOUND)?;
        let known = self.records.head(&account)?;
        self.records.forget_account(&account)?;
        let known = known.and_then(|known| known.verify(self.network, now).ok());
        let _swap = self.swapping.lock();
        let current = HeadAuthority::of(registration, self.accounts.rewind(&registration.account)?.as_ref());
        let used = head.is_some() || known.is_some();
        let heads = head.into_iter().chain(known).filter(|head| current.accepts(head));
        if let Some(newest) = heads.max_by_key(|head| (head.sequence, head.signed().head_hash())) {
            self.records.put_head(&account, newest.signed())?;
        }
        self.records.put_mandate(&mandate)?;
        let takeover = Takeover {
            registration: registration.signed().clone(),
            mandate: adoption.mandate.clone(),
            keep: adoption.keep.clone(),
            sequence: adopt.sequence,
            since: now,
            used,
            complete: false,
        };
        let mut batch = Batch::default();
        self.takeovers.forget_found(&account, &mut batch)?;
        let (keeps, releases) = (adoption.keeps.clone(), adoption.releases.clone());
        let statements = cbor::encode(&Statements { keeps, releases }).map_err(|error| failed(&error))?;
        batch.put(STATEMENTS, *account.as_bytes(), statements);
        for node in adoption.holders.iter().map(|hint| hint.node).chain(before) {
            batch.put(FOUND, key(&account, &node), vec![0]);
        }
        self.takeovers.put(&account, &takeover, batch)?;
        self.dismissals.lift(&account)?;
        Ok(true)
    }

    fn progress(&self, account: &AccountId) -> Result<MigrationProgress, Refusal> {
        let count = |value| u32::try_from(value).unwrap_or(u32::MAX);
        let found = self.takeovers.found(account)?;
        let heard = found.iter().filter(|(_, heard)| *heard).count();
        let complete = self.takeovers.get(account)?.is_none_or(|takeover| takeover.complete);
        let (mut segments, mut after) = (0, None);
        loop {
            let page = self.records.segments(account, after.as_ref())?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            segments += page.len() as u64;
        }
        Ok(MigrationProgress { segments, found: count(found.len()), acknowledged: count(heard), complete })
    }

    /// Goes on with every vault that is not taken over yet.
    pub(super) async fn take_over_all(self: &Arc<Self>) {
        for account in self.takeovers.unfinished().unwrap_or_default() {
            let role = Arc::clone(self);
            self.tasks.spawn(role.take_over(account));
        }
    }

    async fn take_over(self: Arc<Self>, account: AccountId) {
        let running = || self.takeovers.running.lock();
        if !running().insert(account) {
            return;
        }
        // As long as holders lead to others, there is something to do at once.
        while let Ok(true) = self.ask_holders(account).await {}
        running().remove(&account);
    }

    /// Asks every holder that was found and has not told yet; whether there are new ones.
    async fn ask_holders(self: &Arc<Self>, account: AccountId) -> Result<bool, Refusal> {
        let Some(takeover) = self.takeovers.get(&account)?.filter(|takeover| !takeover.complete) else {
            return Ok(false);
        };
        let providers = self.net.providers(holders_key(&account)).await;
        self.takeovers.add(&account, providers)?;
        let waiting: Vec<_> =
            self.takeovers.found(&account)?.into_iter().filter(|(_, heard)| !heard).collect();
        let asking = waiting.into_iter().map(|(node, _)| self.ask_holder(account, &takeover, node));
        let mut answers = futures::stream::iter(asking).buffer_unordered(AT_ONCE);
        let (mut heard, mut others) = (0, BTreeSet::new());
        while let Some(answer) = answers.next().await {
            match answer {
                Some(named) => {
                    heard += 1;
                    others.extend(named);
                }
                None if self.dismissals.sequence(&account).is_some() => return Ok(false),
                None => {}
            }
        }
        drop(answers);
        let new = self.takeovers.add(&account, others)?;
        if heard > 0 {
            // Whoever holds something must know that repairs under this run are kept.
            self.keep(account, &takeover.keep).await?;
        }
        let found = self.takeovers.found(&account)?;
        let all = found.iter().all(|(_, heard)| *heard) && (!found.is_empty() || !takeover.used);
        let over = UnixTime::now() > takeover.since.plus(PATIENCE);
        if new == 0 && (all || over) {
            let missing = found.iter().filter(|(_, heard)| !heard).count();
            if missing > 0 {
                tracing::warn!(missing, "holders of a vault taken over never answered");
            }
            let role = Arc::clone(self);
            blocking(move || {
                let mut batch = Batch::default();
                batch.remove(STATEMENTS, *account.as_bytes());
                role.takeovers.put(&account, &Takeover { complete: true, ..takeover }, batch)
            })
            .await?;
            tracing::info!(holders = found.len(), "a vault was taken over");
        }
        Ok(new > 0)
    }

    /// Brings one holder the mandate and takes in what it holds; the other holders it names. None if
    /// it has to be asked again.
    async fn ask_holder(
        self: &Arc<Self>,
        account: AccountId,
        takeover: &Takeover,
        node: NodeId,
    ) -> Option<BTreeSet<NodeId>> {
        let (registration, mandate) = (takeover.registration.clone(), takeover.mandate.clone());
        match self.link.send(node, RenewMandate { registration, mandate }).await {
            Delivery::Acknowledged(newest) => {
                if self.note_newer(&account, &newest.mandate).await {
                    return None;
                }
            }
            // It holds nothing, or will never let us in.
            Delivery::Rejected(refusal) => {
                tracing::debug!(%node, %refusal, "a node has nothing to take over");
                self.takeovers.heard(&account, &node).ok()?;
                return Some(BTreeSet::new());
            }
            Delivery::TimedOut => return None,
        }
        // Before it lists what it has: what it is to delete is not taken over.
        // Releases are signed with the head key that a rewind made the account's.
        let rewound = self.accounts.rewound(&account).ok()?;
        let rewind = rewound.map(|rewound| Request::from(RewindAccount { rewound }));
        let statements = self.takeovers.statements(&account).ok()?;
        for request in rewind.into_iter().chain(statements.requests()) {
            match self.link.tell(node, request).await {
                Delivery::Acknowledged(_) => {}
                Delivery::Rejected(refusal) => tracing::debug!(%node, %refusal, "a holder knows a statement"),
                Delivery::TimedOut => return None,
            }
        }
        let run = takeover.keep.verify(self.network, UnixTime::now()).ok()?.run;
        let mut named = BTreeSet::new();
        for page in self.list(account, node).await?.chunks(MAX_LOCATE) {
            let ask = LocateSegments { account, segments: page.to_vec() };
            let held = self.ask_for(node, ask).await?.segments;
            for list in held.iter().filter_map(|held| held.holders.as_ref()) {
                // Hints: whoever is named there is asked itself.
                let list = list.verify(self.network, UnixTime::now()).ok();
                let list = list.filter(|list| list.account == account);
                named.extend(list.iter().flat_map(|list| list.holders.iter().map(|(_, node)| *node)));
            }
            named.retain(|other| *other != node);
            // What is to be deleted is neither kept nor repaired.
            let kept = |held: &HeldSegment| held.due.is_none() && page.contains(&held.manifest.id());
            let kept: Vec<_> = held.into_iter().filter(kept).collect();
            let records = self.records.clone();
            let put = move || {
                kept.iter().try_for_each(|held| records.put_listed(&account, node, run, held).map(drop))
            };
            blocking(put).await.ok()?;
        }
        self.takeovers.heard(&account, &node).ok()?;
        Some(named)
    }

    /// The segments of which a node holds shards.
    async fn list(&self, account: AccountId, node: NodeId) -> Option<Vec<SegmentId>> {
        let mut segments: Vec<SegmentId> = Vec::new();
        let mut after = None;
        loop {
            let ShardList { shards, more } = self.ask_for(node, ListShards { account, after }).await?;
            segments.extend(shards.iter().map(|(segment, ..)| *segment));
            segments.dedup();
            let last = shards.last().map(|(segment, index, _)| (*segment, *index));
            // A page that does not go on ends the list, whatever the node says.
            if !more || last.is_none() || last <= after || segments.len() >= MAX_LISTED {
                return Some(segments);
            }
            after = last;
        }
    }

    async fn ask_for<C: Call<Request = Request>>(&self, node: NodeId, call: C) -> Option<C::Response> {
        tokio::time::timeout(ANSWER, self.net.shard(node, call)).await.ok()?.ok()
    }
}
