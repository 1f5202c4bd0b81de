//! The contracts in memory, and the only way to change them.
//!
//! ```text
//! writer ──► map ──► ledger
//! ```
//!
//! Locks are taken in this order, here and nowhere else: a [`Change`] is the writer's turn, and only
//! [`Live::with_books`] takes the ledger's lock, inside that of the map. A change is staged, persisted and
//! then applied to the map; one that is dropped before leaves no trace. Whoever decides on money (signs a
//! statement, puts a withdrawal on hold) decides during its turn, so no two decide over the same money.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use fincrypt_billing::{Charged, Holds};
use fincrypt_ledger::{Books, Ledger};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{AccountId, NodeId, UnixTime};
use fincrypt_state::kv::Batch;
use fincrypt_state::table::Everything;
use parking_lot::{Mutex, MutexGuard};

use super::ContractsError;
use super::state::{ContractState, Prepayment};
use super::tables::{CONTRACTS, Durable, EMPTY};

/// All contracts, by account and by node.
#[derive(Debug, Default)]
pub(super) struct Map {
    accounts: HashMap<AccountId, Prepayment>,
    nodes: HashMap<NodeId, BTreeSet<AccountId>>,
}

impl Map {
    pub(super) fn prepayment(&self, account: &AccountId) -> Option<&Prepayment> {
        self.accounts.get(account)
    }

    pub(super) fn contract(&self, account: &AccountId, node: &NodeId) -> Option<&Arc<ContractState>> {
        self.accounts.get(account)?.contract(node)
    }

    /// Accounts that have a contract with a node.
    pub(super) fn accounts_of(&self, node: &NodeId) -> impl Iterator<Item = &AccountId> {
        self.nodes.get(node).into_iter().flatten()
    }

    /// All contracts, in no order.
    pub(super) fn contracts(&self) -> impl Iterator<Item = &ContractState> {
        self.accounts.values().flat_map(Prepayment::contracts).map(|(_, contract)| contract.as_ref())
    }

    /// What an account's prepayment is spoken for by; with the contract of one node as it is about to be.
    pub(super) fn holds(
        &self,
        account: &AccountId,
        books: &Books,
        staged: Option<(&NodeId, Charged)>,
    ) -> Holds {
        let known = self.accounts.get(account);
        let others = known.into_iter().flat_map(Prepayment::contracts);
        let others = others.filter(|(node, _)| staged.is_none_or(|(of, _)| of != *node));
        let charged = others.map(|(_, contract)| contract.charged(books));
        let charged = charged.chain(staged.map(|(_, charged)| charged));
        Holds::of(charged, known.map(Prepayment::held).unwrap_or_default())
    }

    fn put(&mut self, account: AccountId, node: NodeId, contract: ContractState) {
        self.nodes.entry(node).or_default().insert(account);
        self.accounts.entry(account).or_default().put(node, contract);
    }
}

/// The contracts of a running mediator.
pub(super) struct Live<S> {
    state: S,
    /// The first lock.
    writer: Mutex<()>,
    /// The second one. Held for looks, never over a write to disk.
    map: Mutex<Map>,
}

impl<S: Durable> Live<S> {
    /// Reads the tables, a page at a time.
    pub(super) fn open(state: S) -> Result<Self, ContractsError> {
        let mut map = Map::default();
        CONTRACTS.visit(&state, &Everything, |(node, account), saved| {
            map.put(account, node, ContractState::stored(&saved)?);
            Ok::<_, ContractsError>(())
        })?;
        EMPTY.visit(&state, &Everything, |account, since| {
            map.accounts.entry(account).or_default().set_empty(Some(since));
            Ok::<_, ContractsError>(())
        })?;
        Ok(Self { state, writer: Mutex::default(), map: Mutex::new(map) })
    }

    /// Looks at the contracts.
    pub(super) fn view<T>(&self, look: impl FnOnce(&Map) -> T) -> T {
        look(&self.map.lock())
    }

    /// Looks at the contracts and the books at the same time.
    pub(super) fn with_books<T>(&self, ledger: &Ledger, look: impl FnOnce(&Map, &Books) -> T) -> T {
        let map = self.map.lock();
        ledger.books(|books| look(&map, books))
    }

    /// The turn to change something; waits for that of others.
    pub(super) fn change(&self) -> Change<'_, S> {
        Change { live: self, _turn: self.writer.lock(), contracts: BTreeMap::new(), empty: BTreeMap::new() }
    }

    /// Takes back a hold. More money is free then, so it needs no turn.
    pub(super) fn release(&self, account: &AccountId, amount: Msat) {
        if let Some(prepayment) = self.map.lock().accounts.get_mut(account) {
            prepayment.set_held(prepayment.held().checked_sub(amount).unwrap_or_default());
        }
    }
}

/// A change that is being made, and the turn to make it.
pub(super) struct Change<'a, S> {
    live: &'a Live<S>,
    _turn: MutexGuard<'a, ()>,
    contracts: BTreeMap<(AccountId, NodeId), ContractState>,
    empty: BTreeMap<AccountId, Option<UnixTime>>,
}

impl<S: Durable> Change<'_, S> {
    /// Looks at the contracts, without what is staged.
    pub(super) fn view<T>(&self, look: impl FnOnce(&Map) -> T) -> T {
        self.live.view(look)
    }

    /// Looks at the contracts, without what is staged, and at the books.
    pub(super) fn with_books<T>(&self, ledger: &Ledger, look: impl FnOnce(&Map, &Books) -> T) -> T {
        self.live.with_books(ledger, look)
    }

    /// Copies of a node's contracts, by account.
    pub(super) fn contracts_of(&self, node: &NodeId) -> BTreeMap<AccountId, ContractState> {
        self.view(|map| {
            let contract = |account: &AccountId| {
                map.contract(account, node).map(|contract| (*account, contract.as_ref().clone()))
            };
            map.accounts_of(node).filter_map(contract).collect()
        })
    }

    /// Stages a contract.
    pub(super) fn stage(&mut self, account: AccountId, node: NodeId, contract: ContractState) {
        self.contracts.insert((account, node), contract);
    }

    /// Stages since when an account's prepayment is used up.
    pub(super) fn stage_empty(&mut self, account: AccountId, since: Option<UnixTime>) {
        self.empty.insert(account, since);
    }

    /// Puts money on hold, in memory alone; false if there cannot be so much.
    pub(super) fn hold(&self, account: AccountId, amount: Msat) -> bool {
        let mut map = self.live.map.lock();
        let prepayment = map.accounts.entry(account).or_default();
        let held = prepayment.held().checked_add(amount);
        held.map(|held| prepayment.set_held(held)).is_some()
    }

    /// Persists what is staged, and applies it.
    pub(super) fn commit(self) -> Result<(), ContractsError> {
        let mut batch = Batch::default();
        for ((account, node), contract) in &self.contracts {
            CONTRACTS.put(&mut batch, &(*node, *account), &contract.saved())?;
        }
        for (account, since) in &self.empty {
            match since {
                Some(since) => EMPTY.put(&mut batch, account, since)?,
                None => EMPTY.remove(&mut batch, account),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.live.state.commit(&batch)?;
        let mut map = self.live.map.lock();
        for ((account, node), contract) in self.contracts {
            map.put(account, node, contract);
        }
        for (account, since) in self.empty {
            map.accounts.entry(account).or_default().set_empty(since);
        }
        Ok(())
    }
}
