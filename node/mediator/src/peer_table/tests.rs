use super::*;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Network, Signed, SigningKey};
use zeroize::Zeroizing;

const SECOND: Duration = Duration::from_secs(1);
const NOW: UnixTime = UnixTime::from_secs(1_000_000);

fn seeded(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |bound| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound.max(1)
    }
}

fn offer(number: u32, sequence: u64) -> Verified<StorageOffer> {
    seal(number, |offer| offer.sequence = sequence)
}

fn seal(number: u32, change: impl FnOnce(&mut StorageOffer)) -> Verified<StorageOffer> {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    let key = SigningKey::from_seed(&Zeroizing::new(seed));
    let mut body = StorageOffer {
        network: Network::Local,
        node: key.node(),
        price: Price::new(5),
        egress_price: Price::FREE,
        condition: fincrypt_protocol::record::Condition::Serving,
        free_bytes: 1 << 30,
        grace_days: 90,
        minimum_days: 30,
        payout: vec![],
        addresses: vec![],
        sequence: 1,
        expiry: UnixTime::from_secs(1_003_600),
    };
    change(&mut body);
    Signed::seal(&body, &key).expect("seals").verify(Network::Local, NOW).expect("valid")
}

/// What the tests say of the world: every step takes a second, and the honest answer.
struct World {
    peers: PeerTable,
    now: Instant,
    random: Box<dyn FnMut(u64) -> u64>,
    honest: HashSet<NodeId>,
}

impl World {
    fn new(most: usize, seed: u64) -> Self {
        let random = Box::new(seeded(seed));
        Self { peers: PeerTable::new(most), now: Instant::now(), random, honest: HashSet::new() }
    }

    fn hear(&mut self, number: u32) -> NodeId {
        let offer = offer(number, 1);
        let node = offer.node;
        self.peers.learn(offer, vec![], false, &mut self.random);
        node
    }

    /// Tries up to `probes` nodes; how many were due.
    fn probe(&mut self, probes: usize) -> usize {
        for done in 0..probes {
            let Some(probe) = self.peers.next(self.now, &mut self.random) else { return done };
            if self.honest.contains(&probe.node) {
                self.peers.answered(&probe.node, self.now);
            } else {
                self.peers.failed(&probe.node, self.now);
            }
            self.check();
        }
        probes
    }

    fn check(&self) {
        let peers = &self.peers;
        assert!(peers.known.len() <= peers.most);
        let strangers = peers.known.values().filter(|known| known.stranger.is_some()).count();
        assert_eq!(strangers, peers.strangers.len());
        for (at, node) in peers.strangers.iter().enumerate() {
            assert_eq!(peers.known[node].stranger, Some(at));
        }
        let new = peers.known.values().filter(|known| known.probe == ProbeState::New).count();
        assert_eq!(peers.untried, new);
    }

    fn usable(&self) -> usize {
        self.peers.usable(1, NOW).len()
    }
}

#[test]
fn only_a_node_that_answered_is_usable() {
    let mut world = World::new(100, 1);
    let (real, fake) = (world.hear(1), world.hear(2));
    world.honest.insert(real);
    assert_eq!((world.usable(), world.peers.untried()), (0, 2));
    assert_eq!(world.probe(10), 2);
    assert_eq!((world.usable(), world.peers.untried()), (1, 0));
    assert!(world.peers.knows(&fake));
    assert_eq!(world.peers.usable(1 << 31, NOW).len(), 0, "no room");
    assert_eq!(world.peers.usable(1, UnixTime::from_secs(2_000_000)).len(), 0, "expired");
}

#[test]
fn a_node_that_fails_rests_longer_each_time_and_counts_again_once_it_answers() {
    let mut world = World::new(100, 1);
    let node = world.hear(1);
    world.honest.insert(node);
    world.probe(1);
    world.honest.clear();
    let started = world.now;
    world.peers.failed(&node, world.now);
    assert_eq!(world.usable(), 0);
    let mut tries = Vec::new();
    for second in 1..300 {
        world.now = started + second * SECOND;
        if world.probe(10) > 0 {
            tries.push(second);
        }
    }
    assert_eq!(tries, [20, 60, 140]);
    world.honest.insert(node);
    world.now += 3600 * SECOND;
    world.probe(10);
    assert_eq!(world.usable(), 1);
}

#[test]
fn a_flood_of_fakes_pushes_out_no_node_that_answered() {
    for seed in 0..3 {
        let mut world = World::new(50, seed);
        for number in 0..10 {
            let node = world.hear(number);
            world.honest.insert(node);
        }
        world.probe(100);
        for number in 10..1000 {
            world.hear(number);
            world.check();
        }
        assert_eq!(world.usable(), 10, "seed {seed}");
        assert!(world.peers.new.len() <= 101, "bounded");
        // Due again, they go before all fakes.
        world.now += RECHECK;
        for _ in 0..10 {
            let probe = world.peers.next(world.now, &mut world.random).expect("due");
            assert!(probe.proven && world.honest.contains(&probe.node));
            world.peers.answered(&probe.node, world.now);
        }
    }
}

#[test]
fn a_new_honest_node_is_found_among_fakes_that_fail_again_and_again() {
    for seed in 0..3 {
        let mut world = World::new(2000, seed);
        for number in 0..1000 {
            world.hear(number);
        }
        // Every fake has failed, and more are due than can be tried.
        world.probe(1000);
        let honest = world.hear(5000);
        world.honest.insert(honest);
        world.now += 1000 * SECOND;
        world.probe(4);
        assert_eq!(world.usable(), 1, "seed {seed}");
    }
}

#[test]
fn nodes_of_an_earlier_start_are_tried_before_strangers() {
    let mut world = World::new(100, 1);
    for number in 0..50 {
        world.hear(number);
    }
    let offer = offer(60, 1);
    let node = offer.node;
    world.peers.recall(offer, vec![]);
    let first = world.peers.next(world.now, &mut world.random).expect("due");
    assert_eq!((first.node, first.proven), (node, true));
}

#[test]
fn an_older_offer_changes_nothing_and_news_are_remembered_only_of_nodes_that_answered() {
    let mut world = World::new(100, 1);
    let node = world.hear(1);
    assert!(!world.peers.learn(offer(1, 2), vec![], false, &mut world.random), "a stranger's");
    assert!(world.peers.answered(&node, world.now).is_some(), "the first time");
    assert!(world.peers.answered(&node, world.now).is_none(), "not again");
    assert!(world.peers.learn(offer(1, 3), vec![], false, &mut world.random));
    assert!(!world.peers.learn(offer(1, 2), vec![], false, &mut world.random), "older");
    assert_eq!(world.peers.offer(&node).expect("known").sequence, 3);
}

#[test]
fn what_a_node_says_itself_counts_even_if_it_started_again_within_a_second() {
    let mut world = World::new(100, 1);
    let node = world.hear(1);
    world.peers.answered(&node, world.now);
    for sequence in [1, 0] {
        // It says the same, which is not worth writing down again.
        assert!(!world.peers.learn(offer(1, sequence), vec![], true, &mut world.random));
        assert_eq!(world.peers.offer(&node).expect("known").sequence, sequence);
    }
    let dearer = seal(1, |offer| offer.price = Price::new(6));
    assert!(world.peers.learn(dearer, vec![], true, &mut world.random));
    assert_eq!(world.peers.offer(&node).expect("known").price, Price::new(6));
    let later = |hours: u64| {
        seal(1, |offer| {
            (offer.price, offer.expiry) = (Price::new(6), UnixTime::from_secs(1_003_600 + hours * 3600));
        })
    };
    assert!(!world.peers.learn(later(6), vec![], true, &mut world.random));
    assert!(world.peers.learn(later(7), vec![], true, &mut world.random), "the remembered one ends soon");
}

#[test]
fn a_node_of_which_the_offer_may_be_old_is_looked_at_soon_and_once() {
    let mut world = World::new(100, 1);
    let (node, stranger) = (world.hear(1), world.hear(2));
    world.honest.insert(node);
    world.probe(2);
    world.peers.probe_soon(&node, world.now);
    world.peers.probe_soon(&stranger, world.now);
    assert_eq!(world.probe(10), 0);
    world.now += SOON;
    let probe = world.peers.next(world.now, &mut world.random).expect("due");
    assert_eq!(probe.node, node);
    // While it is being tried it is not tried twice.
    world.peers.probe_soon(&node, world.now);
    world.now += SOON;
    assert_eq!(world.probe(10), 0);
    world.peers.answered(&node, world.now);
    world.now += RECHECK - SOON;
    world.peers.probe_soon(&node, world.now);
    world.now += SOON;
    assert_eq!(world.probe(10), 2, "its own time, and the stranger's");
    assert_eq!(world.peers.due.len() + world.peers.due_strangers.len(), 2);
}
