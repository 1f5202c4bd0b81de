//! Sizes as a person writes them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, read from and shown in the units people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

/// Not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?} as a size: write a number and a unit, such as 500GB, 1.5TB or 64MiB")]
pub struct ParseByteSizeError {
    text: String,
}

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;
    fn from_str(text: &str) -> Result<Self, ParseByteSizeError> {
        let error = || ParseByteSizeError { text: text.to_owned() };
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.trim().to_ascii_lowercase();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let mut bytes = whole.checked_mul(*factor).ok_or_else(error)?;
        let mut place = *factor;
        for digit in fraction.chars() {
            place /= 10;
            let digit = digit.to_digit(10).ok_or_else(error)?;
            bytes = bytes.checked_add(u64::from(digit) * place).ok_or_else(error)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in
            [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)]
        {
            if self.0 >= factor {
                // Sizes are shown to two places; the loss of precision is meant.
                return write!(f, "{:.2} {name}", self.0 as f64 / factor as f64);
            }
        }
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_of_both_kinds_are_read() {
        assert_eq!("500GB".parse(), Ok(ByteSize(500_000_000_000)));
        assert_eq!("1.5 TiB".parse(), Ok(ByteSize((1 << 40) + (1 << 40) / 10 * 5)));
        assert_eq!("0".parse(), Ok(ByteSize(0)));
        for bad in ["", "GB", "-1GB", "1XB", "99999999TB", "1.2.3GB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
