//! Content-defined chunks: FastCDC (Xia et al., 2016 and 2020), 256 KiB / 1 MiB / 4 MiB.

use std::io::{self, Read};

use fastcdc::v2020::FastCDC;

use crate::blob::MAX_BLOB;

/// The smallest chunk, but for the last of a file.
pub const MIN_CHUNK: usize = 256 << 10;
/// The size aimed at.
pub const AVERAGE_CHUNK: usize = 1 << 20;
/// The largest chunk.
pub const MAX_CHUNK: usize = MAX_BLOB;

/// Cuts files into chunks, with one buffer for all of them.
#[derive(Debug)]
pub struct Chunker {
    buffer: Vec<u8>,
}

impl Default for Chunker {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunker {
    /// A chunker with its buffer of two of the largest chunks.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: vec![0; 2 * MAX_CHUNK] }
    }

    /// Calls `each` with every chunk of `source`, in order; the number of bytes read.
    ///
    /// # Errors
    /// What reading or `each` returns.
    pub fn chunks<R: Read, E: From<io::Error>>(
        &mut self,
        mut source: R,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let (mut total, mut filled, mut ended) = (0, 0, false);
        loop {
            while !ended && filled < self.buffer.len() {
                match source.read(&mut self.buffer[filled..]) {
                    Ok(0) => ended = true,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if filled == 0 {
                return Ok(total);
            }
            let cut = self.cut_all(filled, ended, &mut each)?;
            total += cut as u64;
            self.buffer.copy_within(cut..filled, 0);
            filled -= cut;
        }
    }

    /// Cuts what is in the buffer; without the source's end in it, keeps back what a longer chunk
    /// might still need.
    fn cut_all<E>(
        &self,
        filled: usize,
        ended: bool,
        each: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut at = 0;
        while at < filled && (ended || filled - at >= MAX_CHUNK) {
            let rest = &self.buffer[at..filled];
            let length = if rest.len() <= MIN_CHUNK {
                rest.len()
            } else {
                let cutter = FastCDC::new(rest, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK);
                cutter.cut(0, rest.len()).1
            };
            each(&rest[..length])?;
            at += length;
        }
        Ok(at)
    }
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

    fn cut(source: &[u8]) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let read = Chunker::new().chunks(source, |chunk| {
            chunks.push(chunk.to_vec());
            Ok::<(), io::Error>(())
        });
        assert_eq!(read.expect("reads"), source.len() as u64);
        chunks
    }

    #[test]
    fn chunks_join_to_the_source_and_keep_their_bounds() {
        for len in [0, 1, MIN_CHUNK, MIN_CHUNK + 1, 2 * MAX_CHUNK, 30 << 20] {
            let source = bytes(len, 7);
            let chunks = cut(&source);
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
        let before: std::collections::HashSet<_> = cut(&source).into_iter().collect();
        let new = cut(&shifted).into_iter().filter(|chunk| !before.contains(chunk)).count();
        assert!(new <= 2, "{new} chunks changed");
    }

    #[test]
    fn a_source_that_trickles_gives_the_same_chunks() {
        struct Trickle<'a>(&'a [u8]);
        impl Read for Trickle<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.0.len().min(buffer.len()).min(70_001);
                buffer[..length].copy_from_slice(&self.0[..length]);
                self.0 = &self.0[length..];
                Ok(length)
            }
        }
        let source = bytes(12 << 20, 3);
        let mut chunks = Vec::new();
        let read = Chunker::new().chunks(Trickle(&source), |chunk| {
            chunks.push(chunk.to_vec());
            Ok::<(), io::Error>(())
        });
        assert!(read.is_ok());
        assert_eq!(chunks, cut(&source));
    }
}
