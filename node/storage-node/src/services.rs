//! The services of a storage node, each made of the options and of what several of them share.

use std::sync::Arc;

use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::{self, Releases};
use fincrypt_protocol::amount::Price;

use crate::access::Access;
use crate::admissions::{AdmissionOptions, Admissions};
use crate::advertise::{AdvertiseOptions, Advertiser};
use crate::countersigning::{CountersignOptions, Countersigner};
use crate::counting::{AuditCounts, CountOptions, FreshShards};
use crate::credit::CreditControl;
use crate::deletion::{DeletionOptions, Deletions};
use crate::drain::{DrainOptions, DrainWatch};
use crate::heads::Heads;
use crate::holdings::ShardHoldings;
use crate::intake::{IntakeOptions, ShardIntake};
use crate::payouts::Payouts;
use crate::proofs::{ProofOptions, Proofs};
use crate::reads::{ReadOptions, ShardReads};
use crate::scrub::{ScrubOptions, Scrubber};
use crate::{Background, StorageOptions, StorageRole, StorageTerms};

/// What several services share.
struct Shared {
    terms: Arc<StorageTerms>,
    accounts: Accounts,
    access: Access,
    releases: Releases,
    holdings: ShardHoldings,
    credit: CreditControl,
    fresh: FreshShards,
}

impl StorageOptions {
    /// Puts the services together.
    pub(super) fn compose(self) -> StorageRole {
        let shared = self.share();
        let admissions = self.admissions(&shared);
        StorageRole {
            intake: self.intake(&shared, admissions.clone()),
            reads: self.reads(&shared),
            proofs: self.proofs(&shared),
            heads: Heads::new(shared.access.clone(), shared.accounts.clone(), shared.releases.clone()),
            deletions: Arc::new(self.deletions(&shared)),
            countersigner: self.countersigner(&shared),
            payouts: self.payouts(&shared),
            background: self.background(&shared),
            advertiser: Arc::new(self.advertiser(&shared)),
            access: shared.access,
            admissions,
        }
    }

    fn share(&self) -> Shared {
        let (state, clock) = (&self.state, &self.clock);
        let accounts = Accounts::new(state.clone(), self.net.network());
        Shared {
            terms: Arc::new(self.terms.clone()),
            access: Access::new(Arc::clone(&self.sessions), accounts.clone(), clock.clone()),
            releases: Releases::new(state.clone(), releases::AT_STORAGE, self.terms.release_delay),
            holdings: ShardHoldings::new(self.store.clone(), accounts.clone()),
            credit: CreditControl::new(self.earnings.clone(), clock.clone(), &self.terms),
            fresh: FreshShards::default(),
            accounts,
        }
    }

    fn admissions(&self, shared: &Shared) -> Admissions {
        Admissions::new(AdmissionOptions {
            access: shared.access.clone(),
            accounts: shared.accounts.clone(),
            store: self.store.clone(),
            holdings: shared.holdings.clone(),
        })
    }

    fn intake(&self, shared: &Shared, admissions: Admissions) -> ShardIntake {
        ShardIntake::new(IntakeOptions {
            access: shared.access.clone(),
            admissions,
            credit: shared.credit.clone(),
            store: self.store.clone(),
            releases: shared.releases.clone(),
            fresh: shared.fresh.clone(),
            health: self.health.clone(),
            key: self.key.clone(),
            terms: Arc::clone(&shared.terms),
        })
    }

    fn reads(&self, shared: &Shared) -> ShardReads {
        ShardReads::new(ReadOptions {
            access: shared.access.clone(),
            accounts: shared.accounts.clone(),
            releases: shared.releases.clone(),
            store: self.store.clone(),
            disk: Arc::clone(&self.health.disk),
        })
    }

    fn proofs(&self, shared: &Shared) -> Proofs {
        let counts = AuditCounts::new(CountOptions {
            earnings: self.earnings.clone(),
            accounts: shared.accounts.clone(),
            releases: shared.releases.clone(),
            store: self.store.clone(),
            fresh: shared.fresh.clone(),
            clock: self.clock.clone(),
            is_free: self.terms.price == Price::FREE,
        });
        Proofs::new(ProofOptions {
            access: shared.access.clone(),
            store: self.store.clone(),
            disk: Arc::clone(&self.health.disk),
            counts,
        })
    }

    fn deletions(&self, shared: &Shared) -> Deletions {
        Deletions::new(DeletionOptions {
            access: shared.access.clone(),
            accounts: shared.accounts.clone(),
            releases: shared.releases.clone(),
            store: self.store.clone(),
            holdings: shared.holdings.clone(),
            credit: shared.credit.clone(),
            delay: self.terms.release_delay,
        })
    }

    fn countersigner(&self, shared: &Shared) -> Countersigner {
        Countersigner::new(CountersignOptions {
            earnings: self.earnings.clone(),
            accounts: shared.accounts.clone(),
            clock: self.clock.clone(),
            key: self.key.clone(),
            terms: Arc::clone(&shared.terms),
        })
    }

    fn payouts(&self, shared: &Shared) -> Payouts {
        let to = shared.terms.payout.clone();
        Payouts::new(self.earnings.clone(), self.clock.clone(), to, self.lightning.clone())
    }

    fn advertiser(&self, shared: &Shared) -> Advertiser {
        Advertiser::new(AdvertiseOptions {
            net: self.net.clone(),
            store: self.store.clone(),
            health: self.health.clone(),
            key: self.key.clone(),
            terms: Arc::clone(&shared.terms),
            clock: self.clock.clone(),
        })
    }

    fn background(&self, shared: &Shared) -> Background {
        let scrubber = Scrubber::new(ScrubOptions {
            store: self.store.clone(),
            disk: Arc::clone(&self.health.disk),
            state: self.state.clone(),
            period: self.terms.scrub_period,
        });
        let drain = DrainWatch::new(DrainOptions {
            health: self.health.clone(),
            store: self.store.clone(),
            accounts: shared.accounts.clone(),
            own: self.net.own(),
            clock: self.clock.clone(),
        });
        Background { scrubber: Arc::new(scrubber), drain: Arc::new(drain), lightning: self.lightning.clone() }
    }
}
