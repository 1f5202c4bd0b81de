//! The three networks, which never mix: every protocol name and every record carries its network.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which network a machine belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// One machine or one house: loopback addresses count, placement caps are off.
    Local,
    /// The public network for trying things out.
    Test,
    /// The public network.
    Main,
}

/// Not the name of a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown network: those known are local, test and main")]
pub struct ParseNetworkError;

impl Network {
    /// The name in protocol names and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Test => "test",
            Self::Main => "main",
        }
    }

    /// `/fincrypt/<network>/<rest>`.
    #[must_use]
    pub fn protocol(self, rest: &str) -> String {
        format!("/fincrypt/{}/{rest}", self.name())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;
    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        [Self::Local, Self::Test, Self::Main]
            .into_iter()
            .find(|network| network.name() == text)
            .ok_or(ParseNetworkError)
    }
}
