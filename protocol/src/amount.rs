//! Amounts of money, in checked arithmetic only: millisatoshi, satoshi, prices and fees.
//!
//! What a person types or reads is satoshi with at most three decimals.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Millisatoshi in a satoshi.
const MSAT: u64 = 1000;

/// Not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not a decimal number.
    #[error("cannot read {0:?} as an amount: write satoshi such as 1.5, without sign or unit")]
    NotANumber(String),
    /// Finer than a millisatoshi.
    #[error("{0:?} has more than three decimals: a thousandth of a satoshi is the smallest amount")]
    TooFine(String),
    /// A part of a satoshi where only whole ones can be moved.
    #[error("{0:?} is not a whole number of satoshi")]
    NotWhole(String),
    /// Not a share in percent with at most one decimal.
    #[error("cannot read {0:?} as a share: write a percentage from 0 to 100 with at most one decimal")]
    NotAShare(String),
    /// More than there can be.
    #[error("{0:?} is more than there can be")]
    TooMuch(String),
}

/// A decimal number with at most `places` decimals, times ten to the power of `places`.
fn read_scaled(text: &str, places: usize) -> Result<u64, ParseAmountError> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if digits(fraction) => (whole, fraction),
        Some(_) => return Err(ParseAmountError::NotANumber(text.to_owned())),
        None => (text, ""),
    };
    if !digits(whole) {
        return Err(ParseAmountError::NotANumber(text.to_owned()));
    }
    if fraction.len() > places {
        return Err(ParseAmountError::TooFine(text.to_owned()));
    }
    // Only digits are left: what does not parse is too large.
    format!("{whole}{fraction:0<places$}").parse().map_err(|_| ParseAmountError::TooMuch(text.to_owned()))
}

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

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` past 2^64 − 1 msat.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// So many times as much, or `None` past 2^64 − 1 msat.
    #[must_use]
    pub fn checked_mul(self, times: u64) -> Option<Self> {
        self.0.checked_mul(times).map(Self)
    }

    /// The whole satoshi in it.
    #[must_use]
    pub const fn whole_sat(self) -> Sat {
        Sat(self.0 / MSAT)
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} sat", self.0 / MSAT, self.0 % MSAT)
    }
}

impl FromStr for Msat {
    type Err = ParseAmountError;
    /// Reads satoshi with at most three decimals.
    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        read_scaled(text, 3).map(Self)
    }
}

/// A whole satoshi: what can be moved on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sat(u64);

impl Sat {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many satoshi.
    #[must_use]
    pub const fn new(sat: u64) -> Self {
        Self(sat)
    }

    /// The number of satoshi.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same in millisatoshi, or `None` past 2^64 − 1 of them.
    #[must_use]
    pub fn to_msat(self) -> Option<Msat> {
        self.0.checked_mul(MSAT).map(Msat)
    }

    /// The sum, or `None` past 2^64 − 1 sat.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl fmt::Display for Sat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat", self.0)
    }
}

impl FromStr for Sat {
    type Err = ParseAmountError;
    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        read_scaled(text, 0).map(Self).map_err(|error| match error {
            ParseAmountError::TooFine(text) => ParseAmountError::NotWhole(text),
            other => other,
        })
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

impl FromStr for Price {
    type Err = ParseAmountError;
    /// Reads satoshi per GiB-month with at most three decimals: `1.5` is 1500 msat.
    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        read_scaled(text, 3).map(Self)
    }
}

/// A share in thousandths, at most the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Permille(u16);

/// More than the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} permille are more than the whole")]
pub struct PermilleError(u16);

impl Permille {
    /// Nothing of it.
    pub const NONE: Self = Self(0);

    /// So many thousandths.
    ///
    /// # Errors
    /// [`PermilleError`] above 1000.
    pub const fn new(permille: u16) -> Result<Self, PermilleError> {
        if permille > 1000 { Err(PermilleError(permille)) } else { Ok(Self(permille)) }
    }

    /// The number of thousandths.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// This share of `amount`, rounded down. Taken of a sum that only grows, it never falls, and
    /// what rounding left out comes with a later step.
    #[must_use]
    pub fn of(self, amount: Msat) -> Msat {
        // At most `amount`, as the share is at most the whole.
        Msat((u128::from(amount.0) * u128::from(self.0) / 1000) as u64)
    }
}

impl TryFrom<u16> for Permille {
    type Error = PermilleError;
    fn try_from(permille: u16) -> Result<Self, PermilleError> {
        Self::new(permille)
    }
}

impl From<Permille> for u16 {
    fn from(share: Permille) -> Self {
        share.0
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

impl FromStr for Permille {
    type Err = ParseAmountError;
    /// Reads a percentage with at most one decimal: `2.5` is 25 permille.
    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        let share = read_scaled(text, 1).ok().and_then(|permille| u16::try_from(permille).ok());
        let share = share.and_then(|permille| Self::new(permille).ok());
        share.ok_or_else(|| ParseAmountError::NotAShare(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_price_is_read_as_satoshi_with_up_to_three_decimals() {
        assert_eq!("1.5".parse(), Ok(Price::new(1500)));
        assert_eq!("0".parse(), Ok(Price::FREE));
        assert_eq!("0.001".parse(), Ok(Price::new(1)));
        assert_eq!("18446744073709551.615".parse(), Ok(Price::new(u64::MAX)));
        assert_eq!(Price::new(1500).to_string(), "1.500 sat per GiB-month");
    }

    #[test]
    fn what_is_no_amount_is_refused_with_the_reason() {
        let refusal = |text: &str| text.parse::<Price>().expect_err(text);
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "1 sat", "1.2.3", "０"] {
            assert_eq!(refusal(text), ParseAmountError::NotANumber(text.to_owned()));
        }
        assert_eq!(refusal("1.0005"), ParseAmountError::TooFine("1.0005".to_owned()));
        assert!(matches!(refusal("18446744073709551.616"), ParseAmountError::TooMuch(_)));
        assert!(matches!("1.5".parse::<Sat>(), Err(ParseAmountError::NotWhole(_))));
        for text in ["100.1", "-1", "2.55", "65536.0"] {
            assert!(matches!(text.parse::<Permille>(), Err(ParseAmountError::NotAShare(_))), "{text}");
        }
        assert_eq!("2.5".parse::<Permille>().map(Permille::get), Ok(25));
    }

    proptest! {
        #[test]
        fn amounts_are_read_as_they_are_shown(msat: u64) {
            let shown = Msat::new(msat).to_string();
            prop_assert_eq!(shown.trim_end_matches(" sat").parse(), Ok(Msat::new(msat)));
            let shown = Sat::new(msat).to_string();
            prop_assert_eq!(shown.trim_end_matches(" sat").parse(), Ok(Sat::new(msat)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = (text.parse::<Msat>(), text.parse::<Sat>(), text.parse::<Permille>());
        }

        #[test]
        fn a_share_of_a_growing_sum_never_falls_and_never_exceeds_it(
            permille in 0u16..=1000, sum: u64, more in 0u64..1 << 40,
        ) {
            let share = Permille::new(permille)?;
            let (before, after) = (Msat::new(sum), Msat::new(sum.saturating_add(more)));
            prop_assert!(share.of(before) <= share.of(after));
            prop_assert!(share.of(after) <= after);
        }
    }
}
