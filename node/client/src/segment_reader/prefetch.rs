//! Items fetched ahead of where they are taken, within a bound of bytes.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// How much is fetched ahead and taken at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of items that are being fetched, wait, or are being taken. One item may have more.
    pub(crate) bytes: usize,
    /// Items that are being fetched or wait to be taken.
    pub(crate) ahead: usize,
    /// Items taken at once.
    pub(crate) takers: usize,
    /// Whether items are taken in their order, rather than as they come.
    pub(crate) in_order: bool,
}

/// Fetches every item, of which the iterator says how many bytes it has, and hands it to `take`,
/// which may end it: nothing more is fetched then, and what is being taken is waited for.
pub(crate) async fn prefetch<I, T, F, G, B>(
    items: impl Iterator<Item = (usize, I)>,
    limits: Limits,
    mut fetch: impl FnMut(I) -> F,
    mut take: impl FnMut(T) -> G,
) -> ControlFlow<B>
where
    F: Future<Output = T>,
    G: Future<Output = ControlFlow<B>>,
{
    let mut items = items.enumerate().peekable();
    let (mut fetching, mut taking) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut waiting: BTreeMap<usize, (usize, T)> = BTreeMap::new();
    let (mut held, mut next) = (0, 0);
    loop {
        while fetching.len() + waiting.len() < limits.ahead.max(1)
            && let Some((at, (bytes, item))) =
                items.next_if(|(_, (bytes, _))| held == 0 || held + bytes <= limits.bytes)
        {
            held += bytes;
            let fetched = fetch(item);
            fetching.push(async move { (at, bytes, fetched.await) });
        }
        while taking.len() < limits.takers.max(1)
            && let Some(first) = waiting.first_entry()
            && (!limits.in_order || *first.key() == next)
        {
            let (bytes, item) = first.remove();
            let taken = take(item);
            taking.push(async move { (bytes, taken.await) });
            next += 1;
        }
        tokio::select! {
            Some((at, bytes, item)) = fetching.next() => drop(waiting.insert(at, (bytes, item))),
            Some((bytes, taken)) = taking.next() => {
                held -= bytes;
                if taken.is_break() {
                    drop(fetching);
                    while taking.next().await.is_some() {}
                    return taken;
                }
            }
            else => return ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    /// What is in memory, and the most that ever was.
    #[derive(Default)]
    struct Held {
        items: usize,
        bytes: usize,
        taking: usize,
        taken: Vec<usize>,
        problems: Vec<String>,
    }

    async fn wait(turns: u8) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    async fn run(items: &[(usize, u8, u8)], limits: Limits, last: Option<usize>) -> (Held, ControlFlow<()>) {
        let held = RefCell::new(Held::default());
        let numbered = items.iter().enumerate().map(|(at, (bytes, ..))| (*bytes, at));
        let fetch = async |at: usize| {
            {
                let mut held = held.borrow_mut();
                held.items += 1;
                held.bytes += items[at].0;
                if held.bytes > limits.bytes && held.items > 1 && held.bytes > items[at].0 {
                    let problem = format!("{} bytes in {} items", held.bytes, held.items);
                    held.problems.push(problem);
                }
            }
            wait(items[at].1).await;
            at
        };
        let take = async |at: usize| {
            held.borrow_mut().taking += 1;
            if held.borrow().taking > limits.takers {
                held.borrow_mut().problems.push("too many are taken".to_owned());
            }
            held.borrow_mut().taken.push(at);
            wait(items[at].2).await;
            let mut held = held.borrow_mut();
            held.taking -= 1;
            held.items -= 1;
            held.bytes -= items[at].0;
            if last == Some(at) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let end = prefetch(numbered, limits, fetch, take).await;
        (held.into_inner(), end)
    }

    proptest! {
        #[test]
        fn every_item_is_taken_once_within_the_bounds(
            items in proptest::collection::vec((0usize..50, 0u8..6, 0u8..6), 0..40),
            bytes in 0usize..120, ahead in 1usize..6, takers in 1usize..4, in_order: bool,
        ) {
            let limits = Limits { bytes, ahead, takers, in_order };
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let (held, end) = runtime.block_on(run(&items, limits, None));
            prop_assert!(end.is_continue());
            prop_assert!(held.problems.is_empty(), "{:?}", held.problems);
            let mut taken = held.taken;
            if in_order {
                prop_assert!(taken.is_sorted());
            }
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..items.len()).collect::<Vec<_>>());
        }

        #[test]
        fn what_is_being_taken_ends_before_a_stop_does(
            items in proptest::collection::vec((0usize..50, 0u8..6, 0u8..6), 1..40),
            takers in 1usize..4, in_order: bool, last: proptest::sample::Index,
        ) {
            let limits = Limits { bytes: 100, ahead: 4, takers, in_order };
            let last = last.index(items.len());
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let (held, end) = runtime.block_on(run(&items, limits, Some(last)));
            prop_assert!(end.is_break());
            prop_assert_eq!(held.taking, 0);
            if in_order && takers == 1 {
                prop_assert_eq!(held.taken.len(), last + 1);
            }
        }
    }
}
