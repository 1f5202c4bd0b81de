//! A node's identity: an ed25519 key in a file that only its owner can read.

use std::path::{Path, PathBuf};

use crate::peer_of;
use fincrypt_protocol::{NodeId, SigningKey};
use libp2p::identity::{Keypair, ed25519};
use zeroize::Zeroizing;

/// The identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be read or written.
    #[error("cannot read or write the identity {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no key.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

/// A node's key in its two forms.
pub struct Identity {
    /// For records and receipts.
    pub signing: SigningKey,
    /// For libp2p.
    pub keypair: Keypair,
}

impl Identity {
    fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Option<Self> {
        let mut copy = Zeroizing::new(**seed);
        let secret = ed25519::SecretKey::try_from_bytes(copy.as_mut_slice()).ok()?;
        let keypair = Keypair::from(ed25519::Keypair::from(secret));
        Some(Self { signing: SigningKey::from_seed(seed), keypair })
    }

    /// A fresh identity that is written nowhere.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn fresh() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| IdentityError::Randomness)?;
        Self::from_seed(&seed).ok_or(IdentityError::Randomness)
    }

    /// Reads the identity at `path`, or makes one there (mode 0600).
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.to_owned(), source };
        let damaged = || IdentityError::Damaged { path: path.to_owned() };
        match std::fs::read(path) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged())?;
                Self::from_seed(&Zeroizing::new(seed)).ok_or_else(damaged)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let identity = Self::fresh()?;
                fincrypt_state::durable::write_file(path, identity.signing.seed().as_slice(), 0o600)
                    .map_err(io)?;
                Ok(identity)
            }
            Err(error) => Err(io(error)),
        }
    }
}

/// A node's name, as people see it.
#[must_use]
pub fn shown(node: &NodeId) -> String {
    peer_of(node).map_or_else(|_| node.to_string(), |peer| peer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_of;

    #[test]
    fn both_forms_are_one_key_and_it_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("identity.key");
        let first = Identity::open(&path).expect("made");
        let again = Identity::open(&path).expect("read");
        assert_eq!(node_of(&first.keypair.public().to_peer_id()), Ok(first.signing.node()));
        assert_eq!(first.signing.node(), again.signing.node());
    }

    #[test]
    fn a_truncated_file_is_named_damaged() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("identity.key");
        std::fs::write(&path, [1; 31]).expect("written");
        assert!(matches!(Identity::open(&path), Err(IdentityError::Damaged { .. })));
    }
}
