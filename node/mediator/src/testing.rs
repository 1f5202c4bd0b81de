//! The bench of service tests: a state in a folder, and a segment that nodes hold.

use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::{self, Releases};
use fincrypt_protocol::record::{Mandate, Registration, Rights};
use fincrypt_protocol::{
    AccountId, Clock, Code, GuardKey, Manifest, Network, NodeId, RunId, ShardId, ShardLen, Signed,
    SigningKey, Tag, UnixTime, Verified,
};
use fincrypt_state::state::State;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::context::testing::context;
use crate::holder_link::HolderLink;
use crate::migration_out::MigrationOut;
use crate::outbox::Outbox;
use crate::stores::{SegmentRecord, ShardPlacement, Stores};

/// An owner's key.
pub(crate) fn owner(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// An owner's registration.
pub(crate) fn registration(owner: &SigningKey) -> Verified<Registration> {
    let registration = Registration {
        network: Network::Local,
        account: owner.account(),
        head_key: owner.head_key(),
        guard_key: GuardKey::from_bytes([2; 32]),
    };
    let signed = Signed::seal(&registration, owner).expect("seals");
    signed.verify(Network::Local, UnixTime::from_secs(1)).expect("verifies")
}

/// An owner's mandate with all rights for `mediator`, until an hour after `now`.
pub(crate) fn mandate(owner: &SigningKey, mediator: NodeId, sequence: u64, now: UnixTime) -> Signed<Mandate> {
    let mandate = Mandate {
        network: Network::Local,
        account: owner.account(),
        mediator,
        rights: Rights { put: true, audit: true, get: true },
        byte_cap: 1 << 40,
        sequence,
        expiry: now.plus(Duration::from_secs(3600)),
        max_price: None,
    };
    Signed::seal(&mandate, owner).expect("seals")
}

/// A mediator's stores and the services that most others need, over storage nodes that a test answers for.
pub(crate) struct Bench {
    _dir: tempfile::TempDir,
    pub(crate) state: State,
    pub(crate) accounts: Accounts,
    pub(crate) stores: Stores,
    pub(crate) releases: Arc<Releases>,
    pub(crate) migration_out: MigrationOut,
    pub(crate) outbox: Outbox,
    pub(crate) link: HolderLink,
    pub(crate) context: Context,
}

impl Bench {
    pub(crate) fn new(link: HolderLink) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, context) = (State::open(dir.path()).expect("opens").0, context());
        let accounts = Accounts::new(state.clone(), Network::Local);
        let stores = Stores::open(state.clone(), Clock::system()).expect("reads");
        let delay = Duration::from_secs(1);
        let releases = Arc::new(Releases::new(state.clone(), releases::AT_MEDIATOR, delay));
        let (known, held) = (accounts.clone(), stores.clone());
        let migration_out = MigrationOut::open(state.clone(), known, held, link.clone(), context.clone());
        let migration_out = migration_out.expect("reads");
        let outbox = Outbox::new(
            state.clone(),
            accounts.clone(),
            stores.clone(),
            Arc::clone(&releases),
            migration_out.clone(),
            context.clone(),
        );
        Self { _dir: dir, state, accounts, stores, releases, migration_out, outbox, link, context }
    }

    /// Registers an owner, with a mandate of `sequence` for this mediator.
    pub(crate) fn admit(&self, owner: &SigningKey, sequence: u64) {
        let (own, now) = (self.context.own, self.context.now());
        self.accounts.register(&registration(owner)).expect("registered");
        let mandate = mandate(owner, own, sequence, now).verify(Network::Local, now);
        self.stores.mandates.put(&mandate.expect("verifies")).expect("written");
    }

    /// Has `node` hold both shards of a segment of `account`, as far as the records go.
    pub(crate) fn hold(&self, account: &AccountId, node: NodeId, run: RunId) -> SegmentRecord {
        let ids = vec![ShardId::from_bytes([1; 32]), ShardId::from_bytes([2; 32])];
        let manifest = Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid");
        let placements = vec![ShardPlacement::listed(node); 2];
        let record = SegmentRecord::new(manifest, Tag::from_bytes([3; 32]), run, placements);
        self.stores.segments.put(account, &record).expect("written");
        record
    }
}
