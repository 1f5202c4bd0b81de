//! Payments: contracts of accounts with storage nodes, their bills, prepayments and payouts.

use std::sync::Arc;

use fincrypt_protocol::{Clock, SigningKey};
use fincrypt_state::state::State;

use super::billing::Billing;
use super::contract_terms::{ContractTerms, OwnTerms};
use super::contracts::{Contracts, ContractsError};
use super::holder_link::HolderLink;
use super::money::Money;
use super::prepayment::Prepayments;
use super::registry::StorageRegistry;
use super::reputations::Reputations;
use super::stores::Stores;

/// The services that deal with money. Cheap to clone.
#[derive(Clone)]
pub(super) struct Payments {
    pub(super) contracts: Arc<Contracts>,
    pub(super) billing: Billing,
    pub(super) prepayments: Prepayments,
    pub(super) money: Arc<Money>,
}

/// The services and stores that [`Payments`] works with.
pub(super) struct PaymentParts {
    pub(super) stores: Stores,
    pub(super) registry: Arc<StorageRegistry>,
    pub(super) reputations: Arc<Reputations>,
    pub(super) money: Arc<Money>,
    pub(super) link: HolderLink,
    pub(super) key: SigningKey,
    pub(super) clock: Clock,
}

impl Payments {
    /// Reads the contracts.
    ///
    /// # Errors
    /// [`ContractsError`] if one cannot be read: nothing may be signed then.
    pub(super) fn open(state: State, parts: PaymentParts, own: OwnTerms) -> Result<Self, ContractsError> {
        let PaymentParts { stores, registry, reputations, money, link, key, clock } = parts;
        let contracts = Arc::new(Contracts::open(state)?);
        let terms = Arc::new(ContractTerms {
            own,
            contracts: Arc::clone(&contracts),
            registry,
            reputations,
            held: stores.held.clone(),
            mandates: stores.mandates,
        });
        let prepayments = Prepayments {
            contracts: Arc::clone(&contracts),
            terms: Arc::clone(&terms),
            money: Arc::clone(&money),
            clock: clock.clone(),
        };
        let billing = Billing {
            contracts: Arc::clone(&contracts),
            terms,
            prepayments: prepayments.clone(),
            held: stores.held,
            money: Arc::clone(&money),
            link,
            key,
            clock,
        };
        Ok(Self { contracts, billing, prepayments, money })
    }
}
