//! The load of each storage node, counted in memory.

use std::collections::HashMap;

use fincrypt_protocol::{AccountId, NodeId};

/// The load of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    pub(crate) shards: u64,
    pub(crate) bytes: u64,
}

/// The loads of all nodes.
#[derive(Default)]
pub(super) struct Loads {
    pub(super) nodes: HashMap<NodeId, Load>,
    /// Bytes for each account.
    accounts: HashMap<NodeId, HashMap<AccountId, u64>>,
}

impl Loads {
    /// Counts a shard of `length` bytes that a node holds.
    pub(super) fn add(&mut self, node: NodeId, account: AccountId, length: u64) {
        let load = self.nodes.entry(node).or_default();
        load.shards += 1;
        load.bytes += length;
        *self.accounts.entry(node).or_default().entry(account).or_default() += length;
    }

    /// Counts a shard of `length` bytes that a node no longer holds.
    pub(super) fn remove(&mut self, node: NodeId, account: AccountId, length: u64) {
        let load = self.nodes.entry(node).or_default();
        load.shards = load.shards.saturating_sub(1);
        load.bytes = load.bytes.saturating_sub(length);
        let accounts = self.accounts.entry(node).or_default();
        let bytes = accounts.entry(account).or_default();
        *bytes = bytes.saturating_sub(length);
        if *bytes == 0 {
            accounts.remove(&account);
        }
        if load.shards == 0 {
            self.nodes.remove(&node);
            self.accounts.remove(&node);
        }
    }

    /// Bytes that a node holds for each account.
    pub(super) fn by_account(&self, node: &NodeId) -> HashMap<AccountId, u64> {
        self.accounts.get(node).cloned().unwrap_or_default()
    }

    /// Bytes that each node holds for an account.
    pub(super) fn by_node(&self, account: &AccountId) -> Vec<(NodeId, u64)> {
        let of = |(node, held): (&NodeId, &HashMap<AccountId, u64>)| Some((*node, *held.get(account)?));
        self.accounts.iter().filter_map(of).collect()
    }
}
