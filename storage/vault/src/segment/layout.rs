//! The lengths of a segment's fixed parts, in the layout that [`super`] draws.

/// Bytes of a segment's nonce, which stand in front of it.
pub const NONCE_LEN: usize = 24;
/// Bytes of the directory's length, which stand at the end.
pub(super) const LENGTH_LEN: usize = 4;
/// Bytes that sealing adds to the directory.
pub(super) const TAG_LEN: usize = 16;
