//! Delivery of statements to the holders that have neither acknowledged nor rejected them.

use std::sync::Arc;

use fincrypt_accounts::Accounts;
use fincrypt_protocol::shard::{KeepRun, RenewMandate, Request};
use fincrypt_protocol::{AccountId, NodeId, Refusal, Response};
use fincrypt_state::kv::KvError;
use futures::StreamExt;
use parking_lot::Mutex;

use super::queue::{Item, OutboxQueue, Pending, PendingKey};
use crate::error::{StoreError, blocking};
use crate::holder_link::{Delivery, HolderLink};
use crate::migration_out::MigrationOut;
use crate::stores::Stores;

/// Statements sent in one round.
const ROUND: usize = 256;
/// Statements of one account sent at once, when one of them is new.
const ACCOUNT_ROUND: usize = 4096;
/// Holders that are sent statements at once.
const AT_ONCE: usize = 16;

/// A holder's answer to a statement.
pub(super) type Acknowledged = (Item, Response);

/// Delivers statements. Cheap to clone.
#[derive(Clone)]
pub(super) struct Courier {
    queue: OutboxQueue,
    accounts: Accounts,
    stores: Stores,
    migration_out: MigrationOut,
    link: HolderLink,
    /// The end of the last round.
    cursor: Arc<Mutex<Option<PendingKey>>>,
}

impl Courier {
    pub(super) fn new(
        queue: OutboxQueue,
        (accounts, stores): (Accounts, Stores),
        migration_out: MigrationOut,
        link: HolderLink,
    ) -> Self {
        Self { queue, accounts, stores, migration_out, link, cursor: Arc::default() }
    }

    /// Sends the holders of one account what they have not acknowledged; their answers.
    pub(super) async fn deliver_to(&self, account: AccountId) -> Result<Vec<Acknowledged>, KvError> {
        let pending = self.queue.pending(&account, None, ACCOUNT_ROUND)?;
        Ok(self.deliver(pending).await)
    }

    /// Sends one holder what it has not acknowledged; whether nothing but keeps is left.
    pub(super) async fn catch_up(&self, account: &AccountId, node: &NodeId) -> bool {
        let is_caught_up = || {
            let waiting = self.queue.waiting(account, node, ACCOUNT_ROUND)?;
            Ok::<_, KvError>(waiting.into_iter().all(Item::is_keep))
        };
        match is_caught_up() {
            Ok(true) => return true,
            Ok(false) => {}
            Err(_) => return false,
        }
        let Ok(pending) = self.queue.pending(&(*account, *node), None, ACCOUNT_ROUND) else { return false };
        self.deliver(pending).await;
        is_caught_up().unwrap_or(false)
    }

    /// Sends one page of what was not acknowledged, after that of the last round.
    pub(super) async fn deliver_round(&self) {
        let after = self.cursor.lock().take();
        let pending = match self.queue.pending(&fincrypt_state::table::Everything, after.as_ref(), ROUND) {
            Ok(pending) => pending,
            Err(error) => return tracing::error!(%error, "outbox_unreadable"),
        };
        *self.cursor.lock() = pending.last().map(|pending| pending.key);
        self.deliver(pending).await;
    }

    /// Each holder is sent its statements one after the other, and no later one before an earlier one. A
    /// statement that it rejects is not sent again.
    async fn deliver(&self, pending: Vec<Pending>) -> Vec<Acknowledged> {
        let mut groups: Vec<Vec<Pending>> = Vec::new();
        for next in pending {
            let holder = |pending: &Pending| (pending.key.0, pending.key.1);
            match groups.last_mut() {
                Some(group) if group.first().map(holder) == Some(holder(&next)) => group.push(next),
                _ => groups.push(vec![next]),
            }
        }
        let sending = groups.into_iter().map(|group| self.deliver_group(group));
        let mut sent = futures::stream::iter(sending).buffer_unordered(AT_ONCE);
        let (mut done, mut answers) = (Vec::new(), Vec::new());
        while let Some((keys, answered)) = sent.next().await {
            done.extend(keys);
            answers.extend(answered);
        }
        if let Err(error) = tokio::task::block_in_place(|| self.queue.remove(&done)) {
            // What was not removed is sent again.
            tracing::error!(%error, "outbox_not_written");
        }
        answers
    }

    /// Sends one holder of one account its statements; those that are done with, and its answers.
    async fn deliver_group(&self, group: Vec<Pending>) -> (Vec<PendingKey>, Vec<Acknowledged>) {
        let (mut done, mut answers) = (Vec::new(), Vec::new());
        for pending in group {
            let (_, node, item) = pending.key;
            if item.is_keep() && !self.stores.held.holds_anything(&node) {
                done.push(pending.key);
                continue;
            }
            match self.send(&pending).await {
                Delivery::Acknowledged(answer) => answers.push((item, answer)),
                Delivery::Rejected(refusal) => tracing::warn!(%node, %refusal, "statement_rejected"),
                Delivery::TimedOut => break,
            }
            done.push(pending.key);
        }
        (done, answers)
    }

    async fn send(&self, pending: &Pending) -> Delivery<Response> {
        let ((account, node, item), request) = (pending.key, pending.statement.request());
        match self.link.tell(node, request.clone()).await {
            Delivery::Rejected(Refusal::NotMandated) if !item.is_keep() => {
                self.send_mandated(account, node, request).await
            }
            Delivery::Acknowledged(answer) if item == Item::AllKeeps => {
                match self.send_keeps(account, node).await {
                    Delivery::Acknowledged(()) => Delivery::Acknowledged(answer),
                    Delivery::Rejected(refusal) => Delivery::Rejected(refusal),
                    Delivery::TimedOut => Delivery::TimedOut,
                }
            }
            other => other,
        }
    }

    /// Sends a statement to a node that did not know, or no longer, that this mediator may bring it: with
    /// the newest mandate. Until the node accepts that, the statement waits.
    async fn send_mandated(&self, account: AccountId, node: NodeId, request: Request) -> Delivery<Response> {
        let (Ok(Some(registration)), Ok(Some(mandate))) =
            (self.accounts.registration(&account), self.stores.mandates.newest(&account))
        else {
            return Delivery::TimedOut;
        };
        let mandate = mandate.signed().clone();
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

    /// Sends a node every keep of the runs of which it holds something for the account.
    async fn send_keeps(&self, account: AccountId, node: NodeId) -> Delivery<()> {
        let (segments, queue) = (self.stores.segments.clone(), self.queue.clone());
        let keeps = blocking(move || {
            let runs = segments.runs_at(&account, &node)?;
            let keeps = runs.iter().map(|run| queue.keep(&account, run));
            Ok::<_, StoreError>(keeps.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?)
        });
        let Ok(keeps) = keeps.await else { return Delivery::TimedOut };
        for keep in keeps {
            match self.link.send(node, KeepRun { keep: keep.signed().clone() }).await {
                Delivery::Acknowledged(_) => {}
                Delivery::Rejected(refusal) => return Delivery::Rejected(refusal),
                Delivery::TimedOut => return Delivery::TimedOut,
            }
        }
        Delivery::Acknowledged(())
    }
}
