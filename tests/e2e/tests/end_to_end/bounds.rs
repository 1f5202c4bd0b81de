//! What strangers may leave behind at a mediator, and what its storage has to hear although it forgot
//! who may say it.

use std::time::Duration;

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_net::{Inboxes, Net};
use fincrypt_net::{Role, Roles};
use fincrypt_protocol::mediate::{
    GetQuote, Hello, LocateSegments, Login, OpenSegment, Opened, Request, Welcome,
};
use fincrypt_protocol::record::{Mandate, Registration, Rights, login_message};
use fincrypt_protocol::{
    Call, Code, Manifest, NodeId, Redundancy, Refusal, RunId, SegmentId, ShardId, ShardLen, Signed, Tag,
    UnixTime, domain,
};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use fincrypt_testkit::{Member, wait_until};
use fincrypt_vault::keyfile::VaultKeys;
use fincrypt_vault::words::Words;

use crate::hostile::{NETWORK, machine, run};
use crate::{disk, world};

/// A connection to a mediator.
struct Stranger {
    net: Net,
    mediator: NodeId,
    keys: VaultKeys,
}

impl Stranger {
    async fn of(world: &World, words: &Words) -> Self {
        let (net, ..) = machine(Roles::new([Role::Client]), false, Inboxes::default()).await;
        let ready = world.swarm.ready(Member::Mediator(0)).expect("it runs");
        let mediator = net.join(ready.address().parse().expect("a multiaddress")).await.expect("joins");
        Self { net, mediator, keys: words.vault_keys() }
    }

    async fn ask<C: Call<Request = Request>>(&self, call: C) -> Result<C::Response, Refusal> {
        let asked = self.net.mediate(self.mediator, call).await;
        asked.map_err(|error| error.refusal().unwrap_or_else(|| panic!("no refusal: {error}")))
    }

    async fn login(&self, registration: Signed<Registration>) -> Result<Welcome, Refusal> {
        let nonce = self.ask(Hello {}).await.expect("a nonce").nonce;
        let message = login_message(NETWORK, &nonce, &self.mediator, &self.net.own());
        let proof = self.keys.root.account(0).sign(domain::LOGIN, &message);
        self.ask(Login { registration, proof }).await
    }

    fn registration(&self) -> Signed<Registration> {
        self.keys.registration(NETWORK, 0).expect("seals")
    }

    /// Of the same account, with another guard.
    fn other_registration(&self) -> Signed<Registration> {
        let own = self.registration().verify(NETWORK, UnixTime::now()).expect("valid").into_body();
        let guard_key = Words::generate().expect("words").guard(0).guard_key();
        Signed::seal(&Registration { guard_key, ..own }, &self.keys.root.account(0)).expect("seals")
    }

    async fn code(&self) -> Code {
        let quote = self.ask(GetQuote { redundancy: Redundancy::MIN, max_price: None }).await;
        quote.expect("a quote").code
    }

    async fn open(&self, manifest: Manifest) -> Result<Opened, Refusal> {
        let account = self.keys.root.account(0);
        let mandate = Mandate {
            network: NETWORK,
            account: account.account(),
            mediator: self.mediator,
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: 1 << 40,
            sequence: 1,
            expiry: UnixTime::now().plus(Duration::from_secs(3600)),
            max_price: None,
        };
        let mandate = Signed::seal(&mandate, &account).expect("seals");
        let (run, tag) = (RunId::from_bytes([1; 16]), Tag::from_bytes([2; 32]));
        self.ask(OpenSegment { run, mandate, manifest, tag }).await
    }

    async fn known(&self, segments: &[SegmentId]) -> usize {
        self.ask(LocateSegments { segments: segments.to_vec() }).await.expect("told").segments.len()
    }
}

fn manifest(code: Code, seed: u8) -> Manifest {
    let ids = (0..code.total()).map(|index| ShardId::from_bytes([seed ^ (index << 3); 32])).collect();
    Manifest::new(code, ShardLen::FULL, ids).expect("valid")
}

#[test]
fn neither_a_login_nor_a_segment_that_finds_no_room_leaves_anything_behind() {
    let world = world("strangers", Plan::small());
    run(async {
        let words = Words::generate().expect("words");
        let (owner, thief) = (Stranger::of(&world, &words).await, Stranger::of(&world, &words).await);
        let unknown = Ok(Welcome { known: false });
        assert_eq!(thief.login(thief.other_registration()).await, unknown);
        assert_eq!(owner.login(owner.registration()).await, unknown, "the first login left nothing");
        assert_eq!(owner.login(owner.registration()).await, unknown, "nor did the second");
        let code = owner.code().await;
        let manifests = [1, 2, 3].map(|seed| manifest(code, seed));
        let ids: Vec<SegmentId> = manifests.iter().map(Manifest::id).collect();
        let [first, second, third] = manifests;
        for manifest in [first, second] {
            assert!(matches!(owner.open(manifest).await, Ok(Opened { .. })));
        }
        assert_eq!(owner.open(third.clone()).await, Err(Refusal::TooManyOpen));
        assert_eq!(owner.known(&ids).await, 2, "there was no room for the third");
        // From its first segment on, the owner is known.
        assert_eq!(thief.open(third).await, Err(Refusal::OtherRegistration));
        assert_eq!(thief.login(thief.other_registration()).await, Err(Refusal::OtherRegistration));
        assert_eq!(owner.login(owner.registration()).await, Ok(Welcome { known: true }));
    });
}

#[test]
fn a_node_that_forgot_the_mandate_hears_of_a_release_all_the_same() {
    let mut world = world("forgot", Plan { release_delay: Some(3), ..Plan::small() });
    world.backup();
    let forgetful = Member::Storage(3);
    let home = world.swarm.home(forgetful);
    assert!(!disk::shards(&home).is_empty());
    world.swarm.kill9(forgetful).expect("a member");
    let (state, _) = State::open(&home.join("state")).expect("opens");
    let tree = Tree("mandates");
    let mut batch = Batch::default();
    for (key, _) in state.scan(tree, &[], None, usize::MAX).expect("reads") {
        batch.remove(tree, key);
    }
    assert!(!batch.is_empty(), "it knew one");
    state.commit(&batch).expect("removed");
    drop(state);
    world.swarm.restart(forgetful).unwrap_or_else(|error| panic!("{error}"));
    world.wait_eligible(8);
    let released = world.ok(&world.owner, &["release", "--all", "--yes"]);
    assert_eq!((&released["holders"], &released["heard"]), (&8.into(), &8.into()), "{released}");
    assert!(wait_until(DEADLINE, || disk::shards(&home).is_empty()), "its shards were never deleted");
}
