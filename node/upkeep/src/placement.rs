//! Which storage nodes get a segment's shards. Sans-IO: candidates and randomness come in.
//!
//! Among the cheapest: sorted by price, all candidates whose price is within 25 % of the marginal
//! one (the price of the last node that would be needed) take part in a weighted draw without
//! replacement; the weight is the free space, so that nodes fill evenly.

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Code, NodeId};

use crate::probation::most_of_segment;
use fincrypt_protocol::AddressGroup;

/// A node that could take a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The storage node.
    pub node: NodeId,
    /// Its price, millisatoshi per GiB-month.
    pub price: Price,
    /// Bytes that it still takes.
    pub free_bytes: u64,
    /// The /24 or /48 it was seen in; none when caps are off.
    pub group: Option<AddressGroup>,
    /// Whether it was audited for long enough; everyone is where caps are off.
    pub proven: bool,
}

/// Bounds on the holders of one segment.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    /// Shards that one address group may hold.
    per_group: usize,
    /// Shards that unproven nodes may hold together.
    unproven: usize,
    /// Groups of the nodes that hold shards of the segment already.
    taken: Vec<AddressGroup>,
}

impl Caps {
    /// No caps: in a local network all nodes are neighbours.
    #[must_use]
    pub fn off() -> Self {
        Self { per_group: usize::MAX, unproven: usize::MAX, taken: Vec::new() }
    }

    /// Caps for a segment of `code`, of which `holders` hold shards already, if there are that many
    /// `proven` nodes that could hold one.
    #[must_use]
    pub fn of(code: Code, holders: &[(Option<AddressGroup>, bool)], proven: usize) -> Self {
        let unproven = most_of_segment(code.data().into(), code.total().into(), proven);
        let held = holders.iter().filter(|(_, proven)| !proven).count();
        Self {
            per_group: usize::from(code.parity() / 4).max(1),
            unproven: usize::from(unproven).saturating_sub(held),
            taken: holders.iter().filter_map(|(group, _)| *group).collect(),
        }
    }
}

/// Draws `count` nodes, no two equal, in the order of the draw. Fewer if there are not enough.
///
/// The caps hold together with what the segment's holders take up already. `random` yields numbers
/// below its argument.
pub fn draw(
    candidates: &[Candidate],
    count: usize,
    caps: &Caps,
    mut random: impl FnMut(u64) -> u64,
) -> Vec<NodeId> {
    let mut by_price: Vec<&Candidate> = candidates.iter().collect();
    by_price.sort_by_key(|candidate| (candidate.price, candidate.node));
    let marginal =
        by_price.get(count.saturating_sub(1)).or(by_price.last()).map_or(0, |last| last.price.get());
    let limit = marginal.saturating_add(marginal / 4);
    let mut pool: Vec<&Candidate> =
        by_price.into_iter().filter(|candidate| candidate.price.get() <= limit).collect();
    let mut chosen: Vec<&Candidate> = Vec::with_capacity(count);
    while chosen.len() < count && !pool.is_empty() {
        let candidate = pool.swap_remove(weighted(&pool, &mut random));
        let same = |group: &&Option<AddressGroup>| group.is_some() && **group == candidate.group;
        let taken = caps.taken.iter().filter(|group| Some(**group) == candidate.group).count();
        let crowded = taken + chosen.iter().map(|other| &other.group).filter(same).count() >= caps.per_group;
        let unproven = chosen.iter().filter(|other| !other.proven).count();
        if !crowded && (candidate.proven || unproven < caps.unproven) {
            chosen.push(candidate);
        }
    }
    chosen.into_iter().map(|candidate| candidate.node).collect()
}

/// Chooses `most` nodes, each as likely as any other.
pub fn sample(mut nodes: Vec<NodeId>, most: usize, mut random: impl FnMut(u64) -> u64) -> Vec<NodeId> {
    let mut chosen = Vec::with_capacity(most.min(nodes.len()));
    while chosen.len() < most && !nodes.is_empty() {
        let at = random(nodes.len() as u64) as usize % nodes.len();
        chosen.push(nodes.swap_remove(at));
    }
    chosen
}

fn weighted(pool: &[&Candidate], random: &mut impl FnMut(u64) -> u64) -> usize {
    // In units of 1 GiB, at least one, so that the sum cannot overflow.
    let weight = |candidate: &Candidate| (candidate.free_bytes >> 30).clamp(1, 1 << 20);
    let total: u64 = pool.iter().map(|candidate| weight(candidate)).sum();
    let mut at = random(total.max(1));
    for (index, candidate) in pool.iter().enumerate() {
        match at.checked_sub(weight(candidate)) {
            Some(rest) => at = rest,
            None => return index,
        }
    }
    pool.len() - 1
}

/// A random number below `bound`, from the system; zero if it fails, which only biases the draw.
pub fn system_random(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() || bound == 0 {
        return 0;
    }
    u64::from_le_bytes(bytes) % bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn group_of(number: u8) -> AddressGroup {
        std::net::IpAddr::from([number; 4]).into()
    }

    fn candidate(id: u8, price: u64, group: Option<u8>) -> Candidate {
        Candidate {
            node: NodeId::from_bytes([id; 32]),
            price: Price::new(price),
            free_bytes: 1 << 40,
            group: group.map(group_of),
            proven: true,
        }
    }

    fn seeded(mut seed: u64) -> impl FnMut(u64) -> u64 {
        move |bound| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound.max(1)
        }
    }

    #[test]
    fn no_node_is_drawn_twice_and_dear_ones_are_left_out() {
        let mut candidates: Vec<_> = (0..10).map(|id| candidate(id, 100, None)).collect();
        candidates.push(candidate(99, 126, None));
        for seed in 0..200 {
            let drawn = draw(&candidates, 8, &Caps::off(), seeded(seed));
            assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 8);
            assert!(!drawn.contains(&NodeId::from_bytes([99; 32])));
        }
    }

    #[test]
    fn a_slightly_dearer_node_gets_its_share() {
        let mut candidates: Vec<_> = (0..8).map(|id| candidate(id, 100, None)).collect();
        candidates.push(candidate(99, 125, None));
        let hits = (0..200).filter(|seed| {
            draw(&candidates, 8, &Caps::off(), seeded(*seed)).contains(&NodeId::from_bytes([99; 32]))
        });
        assert!(hits.count() > 100);
    }

    #[test]
    fn one_address_group_cannot_hold_more_than_its_cap() {
        let candidates: Vec<_> = (0..20).map(|id| candidate(id, 0, Some(id / 10))).collect();
        assert_eq!(draw(&candidates, 8, &Caps { per_group: 2, ..Caps::off() }, seeded(1)).len(), 4);
    }

    #[test]
    fn what_holders_take_up_counts_and_unproven_nodes_stay_a_small_part() {
        let code = Code::new(4, 4).expect("valid");
        let mut candidates: Vec<_> = (0..20).map(|id| candidate(id, 0, Some(id))).collect();
        candidates.iter_mut().skip(10).for_each(|candidate| candidate.proven = false);
        for seed in 0..100 {
            let drawn = draw(&candidates, 8, &Caps::of(code, &[], 10), seeded(seed));
            let unproven = drawn.iter().filter(|node| node.as_bytes()[0] >= 10).count();
            assert!(drawn.len() == 8 && unproven <= 1, "{drawn:?}");
            let holders = [(Some(group_of(0)), true), (Some(group_of(99)), false)];
            let drawn = draw(&candidates, 6, &Caps::of(code, &holders, 10), seeded(seed));
            assert!(drawn.iter().all(|node| (1..10).contains(&node.as_bytes()[0])), "{drawn:?}");
        }
        // Where there are few proven ones, the others fill up what they leave.
        let drawn = draw(&candidates[8..], 8, &Caps::of(code, &[], 2), seeded(1));
        assert_eq!(drawn.len(), 8);
    }

    #[test]
    fn a_sample_has_no_favourites_and_no_repetitions() {
        let nodes: Vec<_> = (0..60).map(|id| NodeId::from_bytes([id; 32])).collect();
        let mut hits = std::collections::HashMap::new();
        for seed in 0..400 {
            let chosen = sample(nodes.clone(), 30, seeded(seed));
            assert_eq!(chosen.iter().collect::<HashSet<_>>().len(), 30);
            for node in chosen {
                *hits.entry(node).or_insert(0) += 1;
            }
        }
        assert!(nodes.iter().all(|node| (120..280).contains(&hits[node])), "{hits:?}");
        assert_eq!(sample(nodes[..3].to_vec(), 30, seeded(1)).len(), 3);
    }

    #[test]
    fn too_few_candidates_are_all_drawn() {
        let candidates: Vec<_> = (0..3).map(|id| candidate(id, 7, None)).collect();
        assert_eq!(draw(&candidates, 8, &Caps::off(), seeded(1)).len(), 3);
        assert!(draw(&[], 8, &Caps::off(), seeded(1)).is_empty());
    }
}
