//! Mediators and holders that lie, to real clients over real sockets. The liars run in this process
//! and speak the real protocol; each lies in one thing and is honest in all others.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_net::{Answer, reply, reply_with};
use fincrypt_net::{Inboxes, MediateInbound, Net, Sessions, ShardInbound};
use fincrypt_net::{Role, Roles, peer_of};
use fincrypt_protocol::admission::{AnnouncedRole, holders_key, role_bucket, role_key};
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_LIST;
use fincrypt_protocol::mediate::{self, NodeAddresses};
use fincrypt_protocol::record::{Head, Mandate, MediatorRecord, Receipt, Rewind, Rights};
use fincrypt_protocol::shard;
use fincrypt_protocol::{
    Code, Manifest, Network, NodeId, Redundancy, Refusal, Rewound, SegmentId, ShardId, ShardIndex, Signed,
    SigningKey, Tag, UnixTime,
};
use fincrypt_shards::ShardMeta;
use fincrypt_testkit::{Client, Member, Outcome, Programs, Scratch};
use fincrypt_vault::head::{HeadBody, seal_head};
use fincrypt_vault::keyfile::VaultKeys;
use fincrypt_vault::words::Words;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::hostile::machine;
use crate::{disk, text, world};

const NETWORK: Network = Network::Local;
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn nobody() -> SigningKey {
    Words::generate().expect("words").vault_keys().root.account(0)
}

/// A segment that a client announced, as the lying mediator remembers it.
pub(crate) struct Announced {
    manifest: Manifest,
    mandate: Signed<Mandate>,
    tag: Tag,
}

/// What a lying mediator answers to `Commit`, in place of its keepers.
pub(crate) type Forge = fn(&Announced, &[SigningKey]) -> Vec<Signed<Receipt>>;

/// A receipt as an honest keeper of this shard would sign it.
fn receipt(announced: &Announced, keeper: &SigningKey, index: ShardIndex) -> Receipt {
    let mandate = announced.mandate.verify(NETWORK, UnixTime::now()).expect("the client's own");
    Receipt {
        network: NETWORK,
        node: keeper.node(),
        account: mandate.account,
        mandate: announced.mandate.mandate_hash(),
        segment: announced.manifest.id(),
        index,
        shard: announced.manifest.shard(index).expect("one of its shards"),
        length: announced.manifest.shard_len().get(),
        price: Price::FREE,
        time: UnixTime::now(),
        paid_until: UnixTime::now().plus(DAY),
    }
}

/// Receipts for all shards of a segment, bent by `bend` before the keeper signs.
pub(crate) fn receipts(
    announced: &Announced,
    keepers: &[SigningKey],
    bend: impl Fn(usize, &mut Receipt),
) -> Vec<Signed<Receipt>> {
    let pairs = announced.manifest.code().indices().zip(keepers);
    let sign = |(at, (index, keeper)): (usize, (ShardIndex, &SigningKey))| {
        let mut body = receipt(announced, keeper, index);
        bend(at, &mut body);
        Signed::seal(&body, keeper).expect("seals")
    };
    pairs.enumerate().map(sign).collect()
}

/// A mediator without any storage: it takes everything and keeps nothing.
pub(crate) struct LyingMediator {
    net: Net,
    sessions: Arc<Sessions>,
    key: SigningKey,
    keepers: Vec<SigningKey>,
    /// Where it says that these listen.
    addresses: Vec<NodeAddresses>,
    forge: Forge,
    announced: Mutex<HashMap<SegmentId, Announced>>,
    head: Mutex<Option<Signed<Head>>>,
}

impl LyingMediator {
    /// Starts it, with keepers that it names for everything; its address as first contact.
    pub(crate) async fn start(
        forge: Forge,
        keepers: Vec<SigningKey>,
        addresses: Vec<NodeAddresses>,
    ) -> (Arc<Self>, String) {
        let (inbox, requests) = mpsc::channel(64);
        let inboxes = Inboxes { mediate: Some(inbox), ..Inboxes::default() };
        let roles = Roles::new([Role::Bootstrap, Role::Mediator]);
        let (net, sessions, bound, key) = machine(roles, true, inboxes).await;
        let own = net.own();
        net.provide(role_key(AnnouncedRole::Mediator, role_bucket(&own))).await;
        let peer = peer_of(&own).expect("a peer");
        let address = format!("{}/p2p/{peer}", bound.first().expect("bound"));
        let (announced, head) = (Mutex::default(), Mutex::default());
        let liar = Self { net, sessions, key, keepers, addresses, forge, announced, head };
        let liar = Arc::new(liar);
        tokio::spawn(Arc::clone(&liar).serve(requests));
        (liar, address)
    }

    async fn serve(self: Arc<Self>, mut requests: mpsc::Receiver<MediateInbound>) {
        while let Some(request) = requests.recv().await {
            let answer = self.answer(request.from, request.header);
            request.reply.send(answer, ()).await;
        }
    }

    fn answer(&self, from: NodeId, request: mediate::Request) -> Answer {
        use mediate::*;
        match request {
            Request::GetRecord(_) => reply::<GetRecord>(self.record()),
            Request::Hello(_) => {
                reply::<Hello>(LoginNonce { nonce: self.sessions.hello(from).expect("room") })
            }
            Request::Login(login) => match self.sessions.login(from, &login.registration, &login.proof) {
                Ok(_) => reply::<Login>(Welcome { known: false }),
                Err(_) => Err(Refusal::BadLogin),
            },
            Request::GetQuote(ask) => reply::<GetQuote>(Quote {
                eligible: 8,
                code: Code::for_peers(8, ask.redundancy).expect("valid"),
                price: Price::FREE,
                egress_price: Price::FREE,
                fee_permille: 0,
                caps_off: true,
            }),
            Request::OpenSegment(open) => {
                let OpenSegment { mandate, manifest, tag, .. } = *open;
                let missing = (1 << manifest.code().data()) - 1;
                let announced = Announced { manifest, mandate, tag };
                self.announced.lock().insert(announced.manifest.id(), announced);
                reply::<OpenSegment>(Opened { missing })
            }
            Request::PutShard(_) => reply::<PutShard>(Done {}),
            Request::CommitSegment(ask) => {
                let announced = self.announced.lock();
                let announced = announced.get(&ask.segment).expect("announced");
                reply::<CommitSegment>(Receipts { receipts: (self.forge)(announced, &self.keepers) })
            }
            Request::KeepRun(_) => reply::<KeepRun>(Done {}),
            Request::GetHead(_) => reply::<GetHead>(CurrentHead { head: self.head() }),
            Request::SwapHead(swap) => {
                *self.head.lock() = Some(swap.head);
                reply::<SwapHead>(Done {})
            }
            Request::LocateSegments(ask) => {
                let announced = self.announced.lock();
                let known = ask.segments.iter().filter_map(|segment| announced.get(segment));
                let segments = known.map(|one| LocatedSegment {
                    manifest: one.manifest.clone(),
                    tag: one.tag,
                    holders: one
                        .manifest
                        .code()
                        .indices()
                        .zip(self.keepers.iter().map(SigningKey::node))
                        .collect(),
                });
                let located = Located { segments: segments.collect(), nodes: self.addresses.clone() };
                reply::<LocateSegments>(located)
            }
            Request::ReportMissing(_) => reply::<ReportMissing>(Done {}),
            Request::GetStatements(_) => {
                reply::<GetStatements>(Statements { statements: Vec::new(), more: false })
            }
            Request::GetDeposit(_)
            | Request::GetBalance(_)
            | Request::GetHistory(_)
            | Request::Withdraw(_) => Err(Refusal::NoWallet),
            Request::GetShard(_)
            | Request::ReleaseSegments(_)
            | Request::UndoReleases(_)
            | Request::RewindAccount(_)
            | Request::MigrateIn(_)
            | Request::MigrateOut(_) => Err(Refusal::NotHeld),
        }
    }

    pub(crate) fn head(&self) -> Option<Signed<Head>> {
        self.head.lock().clone()
    }

    fn record(&self) -> Signed<MediatorRecord> {
        let record = MediatorRecord {
            network: NETWORK,
            node: self.net.own(),
            fee_permille: 0,
            floor: Redundancy::MIN,
            payment_networks: Vec::new(),
            addresses: Vec::new(),
            sequence: 1,
            expiry: UnixTime::now().plus(DAY),
        };
        Signed::seal(&record, &self.key).expect("seals")
    }
}

/// A backup of one small file through a mediator that forges like this: how it ended, and whether
/// a head was written.
fn backup_through(name: &str, forge: Forge) -> (Outcome, bool) {
    let runtime = runtime();
    let keepers = (0..8).map(|_| nobody()).collect();
    let (liar, address) = runtime.block_on(LyingMediator::start(forge, keepers, Vec::new()));
    let outcome = backup_at(name, &address);
    (outcome, liar.head().is_some())
}

/// A backup of one small file by a new client with this first contact.
pub(crate) fn backup_at(name: &str, address: &str) -> Outcome {
    let scratch = Scratch::new("forged").expect("made");
    let source = scratch.path().join("source");
    std::fs::create_dir(&source).expect("made");
    std::fs::write(source.join("file"), "worth keeping").expect("written");
    let programs = Programs::multi_call(Path::new(env!("CARGO_BIN_EXE_under-test")));
    let client = Client::new(programs, address, scratch.path().join("owner")).with_limit(DEADLINE);
    let words = scratch.path().join("words");
    let made = client.run(["init", text(&source), "--words-file", text(&words)]).expect("runs");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    client.run(["backup"]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn forged_receipts_store_nothing_and_no_head_is_written() {
    // Honest receipts of keepers that nobody knows pass: else the forgeries would prove nothing.
    let (outcome, committed) = backup_through("honest", |a, keepers| receipts(a, keepers, |_, _| ()));
    assert_eq!((outcome.code, committed), (Some(0), true), "{}", outcome.stderr);

    let forgeries: [(&str, &str, Forge); 9] = [
        ("signed by others", "forged", |a, keepers| {
            let mut moved = keepers.to_vec();
            moved.rotate_left(1);
            let pairs = a.manifest.code().indices().zip(keepers).zip(&moved);
            let sign = |((index, keeper), signer): ((ShardIndex, &SigningKey), &SigningKey)| {
                Signed::seal(&receipt(a, keeper, index), signer).expect("seals")
            };
            pairs.map(sign).collect()
        }),
        ("too few", "too few", |a, keepers| {
            let needed = usize::from(a.manifest.code().stored_threshold());
            receipts(a, keepers, |_, _| ()).into_iter().take(needed - 1).collect()
        }),
        ("none", "too few", |_, _| Vec::new()),
        ("two of one node", "one node", |a, keepers| {
            let twice: Vec<_> = std::iter::repeat_n(keepers[0].clone(), 8).collect();
            receipts(a, &twice, |_, _| ())
        }),
        ("two of one shard", "one shard", |a, keepers| {
            let first = a.manifest.code().indices().next().expect("one");
            let shard = a.manifest.shard(first).expect("one");
            receipts(a, keepers, move |_, body| (body.index, body.shard) = (first, shard))
        }),
        ("of another segment", "something else", |a, keepers| {
            receipts(a, keepers, |_, body| body.segment = SegmentId::from_bytes([7; 32]))
        }),
        ("of another length", "something else", |a, keepers| {
            receipts(a, keepers, |_, body| body.length += 1)
        }),
        ("under another mandate", "something else", |a, keepers| {
            let other = fincrypt_protocol::MandateHash::from_bytes([7; 32]);
            receipts(a, keepers, move |_, body| body.mandate = other)
        }),
        ("already over", "something else", |a, keepers| {
            receipts(a, keepers, |_, body| body.paid_until = UnixTime::from_secs(1))
        }),
    ];
    for (name, reason, forge) in forgeries {
        let (outcome, committed) = backup_through(name, forge);
        assert_eq!(outcome.code, Some(1), "{name}: {}{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stderr.contains("not stored"), "{name}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(reason), "{name}: {}", outcome.stderr);
        assert!(!committed, "{name}: a head was written");
    }
}

/// A node that says it holds a vault's shards, and gives garbage for each.
pub(crate) struct LyingHolder {
    net: Net,
    sessions: Arc<Sessions>,
    keys: VaultKeys,
    shards: Vec<ShardMeta>,
    tag: fn(Tag) -> Tag,
    located: AtomicUsize,
    asked: AtomicUsize,
    /// Pages of a list that has no end.
    listed: AtomicUsize,
}

impl LyingHolder {
    pub(crate) async fn start(world: &World, tag: fn(Tag) -> Tag) -> Arc<Self> {
        let (inbox, requests) = mpsc::channel(64);
        let inboxes = Inboxes { shard: Some(inbox), ..Inboxes::default() };
        let (net, sessions, ..) = machine(Roles::new([Role::Storage]), true, inboxes).await;
        let bootstrap = world.swarm.bootstrap().parse().expect("an address");
        net.join(bootstrap).await.expect("joins");
        let phrase = std::fs::read_to_string(&world.words).expect("read");
        let keys = Words::parse(&phrase).expect("words").vault_keys();
        let shards = world.storage_nodes().flat_map(|member| disk::shards(&world.swarm.home(member)));
        let liar = Self {
            net,
            sessions,
            shards: shards.collect(),
            tag,
            located: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            listed: AtomicUsize::new(0),
            keys,
        };
        let liar = Arc::new(liar);
        tokio::spawn(Arc::clone(&liar).serve(requests));
        let account = holders_key(&liar.keys.root.account(0).account());
        let own = liar.net.own();
        liar.net.provide(account).await;
        let (observer, ..) = machine(Roles::new([Role::Client]), false, Inboxes::default()).await;
        observer.join(world.swarm.bootstrap().parse().expect("an address")).await.expect("joins");
        let begun = std::time::Instant::now();
        while !observer.providers(account).await.contains(&own) {
            assert!(begun.elapsed() < DEADLINE, "nobody hears that the liar holds anything");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        observer.stop().await;
        liar
    }

    async fn serve(self: Arc<Self>, mut requests: mpsc::Receiver<ShardInbound>) {
        while let Some(request) = requests.recv().await {
            let answer = self.answer(request.from, request.header);
            request.reply.send(answer, ()).await;
        }
    }

    fn answer(&self, from: NodeId, request: shard::Request) -> Answer {
        use shard::*;
        match request {
            Request::Hello(_) => {
                reply::<Hello>(LoginNonce { nonce: self.sessions.hello(from).expect("room") })
            }
            Request::Login(login) => {
                self.sessions.login(from, &login.registration, &login.proof).expect("a good login");
                reply::<Login>(Welcome { mandate: Some(self.foreign_mandate()) })
            }
            Request::LocateSegments(ask) => {
                self.located.fetch_add(1, Ordering::Relaxed);
                let known = |id: &SegmentId| self.shards.iter().find(|meta| meta.manifest.id() == *id);
                let held = ask.segments.iter().filter_map(known).map(|meta| HeldSegment {
                    manifest: meta.manifest.clone(),
                    tag: (self.tag)(meta.tag),
                    run: meta.run,
                    held: meta.manifest.code().indices().collect(),
                    holders: None,
                    due: None,
                });
                reply::<LocateSegments>(HeldSegments { segments: held.collect() })
            }
            Request::ListShards(ask) => {
                reply::<ListShards>(self.another_page(ask.after.map(|(segment, _)| segment)))
            }
            Request::GetHeads(_) => {
                let rewound = Some(Box::new(self.forged_rewind()));
                reply::<GetHeads>(Heads { heads: self.forged_heads(), rewound })
            }
            Request::GetShard(ask) => {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let meta = self.shards.iter().find(|meta| meta.manifest.id() == ask.segment);
                let length = meta.map_or(4096, |meta| meta.manifest.shard_len().get() as usize);
                reply_with::<GetShard>(Done {}, Bytes::from(vec![0xee; length]))
            }
            _ => Err(Refusal::NotMandated),
        }
    }

    /// Ever new segments, in order, that nobody has.
    fn another_page(&self, after: Option<SegmentId>) -> shard::ShardList {
        self.listed.fetch_add(1, Ordering::Relaxed);
        let last = after.and_then(|segment| segment.as_bytes().first_chunk().copied());
        let next = last.map_or(0, |last| u64::from_be_bytes(last) + 1);
        let index = Code::new(1, 2).expect("a code").indices().next().expect("one");
        let shards = (next..next + MAX_LIST as u64).map(|number| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            (SegmentId::from_bytes(id), index, ShardId::from_bytes(id))
        });
        shard::ShardList { shards: shards.collect(), more: true }
    }

    /// How many pages of its endless list were asked for.
    pub(crate) fn pages(&self) -> usize {
        self.listed.load(Ordering::Relaxed)
    }

    /// A mandate of somebody else, for a mediator of the liar's choice.
    fn foreign_mandate(&self) -> Signed<Mandate> {
        let somebody = nobody();
        let rights = Rights { put: true, audit: true, get: true };
        let mandate = Mandate {
            network: NETWORK,
            account: somebody.account(),
            mediator: nobody().node(),
            rights,
            byte_cap: 1,
            sequence: u64::MAX,
            expiry: UnixTime::now().plus(DAY),
            max_price: None,
        };
        Signed::seal(&mandate, &somebody).expect("seals")
    }

    /// Newer than the vault's own: one of another vault, and one that only says it is this vault's.
    fn forged_heads(&self) -> Vec<Signed<Head>> {
        let foreign = Words::generate().expect("words").vault_keys();
        let body = HeadBody { refs: vec![], slots: 1, time: UnixTime::now(), releases: vec![] };
        let other = seal_head(&foreign, 0, NETWORK, 999, None, &body).expect("seals");
        let head = other.verify(NETWORK, UnixTime::now()).expect("its own").into_body();
        let root = &self.keys.root;
        let claimed = Head { account: root.account(0).account(), ..head };
        let claimed = Signed::seal(&claimed, &foreign.head_key(0)).expect("seals");
        vec![other, claimed]
    }

    /// A rewind of this vault to a forged head, signed by another guard.
    fn forged_rewind(&self) -> Rewound {
        let (words, base) = (Words::generate().expect("words"), self.forged_heads().remove(1));
        let rewind = Rewind {
            network: NETWORK,
            account: self.keys.root.account(0).account(),
            guard_key: words.guard(0).guard_key(),
            base: base.head_hash(),
            head_key: nobody().head_key(),
            sequence: u64::MAX,
        };
        Rewound { rewind: Signed::seal(&rewind, &words.guard(0)).expect("seals"), base }
    }
}

/// Restores on a new machine, from the words, beside a lying holder and as few honest ones as can
/// do; how often the liar was asked for manifests and for shards.
fn among_liars(name: &str, tag: fn(Tag) -> Tag) -> (usize, usize) {
    let mut world = world(name, Plan::small());
    world.backup();
    let runtime = runtime();
    let liar = runtime.block_on(LyingHolder::start(&world, tag));
    // Half of a segment's shards are data: without the other half, each of them is needed.
    for dead in
        [Member::Mediator(0), Member::Storage(0), Member::Storage(2), Member::Storage(5), Member::Storage(6)]
    {
        world.swarm.kill9(dead).expect("a member");
    }
    let machine = world.owner.with_home(world.path("new-machine"));
    let recovered = world.ok(&machine, &["recover", "--words-file", text(&world.words)]);
    assert_eq!(recovered["sequence"].as_u64(), Some(1), "the vault's own head: {recovered}");
    assert_eq!(recovered["holders"].as_u64(), Some(5), "the liar is among them: {recovered}");
    let restored = world.restore(&machine, "latest", "restored");
    world.assert_equal(&restored);
    (liar.located.load(Ordering::Relaxed), liar.asked.load(Ordering::Relaxed))
}

#[test]
fn a_manifest_with_a_foreign_tag_is_ignored() {
    let (located, asked) = among_liars("foreign-tag", |_| Tag::from_bytes([9; 32]));
    assert!(located > 0, "the liar showed its manifests");
    assert_eq!(asked, 0, "nobody believed them");
}

#[test]
fn a_holder_that_claims_every_shard_and_gives_garbage_hides_none() {
    let (_, asked) = among_liars("garbage", |tag| tag);
    assert!(asked > 0, "the liar was asked");
}

/// Stops the mediator and puts `home` in the place of its home.
fn put_back(world: &mut World, home: &Path) {
    let mediator = Member::Mediator(0);
    world.swarm.kill9(mediator).expect("a member");
    std::fs::remove_dir_all(world.swarm.home(mediator)).expect("removed");
    disk::copy(home, &world.swarm.home(mediator));
    world.swarm.restart(mediator).unwrap_or_else(|error| panic!("{error}"));
    world.wait_eligible(8);
}

fn says(outcome: &Outcome, words: &[&str]) {
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    for word in words {
        assert!(lines[0].contains(word), "not {word:?} in: {}", lines[0]);
    }
}

#[test]
fn a_head_that_was_rolled_back_or_forked_is_refused_by_name() {
    let mut world = world("rolled-back", Plan::small());
    world.backup();
    let (old, mediator) = (world.path("old-mediator"), Member::Mediator(0));
    world.swarm.kill9(mediator).expect("a member");
    disk::copy(&world.swarm.home(mediator), &old);
    world.swarm.restart(mediator).unwrap_or_else(|error| panic!("{error}"));
    world.wait_eligible(8);
    let other = world.owner.with_home(world.path("other-device"));
    disk::copy(world.owner.home(), other.home());
    std::fs::write(world.source.join("second"), "second").expect("written");
    world.backup();

    put_back(&mut world, &old);
    let target = world.path("target");
    for arguments in [vec!["backup"], vec!["snapshots"], vec!["restore", "latest", "--target", text(&target)]]
    {
        let outcome = world.code(&world.owner, &arguments, 1);
        says(&outcome, &["rolled back", "sequence 1", "2 was seen", "restore --direct"]);
    }
    assert!(!target.exists(), "nothing was restored from it");
    // The storage nodes know better, also for a machine that has only the words.
    let direct = |client: &Client, name: &str| {
        let target = world.path(name);
        world.ok(client, &["restore", "latest", "--direct", "--target", text(&target)]);
        world.assert_equal(&world.inside(&target));
    };
    let machine = world.recover("new-machine");
    direct(&machine, "by-words");
    assert_eq!(world.ok(&machine, &["status"])["sequence"].as_u64(), Some(2));

    // A device that had not seen head 2 writes another one in its place.
    world.ok(&other, &["backup", text(&world.source)]);
    assert_eq!(world.ok(&other, &["status"])["sequence"].as_u64(), Some(2));
    for command in ["backup", "snapshots"] {
        says(&world.code(&world.owner, &[command], 1), &["forked", "head 2", "restore --direct"]);
    }
    // And another on top of that.
    world.ok(&other, &["backup", text(&world.source)]);
    says(&world.code(&world.owner, &["backup"], 1), &["forked", "head 2", "restore --direct"]);
    direct(&world.owner, "at-home");
}
