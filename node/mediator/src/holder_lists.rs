//! Holder lists on their way to the holders, gathered: a storage node gets those of many segments at once.
//!
//! They are hints: losing those that wait when this mediator ends does no harm.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::record::HolderList;
use fincrypt_protocol::shard::NoteHolders;
use fincrypt_protocol::{AccountId, NodeId, Signed};
use futures::StreamExt;

use super::context::Context;
use super::holder_link::HolderLink;
use super::stores::SegmentRecord;

/// Lists sent at once: of at most 1.3 KiB each, they fit a request's header.
const AT_ONCE: usize = 32;
/// Storage nodes that are sent lists at once.
const NODES_AT_ONCE: usize = 8;
/// How long one storage node may take.
const DEADLINE: Duration = Duration::from_secs(8);

type Lists = Vec<Signed<HolderList>>;

/// Lists that are gathered, by node and account; at most [`AT_ONCE`] for each.
#[derive(Default)]
struct Waiting(Mutex<HashMap<(NodeId, AccountId), Lists>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<(NodeId, AccountId), Lists>> {
        self.0.lock()
    }

    /// Adds a list; all that wait for this node, if they are enough.
    fn add(&self, node: NodeId, account: AccountId, list: Signed<HolderList>) -> Option<Lists> {
        let mut waiting = self.lock();
        let lists = waiting.entry((node, account)).or_default();
        lists.push(list);
        if lists.len() < AT_ONCE { None } else { waiting.remove(&(node, account)) }
    }

    /// All that wait; of one account, or of all.
    fn take(&self, account: Option<AccountId>) -> Vec<(NodeId, Lists)> {
        let mut waiting = self.lock();
        let wanted = |key: &(NodeId, AccountId)| account.is_none_or(|account| account == key.1);
        waiting.extract_if(|key, _| wanted(key)).map(|((node, _), lists)| (node, lists)).collect()
    }
}

/// Sends holder lists. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HolderLists {
    waiting: Arc<Waiting>,
    link: HolderLink,
    context: Context,
}

impl HolderLists {
    pub(crate) fn new(link: HolderLink, context: Context) -> Self {
        Self { waiting: Arc::default(), link, context }
    }

    /// Shares a segment's holders in the background.
    pub(crate) fn share_soon(&self, account: AccountId, record: SegmentRecord, former: Vec<NodeId>) {
        let this = self.clone();
        self.context.tasks.spawn(async move { this.share(account, record, former).await });
    }

    /// Sends what has gathered for an account, in the background.
    pub(crate) fn flush_soon(&self, account: AccountId) {
        let this = self.clone();
        self.context.tasks.spawn(async move { this.flush(Some(account)).await });
    }

    /// Sends a segment's list to its holders, and to `former` ones: now if much has gathered, else soon.
    async fn share(&self, account: AccountId, record: SegmentRecord, former: Vec<NodeId>) {
        let list = HolderList {
            network: self.context.network,
            account,
            mediator: self.context.own,
            segment: record.manifest.id(),
            sequence: record.sequence,
            holders: record.holders().collect(),
        };
        let Ok(signed) = Signed::seal(&list, &self.context.key) else { return };
        let nodes = list.holders.iter().map(|(_, node)| *node).chain(former);
        let full = nodes.filter_map(|node| {
            let lists = self.waiting.add(node, list.account, signed.clone());
            lists.map(|lists| (node, lists))
        });
        self.send(full.collect()).await;
    }

    /// Sends what has gathered, of one account or of all.
    pub(crate) async fn flush(&self, account: Option<AccountId>) {
        self.send(self.waiting.take(account)).await;
    }

    async fn send(&self, gathered: Vec<(NodeId, Lists)>) {
        let sending = gathered.into_iter().map(|(node, lists)| async move {
            let sending = self.link.call(node, NoteHolders { lists }, Bytes::new());
            drop(tokio::time::timeout(DEADLINE, sending).await);
        });
        futures::stream::iter(sending).buffer_unordered(NODES_AT_ONCE).collect::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Network, SegmentId, SigningKey};
    use zeroize::Zeroizing;

    #[test]
    fn lists_gather_by_node_and_account() {
        let key = SigningKey::from_seed(&Zeroizing::new([1; 32]));
        let list = |account| {
            let (network, mediator, segment) = (Network::Local, key.node(), SegmentId::from_bytes([3; 32]));
            let list = HolderList { network, account, mediator, segment, sequence: 1, holders: Vec::new() };
            Signed::seal(&list, &key).expect("seals")
        };
        let (lists, node) = (Waiting::default(), NodeId::from_bytes([4; 32]));
        let [one, other] = [5, 6].map(|byte| AccountId::from_bytes([byte; 32]));
        for _ in 1..AT_ONCE {
            assert!(lists.add(node, one, list(one)).is_none());
        }
        assert!(lists.add(node, other, list(other)).is_none());
        assert_eq!(lists.add(node, one, list(one)).map(|full| full.len()), Some(AT_ONCE));
        assert!(lists.add(node, one, list(one)).is_none());
        assert_eq!(lists.take(Some(one)).len(), 1);
        assert_eq!(lists.take(None).len(), 1);
        assert!(lists.take(None).is_empty());
    }
}
