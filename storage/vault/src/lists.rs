//! Lists of catalog references, for a catalog that a head has no room for.
//!
//! A list of references, the content of a Refs blob in a catalog segment; each as in a head, see
//! [`crate::head`], and none of them a list itself:
//!
//! ```text
//! reference 40      (repeated)
//! ```
//!
//! A head refers to the segment by a reference of level [`LIST`]. A hundred million blobs fill ten
//! thousand catalog segments at most, of the smallest kind, which make a list of 400 KB.

use crate::blob::MAX_BLOB;
use crate::head::{CatalogRef, REF, decode_ref, encode_ref};

/// The level of a reference to a segment of lists.
pub const LIST: u8 = u8::MAX;
/// The most references of one blob: it is not split, and the smallest full segment has 1 MiB.
const MAX_REFS: usize = MAX_BLOB / 32 / REF;

/// Encodes references into lists that each fit a blob.
#[must_use]
pub fn encode_lists(refs: &[CatalogRef]) -> Vec<Vec<u8>> {
    refs.chunks(MAX_REFS).map(|refs| refs.iter().flat_map(encode_ref).collect()).collect()
}

/// Decodes a list of references; none if it is malformed.
#[must_use]
pub fn decode_list(bytes: &[u8]) -> Option<Vec<CatalogRef>> {
    let (refs, rest) = bytes.as_chunks::<REF>();
    if !rest.is_empty() || refs.len() > MAX_REFS {
        return None;
    }
    let refs: Vec<CatalogRef> = refs.iter().map(decode_ref).collect::<Option<_>>()?;
    refs.iter().all(|reference| reference.level != LIST).then_some(refs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Code, SegmentId, ShardLen};
    use proptest::prelude::*;

    fn reference((segment, data, level): ([u8; 32], u8, u8)) -> CatalogRef {
        CatalogRef {
            segment: SegmentId::from_bytes(segment),
            code: Code::new(data, data).expect("valid"),
            shard_len: ShardLen::FULL,
            level,
        }
    }

    proptest! {
        #[test]
        fn lists_round_trip(refs in proptest::collection::vec((any::<[u8; 32]>(), 1u8..=15, 0..LIST), 1..200)) {
            let refs: Vec<_> = refs.into_iter().map(reference).collect();
            let encoded = encode_lists(&refs);
            prop_assert_eq!(encoded.len(), 1);
            prop_assert_eq!(decode_list(&encoded[0]), Some(refs));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            bytes in any::<Vec<u8>>(),
            refs in proptest::collection::vec((any::<[u8; 32]>(), 1u8..=15, 0..LIST), 1..5),
            (at, byte) in any::<(usize, u8)>(),
        ) {
            let mut nearly = encode_lists(&refs.into_iter().map(reference).collect::<Vec<_>>()).concat();
            let at = at % nearly.len();
            nearly[at] = byte;
            for bytes in [bytes, nearly] {
                if let Some(refs) = decode_list(&bytes) {
                    prop_assert_eq!(encode_lists(&refs).concat(), bytes);
                }
            }
        }
    }

    #[test]
    fn many_references_fill_several_blobs() {
        let lists = encode_lists(&vec![reference(([1; 32], 4, 2)); MAX_REFS + 1]);
        assert_eq!(lists.iter().map(|list| list.len() / REF).collect::<Vec<_>>(), [MAX_REFS, 1]);
    }

    #[test]
    fn a_list_within_a_list_is_refused() {
        assert_eq!(decode_list(&encode_lists(&[reference(([1; 32], 4, LIST))]).concat()), None);
    }

    #[test]
    fn the_format_is_that_of_the_fixture() {
        let refs = [reference(([7; 32], 4, 3)), reference(([8; 32], 15, LIST - 1))];
        fincrypt_vectors::check("catalog-list.hex", &fincrypt_vectors::hex(&encode_lists(&refs).concat()));
    }
}
