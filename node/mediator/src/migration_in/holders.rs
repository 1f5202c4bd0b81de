//! Asking one holder of a vault that migrates here what it holds.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_accounts::Accounts;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::shard::{
    HeldSegment, ListShards, LocateSegments, RenewMandate, Request, RewindAccount, ShardList,
};
use fincrypt_protocol::{AccountId, Call, NodeId, Refusal, RunId, SegmentId};

use super::table::{Migration, MigrationTable};
use crate::context::Context;
use crate::error::blocking;
use crate::holder_link::{Delivery, HolderLink};
use crate::migration_out::MigrationOut;
use crate::stores::SegmentStore;

/// Shards that one holder's list may name: 1 TiB of full ones.
const MAX_LISTED: usize = 1 << 20;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Asks holders. Cheap to clone.
#[derive(Clone)]
pub(super) struct HolderInquiry {
    pub(super) table: MigrationTable,
    pub(super) accounts: Accounts,
    pub(super) segments: SegmentStore,
    pub(super) migration_out: MigrationOut,
    pub(super) link: HolderLink,
    pub(super) context: Context,
}

impl HolderInquiry {
    /// Brings one holder the mandate and records what it holds; the other holders it names. None if it has
    /// to be asked again.
    pub(super) async fn ask(
        &self,
        account: AccountId,
        migration: &Migration,
        node: NodeId,
    ) -> Option<BTreeSet<NodeId>> {
        let (registration, mandate) = (&migration.registration.0, &migration.mandate.0);
        let (registration, mandate) = (registration.signed().clone(), mandate.signed().clone());
        match self.link.send(node, RenewMandate { registration, mandate }).await {
            Delivery::Acknowledged(newest) => {
                if self.migration_out.is_superseded(&account, &newest.mandate).await {
                    return None;
                }
            }
            Delivery::Rejected(Refusal::NotHeld) => {
                tracing::debug!(%node, "migration_holder_has_nothing");
                self.table.listed(&account, &node).ok()?;
                return Some(BTreeSet::new());
            }
            // It may hold something all the same.
            Delivery::Rejected(refusal) => {
                tracing::warn!(%node, %refusal, "migration_holder_refuses");
                return None;
            }
            Delivery::TimedOut => return None,
        }
        self.send_statements(account, node).await?;
        let mut named = BTreeSet::new();
        for page in self.list(account, node).await?.chunks(MAX_LOCATE) {
            named.extend(self.take_in(account, migration.keep.0.run, node, page).await?);
        }
        self.table.listed(&account, &node).ok()?;
        Some(named)
    }

    /// Sends a holder what it must know before it lists what it has: what it is to delete is not taken
    /// over. None if it does not answer.
    async fn send_statements(&self, account: AccountId, node: NodeId) -> Option<()> {
        // Releases are signed with the head key that a rewind made the account's.
        let rewound = self.accounts.rewound(&account).ok()?;
        let rewind = rewound.map(|rewound| Request::from(RewindAccount { rewound }));
        let statements = self.table.statements(&account).ok()?;
        for request in rewind.into_iter().chain(statements.requests()) {
            match self.link.tell(node, request).await {
                Delivery::Acknowledged(_) => {}
                Delivery::Rejected(refusal) => {
                    tracing::debug!(%node, %refusal, "migration_statement_rejected")
                }
                Delivery::TimedOut => return None,
            }
        }
        Some(())
    }

    /// Records which of some segments a node holds, as of `run`; the other holders that it names.
    async fn take_in(
        &self,
        account: AccountId,
        run: RunId,
        node: NodeId,
        page: &[SegmentId],
    ) -> Option<BTreeSet<NodeId>> {
        let ask = LocateSegments { account, segments: page.to_vec() };
        let held = self.ask_for(node, ask).await?.segments;
        let mut named = BTreeSet::new();
        for list in held.iter().filter_map(|held| held.holders.as_ref()) {
            // Hints: each node that is named there is asked itself.
            let list = list.verify(self.context.network, self.context.now()).ok();
            let list = list.filter(|list| list.account == account);
            named.extend(list.iter().flat_map(|list| list.holders.iter().map(|(_, node)| *node)));
        }
        named.remove(&node);
        // What is to be deleted is neither kept nor repaired.
        let kept = |held: &HeldSegment| held.due.is_none() && page.contains(&held.manifest.id());
        let kept: Vec<_> = held.into_iter().filter(kept).collect();
        let segments = self.segments.clone();
        let put = move || {
            let mut kept = kept.iter();
            kept.try_for_each(|held| segments.put_listed(&account, node, run, held).map(drop))
        };
        blocking(put).await.ok()?;
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
        let asked = tokio::time::timeout(ANSWER, self.link.call(node, call, Bytes::new())).await;
        Some(asked.ok()?.ok()?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder_link::testing::answering;
    use crate::testing::{Bench, mandate, owner, registration};
    use fincrypt_accounts::Stored;
    use fincrypt_protocol::record::Keep;
    use fincrypt_protocol::{Network, Signed};

    /// Whether a holder that refuses a migration's mandate counts as one that has told what it holds.
    async fn counts_as_listed(refusal: Refusal) -> bool {
        let bench = Bench::new(answering(move |_, _| Err(refusal)));
        let (owner, node, now) = (owner(1), NodeId::from_bytes([4; 32]), bench.context.now());
        let account = owner.account();
        let keep = Keep { network: Network::Local, account, run: RunId::from_bytes([1; 16]) };
        let keep = Signed::seal(&keep, &owner).and_then(|keep| keep.verify(Network::Local, now));
        let mandate = mandate(&owner, bench.context.own, 7, now).verify(Network::Local, now);
        let migration = Migration {
            registration: Stored(registration(&owner)),
            mandate: Stored(mandate.expect("valid")),
            keep: Stored(keep.expect("valid")),
            sequence: 7,
            since: now,
            used: true,
            complete: false,
        };
        let inquiry = HolderInquiry {
            table: MigrationTable::new(bench.state.clone()),
            accounts: bench.accounts.clone(),
            segments: bench.stores.segments.clone(),
            migration_out: bench.migration_out.clone(),
            link: bench.link.clone(),
            context: bench.context.clone(),
        };
        inquiry.table.begin(&account, &migration, &Default::default(), [node]).expect("written");
        let answered = inquiry.ask(account, &migration, node).await.is_some();
        let listed = inquiry.table.found(&account).expect("reads") == [(node, true)];
        assert_eq!(answered, listed);
        listed
    }

    #[tokio::test]
    async fn only_a_holder_that_knows_nothing_of_the_account_counts_as_holding_nothing() {
        assert!(counts_as_listed(Refusal::NotHeld).await);
        for refusal in [Refusal::Invalid, Refusal::NotMandated, Refusal::Unsupported, Refusal::Busy] {
            assert!(!counts_as_listed(refusal).await);
        }
    }
}
