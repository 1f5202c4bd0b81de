//! Holder lists on their way to the keepers, gathered: a keeper hears of many segments at once.
//!
//! They are hints, so what is lost when this mediator ends does no harm.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::record::HolderList;
use fincrypt_protocol::shard::NoteHolders;
use fincrypt_protocol::{AccountId, NodeId, Signed};
use futures::StreamExt;

use super::MediatorRole;
use super::records::SegmentRecord;

/// Lists told at once: of at most 1.3 KiB each, they fit a request's header.
const AT_ONCE: usize = 32;
/// Keepers told at once.
const KEEPERS_AT_ONCE: usize = 8;
/// How long one keeper may take.
const TELL: Duration = Duration::from_secs(8);

type Lists = Vec<Signed<HolderList>>;

/// Lists that wait for company, by keeper and account; at most [`AT_ONCE`] for each.
#[derive(Default)]
pub(super) struct HolderLists(Mutex<HashMap<(NodeId, AccountId), Lists>>);

impl HolderLists {
    fn lock(&self) -> MutexGuard<'_, HashMap<(NodeId, AccountId), Lists>> {
        self.0.lock()
    }

    /// Adds a list; all that wait for this keeper, if they are enough.
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

impl MediatorRole {
    /// Tells a segment's keepers who else holds it: now if much has gathered, else soon.
    /// `former` ones hear of it as well.
    pub(super) async fn share_holders(
        self: Arc<Self>,
        account: AccountId,
        record: SegmentRecord,
        former: Vec<NodeId>,
    ) {
        let list = HolderList {
            network: self.network,
            account,
            mediator: self.net.own(),
            segment: record.manifest.id(),
            sequence: record.sequence,
            holders: record.holders().collect(),
        };
        let Ok(signed) = Signed::seal(&list, &self.key) else { return };
        let nodes = list.holders.iter().map(|(_, node)| *node).chain(former);
        let full = nodes.filter_map(|node| {
            let lists = self.holder_lists.add(node, list.account, signed.clone());
            lists.map(|lists| (node, lists))
        });
        self.tell_holders(full.collect()).await;
    }

    /// Tells keepers what has gathered, of one account or of all.
    pub(super) async fn flush_holders(&self, account: Option<AccountId>) {
        self.tell_holders(self.holder_lists.take(account)).await;
    }

    async fn tell_holders(&self, gathered: Vec<(NodeId, Lists)>) {
        let telling = gathered.into_iter().map(|(node, lists)| async move {
            let telling = self.net.shard(node, NoteHolders { lists });
            drop(tokio::time::timeout(TELL, telling).await);
        });
        futures::stream::iter(telling).buffer_unordered(KEEPERS_AT_ONCE).collect::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Network, SegmentId, SigningKey};
    use zeroize::Zeroizing;

    #[test]
    fn lists_gather_by_keeper_and_account() {
        let key = SigningKey::from_seed(&Zeroizing::new([1; 32]));
        let list = |account| {
            let (network, mediator, segment) = (Network::Local, key.node(), SegmentId::from_bytes([3; 32]));
            let list = HolderList { network, account, mediator, segment, sequence: 1, holders: Vec::new() };
            Signed::seal(&list, &key).expect("seals")
        };
        let (lists, node) = (HolderLists::default(), NodeId::from_bytes([4; 32]));
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
