//! The keyfile: the vault's root on this machine, sealed with a password.
//!
//! ```text
//! magic 8 │ memory KiB u32le │ passes u32le │ lanes u32le │ salt 16 │ nonce 24 │ sealed 2096 │ checksum 8
//! ```
//!
//! Sealed are the root (32 bytes), 32 public guard keys, and 32 seeds of head keys, which are zero
//! for slots that were never rewound, with XChaCha20-Poly1305 under Argon2id (RFC 9106) of the
//! password; everything before the ciphertext is associated data. The
//! checksum is plain BLAKE3 over all before it, so that damage is told from a wrong password.

use std::collections::BTreeMap;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use fincrypt_protocol::limits::MAX_SLOTS;
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::{GuardKey, Network, RecordError, Signed, SigningKey, domain};
use zeroize::Zeroizing;

use crate::root::Root;

const MAGIC: &[u8; 8] = b"FINKEY\x00\x02";
const SALT: usize = 16;
const NONCE: usize = 24;
const HEADER: usize = 8 + 12 + SALT + NONCE;
const PLAIN: usize = 32 + 2 * MAX_SLOTS as usize * 32;
const TAG: usize = 16;
const CHECKSUM: usize = 8;
const LENGTH: usize = HEADER + PLAIN + TAG + CHECKSUM;

/// What the machine keeps of a vault's keys.
#[derive(Clone)]
pub struct VaultKeys {
    /// The root secret.
    pub root: Root,
    guards: Vec<GuardKey>,
    /// Head keys that do not come from the root any more.
    rewound: BTreeMap<u32, SigningKey>,
}

impl VaultKeys {
    pub(crate) fn new(root: Root, guards: Vec<GuardKey>) -> Self {
        Self { root, guards, rewound: BTreeMap::new() }
    }

    /// The key that signs a slot's heads and releases.
    #[must_use]
    pub fn head_key(&self, slot: u32) -> SigningKey {
        self.rewound.get(&slot).cloned().unwrap_or_else(|| self.root.first_head_key(slot))
    }

    /// Signs a slot's heads with another key from now on; without effect for a slot from 32 on.
    pub fn rewind(&mut self, slot: u32, head_key: SigningKey) {
        if slot < MAX_SLOTS {
            self.rewound.insert(slot, head_key);
        }
    }

    /// The public guard key of a slot below 32.
    #[must_use]
    pub fn guard_key(&self, slot: u32) -> Option<GuardKey> {
        self.guards.get(slot as usize).copied()
    }

    /// The signed registration of a slot's account.
    ///
    /// # Errors
    /// [`RecordError::Inconsistent`] for a slot from 32 on.
    pub fn registration(&self, network: Network, slot: u32) -> Result<Signed<Registration>, RecordError> {
        let account = self.root.account(slot);
        let guard_key = self.guard_key(slot).ok_or(RecordError::Inconsistent)?;
        let head_key = self.root.first_head_key(slot).head_key();
        Signed::seal(&Registration { network, account: account.account(), head_key, guard_key }, &account)
    }
}

/// How hard a password is to guess: Argon2id's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    /// Memory in KiB, 8 MiB to 1 GiB.
    pub memory_kib: u32,
    /// Passes, 1 to 64.
    pub passes: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
}

impl Default for KdfParams {
    /// 64 MiB, three passes, one lane.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

impl KdfParams {
    fn check(self) -> Result<Self, KeyfileError> {
        let good = (8 << 10..=1 << 20).contains(&self.memory_kib)
            && (1..=64).contains(&self.passes)
            && (1..=16).contains(&self.lanes);
        if good { Ok(self) } else { Err(KeyfileError::Params) }
    }
}

/// The keyfile could not be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyfileError {
    /// The file is something else.
    #[error("the keyfile is damaged or of another version")]
    Format,
    /// The file was altered or cut.
    #[error("the keyfile is damaged")]
    Damaged,
    /// The password is not the one it was sealed with.
    #[error("wrong password")]
    WrongPassword,
    /// Argon2id parameters out of bounds.
    #[error("the keyfile's password parameters are out of bounds")]
    Params,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

fn password_key(password: &str, salt: &[u8], params: KdfParams) -> Result<Zeroizing<[u8; 32]>, KeyfileError> {
    let params = params.check()?;
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(32))
        .map_err(|_| KeyfileError::Params)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| KeyfileError::Params)?;
    Ok(key)
}

fn associated(header: &[u8]) -> Vec<u8> {
    domain::KEYFILE.message(header)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut out = [0; CHECKSUM];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM]);
    out
}

/// Seals a vault's keys under a password.
///
/// # Errors
/// If the parameters are out of bounds or there is no randomness.
pub fn seal(
    keys: &VaultKeys,
    password: &Zeroizing<String>,
    params: KdfParams,
) -> Result<Vec<u8>, KeyfileError> {
    let mut random = [0; SALT + NONCE];
    getrandom::fill(&mut random).map_err(|_| KeyfileError::Randomness)?;
    seal_with(keys, password, params, &random)
}

fn seal_with(
    keys: &VaultKeys,
    password: &Zeroizing<String>,
    params: KdfParams,
    random: &[u8; SALT + NONCE],
) -> Result<Vec<u8>, KeyfileError> {
    let key = password_key(password, &random[..SALT], params)?;
    let mut file = MAGIC.to_vec();
    for value in [params.memory_kib, params.passes, params.lanes] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(random);
    let mut body = Zeroizing::new(Vec::with_capacity(PLAIN + TAG));
    body.extend_from_slice(keys.root.as_bytes());
    keys.guards.iter().for_each(|guard| body.extend_from_slice(guard.as_bytes()));
    for slot in 0..MAX_SLOTS {
        let seed = keys.rewound.get(&slot).map(SigningKey::seed);
        body.extend_from_slice(seed.as_deref().unwrap_or(&[0; 32]));
    }
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&random[SALT..]);
    XChaCha20Poly1305::new((&*key).into())
        .encrypt_in_place(&nonce.into(), &associated(&file), &mut *body)
        .map_err(|_| KeyfileError::Damaged)?;
    file.extend_from_slice(&body);
    let sum = checksum(&file);
    file.extend_from_slice(&sum);
    Ok(file)
}

/// Opens a keyfile.
///
/// # Errors
/// [`KeyfileError`], which tells damage from a wrong password.
pub fn open(bytes: &[u8], password: &Zeroizing<String>) -> Result<VaultKeys, KeyfileError> {
    if !bytes.starts_with(MAGIC) {
        return Err(KeyfileError::Format);
    }
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(KeyfileError::Damaged)?;
    if bytes.len() != LENGTH || checksum(body) != *sum {
        return Err(KeyfileError::Damaged);
    }
    let (header, sealed) = body.split_at(HEADER);
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&header[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    let params = KdfParams { memory_kib: number(8), passes: number(12), lanes: number(16) };
    let key = password_key(password, &header[20..20 + SALT], params)?;
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&header[20 + SALT..]);
    let mut plain = Zeroizing::new(sealed.to_vec());
    XChaCha20Poly1305::new((&*key).into())
        .decrypt_in_place(&nonce.into(), &associated(header), &mut *plain)
        .map_err(|_| KeyfileError::WrongPassword)?;
    let (root, guards) = plain.split_first_chunk::<32>().ok_or(KeyfileError::Damaged)?;
    let (guards, seeds) = guards.as_chunks().0.split_at(MAX_SLOTS as usize);
    let guards = guards.iter().copied().map(GuardKey::from_bytes).collect();
    let mut keys = VaultKeys::new(Root::from_bytes(&Zeroizing::new(*root)), guards);
    for (slot, seed) in (0..).zip(seeds).filter(|(_, seed)| **seed != [0; 32]) {
        keys.rewind(slot, SigningKey::from_seed(&Zeroizing::new(*seed)));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUICK: KdfParams = KdfParams { memory_kib: 8 << 10, passes: 1, lanes: 1 };

    fn keys() -> VaultKeys {
        let guards = (0..MAX_SLOTS).map(|slot| GuardKey::from_bytes([slot as u8; 32])).collect();
        let mut keys = VaultKeys::new(Root::from_bytes(&Zeroizing::new([9; 32])), guards);
        keys.rewind(30, SigningKey::from_seed(&Zeroizing::new([7; 32])));
        keys
    }

    fn password(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn the_password_opens_it_and_another_does_not() {
        let file = seal(&keys(), &password("right"), QUICK).expect("seals");
        let open_keys = open(&file, &password("right")).map_err(|error| error.to_string()).expect("opens");
        assert_eq!(open_keys.root.as_bytes(), keys().root.as_bytes());
        assert_eq!(open_keys.guard_key(31), keys().guard_key(31));
        for slot in [0, 30, 31] {
            assert_eq!(open_keys.head_key(slot).head_key(), keys().head_key(slot).head_key());
        }
        assert_ne!(keys().head_key(30).head_key(), keys().root.first_head_key(30).head_key());
        assert_eq!(open(&file, &password("wrong")).err(), Some(KeyfileError::WrongPassword));
    }

    #[test]
    fn damage_is_told_from_a_wrong_password() {
        let file = seal(&keys(), &password("right"), QUICK).expect("seals");
        for at in (8..file.len()).step_by(37) {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert_eq!(open(&bad, &password("right")).err(), Some(KeyfileError::Damaged), "byte {at}");
        }
        assert_eq!(open(&file[..100], &password("right")).err(), Some(KeyfileError::Damaged));
        assert_eq!(open(b"something", &password("right")).err(), Some(KeyfileError::Format));
    }

    #[test]
    fn absurd_parameters_are_refused_before_they_are_used() {
        let mut file = seal(&keys(), &password("right"), QUICK).expect("seals");
        file[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let body = file.len() - CHECKSUM;
        let sum = checksum(&file[..body]);
        file[body..].copy_from_slice(&sum);
        assert_eq!(open(&file, &password("right")).err(), Some(KeyfileError::Params));
    }

    #[test]
    fn the_file_is_what_the_fixture_says() {
        let file = seal_with(&keys(), &password("right"), QUICK, &[5; SALT + NONCE]).expect("seals");
        assert_eq!(file.len(), LENGTH);
        fincrypt_vectors::check("keyfile.txt", &fincrypt_vectors::hex(&file));
    }

    proptest! {
        #[test]
        fn any_bytes_are_opened_or_refused(bytes: Vec<u8>) {
            prop_assert!(open(&bytes, &password("x")).is_err());
        }
    }
}
