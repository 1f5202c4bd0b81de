//! Content-defined chunks: FastCDC (Xia et al., 2016 and 2020), 256 KiB / 1 MiB / 4 MiB.

use fastcdc::v2020::FastCDC;

use crate::blob::MAX_BLOB;

/// The smallest chunk, but for the last of a file.
pub const MIN_CHUNK: usize = 256 << 10;
/// The size aimed at.
pub const AVERAGE_CHUNK: usize = 1 << 20;
/// The largest chunk.
pub const MAX_CHUNK: usize = MAX_BLOB;

/// The length of the first chunk of `rest`, which goes to the source's end or is at least as long
/// as the largest chunk; zero if there is nothing.
#[must_use]
pub fn cut(rest: &[u8]) -> usize {
    if rest.len() <= MIN_CHUNK {
        return rest.len();
    }
    FastCDC::new(rest, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK).cut(0, rest.len()).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize, mut seed: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            out.extend_from_slice(&seed.to_le_bytes());
        }
        out.truncate(len);
        out
    }

    fn chunks(mut source: &[u8]) -> Vec<&[u8]> {
        let mut chunks = Vec::new();
        while !source.is_empty() {
            let (chunk, rest) = source.split_at(cut(source));
            chunks.push(chunk);
            source = rest;
        }
        chunks
    }

    #[test]
    fn chunks_join_to_the_source_and_keep_their_bounds() {
        for len in [0, 1, MIN_CHUNK, MIN_CHUNK + 1, 2 * MAX_CHUNK, 30 << 20] {
            let source = bytes(len, 7);
            let chunks = chunks(&source);
            assert_eq!(chunks.concat(), source);
            for (at, chunk) in chunks.iter().enumerate() {
                assert!(chunk.len() <= MAX_CHUNK);
                assert!(chunk.len() >= MIN_CHUNK || at + 1 == chunks.len());
            }
        }
    }

    #[test]
    fn a_byte_inserted_in_front_changes_few_chunks() {
        let source = bytes(30 << 20, 9);
        let mut shifted = vec![1];
        shifted.extend_from_slice(&source);
        let before: std::collections::HashSet<_> = chunks(&source).into_iter().collect();
        let new = chunks(&shifted).into_iter().filter(|chunk| !before.contains(chunk)).count();
        assert!(new <= 2, "{new} chunks changed");
    }

    #[test]
    fn a_chunk_does_not_depend_on_what_lies_beyond_the_largest() {
        let source = bytes(12 << 20, 3);
        let mut at = 0;
        while at < source.len() {
            let end = (at + MAX_CHUNK).min(source.len());
            let length = cut(&source[at..end]);
            assert_eq!(length, cut(&source[at..]));
            at += length;
        }
    }
}
