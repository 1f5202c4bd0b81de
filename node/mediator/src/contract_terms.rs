//! The terms of contracts: those that are agreed on, and those that the next audit begins.

use std::num::NonZeroU32;
use std::sync::Arc;

use fincrypt_protocol::amount::{Msat, Permille, Price};
use fincrypt_protocol::statement::Terms;
use fincrypt_protocol::{AccountId, Epoch, Network, NodeId};

use super::contracts::Contracts;
use super::error::StoreError;
use super::registry::StorageRegistry;
use super::reputations::Reputations;
use super::stores::{HeldShards, MandateStore};

/// An operator's terms of contracts.
#[derive(Debug, Clone, Copy)]
pub struct BillingTerms {
    /// Earnings from which a payout is due.
    pub payout_threshold: Msat,
    /// Unpaid earnings at which storage takes no more.
    pub credit_bound: Msat,
}

/// A mediator's side of every contract.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnTerms {
    /// Its network.
    pub(super) network: Network,
    /// It.
    pub(super) mediator: NodeId,
    /// Its fee, in permille of what storage earns.
    pub(super) fee_permille: u16,
    /// Bounds of its payouts.
    pub(super) billing: BillingTerms,
}

/// Finds the terms of contracts.
pub(super) struct ContractTerms {
    pub(super) own: OwnTerms,
    pub(super) contracts: Arc<Contracts>,
    pub(super) registry: Arc<StorageRegistry>,
    pub(super) reputations: Arc<Reputations>,
    pub(super) held: HeldShards,
    pub(super) mandates: MandateStore,
}

impl ContractTerms {
    /// The most that an account's newest mandate lets storage take.
    ///
    /// # Errors
    /// If the mandate cannot be read.
    pub(super) fn price_limit(&self, account: &AccountId) -> Result<Option<Price>, StoreError> {
        // Whether it has expired does not matter here.
        Ok(self.mandates.newest(account)?.and_then(|mandate| mandate.max_price))
    }

    /// Terms for a contract that begins now; none for a node that is free of charge or unknown, nor for
    /// one that takes more than `limit`.
    fn offered(&self, node: NodeId, account: AccountId, epoch: Epoch, limit: Option<Price>) -> Option<Terms> {
        let offer = self.registry.offer(&node).filter(|offer| offer.price > Price::FREE)?;
        if limit.is_some_and(|most| offer.price > most) {
            return None;
        }
        let seconds = u32::try_from(self.reputations.terms().epoch.as_secs()).ok()?;
        Some(Terms {
            network: self.own.network,
            storage: node,
            mediator: self.own.mediator,
            account,
            price: offer.price,
            fee: Permille::new(self.own.fee_permille).ok()?,
            first: epoch,
            epoch_seconds: NonZeroU32::new(seconds)?,
            credit_bound: self.own.billing.credit_bound,
            payout_threshold: self.own.billing.payout_threshold,
            grace_days: offer.grace_days,
            minimum_days: offer.minimum_days,
        })
    }

    /// Terms of the contracts that an audit of `node` begins: with each of `accounts` that has none.
    ///
    /// # Errors
    /// If a mandate cannot be read.
    pub(super) fn begun<'a>(
        &self,
        node: NodeId,
        accounts: impl IntoIterator<Item = &'a AccountId>,
        epoch: Epoch,
    ) -> Result<Vec<Terms>, StoreError> {
        let mut begun = Vec::new();
        for account in self.contracts.without_contract(&node, accounts) {
            begun.extend(self.offered(node, account, epoch, self.price_limit(&account)?));
        }
        Ok(begun)
    }

    /// Terms of `account` at these nodes: the agreed ones, or those of the contract that the next audit
    /// begins. Nodes where nothing costs anything are left out.
    ///
    /// # Errors
    /// If the account's mandate cannot be read.
    pub(super) fn at(
        &self,
        account: AccountId,
        nodes: impl IntoIterator<Item = (NodeId, u64)>,
    ) -> Result<Vec<(Terms, u64)>, StoreError> {
        let (mut found, mut limit, epoch) = (Vec::new(), None, self.reputations.now());
        for (node, bytes) in nodes {
            let terms = match self.contracts.terms(&account, &node) {
                Some(terms) => Some(terms),
                None => {
                    let limit = match limit {
                        Some(limit) => limit,
                        None => *limit.insert(self.price_limit(&account)?),
                    };
                    self.offered(node, account, epoch, limit)
                }
            };
            found.extend(terms.map(|terms| (terms, bytes)));
        }
        Ok(found)
    }

    /// The terms of an account's contracts that cost something, and the bytes held under each.
    ///
    /// # Errors
    /// If the account's mandate cannot be read.
    pub(super) fn of_account(&self, account: AccountId) -> Result<Vec<(Terms, u64)>, StoreError> {
        self.at(account, self.held.bytes_by_node(&account))
    }
}
