//! Reading a journal from its beginning, and telling a torn record from a damaged one.

use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use super::{HEAD, Journal, JournalError, MAGIC, Replayed, checksum};

/// Reads up to `buffer.len()` bytes; how many there were.
fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Journal {
    /// Calls `replay` with every whole record of a file that ends at `end`. What is to be cut off is not
    /// cut off here.
    pub(super) fn replay(&self, end: u64, replay: &mut impl FnMut(&[u8])) -> Result<Replayed, JournalError> {
        let mut reader = BufReader::new(&self.file);
        let mut magic = [0; MAGIC.len()];
        reader.read_exact(&mut magic).map_err(|source| self.io(source))?;
        if magic != *MAGIC {
            return Err(JournalError::Format(self.path.clone()));
        }
        let (mut offset, mut records, mut bytes) = (MAGIC.len() as u64, 0, Vec::new());
        while offset < end {
            let Some(next) = self.read_record(&mut reader, offset, end, &mut bytes)? else { break };
            replay(&bytes);
            records += 1;
            offset = next;
        }
        Ok(Replayed { records, cut: end - offset })
    }

    /// Reads the record at `offset` of a file that ends at `end`; where the next one begins. None if it
    /// was torn.
    fn read_record(
        &self,
        reader: &mut impl Read,
        offset: u64,
        end: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<u64>, JournalError> {
        let io = |source| self.io(source);
        let damaged = || JournalError::Damaged { path: self.path.clone(), offset };
        let mut head = [0; HEAD];
        let got = read_up_to(reader, &mut head).map_err(io)?;
        let mut stated = [0; 4];
        stated.copy_from_slice(&head[..4]);
        let length = u32::from_le_bytes(stated);
        // No such length was ever written; nothing of it is read.
        if got == HEAD && length > self.max_record {
            return Err(damaged());
        }
        let next = offset + HEAD as u64 + u64::from(length);
        if got < HEAD || next > end {
            let torn = !self.has_record_after(offset, end).map_err(io)?;
            return if torn { Ok(None) } else { Err(damaged()) };
        }
        bytes.resize(length as usize, 0);
        reader.read_exact(bytes).map_err(io)?;
        if checksum(stated, bytes) == head[4..] {
            return Ok(Some(next));
        }
        let torn = self.is_zero_from(offset, end).map_err(io)?
            || (next == end && !self.has_record_after(offset, end).map_err(io)?);
        if torn { Ok(None) } else { Err(damaged()) }
    }

    /// Whether a whole record begins somewhere after `offset`, from where the file goes on for one record of
    /// the longest length at most: what stands at `offset` was not torn then.
    fn has_record_after(&self, offset: u64, end: u64) -> io::Result<bool> {
        let mut tail = vec![0; usize::try_from(end - offset).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut tail, offset)?;
        let mut rest = tail.as_slice();
        while let Some((_, after)) = rest.split_first() {
            if self.is_record(after) {
                return Ok(true);
            }
            rest = after;
        }
        Ok(false)
    }

    /// Whether `bytes` begin with a whole record. Its neighbour's length is looked at before its own
    /// checksum, which is costly.
    fn is_record(&self, bytes: &[u8]) -> bool {
        let stated = |bytes: &[u8]| {
            let length = bytes.first_chunk::<4>()?;
            (u32::from_le_bytes(*length) <= self.max_record).then_some(*length)
        };
        let Some((length, (head, rest))) = stated(bytes).zip(bytes.split_at_checked(HEAD)) else {
            return false;
        };
        let Some((record, next)) = rest.split_at_checked(u32::from_le_bytes(length) as usize) else {
            return false;
        };
        (next.len() < 4 || stated(next).is_some()) && head.ends_with(&checksum(length, record))
    }

    /// Whether the file holds nothing but zeros from `offset` to `end`: some file systems leave that
    /// of an append that a power cut interrupted.
    fn is_zero_from(&self, mut offset: u64, end: u64) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while offset < end {
            let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
            self.file.read_exact_at(&mut buffer[..length], offset)?;
            if buffer[..length].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset += length as u64;
        }
        Ok(true)
    }
}
