//! Epochs: the steps in which storage is audited and paid.

use std::time::Duration;

use crate::time::UnixTime;
use serde::{Deserialize, Serialize};

/// The number of an epoch: Unix time divided by the epoch's length, rounded down, by the mediator's
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The epoch in which `time` lies, if epochs are `length` long (whole seconds, at least one).
    #[must_use]
    pub fn at(time: UnixTime, length: Duration) -> Self {
        Self(time.secs() / length.as_secs().max(1))
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Epochs since `earlier`; none if that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The epoch `count` later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}
