//! Amounts of money: millisatoshi and prices, in checked arithmetic.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A thousandth of a satoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Msat(u64);

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many millisatoshi.
    #[must_use]
    pub const fn new(msat: u64) -> Self {
        Self(msat)
    }

    /// The number of millisatoshi.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` past 2^64 − 1 msat.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} sat", self.0 / 1000, self.0 % 1000)
    }
}

/// A price in msat per GiB-month, a month being 30 days. Zero is a real price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(u64);

impl Price {
    /// Free of charge.
    pub const FREE: Self = Self(0);

    /// So many msat per GiB-month.
    #[must_use]
    pub const fn new(msat_per_gib_month: u64) -> Self {
        Self(msat_per_gib_month)
    }

    /// Msat per GiB-month.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per GiB-month", Msat(self.0))
    }
}
