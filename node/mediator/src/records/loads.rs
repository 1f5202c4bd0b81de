//! What each node holds, counted in memory.

use std::collections::HashMap;

use fincrypt_protocol::{AccountId, NodeId};
use fincrypt_state::kv::KeyValue;
use fincrypt_state::state::State;

use super::HELD;
use fincrypt_accounts::failed;

/// Keys counted at once.
const COUNTED: usize = 4096;

/// What a node holds, all in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    pub(crate) shards: u64,
    pub(crate) bytes: u64,
}

/// What nodes hold.
#[derive(Default)]
pub(super) struct Loads {
    pub(super) nodes: HashMap<NodeId, Load>,
    /// Bytes for each account.
    pub(super) accounts: HashMap<NodeId, HashMap<AccountId, u64>>,
}

impl Loads {
    pub(super) fn add(&mut self, key: &[u8], length: u64) {
        let Some((node, account)) = node_of(key).zip(account_of(key)) else { return };
        let load = self.nodes.entry(node).or_default();
        load.shards += 1;
        load.bytes += length;
        *self.accounts.entry(node).or_default().entry(account).or_default() += length;
    }

    pub(super) fn remove(&mut self, key: &[u8], length: u64) {
        let Some((node, account)) = node_of(key).zip(account_of(key)) else { return };
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
}

fn node_of(key: &[u8]) -> Option<NodeId> {
    key.first_chunk::<32>().map(|node| NodeId::from_bytes(*node))
}

fn account_of(key: &[u8]) -> Option<AccountId> {
    key.get(64..96)?.try_into().ok().map(AccountId::from_bytes)
}

/// Goes through all that nodes hold, once, on opening.
pub(super) fn count(state: &State) -> Loads {
    let mut loads = Loads::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(HELD, &[], after.as_deref(), COUNTED).unwrap_or_else(|error| {
            failed(&error);
            Vec::new()
        });
        for (key, value) in &page {
            let length = value.as_slice().try_into().map_or(0, u32::from_le_bytes);
            loads.add(key, length.into());
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return loads,
        }
    }
}
