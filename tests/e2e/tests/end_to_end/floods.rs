//! Nodes under floods, while an owner backs up and restores as if nothing were the matter. What
//! floods them runs in this process, over real sockets.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_net::Identity;
use fincrypt_net::reply;
use fincrypt_net::{Budget, Engine, EngineSetup, Inboxes, Net, encode_all};
use fincrypt_net::{Role, Roles, Setup};
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::FULL_SHARD_LEN;
use fincrypt_protocol::record::StorageOffer;
use fincrypt_protocol::{
    Frame, Network, NodeId, Nonce, Refusal, SegmentId, ShardIndex, Signed, UnixTime, mediate, shard,
};
use fincrypt_testkit::{Member, wait_until};
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Codec, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::mpsc;

use crate::hostile::machine;
use crate::{text, world};

/// Something hostile on a thread of its own, until it is dropped.
struct Attack {
    over: Arc<AtomicBool>,
    hits: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Attack {
    /// Runs `attack` with a flag that says when it is over, and a count of what it achieved.
    fn start<F: Future<Output = ()>>(
        attack: impl FnOnce(Arc<AtomicBool>, Arc<AtomicUsize>) -> F + Send + 'static,
    ) -> Self {
        let (over, hits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let future = (Arc::clone(&over), Arc::clone(&hits));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("a runtime").block_on(attack(future.0, future.1));
        });
        Self { over, hits, thread: Some(thread) }
    }

    fn wait_for(&self, hits: usize) {
        let enough = || self.hits.load(Ordering::Relaxed) >= hits;
        assert!(wait_until(DEADLINE, enough), "only {} of {hits}", self.hits.load(Ordering::Relaxed));
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the attack failed by itself");
        }
    }
}

fn address(world: &World, member: Member) -> Multiaddr {
    let ready = world.swarm.ready(member).expect("it runs");
    ready.address().parse().expect("a multiaddress")
}

fn backs_up_and_restores(world: &World) {
    let started = Instant::now();
    world.backup();
    let restored = world.restore(&world.owner, "latest", "restored");
    world.assert_equal(&restored);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(40), "it took {took:?}");
}

#[test]
fn four_clients_at_once_are_served() {
    let world = world("four-clients", Plan { storage: 8, ..Plan::default() });
    let clients: Vec<_> = ["one", "two", "three", "four"]
        .into_iter()
        .map(|name| {
            let client = world.owner.with_home(world.path(name));
            let words = world.path(&format!("{name}-words"));
            world.ok(&client, &["init", text(&world.source), "--words-file", text(&words)]);
            (name, client)
        })
        .collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let backups: Vec<_> =
            clients.iter().map(|(_, client)| scope.spawn(|| client.run(["backup"]))).collect();
        backups.into_iter().map(|backup| backup.join().expect("no panic").expect("runs")).collect()
    });
    for ((name, client), outcome) in clients.iter().zip(outcomes) {
        assert_eq!(outcome.code, Some(0), "{name}: {}{}", outcome.stdout, outcome.stderr);
        let restored = world.restore(client, "latest", &format!("{name}-restored"));
        world.assert_equal(&restored);
    }
}

/// Asks as fast as it gets answers, whatever they are.
async fn pester(net: Net, nodes: [NodeId; 2], over: Arc<AtomicBool>, hits: Arc<AtomicUsize>) {
    let [mediator, storage] = nodes;
    while !over.load(Ordering::Relaxed) {
        let record = net.mediate(mediator, mediate::GetRecord {}).await;
        let hello = net.shard(storage, shard::Hello {}).await;
        let answered = usize::from(record.is_ok()) + usize::from(hello.is_ok());
        let busy = [record.err(), hello.err()].into_iter().flatten();
        let busy = busy.filter(|error| error.refusal() == Some(Refusal::Busy)).count();
        hits.fetch_add(answered + busy, Ordering::Relaxed);
    }
}

#[test]
fn thousands_of_requests_do_not_keep_an_owner_from_backing_up_and_restoring() {
    let world = world("requests", Plan::default());
    let addresses = [Member::Mediator(0), Member::Storage(0)].map(|member| address(&world, member));
    let attack = Attack::start(|over, hits| async move {
        let mut pestering = Vec::new();
        for _ in 0..4 {
            let (net, ..) = machine(Roles::new([Role::Client]), false, Inboxes::default()).await;
            let [mediator, storage] = &addresses;
            let nodes = [
                net.join(mediator.clone()).await.expect("joins"),
                net.join(storage.clone()).await.expect("joins"),
            ];
            for _ in 0..16 {
                pestering.push(tokio::spawn(pester(
                    net.clone(),
                    nodes,
                    Arc::clone(&over),
                    Arc::clone(&hits),
                )));
            }
        }
        for task in pestering {
            task.await.expect("ends");
        }
    });
    attack.wait_for(500);
    backs_up_and_restores(&world);
    attack.wait_for(4000);
}

/// A server that takes connections and never says a word.
fn tarpit(dialled: Arc<AtomicUsize>) -> Multiaddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            held.push(stream);
            dialled.fetch_add(1, Ordering::Relaxed);
        }
    });
    format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid")
}

/// An offer of a node that does not exist, cheaper than all.
fn fake(address: &Multiaddr) -> Vec<u8> {
    let key = Identity::fresh().expect("an identity").signing;
    let now = UnixTime::now();
    let offer = StorageOffer {
        network: Network::Local,
        node: key.node(),
        price: Price::FREE,
        egress_price: Price::FREE,
        condition: fincrypt_protocol::record::Condition::Serving,
        free_bytes: 1 << 50,
        grace_days: 90,
        minimum_days: 30,
        payout: vec![],
        addresses: encode_all([address]),
        sequence: now.secs(),
        expiry: now.plus(Duration::from_secs(3600)),
    };
    Signed::seal(&offer, &key).and_then(|offer| offer.to_bytes()).expect("seals")
}

#[test]
fn fake_offers_neither_count_nor_make_quotes_slow() {
    let world = world("fake-offers", Plan::small());
    let mediator = address(&world, Member::Mediator(0));
    let attack = Attack::start(|over, hits| async move {
        let (net, ..) = machine(Roles::new([Role::Storage]), true, Inboxes::default()).await;
        net.join(mediator).await.expect("joins");
        let nowhere = tarpit(hits);
        while !over.load(Ordering::Relaxed) {
            for _ in 0..100 {
                net.publish(fake(&nowhere)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    // The mediator has heard of so many that it dials as much as it ever does.
    attack.wait_for(32);
    let started = Instant::now();
    world.wait_eligible(8);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(8), "a status took {took:?}");
    backs_up_and_restores(&world);
}

/// Announces a full shard and sends next to nothing of it.
#[derive(Clone)]
struct Trickle;

impl Codec for Trickle {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> std::io::Result<()> {
        Ok(())
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> std::io::Result<()> {
        Ok(())
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        (): (),
    ) -> std::io::Result<()> {
        let put = mediate::PutShard {
            segment: SegmentId::from_bytes([1; 32]),
            index: ShardIndex::new(0).map_err(std::io::Error::other)?,
        };
        let payload = vec![0; FULL_SHARD_LEN as usize].into();
        let prefix =
            Frame { header: mediate::Request::from(put), payload }.prefix().map_err(std::io::Error::other)?;
        io.write_all(&prefix).await?;
        loop {
            io.write_all(&[0; 64]).await?;
            io.flush().await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        (): (),
    ) -> std::io::Result<()> {
        Ok(())
    }
}

/// Trickles eight shards at once to a mediator, again and again; counts those that were cut off.
async fn trickle(mediator: Multiaddr, over: Arc<AtomicBool>, hits: Arc<AtomicUsize>) {
    let protocol = StreamProtocol::new("/fincrypt/local/mediate/1");
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("tcp")
        .with_behaviour(|_| {
            let config = request_response::Config::default().with_request_timeout(DEADLINE);
            let protocols = [(protocol, ProtocolSupport::Outbound)];
            request_response::Behaviour::with_codec(Trickle, protocols, config)
        })
        .expect("a behaviour")
        .build();
    swarm.dial(mediator).expect("dials");
    let mut look = tokio::time::interval(Duration::from_millis(100));
    while !over.load(Ordering::Relaxed) {
        let event = tokio::select! {
            _ = look.tick() => continue,
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                for _ in 0..8 {
                    swarm.behaviour_mut().send_request(&peer_id, ());
                }
            }
            SwarmEvent::Behaviour(request_response::Event::OutboundFailure { peer, .. }) => {
                hits.fetch_add(1, Ordering::Relaxed);
                swarm.behaviour_mut().send_request(&peer, ());
            }
            _ => {}
        }
    }
}

#[test]
fn tricklers_are_cut_off_and_hold_up_nobody() {
    let world = world("tricklers", Plan::default());
    let mediator = address(&world, Member::Mediator(0));
    let attack = Attack::start(|over, hits| async move {
        // Together they ask for far more than all of the mediator's memory for payloads.
        let one = || tokio::spawn(trickle(mediator.clone(), Arc::clone(&over), Arc::clone(&hits)));
        let tricklers: Vec<_> = (0..8).map(|_| one()).collect();
        for trickler in tricklers {
            trickler.await.expect("ends");
        }
    });
    // The first were cut off, so others are being read.
    attack.wait_for(4);
    backs_up_and_restores(&world);
    attack.wait_for(32);
}

#[test]
fn a_peer_whose_budget_is_used_up_is_told_that_the_node_is_busy() {
    let budget = Budget { requests: 5, bytes: 1 << 30 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (inbox, mut requests) = mpsc::channel(64);
        let inboxes = Inboxes { shard: Some(inbox), ..Inboxes::default() };
        let behaviour = Setup {
            network: Network::Local,
            roles: Roles::new([Role::Storage]),
            intake: 8 << 20,
            mdns: false,
            upnp: false,
        };
        let keypair = Identity::fresh().expect("an identity").keypair;
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("valid")];
        let setup = EngineSetup { behaviour, keypair, listen, inboxes };
        let (engine, _node, _, bound) = Engine::start(setup).await.expect("starts");
        tokio::spawn(engine.with_budget(budget).run());
        tokio::spawn(async move {
            while let Some(inbound) = requests.recv().await {
                let nonce = Nonce::from_bytes([0; 32]);
                inbound.reply.send(reply::<shard::Hello>(shard::LoginNonce { nonce }), ()).await;
            }
        });
        // Each peer has a budget of its own.
        for _ in 0..2 {
            let (net, ..) = machine(Roles::new([Role::Client]), false, Inboxes::default()).await;
            let node = net.join(bound[0].clone()).await.expect("joins");
            for _ in 0..5 {
                assert!(net.shard(node, shard::Hello {}).await.is_ok());
            }
            let refused = net.shard(node, shard::Hello {}).await;
            assert_eq!(refused.err().and_then(|error| error.refusal()), Some(Refusal::Busy));
        }
    });
}
