//! When index pieces merge. Sans-IO: references in, a decision out.
//!
//! The catalog is log-structured: every run adds a piece of level 0; eight pieces of one level
//! merge into one of the next, so a piece is rewritten once per level. A head has room for 48
//! references; when the count nears that, the lowest level with several pieces merges early.
//! References to segments that are full, which gain nothing by being merged, go into a list: half of
//! the head is left for the others.

use crate::lists::LIST;

/// Pieces of one level that merge into one of the next.
pub const RATIO: usize = 8;

/// A merge to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Positions of the references to merge.
    pub take: Vec<usize>,
    /// The level of the result.
    pub level: u8,
}

/// Which of the references, given by level, are to merge before `new` more are added, beside `fixed`
/// ones that gain nothing by it, in a head with room for `most`.
#[must_use]
pub fn plan(levels: &[u8], new: usize, fixed: usize, most: usize) -> Option<Merge> {
    let at = |level: u8| levels.iter().enumerate().filter(move |(_, l)| **l == level).map(|(at, _)| at);
    let mut known: Vec<u8> = levels.to_vec();
    known.sort_unstable();
    known.dedup();
    let full =
        known.iter().copied().find(|level| at(*level).count() + usize::from(*level == 0) * new > RATIO);
    let crowded = levels.len() + fixed + new > most;
    let level = full.or_else(|| known.iter().copied().find(|level| crowded && at(*level).count() > 1))?;
    Some(Merge { take: at(level).collect(), level: level.saturating_add(1).min(LIST - 1) })
}

/// A reference, as far as it matters whether it goes into a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listable {
    /// Its level.
    pub level: u8,
    /// Whether its segment is nearly full.
    pub full: bool,
}

impl Listable {
    fn is_list(self) -> bool {
        self.level == LIST
    }

    /// Whether merging it gains nothing.
    #[must_use]
    pub fn is_fixed(self) -> bool {
        self.full || self.is_list()
    }
}

/// Which references are to go into one list, for a head with room for `most`: positions, none if
/// there is no need. With the full ones go the lists that are there, so that there is one afterwards;
/// and if that is not enough, the others of the highest levels.
#[must_use]
pub fn list(refs: &[Listable], most: usize) -> Vec<usize> {
    let all = || refs.iter().enumerate();
    let fixed = all().filter(|(_, r)| r.is_fixed()).count();
    let crowded = refs.len() > most;
    if !crowded && (fixed * 2 <= most || !all().any(|(_, r)| r.full && !r.is_list())) {
        return Vec::new();
    }
    let mut take: Vec<usize> = all().filter(|(_, r)| r.is_fixed()).map(|(at, _)| at).collect();
    let mut others: Vec<(u8, usize)> =
        all().filter(|(_, r)| !r.is_fixed()).map(|(at, r)| (r.level, at)).collect();
    others.sort_unstable();
    while others.len() + 1 > most {
        take.extend(others.pop().map(|(_, at)| at));
    }
    take.sort_unstable();
    take
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::limits::MAX_CATALOG_REFS;
    use proptest::prelude::*;

    const MOST: usize = MAX_CATALOG_REFS;

    /// Ten thousand runs, each with one new reference; a merged piece takes one reference per
    /// `per_reference` runs it covers.
    fn simulate(per_reference: usize) -> (usize, usize) {
        let mut refs: Vec<(u8, usize)> = Vec::new();
        let (mut most, mut rewritten) = (0, 0);
        for _ in 0..10_000 {
            while let Some(merge) =
                plan(&refs.iter().map(|(level, _)| *level).collect::<Vec<_>>(), 1, 0, MOST)
            {
                let runs: usize = merge.take.iter().map(|at| refs[*at].1).sum();
                rewritten += runs;
                let mut at = 0;
                refs.retain(|_| {
                    at += 1;
                    !merge.take.contains(&(at - 1))
                });
                for start in (0..runs).step_by(per_reference.min(1 << 40)) {
                    refs.push((merge.level, per_reference.min(runs - start)));
                }
            }
            refs.push((0, 1));
            most = most.max(refs.len());
        }
        assert_eq!(refs.iter().map(|(_, runs)| runs).sum::<usize>(), 10_000);
        (most, rewritten)
    }

    #[test]
    fn ten_thousand_runs_fit_a_head_and_are_rewritten_a_few_times_each() {
        let (most, rewritten) = simulate(usize::MAX);
        assert!(most <= MAX_CATALOG_REFS, "{most} references");
        assert!(rewritten < 60_000, "{rewritten} pieces rewritten");
    }

    #[test]
    fn where_full_references_crowd_the_head_the_others_merge_early() {
        assert_eq!(plan(&[0, 0, 1, 1], 1, 43, MOST), None);
        let merge = plan(&[0, 0, 1, 1], 1, 44, MOST).expect("there is one too many");
        assert_eq!((merge.take, merge.level), (vec![0, 1], 1));
    }

    #[test]
    fn few_references_are_left_alone() {
        assert_eq!(plan(&[0; 7], 1, 0, MOST), None);
        assert_eq!(plan(&[0; 8], 1, 0, MOST).map(|merge| (merge.take.len(), merge.level)), Some((8, 1)));
    }

    fn listable(level: u8, full: bool) -> Listable {
        Listable { level, full }
    }

    #[test]
    fn full_references_go_into_one_list_before_they_fill_half_of_the_head() {
        let mut refs = vec![listable(2, true); 24];
        refs.push(listable(0, false));
        assert!(list(&refs, MOST).is_empty());
        refs.push(listable(3, true));
        assert_eq!(list(&refs, MOST), (0..24).chain([25]).collect::<Vec<_>>());
        // A list alone is not made anew.
        assert!(list(&[listable(LIST, true), listable(0, false)], 2).is_empty());
        assert_eq!(list(&[listable(LIST, true), listable(0, false), listable(1, false)], 2), [0, 2]);
    }

    /// A reference of a simulated catalog: how many segments of pieces it stands for.
    #[derive(Clone, Copy)]
    struct Simulated {
        level: u8,
        pieces: usize,
    }

    impl Simulated {
        /// A hundred small pieces fill a segment.
        const FULL: usize = 100;

        fn listable(&self) -> Listable {
            Listable { level: self.level, full: self.level != LIST && self.pieces >= Self::FULL }
        }
    }

    /// Puts into a list what has to go there; what that wrote.
    fn put_into_list(refs: &mut Vec<Simulated>) -> usize {
        let take = list(&refs.iter().map(Simulated::listable).collect::<Vec<_>>(), MOST);
        let pieces = take.iter().map(|at| refs[*at].pieces).sum();
        for at in take.iter().rev() {
            refs.remove(*at);
        }
        if !take.is_empty() {
            refs.push(Simulated { level: LIST, pieces });
        }
        pieces / Simulated::FULL
    }

    #[test]
    fn ten_thousand_full_segments_fit_a_head_and_their_lists_are_rarely_written() {
        let (mut refs, mut written): (Vec<Simulated>, usize) = (Vec::new(), 0);
        // The first run is larger than a head.
        for full in std::iter::once(1000).chain(std::iter::repeat_n(4, 2250)) {
            refs.extend(vec![Simulated { level: 0, pieces: Simulated::FULL }; full]);
            written += put_into_list(&mut refs);
            loop {
                let (fixed, small): (Vec<_>, Vec<_>) =
                    refs.iter().copied().partition(|r| r.listable().is_fixed());
                let levels: Vec<u8> = small.iter().map(|r| r.level).collect();
                let Some(merge) = plan(&levels, 1, fixed.len(), MOST) else { break };
                let pieces = merge.take.iter().map(|at| small[*at].pieces).sum();
                let left = small.iter().enumerate().filter(|(at, _)| !merge.take.contains(at));
                refs = fixed.iter().copied().chain(left.map(|(_, r)| *r)).collect();
                refs.push(Simulated { level: merge.level, pieces });
            }
            refs.push(Simulated { level: 0, pieces: 1 });
            written += put_into_list(&mut refs);
            assert!(refs.len() <= MOST, "{} references", refs.len());
        }
        let pieces: usize = refs.iter().map(|r| r.pieces).sum();
        assert_eq!(pieces, 10_000 * Simulated::FULL + 2251);
        // At 40 bytes each 120 MB, beside a catalog of at least 10 GB.
        assert!(written < 3_000_000, "{written} references written");
    }

    proptest! {
        #[test]
        fn what_is_left_beside_the_list_fits_the_head(
            refs in proptest::collection::vec((0u8..12, any::<bool>()), 0..200), lists in 0usize..3, most in 2usize..=48,
        ) {
            let mut refs: Vec<_> = refs.into_iter().map(|(level, full)| listable(level, full)).collect();
            refs.extend(vec![listable(LIST, false); lists]);
            let taken = list(&refs, most);
            let left = refs.len() - taken.len() + usize::from(!taken.is_empty());
            prop_assert!(left <= most, "{} of {}", left, refs.len());
            prop_assert!(taken.is_sorted() && taken.iter().all(|at| *at < refs.len()));
        }
    }
}
