use bytes::Bytes;
use fincrypt_accounts::releases;
use fincrypt_net::Sessions;
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::record::{Mandate, Rights};
use fincrypt_protocol::shard::{Authority, PutShard};
use fincrypt_protocol::{Clock, Code, Manifest, Network, ShardId, ShardIndex, ShardLen, SigningKey, Tag};
use fincrypt_shards::proof::shard_id;
use fincrypt_state::state::State;
use fincrypt_vault::words::Words;
use zeroize::Zeroizing;

use super::*;
use crate::admissions::{AdmissionOptions, Admissions};
use crate::counting::FreshShards;
use crate::earnings::Earnings;
use crate::earnings::tests::{HOUR, NOW, begin};
use crate::intake::{IntakeError, IntakeOptions, ShardIntake};
use crate::{Disk, Drain, Health, PayoutTo, StorageTerms};

const GRACE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Intake and deletions over one store, without a network.
struct Node {
    _dir: tempfile::TempDir,
    intake: ShardIntake,
    deletions: Deletions,
    earnings: Earnings,
    clock: Clock,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn node() -> Node {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(&dir.path().join("state")).expect("opens");
    let (store, _) = ShardStore::open(&dir.path().join("shards"), state.clone(), 1 << 30).expect("opens");
    let terms = Arc::new(StorageTerms {
        price: Price::new(1_000_000),
        egress_price: Price::FREE,
        payout: PayoutTo::Destination("lno1".to_owned()),
        grace_days: 90,
        minimum_days: 30,
        credit_limit: Msat::new(1_000_000),
        release_delay: HOUR,
        scrub_period: HOUR,
    });
    let (clock, key) = (Clock::manual(NOW), key(9));
    let accounts = Accounts::new(state.clone(), Network::Local);
    let releases = Releases::new(state.clone(), releases::AT_STORAGE, HOUR);
    let sessions = Arc::new(Sessions::new(Network::Local, key.node()));
    let access = Access::new(sessions, accounts.clone(), clock.clone());
    let holdings = ShardHoldings::new(store.clone(), accounts.clone());
    let earnings = Earnings::new(state.clone());
    let credit = CreditControl::new(earnings.clone(), clock.clone(), &terms);
    let admissions = Admissions::new(AdmissionOptions {
        access: access.clone(),
        accounts: accounts.clone(),
        store: store.clone(),
        holdings: holdings.clone(),
    });
    let disk = Arc::new(Disk::open(state));
    let intake = ShardIntake::new(IntakeOptions {
        access: access.clone(),
        admissions,
        credit: credit.clone(),
        store: store.clone(),
        releases: releases.clone(),
        fresh: FreshShards::default(),
        health: Health { disk, drain: Arc::new(Drain::open(dir.path())) },
        key,
        terms,
    });
    let options = DeletionOptions { access, accounts, releases, store, holdings, credit, delay: HOUR };
    Node { _dir: dir, intake, deletions: Deletions::new(options), earnings, clock }
}

impl Node {
    fn held(&self, account: &AccountId) -> u64 {
        self.deletions.options.store.shard_bytes_of(account)
    }
}

/// A shard that a mediator may put, for an account of its own.
fn placement(mediator: NodeId, index: u8, byte_cap: u64) -> (AccountId, PutShard, Bytes) {
    let keys = Words::generate().expect("words").vault_keys();
    let key = keys.root.account(0);
    let (account, payload) = (key.account(), Bytes::from(vec![7; 4096]));
    let mandate = Mandate {
        network: Network::Local,
        account,
        mediator,
        rights: Rights { put: true, audit: true, get: true },
        byte_cap,
        sequence: 1,
        expiry: NOW.plus(HOUR),
        max_price: None,
    };
    let ids = vec![shard_id(&payload), ShardId::from_bytes([1; 32])];
    let manifest = Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::new(4096).expect("valid"), ids);
    let placement = PutShard {
        authority: Authority::Shown {
            registration: keys.registration(Network::Local, 0).expect("seals"),
            mandate: Signed::seal(&mandate, &key).expect("seals"),
        },
        run: RunId::from_bytes([1; 16]),
        tag: Tag::from_bytes([2; 32]),
        index: ShardIndex::new(index).expect("valid"),
        manifest: manifest.expect("valid"),
    };
    (account, placement, payload)
}

#[test]
fn what_is_unpaid_for_longer_than_the_grace_is_deleted_and_not_a_day_before() {
    let (node, mediator) = (node(), key(5).node());
    let [owed, paid] = [(); 2].map(|()| {
        let (account, placement, payload) = placement(mediator, 0, 1 << 40);
        node.intake.store(mediator, placement, payload).expect("stored");
        account
    });
    // Nothing is ever charged of the one; the other has no contract, and nothing to lapse.
    begin(&node.earnings, &(mediator, owed));
    for step in [Duration::ZERO, HOUR * 50, GRACE - HOUR * 50] {
        node.clock.advance(step);
        node.deletions.delete_unpaid().expect("swept");
        assert_eq!((node.held(&owed), node.held(&paid)), (4096, 4096));
    }
    node.clock.advance(HOUR);
    node.deletions.delete_unpaid().expect("swept");
    assert_eq!((node.held(&owed), node.held(&paid)), (0, 4096));
}

#[test]
fn a_shard_is_receipted_once_it_is_held_and_again_when_it_is_repeated() {
    let (node, mediator) = (node(), key(5).node());
    let (account, placement, payload) = placement(mediator, 0, 1 << 40);
    let first = node.intake.store(mediator, placement.clone(), payload.clone()).expect("stored");
    assert_eq!((first.new_account, node.held(&account)), (Some(account), 4096));
    let again = node.intake.store(mediator, placement, payload).expect("held");
    assert_eq!((again.new_account, node.held(&account)), (None, 4096));
    for stored in [first, again] {
        let receipt = stored.receipt.verify(Network::Local, NOW).expect("signed");
        assert_eq!(
            (receipt.node, receipt.account, receipt.paid_until),
            (key(9).node(), account, NOW.plus(GRACE))
        );
    }
}

#[test]
fn a_shard_without_its_mandate_its_bytes_or_its_place_is_not_stored() {
    let (node, mediator) = (node(), key(5).node());
    let (account, placement_of, payload) = placement(mediator, 0, 1 << 40);
    let store = |from, placement, payload| node.intake.store(from, placement, payload).map(|_| ());
    let other = store(key(6).node(), placement_of.clone(), payload.clone());
    assert!(matches!(other, Err(IntakeError::NotMandated)), "{other:?}");
    let altered = store(mediator, placement_of.clone(), Bytes::from(vec![8; 4096]));
    assert!(matches!(altered, Err(IntakeError::WrongShard(_))), "{altered:?}");
    let short = store(mediator, placement_of.clone(), payload.slice(..4095));
    assert!(matches!(short, Err(IntakeError::Inconsistent)), "{short:?}");
    let (_, capped, payload) = placement(mediator, 0, 4095);
    let capped = store(mediator, capped, payload);
    assert!(matches!(capped, Err(IntakeError::NotMandated)), "{capped:?}");
    node.clock.advance(HOUR * 2);
    let expired = store(mediator, placement_of, Bytes::from(vec![7; 4096]));
    assert!(matches!(expired, Err(IntakeError::Admission(_))), "{expired:?}");
    assert_eq!(node.held(&account), 0);
}
