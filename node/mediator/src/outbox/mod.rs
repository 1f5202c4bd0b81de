//! The outbox: keeps, releases, undos and rewinds of an account's owner or guard, for its holders. Durable
//! here first, then sent to every holder until it has acknowledged or rejected them.

mod pins;

use std::sync::Arc;

use fincrypt_protocol::mediate::ReleaseProgress;
use fincrypt_protocol::record::{Release, Undo};
use fincrypt_protocol::shard::{
    KeepRun, ReleaseSegments, RenewMandate, Request, RewindAccount, UndoReleases,
};
use fincrypt_protocol::{
    AccountId, Body, NodeId, Refusal, Response, Signed, UnixTime, Verified, VerifiedRewound, cbor,
};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use futures::StreamExt;

use super::context::Context;
use super::holder_link::{Delivery, HolderLink};
use super::migration_out::MigrationOut;
use super::records::Records;
use fincrypt_accounts::Accounts;
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Releases;
use fincrypt_protocol::limits::MAX_REWOUND;
use parking_lot::Mutex;

/// `account ‖ node ‖ kind ‖ number` → the record, until the node has acknowledged it. Delivery in this order:
/// releases by sequence, as a node refuses one that is older than the last.
const PENDING: Tree = Tree("pending_notices");
/// `account` → its guard's newest undo, for nodes that become holders later.
const UNDOS: Tree = Tree("mediated_undos");

const KEEP: u8 = 0;
const UNDO: u8 = 1;
/// Before releases, which the new head key signs.
const REWIND: u8 = 2;
const RELEASE: u8 = 3;

/// Notices sent in one round.
const ROUND: usize = 256;
/// Notices of one account sent at once, when one of them is new.
const ACCOUNT_ROUND: usize = 4096;
/// Holders that are sent notices at once.
const AT_ONCE: usize = 16;

/// A record that waits to be delivered.
struct Pending {
    key: Vec<u8>,
    node: NodeId,
    request: Request,
}

fn key(account: &AccountId, node: &NodeId, kind: u8, number: &[u8]) -> Vec<u8> {
    [account.as_bytes().as_slice(), node.as_bytes(), &[kind], number].concat()
}

fn parse(key: Vec<u8>, value: &[u8]) -> Option<Pending> {
    let node = NodeId::from_bytes(key.get(32..64)?.try_into().ok()?);
    let request = match *key.get(64)? {
        KEEP => KeepRun { keep: Signed::from_bytes(value).ok()? }.into(),
        UNDO => UndoReleases { undo: Signed::from_bytes(value).ok()? }.into(),
        REWIND => RewindAccount { rewound: cbor::decode(value, MAX_REWOUND).ok()? }.into(),
        RELEASE => ReleaseSegments { release: Signed::from_bytes(value).ok()? }.into(),
        _ => return None,
    };
    Some(Pending { key, node, request })
}

/// Notices in durable state.
#[derive(Clone)]
struct Notices(State);

impl Notices {
    fn commit(&self, batch: &Batch) -> Result<(), Refusal> {
        if batch.is_empty() { Ok(()) } else { self.0.commit(batch).map_err(|error| failed(&error)) }
    }

    /// Queues a record for all these nodes.
    fn put<T: Body>(
        &self,
        account: &AccountId,
        nodes: &[NodeId],
        (kind, number): (u8, &[u8]),
        record: &Signed<T>,
        batch: Batch,
    ) -> Result<(), Refusal> {
        let bytes = record.to_bytes().map_err(|error| failed(&error))?;
        self.put_bytes(account, nodes, (kind, number), &bytes, batch)
    }

    /// The same of a rewind.
    fn put_rewind(
        &self,
        account: &AccountId,
        nodes: &[NodeId],
        rewound: &VerifiedRewound,
        batch: Batch,
    ) -> Result<(), Refusal> {
        let bytes = cbor::encode(&rewound.rewound()).map_err(|error| failed(&error))?;
        let number = rewound.rewind.sequence.to_be_bytes();
        self.put_bytes(account, nodes, (REWIND, &number), &bytes, batch)
    }

    fn put_bytes(
        &self,
        account: &AccountId,
        nodes: &[NodeId],
        (kind, number): (u8, &[u8]),
        bytes: &[u8],
        mut batch: Batch,
    ) -> Result<(), Refusal> {
        for node in nodes {
            batch.put(PENDING, key(account, node, kind, number), bytes);
        }
        self.commit(&batch)
    }

    fn pending(&self, prefix: &[u8], after: Option<&[u8]>, most: usize) -> Result<Vec<Pending>, Refusal> {
        let entries = self.0.scan(PENDING, prefix, after, most).map_err(|error| failed(&error))?;
        Ok(entries.into_iter().filter_map(|(key, value)| parse(key, &value)).collect())
    }

    /// Drops what an undo makes void: releases that are still queued, and older undos.
    fn void(&self, account: &AccountId, batch: &mut Batch) -> Result<(), Refusal> {
        for pending in self.pending(account.as_bytes(), None, usize::MAX)? {
            if matches!(pending.request, Request::ReleaseSegments(_) | Request::UndoReleases(_)) {
                batch.remove(PENDING, pending.key);
            }
        }
        Ok(())
    }

    fn undo(&self, account: &AccountId) -> Result<Option<Signed<Undo>>, Refusal> {
        let bytes = self.0.get(UNDOS, account.as_bytes()).map_err(|error| failed(&error))?;
        bytes.map(|bytes| Signed::from_bytes(&bytes).map_err(|error| failed(&error))).transpose()
    }

    fn settled(&self, keys: Vec<Vec<u8>>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        keys.into_iter().for_each(|key| batch.remove(PENDING, key));
        self.commit(&batch)
    }
}

/// Delivers notices to holders. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbox {
    notices: Notices,
    accounts: Accounts,
    records: Records,
    releases: Arc<Releases>,
    migration_out: MigrationOut,
    link: HolderLink,
    context: Context,
    /// Where the last round of undelivered notices ended.
    cursor: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Outbox {
    pub(crate) fn new(
        state: State,
        accounts: Accounts,
        records: Records,
        releases: Arc<Releases>,
        migration_out: MigrationOut,
        context: Context,
    ) -> Self {
        let (link, cursor) = (migration_out.link().clone(), Arc::default());
        Self { notices: Notices(state), accounts, records, releases, migration_out, link, context, cursor }
    }

    /// Queues a rewind for some of an account's holders, with the batch.
    ///
    /// # Errors
    /// If this cannot be stored.
    pub(crate) fn put_rewind(
        &self,
        account: &AccountId,
        holders: &[NodeId],
        rewound: &VerifiedRewound,
        batch: Batch,
    ) -> Result<(), Refusal> {
        self.notices.put_rewind(account, holders, rewound, batch)
    }

    /// Takes an owner's release: how many nodes hold something for the account, how many of them
    /// have acknowledged it by now, and when the first of these deletes.
    pub(crate) async fn release(
        &self,
        account: AccountId,
        release: &Signed<Release>,
    ) -> Result<ReleaseProgress, Refusal> {
        let now = self.context.now();
        let statement = release.verify(self.context.network, now).map_err(|_| Refusal::Invalid)?;
        if statement.account != account {
            return Err(Refusal::Invalid);
        }
        let holders = tokio::task::block_in_place(|| {
            let registration = self.accounts.registration(&account)?.ok_or(Refusal::NotHeld)?;
            self.accounts.check_head_key(&registration, statement.head_key)?;
            self.releases.release(&statement, now, &self.records)?;
            let holders = self.records.holders(&account, usize::MAX)?;
            let number = statement.sequence.to_be_bytes();
            self.notices.put(&account, &holders, (RELEASE, &number), release, Batch::default())?;
            Ok::<_, Refusal>(holders)
        })?;
        let answers = self.deliver_to(account).await?;
        let number = statement.sequence.to_be_bytes();
        let answers = answers.into_iter().filter(|(told, _)| *told == number);
        let dues = answers.filter_map(|(_, answer)| Some(answer.read::<ReleaseSegments>().ok()?.ok()?.due));
        let dues: Vec<UnixTime> = dues.collect();
        let count = |value| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(ReleaseProgress {
            holders: count(holders.len()),
            acknowledged: count(dues.len()),
            due: dues.into_iter().min(),
        })
    }

    /// An undo with its signature checked; whose it is.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if it is not signed.
    pub(crate) fn verify_undo(&self, undo: &Signed<Undo>) -> Result<Verified<Undo>, Refusal> {
        undo.verify(self.context.network, self.context.now()).map_err(|_| Refusal::Invalid)
    }

    /// Takes an undo from anyone: the guard's signature suffices.
    pub(crate) async fn undo(&self, undo: &Signed<Undo>) -> Result<(), Refusal> {
        let (now, statement) = (self.context.now(), self.verify_undo(undo)?);
        let account = statement.account;
        tokio::task::block_in_place(|| {
            let known = self.accounts.registration(&account)?.ok_or(Refusal::NotHeld)?;
            // Anyone may bring it again. What was released since is not void for that.
            if self.notices.undo(&account)?.as_ref() == Some(undo) {
                return Ok(());
            }
            self.releases.undo(&statement, &known.guard_key, now)?;
            let mut batch = Batch::default();
            self.notices.void(&account, &mut batch)?;
            batch.put(UNDOS, *account.as_bytes(), undo.to_bytes().map_err(|error| failed(&error))?);
            let holders = self.records.holders(&account, usize::MAX)?;
            let number = statement.sequence.to_be_bytes();
            self.notices.put(&account, &holders, (UNDO, &number), undo, batch)
        })?;
        self.deliver_soon(account);
        Ok(())
    }

    /// Nodes that hold something for the account from now on must know whether it is guarded, or was rewound.
    pub(crate) fn introduce(&self, account: &AccountId, nodes: &[NodeId]) -> Result<(), Refusal> {
        if let Some(rewound) = self.accounts.rewind(account)? {
            self.notices.put_rewind(account, nodes, &rewound, Batch::default())?;
        }
        let Some(undo) = self.notices.undo(account)? else { return Ok(()) };
        let statement =
            undo.verify(self.context.network, self.context.now()).map_err(|error| failed(&error))?;
        let number = statement.sequence.to_be_bytes();
        self.notices.put(account, nodes, (UNDO, &number), &undo, Batch::default())
    }

    /// Delivers an account's notices in the background.
    pub(crate) fn deliver_soon(&self, account: AccountId) {
        let this = self.clone();
        // What is not delivered now is delivered by the next round.
        self.context.tasks.spawn(async move { drop(this.deliver_to(account).await) });
    }

    /// Sends the holders of one account what they have not acknowledged; their answers, by the notices'
    /// numbers.
    async fn deliver_to(&self, account: AccountId) -> Result<Vec<(Vec<u8>, Response)>, Refusal> {
        let pending = self.notices.pending(account.as_bytes(), None, ACCOUNT_ROUND)?;
        Ok(self.deliver(pending).await)
    }

    /// Sends a node the releases and undos that it has not acknowledged; whether none is left. Nothing
    /// new may be stored there before: a release of everything would take it, too.
    pub(crate) async fn catch_up(&self, account: &AccountId, node: &NodeId) -> bool {
        let prefix = [account.as_bytes().as_slice(), node.as_bytes()].concat();
        let owed = |pending: &[Pending]| pending.iter().any(|p| !matches!(p.request, Request::KeepRun(_)));
        match self.notices.pending(&prefix, None, ACCOUNT_ROUND) {
            Ok(pending) if !owed(&pending) => return true,
            Ok(pending) => drop(self.deliver(pending).await),
            Err(_) => return false,
        }
        self.notices.pending(&prefix, None, ACCOUNT_ROUND).is_ok_and(|left| !owed(&left))
    }

    /// Sends holders what they have not acknowledged: a page at a time, going round, so that nodes that
    /// never answer hold up nobody else.
    pub(crate) async fn deliver_round(&self) {
        let cursor = || self.cursor.lock();
        let after = cursor().take();
        let Ok(pending) = self.notices.pending(&[], after.as_deref(), ROUND) else { return };
        *cursor() = pending.last().map(|pending| pending.key.clone());
        self.deliver(pending).await;
    }

    /// Sends a release to a node that did not know, or no longer, that this mediator may bring it: with
    /// the newest mandate. Until the node accepts that, the release waits.
    async fn send_mandated(&self, account: AccountId, node: NodeId, request: Request) -> Delivery<Response> {
        let (Ok(Some(registration)), Ok(Some(mandate))) =
            (self.accounts.registration(&account), self.records.mandate(&account))
        else {
            return Delivery::TimedOut;
        };
        let ask = RenewMandate { registration: registration.signed().clone(), mandate: mandate.clone() };
        match self.link.send(node, ask).await {
            Delivery::Acknowledged(newest) if newest.mandate == mandate => {
                match self.link.tell(node, request).await {
                    Delivery::Rejected(Refusal::NotMandated) => Delivery::TimedOut,
                    other => other,
                }
            }
            // Another mediator has the vault, and the release.
            Delivery::Acknowledged(newest)
                if self.migration_out.is_superseded(&account, &newest.mandate).await =>
            {
                Delivery::Rejected(Refusal::NotMandated)
            }
            // It holds nothing that could be deleted.
            Delivery::Rejected(Refusal::NotHeld) => Delivery::Rejected(Refusal::NotHeld),
            _ => Delivery::TimedOut,
        }
    }

    /// Each holder is sent its notices one after the other, and no later one before an earlier one. A
    /// notice that it rejects is not sent again.
    async fn deliver(&self, pending: Vec<Pending>) -> Vec<(Vec<u8>, Response)> {
        let mut groups: Vec<Vec<Pending>> = Vec::new();
        for next in pending {
            match groups.last_mut() {
                Some(group) if group[0].key[..64] == next.key[..64] => group.push(next),
                _ => groups.push(vec![next]),
            }
        }
        let sending = groups.into_iter().map(|group| async move {
            let (mut settled, mut answers) = (Vec::new(), Vec::new());
            for Pending { key, node, request } in group {
                let is_keep = matches!(request, Request::KeepRun(_));
                if is_keep && !self.records.holds_anything(&node) {
                    settled.push(key);
                    continue;
                }
                let account = AccountId::from_bytes(std::array::from_fn(|at| key[at]));
                let delivery = match self.link.tell(node, request.clone()).await {
                    Delivery::Rejected(Refusal::NotMandated) if !is_keep => {
                        self.send_mandated(account, node, request).await
                    }
                    Delivery::Acknowledged(answer) if is_keep && key.len() == 65 => {
                        match self.send_keeps(account, node).await {
                            Delivery::Acknowledged(()) => Delivery::Acknowledged(answer),
                            Delivery::Rejected(refusal) => Delivery::Rejected(refusal),
                            Delivery::TimedOut => Delivery::TimedOut,
                        }
                    }
                    other => other,
                };
                match delivery {
                    Delivery::Acknowledged(answer) => answers.push((key[65..].to_vec(), answer)),
                    Delivery::Rejected(refusal) => {
                        tracing::warn!(%node, %refusal, "notice_rejected")
                    }
                    Delivery::TimedOut => break,
                }
                settled.push(key);
            }
            (settled, answers)
        });
        let mut sent = futures::stream::iter(sending).buffer_unordered(AT_ONCE);
        let (mut settled, mut answers) = (Vec::new(), Vec::new());
        while let Some((keys, answered)) = sent.next().await {
            settled.extend(keys);
            answers.extend(answered);
        }
        // What could not be recorded as settled is sent again.
        let _ = tokio::task::block_in_place(|| self.notices.settled(settled));
        answers
    }
}

#[cfg(test)]
mod tests;
