//! The stream cipher and the check of extents.

use aes::Aes256;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use fincrypt_protocol::domain;
use zeroize::Zeroizing;

use super::error::SegmentError;
use super::layout::NONCE_LEN;

/// Encrypts or decrypts `bytes`, which begin `offset` bytes after the segment's start.
pub(super) fn stream(key: &[u8; 32], offset: usize, bytes: &mut [u8]) -> Result<(), SegmentError> {
    let position = offset.checked_sub(NONCE_LEN).ok_or(SegmentError::Layout)?;
    let mut cipher = Ctr64BE::<Aes256>::new(key.into(), &[0; 16].into());
    cipher.try_seek(position as u64).map_err(|_| SegmentError::Layout)?;
    cipher.try_apply_keystream(bytes).map_err(|_| SegmentError::Layout)
}

/// The key of extent checks.
pub(super) fn check_key(directory_key: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    crate::root::expand(directory_key, domain::EXTENT_CHECK, &[])
}

/// The check of a stored extent: keyed BLAKE3, 16 bytes of it.
pub(super) fn check(key: &[u8; 32], extent: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::keyed_hash(key, extent).as_bytes()[..16]);
    out
}
