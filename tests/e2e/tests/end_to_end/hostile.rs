//! A storage node among strangers, forgers and dismissed mediators. The node runs in this process,
//! over real sockets; what speaks to it is ours to bend.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_net::Identity;
use fincrypt_net::{Engine, EngineSetup, Inboxes, Net};
use fincrypt_net::{Role, Roles, Setup};
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::{Head, Mandate, Registration, Rights, login_message};
use fincrypt_protocol::shard::{
    Authority, Done, GetHeads, GetShard, Heads, Hello, ListShards, LocateSegments, Login, PutHead, PutShard,
    Request,
};
use fincrypt_protocol::{
    Call, Clock, Code, Manifest, Network, NodeId, Nonce, Refusal, RunId, SegmentId, ShardId, ShardIndex,
    ShardLen, Signed, SigningKey, Tag, UnixTime, domain, pay,
};
use fincrypt_shards::ShardStore;
use fincrypt_shards::proof::shard_id;
use fincrypt_state::state::State;
use fincrypt_storage_node::{
    Disk, Drain, Earnings, Health, PayoutTo, StorageInbox, StorageOptions, StorageRole, StorageTerms,
};
use fincrypt_vault::head::{HeadBody, seal_head};
use fincrypt_vault::keyfile::VaultKeys;
use fincrypt_vault::words::Words;
use tokio::sync::{mpsc, watch};

pub(super) const NETWORK: Network = Network::Local;
const LENGTH: usize = 4096;

/// A swarm handle of its own, as any machine has.
pub(crate) async fn machine(
    roles: Roles,
    listen: bool,
    inboxes: Inboxes,
) -> (Net, Arc<fincrypt_net::Sessions>, Vec<fincrypt_net::Multiaddr>, SigningKey) {
    let identity = Identity::fresh().expect("an identity");
    let behaviour = Setup { network: NETWORK, roles, intake: 8 << 20, mdns: false, upnp: false };
    let listen = if listen { vec!["/ip4/127.0.0.1/tcp/0".parse().expect("valid")] } else { Vec::new() };
    let setup = EngineSetup { behaviour, keypair: identity.keypair, listen, inboxes };
    let (engine, net, sessions, bound) = Engine::start(setup).await.expect("starts");
    tokio::spawn(engine.run());
    (net, sessions, bound, identity.signing)
}

pub(super) struct Stage {
    _dir: tempfile::TempDir,
    _stop: watch::Sender<bool>,
    address: fincrypt_net::Multiaddr,
    pub(super) node: NodeId,
    /// The mediator's own connection, and its key.
    pub(super) mediator: Net,
    pub(super) mediator_key: SigningKey,
    pub(super) words: Words,
    pub(super) keys: VaultKeys,
}

async fn stage(capacity: u64) -> Stage {
    stage_with(capacity, Duration::from_secs(3600)).await
}

/// A storage node at which releases wait for `release_delay`.
pub(super) async fn stage_with(capacity: u64, release_delay: Duration) -> Stage {
    stage_on(capacity, |terms| terms.release_delay = release_delay).await
}

/// A storage node on other terms than most.
pub(super) async fn stage_on(capacity: u64, change: impl FnOnce(&mut StorageTerms)) -> Stage {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(&dir.path().join("state")).expect("opens");
    let (store, _) = ShardStore::open(&dir.path().join("shards"), state.clone(), capacity).expect("opens");
    let ((shard, requests), (pay, payments)) = (mpsc::channel(64), mpsc::channel(64));
    let inboxes = Inboxes { shard: Some(shard), pay: Some(pay), ..Inboxes::default() };
    let (net, sessions, bound, key) = machine(Roles::new([Role::Storage]), true, inboxes).await;
    let node = net.own();
    let mut terms = StorageTerms {
        price: Price::FREE,
        egress_price: Price::FREE,
        payout: PayoutTo::Nowhere,
        grace_days: 90,
        minimum_days: 30,
        credit_limit: fincrypt_protocol::amount::Msat::ZERO,
        release_delay: Duration::from_secs(3600),
        scrub_period: Duration::from_secs(3600),
    };
    change(&mut terms);
    let (stop, stopping) = watch::channel(false);
    let health =
        Health { disk: Arc::new(Disk::open(state.clone())), drain: Arc::new(Drain::open(dir.path())) };
    let role = StorageRole::new(StorageOptions {
        net,
        sessions,
        store,
        earnings: Earnings::new(state.clone()),
        state,
        key,
        health,
        terms,
        clock: Clock::system(),
        lightning: None,
    });
    tokio::spawn(role.run(StorageInbox { requests, payments }, stopping));
    let (mediator, _, _, mediator_key) =
        machine(Roles::new([Role::Mediator]), false, Inboxes::default()).await;
    let address = bound.first().expect("bound").clone();
    assert_eq!(mediator.join(address.clone()).await.expect("joins"), node);
    let words = Words::generate().expect("words");
    let keys = words.vault_keys();
    Stage { _dir: dir, _stop: stop, address, node, mediator, mediator_key, words, keys }
}

pub(super) fn payload(seed: u8) -> Bytes {
    Bytes::from(vec![seed; LENGTH])
}

impl Stage {
    pub(super) fn account(&self) -> SigningKey {
        self.keys.root.account(0)
    }

    pub(super) fn registration(&self) -> Signed<Registration> {
        self.keys.registration(NETWORK, 0).expect("seals")
    }

    pub(super) fn mandate_of(
        &self,
        mediator: NodeId,
        sequence: u64,
        expiry: UnixTime,
        byte_cap: u64,
    ) -> Signed<Mandate> {
        let rights = Rights { put: true, audit: true, get: true };
        let account = self.account();
        let mandate = Mandate {
            network: NETWORK,
            account: account.account(),
            mediator,
            rights,
            byte_cap,
            sequence,
            expiry,
            max_price: None,
        };
        Signed::seal(&mandate, &account).expect("seals")
    }

    fn mandate(&self) -> Signed<Mandate> {
        self.mandate_of(self.mediator.own(), 1, UnixTime::now().plus(Duration::from_secs(3600)), 1 << 40)
    }

    fn shown(&self, mandate: Signed<Mandate>) -> Authority {
        Authority::Shown { registration: self.registration(), mandate }
    }

    pub(super) fn placement(&self, seed: u8) -> PutShard {
        let ids = vec![shard_id(&payload(seed)), ShardId::from_bytes([seed; 32])];
        let manifest =
            Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::new(LENGTH as u32).expect("valid"), ids);
        let manifest = manifest.expect("valid");
        PutShard {
            authority: self.shown(self.mandate()),
            run: RunId::from_bytes([1; 16]),
            tag: Tag::from_bytes([2; 32]),
            index: ShardIndex::new(0).expect("valid"),
            manifest,
        }
    }

    pub(super) fn segment(&self, seed: u8) -> SegmentId {
        self.placement(seed).manifest.id()
    }

    async fn put_from(&self, net: &Net, placement: PutShard, payload: Bytes) -> Result<(), Refusal> {
        match net.shard_with(self.node, placement, payload).await {
            Ok((receipt, _)) => {
                let receipt = receipt.verify(NETWORK, UnixTime::now()).expect("a valid receipt");
                assert_eq!(receipt.node, self.node);
                Ok(())
            }
            Err(error) => Err(error.refusal().unwrap_or_else(|| panic!("no refusal: {error}"))),
        }
    }

    pub(super) async fn put(&self, placement: PutShard, payload: Bytes) -> Result<(), Refusal> {
        self.put_from(&self.mediator, placement, payload).await
    }

    pub(super) async fn ask<C>(&self, net: &Net, call: C) -> Result<C::Response, Refusal>
    where
        C: Call<Request = Request>,
    {
        let asked = net.shard(self.node, call).await;
        asked.map_err(|error| error.refusal().unwrap_or_else(|| panic!("no refusal: {error}")))
    }

    /// As [`Stage::ask`], about money.
    pub(super) async fn pay<C>(&self, net: &Net, call: C) -> Result<C::Response, Refusal>
    where
        C: Call<Request = pay::Request>,
    {
        let asked = net.pay(self.node, call).await;
        asked.map_err(|error| error.refusal().unwrap_or_else(|| panic!("no refusal: {error}")))
    }

    /// As [`Stage::ask`], where only matters whether it is carried out.
    pub(super) async fn tell(&self, net: &Net, request: Request) -> Result<(), Refusal> {
        let told = net.send_shard(self.node, request, Bytes::new()).await.map(drop);
        told.map_err(|error| error.refusal().unwrap_or_else(|| panic!("no refusal: {error}")))
    }

    pub(super) async fn stranger(&self) -> Net {
        let (net, ..) = machine(Roles::new([Role::Client]), false, Inboxes::default()).await;
        net.join(self.address.clone()).await.expect("joins");
        net
    }

    pub(super) async fn nonce(&self, net: &Net) -> Nonce {
        self.ask(net, Hello {}).await.expect("a nonce").nonce
    }

    /// The owner's login over a connection.
    pub(super) async fn login(&self, net: &Net) -> Login {
        let nonce = self.nonce(net).await;
        let message = login_message(NETWORK, &nonce, &self.node, &net.own());
        let proof = self.account().sign(domain::LOGIN, &message);
        Login { registration: self.registration(), proof }
    }

    pub(super) fn reads(&self) -> Vec<Request> {
        let account = self.account().account();
        let list = ListShards { account, after: None };
        vec![self.get().into(), list.into(), self.locate().into(), self.heads().into()]
    }

    pub(super) fn get(&self) -> GetShard {
        let (account, segment) = (self.account().account(), self.segment(1));
        GetShard { account, segment, index: ShardIndex::new(0).expect("valid") }
    }

    pub(super) fn locate(&self) -> LocateSegments {
        LocateSegments { account: self.account().account(), segments: vec![self.segment(1)] }
    }

    pub(super) fn heads(&self) -> GetHeads {
        GetHeads { account: self.account().account() }
    }

    pub(super) fn head(&self, keys: &VaultKeys, sequence: u64) -> Signed<Head> {
        let body = HeadBody { refs: vec![], slots: 1, time: UnixTime::now(), releases: vec![] };
        seal_head(keys, 0, NETWORK, sequence, None, &body).expect("seals")
    }
}

pub(super) fn run(test: impl Future<Output = ()>) {
    run_for(Duration::from_secs(50), test);
}

pub(super) fn run_for(limit: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let limited = async { tokio::time::timeout(limit, test).await.expect("in time") };
    runtime.expect("a runtime").block_on(limited);
}

#[test]
fn a_put_is_receipted_may_be_repeated_and_is_read_back() {
    run(async {
        let stage = stage(1 << 30).await;
        assert_eq!(stage.put(stage.placement(1), payload(1)).await, Ok(()));
        assert_eq!(stage.put(stage.placement(1), payload(1)).await, Ok(()));
        let asked = stage.mediator.shard_with(stage.node, stage.get(), Bytes::new()).await;
        assert_eq!(asked.expect("the mandate allows it").1, payload(1));
    });
}

#[test]
fn a_node_takes_no_second_shard_of_a_segment() {
    run(async {
        let stage = stage(1 << 30).await;
        let ids = vec![shard_id(&payload(1)), shard_id(&payload(2))];
        let manifest =
            Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::new(LENGTH as u32).expect("valid"), ids);
        let first = PutShard { manifest: manifest.expect("valid"), ..stage.placement(1) };
        let second = PutShard { index: ShardIndex::new(1).expect("valid"), ..first.clone() };
        let (a, b) =
            tokio::join!(stage.put(first.clone(), payload(1)), stage.put(second.clone(), payload(2)));
        assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");
        let (taken, other) = if a.is_ok() { ((first, 1), (second, 2)) } else { ((second, 2), (first, 1)) };
        assert_eq!(stage.put(other.0, payload(other.1)).await, Err(Refusal::Conflict));
        assert_eq!(stage.put(taken.0, payload(taken.1)).await, Ok(()), "the same may be repeated");
    });
}

#[test]
fn wrong_bytes_and_manifests_that_do_not_fit_are_refused() {
    run(async {
        let stage = stage(1 << 30).await;
        assert_eq!(stage.put(stage.placement(1), payload(2)).await, Err(Refusal::WrongShard));
        assert_eq!(stage.put(stage.placement(1), payload(1).slice(..100)).await, Err(Refusal::Invalid));
        // The parity of other data: what a lying mediator would forward.
        let parity = PutShard { index: ShardIndex::new(1).expect("valid"), ..stage.placement(1) };
        assert_eq!(stage.put(parity, payload(9)).await, Err(Refusal::WrongShard));
        let beyond = PutShard { index: ShardIndex::new(5).expect("valid"), ..stage.placement(1) };
        assert_eq!(stage.put(beyond, payload(1)).await, Err(Refusal::Invalid));
    });
}

#[test]
fn without_a_valid_mandate_of_its_own_nobody_can_add() {
    run(async {
        let stage = stage(1 << 30).await;
        let (later, cap) = (UnixTime::now().plus(Duration::from_secs(3600)), 1 << 40);
        let stranger = stage.stranger().await;
        let stolen = stage.put_from(&stranger, stage.placement(1), payload(1)).await;
        assert_eq!(stolen, Err(Refusal::NotMandated), "a mandate of another mediator");
        let past = stage.mandate_of(stage.mediator.own(), 1, UnixTime::from_secs(1), cap);
        assert_eq!(
            stage.put(PutShard { authority: stage.shown(past), ..stage.placement(1) }, payload(1)).await,
            Err(Refusal::Invalid)
        );
        let forger = Words::generate().expect("words").vault_keys();
        let forged = Mandate {
            account: stage.account().account(),
            ..stage.mandate().verify(NETWORK, UnixTime::now()).expect("valid").into_body()
        };
        let forged = Signed::seal(&forged, &forger.root.account(0)).expect("seals");
        assert_eq!(
            stage.put(PutShard { authority: stage.shown(forged), ..stage.placement(1) }, payload(1)).await,
            Err(Refusal::Invalid)
        );
        let small = stage.mandate_of(stage.mediator.own(), 1, later, LENGTH as u64 - 1);
        assert_eq!(
            stage.put(PutShard { authority: stage.shown(small), ..stage.placement(1) }, payload(1)).await,
            Err(Refusal::NotMandated)
        );
        // A newer mandate supersedes: the older one cannot be replayed.
        let newer = stage.mandate_of(stage.mediator.own(), 9, later, cap);
        assert_eq!(
            stage.put(PutShard { authority: stage.shown(newer), ..stage.placement(1) }, payload(1)).await,
            Ok(())
        );
        assert_eq!(stage.put(stage.placement(3), payload(3)).await, Err(Refusal::NotMandated));
    });
}

#[test]
fn the_hash_of_a_mandate_stands_for_it_once_it_was_shown_and_until_it_is_superseded() {
    run(async {
        let stage = stage(1 << 30).await;
        let (later, cap) = (UnixTime::now().plus(Duration::from_secs(3600)), 1 << 40);
        let mandate = stage.mandate();
        let known = |mandate: &Signed<Mandate>, seed| PutShard {
            authority: Authority::Known(mandate.mandate_hash()),
            ..stage.placement(seed)
        };
        let unknown = Err(Refusal::UnknownMandate);
        assert_eq!(stage.put(known(&mandate, 1), payload(1)).await, unknown);
        let shown = PutShard { authority: stage.shown(mandate.clone()), ..stage.placement(1) };
        assert_eq!(stage.put(shown, payload(1)).await, Ok(()));
        assert_eq!(stage.put(known(&mandate, 2), payload(2)).await, Ok(()));
        let stranger = stage.stranger().await;
        let stolen = stage.put_from(&stranger, known(&mandate, 3), payload(3)).await;
        assert_eq!(stolen, Err(Refusal::NotMandated), "a mandate of another mediator");
        let newer = stage.mandate_of(stage.mediator.own(), 9, later, cap);
        let shown = PutShard { authority: stage.shown(newer.clone()), ..stage.placement(3) };
        assert_eq!(stage.put(shown, payload(3)).await, Ok(()));
        assert_eq!(stage.put(known(&mandate, 4), payload(4)).await, unknown);
        assert_eq!(stage.put(known(&newer, 4), payload(4)).await, Ok(()));
    });
}

#[test]
fn a_dismissed_mediator_can_neither_add_nor_read() {
    run(async {
        let stage = stage(1 << 30).await;
        let successor = stage.stranger().await;
        let (soon, later) = (2, 3600);
        let until = |secs| UnixTime::now().plus(Duration::from_secs(secs));
        // Superseded by another mediator's mandate.
        stage.put(stage.placement(1), payload(1)).await.expect("stored");
        let newer = stage.mandate_of(successor.own(), 2, until(later), 1 << 40);
        let placement = |seed, mandate: &Signed<Mandate>| PutShard {
            authority: stage.shown(mandate.clone()),
            ..stage.placement(seed)
        };
        assert_eq!(stage.put_from(&successor, placement(2, &newer), payload(2)).await, Ok(()));
        assert_eq!(stage.put(stage.placement(3), payload(3)).await, Err(Refusal::NotMandated));
        for request in stage.reads() {
            assert_eq!(stage.tell(&stage.mediator, request.clone()).await, Err(Refusal::NotMandated));
            assert_eq!(stage.tell(&successor, request).await, Ok(()));
        }
        let lists = PutHead { registration: stage.registration(), head: stage.head(&stage.keys, 1) };
        assert_eq!(stage.ask(&stage.mediator, lists).await, Err(Refusal::NotMandated));
        // Expired while it was in use; nor does its end bring the older one back.
        let short = stage.mandate_of(successor.own(), 3, until(soon), 1 << 40);
        assert_eq!(stage.put_from(&successor, placement(4, &short), payload(4)).await, Ok(()));
        let begun = tokio::time::Instant::now();
        while stage.ask(&successor, stage.get()).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never ends");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for mandate in [&short, &newer] {
            assert!(stage.put_from(&successor, placement(5, mandate), payload(5)).await.is_err());
        }
        assert_eq!(stage.put(stage.placement(3), payload(3)).await, Err(Refusal::NotMandated));
    });
}

#[test]
fn strangers_can_neither_read_nor_list_and_a_login_cannot_be_replayed() {
    run(async {
        let stage = stage(1 << 30).await;
        stage.put(stage.placement(1), payload(1)).await.expect("stored");
        let (stranger, owner) = (stage.stranger().await, stage.stranger().await);
        for request in stage.reads() {
            assert_eq!(stage.tell(&stranger, request).await, Err(Refusal::NotMandated));
        }
        let login = stage.login(&owner).await;
        stage.nonce(&stranger).await;
        assert_eq!(stage.ask(&stranger, login.clone()).await, Err(Refusal::BadLogin));
        assert!(stage.ask(&owner, login.clone()).await.expect("welcome").mandate.is_some());
        for request in stage.reads() {
            assert_eq!(stage.tell(&owner, request).await, Ok(()));
        }
        assert_eq!(stage.ask(&owner, login).await, Err(Refusal::BadLogin), "its nonce is used up");
    });
}

#[test]
fn the_first_registration_of_an_account_stays() {
    run(async {
        let stage = stage(1 << 30).await;
        stage.put(stage.placement(1), payload(1)).await.expect("stored");
        // A thief of the machine has the account key, but not the guard key of the words.
        let account = stage.account();
        let thief = Words::generate().expect("words");
        let other = Registration {
            network: NETWORK,
            account: account.account(),
            head_key: stage.keys.head_key(0).head_key(),
            guard_key: thief.guard(0).guard_key(),
        };
        let registration = Signed::seal(&other, &account).expect("seals");
        let authority = Authority::Shown { registration, mandate: stage.mandate() };
        let refused = stage.put(PutShard { authority, ..stage.placement(2) }, payload(2)).await;
        assert_eq!(refused, Err(Refusal::OtherRegistration));
    });
}

#[test]
fn only_heads_of_the_registered_key_are_kept_and_none_leaps_ahead() {
    run(async {
        let stage = stage(1 << 30).await;
        stage.put(stage.placement(1), payload(1)).await.expect("stored");
        let put = |head: Signed<Head>| PutHead { registration: stage.registration(), head };
        let foreign = Words::generate().expect("words").vault_keys();
        assert_eq!(stage.ask(&stage.mediator, put(stage.head(&foreign, 1))).await, Err(Refusal::Invalid));
        assert_eq!(stage.ask(&stage.mediator, put(stage.head(&stage.keys, 1))).await, Ok(Done {}));
        let leap = stage.head(&stage.keys, 1 + (1 << 16) + 1);
        assert_eq!(stage.ask(&stage.mediator, put(leap)).await, Err(Refusal::Invalid));
        let stranger = stage.stranger().await;
        assert_eq!(stage.ask(&stranger, put(stage.head(&stage.keys, 2))).await, Err(Refusal::NotMandated));
        match stage.ask(&stage.mediator, stage.heads()).await {
            Ok(Heads { heads, rewound: None }) => assert_eq!(heads.len(), 1),
            other => panic!("no heads: {other:?}"),
        }
    });
}

#[test]
fn a_full_node_refuses_before_it_writes() {
    run(async {
        let stage = stage(LENGTH as u64).await;
        assert_eq!(stage.put(stage.placement(1), payload(1)).await, Err(Refusal::Full));
        match stage.ask(&stage.mediator, stage.get()).await {
            Err(Refusal::NotMandated | Refusal::NotHeld) => {}
            other => panic!("something was kept: {other:?}"),
        }
    });
}
