//! Which shards are asked for, and what the answers mean for a segment. Free of I/O: randomness
//! comes in.

use fincrypt_protocol::{Manifest, ShardIndex};

/// A number below a bound, as likely as any other, that nobody can foresee.
pub(crate) type Random<'r> = &'r mut dyn FnMut(u64) -> u64;

/// The system's randomness. The modulus favours no number by more than 2^-40 here.
pub(crate) fn system_random(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() || bound == 0 {
        return 0;
    }
    u64::from_le_bytes(bytes) % bound
}

/// Brings items into random order: Fisher–Yates.
pub(crate) fn shuffle<T>(items: &mut [T], random: Random<'_>) {
    for last in (1..items.len()).rev() {
        let bound = last as u64 + 1;
        // Below `bound`, so it is an index.
        items.swap(last, random(bound) as usize);
    }
}

/// All shards of some segments.
pub(crate) fn pairs(manifests: &[Manifest]) -> Vec<(&Manifest, ShardIndex)> {
    let of = |manifest| Manifest::code(manifest).indices().map(move |index| (manifest, index));
    manifests.iter().flat_map(of).collect()
}

/// A random sample of a stream, each item as likely as any other: Vitter's algorithm R.
#[derive(Debug)]
pub(crate) struct Reservoir<T> {
    kept: Vec<T>,
    room: usize,
    seen: u64,
}

impl<T> Reservoir<T> {
    /// One that keeps up to `room` items.
    pub(crate) fn new(room: usize) -> Self {
        Self { kept: Vec::new(), room, seen: 0 }
    }

    /// Offers an item.
    pub(crate) fn offer(&mut self, item: impl FnOnce() -> T, random: Random<'_>) {
        self.seen += 1;
        if self.kept.len() < self.room {
            self.kept.push(item());
        } else if let Some(place) = self.kept.get_mut(random(self.seen) as usize) {
            *place = item();
        }
    }

    /// What was kept.
    pub(crate) fn into_kept(self) -> Vec<T> {
        self.kept
    }
}

/// Whether a segment of a run is safe enough for a head to refer to: as many shards as make it count
/// as stored are claimed, and were not found bad. Nodes that gave no answer are given the benefit of
/// the doubt, as audits ask them again.
pub(crate) fn is_safe(manifest: &Manifest, claimed: usize, bad: usize) -> bool {
    claimed.saturating_sub(bad) >= usize::from(manifest.code().stored_threshold())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Code, ShardId, ShardLen};

    /// A generator whose every number follows from the seed.
    fn seeded(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |bound| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        }
    }

    fn manifest(data: u8, parity: u8) -> Manifest {
        let code = Code::new(data, parity).expect("valid");
        let ids = (0..code.total()).map(|at| ShardId::from_bytes([at; 32])).collect();
        Manifest::new(code, ShardLen::FULL, ids).expect("valid")
    }

    #[test]
    fn every_item_of_a_stream_is_kept_as_often_as_any_other() {
        let mut random = seeded(1);
        let mut kept = [0_u32; 50];
        for _ in 0..10_000 {
            let mut reservoir = Reservoir::new(5);
            (0..kept.len()).for_each(|item| reservoir.offer(|| item, &mut random));
            reservoir.into_kept().into_iter().for_each(|item| kept[item] += 1);
        }
        // 1,000 each are expected, with a standard deviation of 30.
        assert!(kept.iter().all(|count| (850..1150).contains(count)), "{kept:?}");
    }

    #[test]
    fn a_shuffle_brings_every_item_to_every_place_alike() {
        let mut random = seeded(2);
        let mut first = [0_u32; 8];
        for _ in 0..8000 {
            let mut items: Vec<usize> = (0..first.len()).collect();
            shuffle(&mut items, &mut random);
            first[items[0]] += 1;
        }
        assert!(first.iter().all(|count| (850..1150).contains(count)), "{first:?}");
    }

    #[test]
    fn a_segment_is_safe_as_long_as_it_would_count_as_stored() {
        let full = manifest(4, 4);
        assert!(is_safe(&full, 8, 0) && is_safe(&full, 8, 1) && is_safe(&full, 7, 0));
        assert!(!is_safe(&full, 8, 2) && !is_safe(&full, 7, 1) && !is_safe(&full, 6, 0));
        assert!(!is_safe(&full, 1, 5));
    }

    #[test]
    fn all_shards_of_all_segments_are_paired() {
        let manifests = [manifest(1, 4), manifest(4, 4)];
        assert_eq!(pairs(&manifests).len(), 13);
    }
}
