//! The clock that a service is handed: the machine's, or one that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::UnixTime;

/// A source of wall-clock time. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: UnixTime) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.secs()))))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        match &self.0 {
            Source::System => UnixTime::now(),
            Source::Manual(secs) => UnixTime::from_secs(secs.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock, and all its clones, forward by whole seconds. The machine's clock stays.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(secs) = &self.0 {
            secs.fetch_add(by.as_secs(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(UnixTime::from_secs(1_000));
        let other = clock.clone();
        clock.advance(Duration::from_secs(60));
        assert_eq!(other.now(), UnixTime::from_secs(1_060));
    }

    #[test]
    fn the_machines_clock_is_not_moved() {
        let clock = Clock::system();
        clock.advance(Duration::from_secs(1 << 40));
        assert!(clock.now().since(UnixTime::now()) < Duration::from_secs(60));
    }
}
