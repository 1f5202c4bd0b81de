//! Wall-clock time.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// So many seconds after the epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// The machine's clock; zero if it stands before 1970.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs())
    }

    /// The machine's clock, with the nanoseconds after the second.
    #[must_use]
    pub fn now_with_nanos() -> (Self, u32) {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        (Self(now.as_secs()), now.subsec_nanos())
    }

    /// Seconds after the epoch.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0
    }

    /// This time plus `duration`, at most the end of time.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}
