//! The frame of every request and response.
//!
//! ```text
//! u32le header length ‖ CBOR header ‖ u32le payload length ‖ raw payload
//! ```
//!
//! Both lengths are checked before anything is allocated: the header's against the protocol's
//! limit, the payload's against what the decoded header announces.

use crate::cbor::CborError;
use crate::limits::MAX_HEADER;
use bytes::Bytes;

/// A header that says how large a payload may follow it.
pub trait Header: Sized + Send + 'static {
    /// Its encoding.
    ///
    /// # Errors
    /// [`CborError`] if it cannot be encoded.
    fn to_cbor(&self) -> Result<Vec<u8>, CborError>;

    /// Reads what fills `bytes` entirely.
    ///
    /// # Errors
    /// [`CborError`] for anything else.
    fn from_cbor(bytes: &[u8]) -> Result<Self, CborError>;

    /// The most payload bytes that may follow this header.
    fn payload_limit(&self) -> u32;

    /// The most payload bytes that an answer to this header may bring; none unless it is a request
    /// for them.
    fn answer_limit(&self) -> u32 {
        0
    }
}

/// A header and the payload that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<H> {
    /// What the message says.
    pub header: H,
    /// The bytes it carries; empty for most messages.
    pub payload: Bytes,
}

/// A frame that the protocol does not allow.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The header is longer than the limit.
    #[error("a header of {0} bytes is too long")]
    Header(u32),
    /// The payload is longer than this header allows.
    #[error("a payload of {0} bytes is too long for its header")]
    Payload(u32),
    /// The frame ends early or goes on after its payload.
    #[error("the frame's length is wrong")]
    Length,
    /// The header is malformed.
    #[error("malformed header")]
    Malformed(#[from] CborError),
}

/// Checks a header's stated length.
///
/// # Errors
/// [`FrameError::Header`] over [`MAX_HEADER`].
pub fn header_len(stated: [u8; 4]) -> Result<usize, FrameError> {
    match u32::from_le_bytes(stated) {
        len if len <= MAX_HEADER => Ok(len as usize),
        len => Err(FrameError::Header(len)),
    }
}

/// Checks a payload's stated length against its header.
///
/// # Errors
/// [`FrameError::Payload`] over what the header allows.
pub fn payload_len<H: Header>(header: &H, stated: [u8; 4]) -> Result<usize, FrameError> {
    match u32::from_le_bytes(stated) {
        len if len <= header.payload_limit() => Ok(len as usize),
        len => Err(FrameError::Payload(len)),
    }
}

impl<H: Header> Frame<H> {
    /// A message without payload.
    #[must_use]
    pub const fn bare(header: H) -> Self {
        Self { header, payload: Bytes::new() }
    }

    /// Everything before the payload: both lengths and the header.
    ///
    /// # Errors
    /// If the header cannot be encoded, or either part is over its limit.
    pub fn prefix(&self) -> Result<Vec<u8>, FrameError> {
        let header = self.header.to_cbor()?;
        let header_size = u32::try_from(header.len()).unwrap_or(u32::MAX);
        header_len(header_size.to_le_bytes())?;
        let payload_size = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        payload_len(&self.header, payload_size.to_le_bytes())?;
        let mut out = Vec::with_capacity(header.len() + 8);
        out.extend_from_slice(&header_size.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&payload_size.to_le_bytes());
        Ok(out)
    }

    /// Reads a frame that fills `bytes` entirely.
    ///
    /// # Errors
    /// [`FrameError`] for anything else.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, FrameError> {
        let (stated, rest) = bytes.split_first_chunk::<4>().ok_or(FrameError::Length)?;
        let (header, rest) = rest.split_at_checked(header_len(*stated)?).ok_or(FrameError::Length)?;
        let header = H::from_cbor(header)?;
        let (stated, payload) = rest.split_first_chunk::<4>().ok_or(FrameError::Length)?;
        if payload_len(&header, *stated)? != payload.len() {
            return Err(FrameError::Length);
        }
        Ok(Self { header, payload: Bytes::copy_from_slice(payload) })
    }
}
