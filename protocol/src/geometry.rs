//! How many shards a segment has, and how long they are.

use serde::{Deserialize, Serialize};

use crate::limits::{FULL_SHARD_LEN, MAX_SHARDS, MIN_SHARD_LEN};

/// A geometry that the protocol does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Fewer than two storage peers qualify.
    #[error("{eligible} storage nodes qualify, at least {needed} are needed")]
    TooFewPeers {
        /// Peers that qualify.
        eligible: usize,
        /// The fewest that would do.
        needed: usize,
    },
    /// Redundancy below the floor of 2 or above 30.
    #[error("redundancy {permille} ‰ is outside 2000 to 30000 ‰")]
    Redundancy {
        /// The refused value.
        permille: u32,
    },
    /// Not `1 ≤ data`, `1 ≤ parity`, `data + parity ≤ 30`.
    #[error("{data} data and {parity} parity shards are not allowed")]
    Code {
        /// Data shards.
        data: u8,
        /// Parity shards.
        parity: u8,
    },
    /// Not a number of 4 KiB pages with at most five significant bits, or over 1 MiB.
    #[error("a shard cannot be {0} bytes long")]
    ShardLen(u32),
    /// Not below 30.
    #[error("{0} is no shard index")]
    Index(u8),
}

/// Stored bytes per source byte, in permille; never under 2000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Redundancy(u16);

impl Redundancy {
    /// Two stored bytes per source byte: the floor.
    pub const MIN: Self = Self(2000);

    /// A redundancy of `permille / 1000`.
    ///
    /// # Errors
    /// Outside 2000 to 30000.
    pub fn from_permille(permille: u32) -> Result<Self, GeometryError> {
        match u16::try_from(permille) {
            Ok(value @ 2000..=30_000) => Ok(Self(value)),
            _ => Err(GeometryError::Redundancy { permille }),
        }
    }

    /// The value in permille.
    #[must_use]
    pub const fn permille(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Redundancy {
    type Error = GeometryError;
    fn try_from(permille: u16) -> Result<Self, GeometryError> {
        Self::from_permille(permille.into())
    }
}

impl From<Redundancy> for u16 {
    fn from(value: Redundancy) -> Self {
        value.0
    }
}

/// A Reed–Solomon code: so many data shards and so many parity shards, at most 30 together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Code {
    data: u8,
    parity: u8,
}

impl Code {
    /// `data` data and `parity` parity shards.
    ///
    /// # Errors
    /// If either is zero or their sum is over 30.
    pub fn new(data: u8, parity: u8) -> Result<Self, GeometryError> {
        let fits = usize::from(data) + usize::from(parity) <= MAX_SHARDS;
        if data == 0 || parity == 0 || !fits {
            return Err(GeometryError::Code { data, parity });
        }
        Ok(Self { data, parity })
    }

    /// The widest code over `eligible` peers with one shard on each: `n = min(eligible, 30)`,
    /// `k = ⌊n · 1000 / redundancy⌋`.
    ///
    /// # Errors
    /// [`GeometryError::TooFewPeers`] if not even one data shard is possible.
    pub fn for_peers(eligible: usize, redundancy: Redundancy) -> Result<Self, GeometryError> {
        let total = eligible.min(MAX_SHARDS);
        let data = total * 1000 / usize::from(redundancy.0);
        let needed = usize::from(redundancy.0).div_ceil(1000);
        let code = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
        match data {
            0 => Err(GeometryError::TooFewPeers { eligible, needed }),
            _ => Self::new(code(data), code(total - data)),
        }
    }

    /// The code and shard length for a run whose sealed size is `bytes`, when that is less than a
    /// full segment: fewer data shards, but at least four to spare, and the shortest shard that
    /// fits.
    #[must_use]
    pub fn for_small_run(self, bytes: u64, redundancy: Redundancy) -> (Self, ShardLen) {
        let data = bytes.div_ceil(64 << 10).clamp(1, u64::from(self.data));
        // At most 30, from the clamp.
        let data = u8::try_from(data).unwrap_or(self.data);
        let wanted = (u32::from(data) * u32::from(redundancy.0)).div_ceil(1000);
        let total = wanted.max(u32::from(data) + 4).min(u32::from(self.total()));
        let total = u8::try_from(total).unwrap_or(self.total());
        let code = Self { data, parity: total - data };
        (code, ShardLen::fitting(bytes.div_ceil(u64::from(data))))
    }

    /// Data shards, `k`.
    #[must_use]
    pub const fn data(self) -> u8 {
        self.data
    }

    /// Parity shards, `n − k`.
    #[must_use]
    pub const fn parity(self) -> u8 {
        self.parity
    }

    /// All shards, `n`.
    #[must_use]
    pub const fn total(self) -> u8 {
        self.data + self.parity
    }

    /// Receipts from which a segment counts as stored: `k + max(1, ⌊¾(n − k)⌋)`.
    #[must_use]
    pub const fn stored_threshold(self) -> u8 {
        let spare = self.parity as u16 * 3 / 4;
        let spare = if spare == 0 { 1 } else { spare };
        // At most `parity`, so it fits.
        self.data + spare as u8
    }

    /// Whether the code keeps at least `redundancy`.
    #[must_use]
    pub fn keeps(self, redundancy: Redundancy) -> bool {
        u32::from(self.total()) * 1000 >= u32::from(self.data) * u32::from(redundancy.0)
    }

    /// All shard indices, data first.
    pub fn indices(self) -> impl Iterator<Item = ShardIndex> {
        (0..self.total()).map(ShardIndex)
    }
}

impl TryFrom<(u8, u8)> for Code {
    type Error = GeometryError;
    fn try_from((data, parity): (u8, u8)) -> Result<Self, GeometryError> {
        Self::new(data, parity)
    }
}

impl From<Code> for (u8, u8) {
    fn from(code: Code) -> Self {
        (code.data, code.parity)
    }
}

/// A shard's position in its segment: below 30; data shards come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ShardIndex(u8);

impl ShardIndex {
    /// Position `index`.
    ///
    /// # Errors
    /// From 30 on.
    pub fn new(index: u8) -> Result<Self, GeometryError> {
        if usize::from(index) < MAX_SHARDS { Ok(Self(index)) } else { Err(GeometryError::Index(index)) }
    }

    /// The position as an array index.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u8> for ShardIndex {
    type Error = GeometryError;
    fn try_from(index: u8) -> Result<Self, GeometryError> {
        Self::new(index)
    }
}

impl From<ShardIndex> for u8 {
    fn from(index: ShardIndex) -> Self {
        index.0
    }
}

/// A shard's length in bytes: 4 KiB pages, at most 256, in a number that has at most five
/// significant bits. So a length is at most 3.2 % above what it must hold, and tells its size to no
/// more than five bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ShardLen(u32);

/// Rounds up to five significant bits.
const fn round_pages(pages: u32) -> u32 {
    let bits = u32::BITS - pages.leading_zeros();
    let shift = bits.saturating_sub(5);
    pages.div_ceil(1 << shift) << shift
}

impl ShardLen {
    /// 1 MiB.
    pub const FULL: Self = Self(FULL_SHARD_LEN);

    /// A length in bytes.
    ///
    /// # Errors
    /// If it is not an allowed number of 4 KiB pages, or over 1 MiB.
    pub fn new(bytes: u32) -> Result<Self, GeometryError> {
        let pages = bytes / MIN_SHARD_LEN;
        let valid = (MIN_SHARD_LEN..=FULL_SHARD_LEN).contains(&bytes)
            && bytes.is_multiple_of(MIN_SHARD_LEN)
            && round_pages(pages) == pages;
        if valid { Ok(Self(bytes)) } else { Err(GeometryError::ShardLen(bytes)) }
    }

    /// The shortest length that holds `bytes`, a full shard at the most.
    #[must_use]
    pub fn fitting(bytes: u64) -> Self {
        let clamped = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(MIN_SHARD_LEN, FULL_SHARD_LEN);
        Self(round_pages(clamped.div_ceil(MIN_SHARD_LEN)) * MIN_SHARD_LEN)
    }

    /// The length whose class is `class`.
    ///
    /// # Errors
    /// If no length has it.
    pub fn from_class(class: u8) -> Result<Self, GeometryError> {
        Self::new((u32::from(class) + 1) * MIN_SHARD_LEN)
    }

    /// The number of pages after the first.
    #[must_use]
    pub const fn class(self) -> u8 {
        // At most 255.
        (self.0 / MIN_SHARD_LEN - 1) as u8
    }

    /// The length in bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ShardLen {
    type Error = GeometryError;
    fn try_from(bytes: u32) -> Result<Self, GeometryError> {
        Self::new(bytes)
    }
}

impl From<ShardLen> for u32 {
    fn from(len: ShardLen) -> Self {
        len.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_peer_is_too_few_and_two_suffice() {
        assert_eq!(
            Code::for_peers(1, Redundancy::MIN),
            Err(GeometryError::TooFewPeers { eligible: 1, needed: 2 })
        );
        assert_eq!(Code::for_peers(2, Redundancy::MIN), Code::new(1, 1));
        assert_eq!(Code::for_peers(8, Redundancy::MIN), Code::new(4, 4));
        assert_eq!(Code::for_peers(500, Redundancy::MIN), Code::new(15, 15));
    }

    #[test]
    fn a_tiny_run_still_has_four_shards_to_spare() {
        let code = Code::new(10, 10).expect("valid");
        let (small, len) = code.for_small_run(100, Redundancy::MIN);
        assert_eq!((small.data(), small.total(), len.get()), (1, 5, 4096));
    }

    #[test]
    fn stored_means_three_quarters_of_the_spare_shards() {
        assert_eq!(Code::new(1, 1).expect("valid").stored_threshold(), 2);
        assert_eq!(Code::new(4, 4).expect("valid").stored_threshold(), 7);
        assert_eq!(Code::new(15, 15).expect("valid").stored_threshold(), 26);
    }

    proptest! {
        #[test]
        fn a_code_over_peers_keeps_its_redundancy(peers in 0usize..100, permille in 2000u32..=30_000) {
            let redundancy = Redundancy::from_permille(permille)?;
            if let Ok(code) = Code::for_peers(peers, redundancy) {
                prop_assert!(code.keeps(redundancy));
                prop_assert!(usize::from(code.total()) <= peers);
                prop_assert!(code.stored_threshold() <= code.total());
            }
        }

        #[test]
        fn a_small_run_fits_and_keeps_its_redundancy(peers in 2usize..40, permille in 2000u32..=4000, bytes in 1u64..40_000_000) {
            let redundancy = Redundancy::from_permille(permille)?;
            if let Ok(full) = Code::for_peers(peers, redundancy) {
                let bytes = bytes.min(u64::from(full.data()) * u64::from(FULL_SHARD_LEN));
                let (code, len) = full.for_small_run(bytes, redundancy);
                prop_assert!(u64::from(code.data()) * u64::from(len.get()) >= bytes);
                prop_assert!(code.keeps(redundancy) && code.total() <= full.total());
                prop_assert!(Code::new(code.data(), code.parity()).is_ok());
            }
        }

        #[test]
        fn classes_and_lengths_agree(class in 0u8..=255) {
            match ShardLen::from_class(class) {
                Ok(len) => prop_assert_eq!(len.class(), class),
                Err(_) => prop_assert!(class >= 32),
            }
        }

        #[test]
        fn a_fitting_length_is_allowed_and_at_most_a_32nd_too_long(bytes in 1u64..=u64::from(FULL_SHARD_LEN)) {
            let len = ShardLen::fitting(bytes);
            prop_assert_eq!(ShardLen::new(len.get()), Ok(len));
            let pages = bytes.div_ceil(u64::from(MIN_SHARD_LEN));
            prop_assert!(u64::from(len.get()) >= bytes);
            prop_assert!(u64::from(len.get() / MIN_SHARD_LEN) <= pages + pages / 16);
        }
    }
}
