//! One component of a path.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A name that no folder may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes.
    #[error("the name is empty")]
    Empty,
    /// More than [`Name::MAX`] bytes.
    #[error("the name has {len} bytes; at most {max} fit", max = Name::MAX)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A slash or a zero byte.
    #[error("the name contains a slash or a zero byte")]
    Separator,
    /// `.` or `..`, which lead elsewhere.
    #[error("the name means another folder")]
    Dots,
}

/// The name of one entry of a folder: 1 to 255 bytes, not `.` or `..`, no slash, no zero byte.
///
/// Every name read from a vault is checked here, so a hostile tree cannot name a path outside the
/// folder it is restored to. Names are bytes; they need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The most bytes a name has, as on all common file systems.
    pub const MAX: usize = 255;

    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] for a name that no folder may hold.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as the file system takes it.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

fn check(bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        [] => Err(NameError::Empty),
        b"." | b".." => Err(NameError::Dots),
        _ if bytes.len() > Name::MAX => Err(NameError::TooLong { len: bytes.len() }),
        _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(NameError::Separator),
        _ => Ok(()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_os_str().display(), f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_os_str(), f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::new(bytes.into_vec()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (bytes, error) in [
            (&b""[..], NameError::Empty),
            (b".", NameError::Dots),
            (b"..", NameError::Dots),
            (b"a/b", NameError::Separator),
            (b"/", NameError::Separator),
            (b"a\0", NameError::Separator),
            (&[b'a'; 256], NameError::TooLong { len: 256 }),
        ] {
            assert_eq!(Name::new(bytes), Err(error));
        }
    }

    #[test]
    fn unusual_names_are_kept() {
        for bytes in [&b"..."[..], b" ", b"\xff\xfe", b"-rf", b"a\nb", &[b'a'; 255]] {
            assert_eq!(Name::new(bytes).expect("allowed").as_bytes(), bytes);
        }
    }
}
