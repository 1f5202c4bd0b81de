//! When index pieces merge. Sans-IO: references in, a decision out.
//!
//! The catalog is log-structured: every run adds a piece of level 0; eight pieces of one level
//! merge into one of the next, so a piece is rewritten once per level. A head has room for 48
//! references; when the count nears that, the lowest level with several pieces merges early.

use fincrypt_protocol::limits::MAX_CATALOG_REFS;

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
/// ones that gain nothing by it.
#[must_use]
pub fn plan(levels: &[u8], new: usize, fixed: usize) -> Option<Merge> {
    let at = |level: u8| levels.iter().enumerate().filter(move |(_, l)| **l == level).map(|(at, _)| at);
    let mut known: Vec<u8> = levels.to_vec();
    known.sort_unstable();
    known.dedup();
    let full =
        known.iter().copied().find(|level| at(*level).count() + usize::from(*level == 0) * new > RATIO);
    let crowded = levels.len() + fixed + new > MAX_CATALOG_REFS;
    let level = full.or_else(|| known.iter().copied().find(|level| crowded && at(*level).count() > 1))?;
    Some(Merge { take: at(level).collect(), level: level.saturating_add(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand runs, each with one new reference; a merged piece takes one reference per
    /// `per_reference` runs it covers.
    fn simulate(per_reference: usize) -> (usize, usize) {
        let mut refs: Vec<(u8, usize)> = Vec::new();
        let (mut most, mut rewritten) = (0, 0);
        for _ in 0..10_000 {
            while let Some(merge) = plan(&refs.iter().map(|(level, _)| *level).collect::<Vec<_>>(), 1, 0) {
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
        assert_eq!(plan(&[0, 0, 1, 1], 1, 43), None);
        let merge = plan(&[0, 0, 1, 1], 1, 44).expect("there is one too many");
        assert_eq!((merge.take, merge.level), (vec![0, 1], 1));
    }

    #[test]
    fn few_references_are_left_alone() {
        assert_eq!(plan(&[0; 7], 1, 0), None);
        assert_eq!(plan(&[0; 8], 1, 0).map(|merge| (merge.take.len(), merge.level)), Some((8, 1)));
    }
}
