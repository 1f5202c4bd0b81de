//! The parts of a sparse file that hold data.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The most ranges that [`holes`] returns, so that a hostile file takes at most a megabyte of
/// memory; a file this fragmented is read to its end from the last range on.
pub const MAX_RANGES: usize = 1 << 16;

/// The ranges of `file`, below `size` bytes, that hold data; between them are holes.
///
/// Worth asking only if [`super::Meta::may_have_holes`]. Where the file system knows no holes, all
/// is data. Moves the file's position, and leaves it at the start.
///
/// # Errors
/// If the file cannot be read.
pub fn holes(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data follows.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(errno) => return Err(errno.into()),
        };
        if start >= size {
            break;
        }
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            // A hole at the start of data can only be a file that is being changed.
            Ok(end) if end > start && ranges.len() + 1 < MAX_RANGES => end.min(size),
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => size,
            Err(errno) => return Err(errno.into()),
        };
        ranges.push(start..end);
        at = end;
    }
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};
    use std::os::unix::fs::FileExt;

    #[test]
    fn data_between_holes_is_found() {
        let mut file = tempfile::tempfile().expect("temporary file");
        let mib = 1 << 20;
        file.set_len(8 * mib).expect("grows");
        assert_eq!(holes(&file, 8 * mib).expect("asks"), []);
        file.write_all_at(&[1; 10], 2 * mib).expect("writes");
        file.write_all_at(&[1; 10], 8 * mib - 10).expect("writes");
        let ranges = holes(&file, 8 * mib).expect("asks");
        let [first, second] = &ranges[..] else { panic!("two ranges, not {ranges:?}") };
        assert!(first.start <= 2 * mib && first.end >= 2 * mib + 10 && first.end < 3 * mib);
        assert!(second.start > 7 * mib && second.end == 8 * mib);
        assert_eq!(file.stream_position().expect("asks"), 0);
    }

    #[test]
    fn a_full_file_is_one_range_and_an_empty_one_none() {
        let file = tempfile::tempfile().expect("temporary file");
        assert_eq!(holes(&file, 0).expect("asks"), []);
        file.write_all_at(&[1; 10_000], 0).expect("writes");
        assert_eq!(holes(&file, 10_000).expect("asks").as_slice(), std::slice::from_ref(&(0..10_000)));
        let mut all = Vec::new();
        (&file).read_to_end(&mut all).expect("reads");
        assert_eq!(all.len(), 10_000);
    }
}
