//! Segments that wait to be released: nothing of them counts as stored any more.
//!
//! A list of marks, the content of a Marks blob beside the index pieces; integers are little-endian:
//!
//! ```text
//! segment id 32 │ time u64 │ bytes u64      (repeated)
//! ```
//!
//! A mark of time 0 says that the segment is doomed: its release is signed after the head that says
//! so, and no run may count on it from then on, not even the one that stored it.

use fincrypt_protocol::{SegmentId, UnixTime};

use crate::blob::MAX_BLOB;

/// Bytes of one encoded mark.
pub const MARK_LEN: usize = 48;
/// The most marks of one blob: it is not split, and the smallest full segment has 1 MiB.
const MAX_MARKS: usize = MAX_BLOB / 32 / MARK_LEN;

/// A segment that no catalog from now on refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The segment.
    pub segment: SegmentId,
    /// When it was marked, by its writer's clock.
    pub time: UnixTime,
    /// Bytes that its shards take in the swarm.
    pub bytes: u64,
}

impl Mark {
    /// The same, of a segment that is released from now on.
    #[must_use]
    pub fn doomed(self) -> Self {
        Self { time: UnixTime::from_secs(0), ..self }
    }

    /// Whether the segment's release is on its way, or was heard already.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.time.secs() == 0
    }
}

/// Encodes marks into lists that each fit a blob.
#[must_use]
pub fn encode_marks(marks: &[Mark]) -> Vec<Vec<u8>> {
    let list = |marks: &[Mark]| {
        let mut out = Vec::with_capacity(marks.len() * MARK_LEN);
        for mark in marks {
            out.extend_from_slice(mark.segment.as_bytes());
            out.extend_from_slice(&mark.time.secs().to_le_bytes());
            out.extend_from_slice(&mark.bytes.to_le_bytes());
        }
        out
    };
    marks.chunks(MAX_MARKS).map(list).collect()
}

/// Decodes a list of marks; none if it is malformed.
#[must_use]
pub fn decode_marks(bytes: &[u8]) -> Option<Vec<Mark>> {
    let (marks, rest) = bytes.as_chunks::<MARK_LEN>();
    if !rest.is_empty() || marks.len() > MAX_MARKS {
        return None;
    }
    marks.iter().map(decode_mark).collect()
}

fn decode_mark(bytes: &[u8; MARK_LEN]) -> Option<Mark> {
    let (segment, rest) = bytes.split_first_chunk::<32>()?;
    let (time, bytes) = rest.split_first_chunk::<8>()?;
    Some(Mark {
        segment: SegmentId::from_bytes(*segment),
        time: UnixTime::from_secs(u64::from_le_bytes(*time)),
        bytes: u64::from_le_bytes(bytes.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark((segment, time, bytes): ([u8; 32], u64, u64)) -> Mark {
        Mark { segment: SegmentId::from_bytes(segment), time: UnixTime::from_secs(time), bytes }
    }

    proptest! {
        #[test]
        fn marks_round_trip(marks in proptest::collection::vec(any::<([u8; 32], u64, u64)>(), 1..50)) {
            let marks: Vec<_> = marks.into_iter().map(mark).collect();
            let encoded = encode_marks(&marks);
            prop_assert_eq!(encoded.len(), 1);
            prop_assert_eq!(decode_marks(&encoded[0]), Some(marks));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            if let Some(marks) = decode_marks(&bytes) {
                prop_assert_eq!(encode_marks(&marks).concat(), bytes);
            }
        }
    }

    #[test]
    fn many_marks_fill_several_blobs() {
        let lists = encode_marks(&vec![mark(([1; 32], 2, 3)); MAX_MARKS + 1]);
        assert_eq!(lists.iter().map(|list| list.len() / MARK_LEN).collect::<Vec<_>>(), [MAX_MARKS, 1]);
        assert!(lists.iter().all(|list| list.len() <= MAX_BLOB));
    }

    #[test]
    fn the_format_is_that_of_the_fixture() {
        let marks = [mark(([7; 32], 1_800_000_000, 4096)), mark(([8; 32], 1, u64::MAX))];
        fincrypt_vectors::check("marks.hex", &fincrypt_vectors::hex(&encode_marks(&marks).concat()));
    }
}
