//! Sparse maps: where the stored bytes of a file belong. All of GNU's formats become a validated list. No I/O.

use super::Entry;
use super::pax::{SparseRecords, decimal};
use crate::error::{Error, Result};

/// Largest number of segments of a file, to bound memory.
pub(super) const MAX_SEGMENTS: usize = 1 << 16;

/// Validates a map against the file's real size and the number of stored bytes.
pub(super) fn checked(pieces: Vec<(u64, u64)>, real_size: u64, stored: u64) -> Result<Vec<(u64, u64)>> {
    let wrong = |why: &str| Err(Error::invalid(format!("sparse map: {why}")));
    if pieces.len() > MAX_SEGMENTS {
        return Err(Error::limit(format!("sparse map: more than {MAX_SEGMENTS} segments")));
    }
    let (mut end, mut total) = (0_u64, 0_u64);
    for (offset, length) in &pieces {
        let Some(next) = offset.checked_add(*length) else {
            return wrong("a segment ends beyond 64 bits");
        };
        if *offset < end || next > real_size {
            return wrong("segments overlap, are out of order or outside the file");
        }
        (end, total) = (next, total + length);
    }
    if total != stored {
        return wrong("sizes of map and data differ");
    }
    Ok(pieces)
}

/// The map of formats 0.0 and 0.1, in the PAX records.
pub(super) fn from_records(records: &SparseRecords, stored: u64) -> Result<Vec<(u64, u64)>> {
    if !records.map.len().is_multiple_of(2) {
        return Err(Error::invalid("sparse map: missing length"));
    }
    let pieces = records.map.chunks_exact(2).map(|p| (p[0], p[1])).collect();
    checked(pieces, records.real_size.unwrap_or(0), stored)
}

/// The map of format 1.0: decimal lines at the start of the data. Parsed block by block.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Prefix {
    /// Adds one block; `true` when the map is complete.
    pub(super) fn feed(&mut self, block: &[u8]) -> Result<bool> {
        for byte in block {
            if self.is_complete()? {
                return Ok(true);
            }
            if *byte == b'\n' {
                self.numbers.push(decimal(b"GNU.sparse", &self.line)?);
                self.line.clear();
            } else if self.line.len() < 20 {
                self.line.push(*byte);
            } else {
                return Err(Error::invalid("sparse map: number with more than 20 digits"));
            }
        }
        self.is_complete()
    }

    fn is_complete(&self) -> Result<bool> {
        let Some(count) = self.numbers.first() else {
            return Ok(false);
        };
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        if count > MAX_SEGMENTS {
            return Err(Error::limit(format!("sparse map: more than {MAX_SEGMENTS} segments")));
        }
        Ok(self.numbers.len() > 2 * count)
    }

    pub(super) fn pieces(self) -> Vec<(u64, u64)> {
        self.numbers[1..].chunks_exact(2).map(|p| (p[0], p[1])).collect()
    }
}

/// Maps the stored bytes of a file, sparse or not, to offsets, as they are read.
#[derive(Debug)]
pub(crate) struct Placement {
    pieces: std::vec::IntoIter<(u64, u64)>,
    offset: u64,
    left: u64,
}

impl Placement {
    pub(crate) fn of(entry: &Entry) -> Self {
        let pieces = entry.sparse.clone().unwrap_or_else(|| vec![(0, entry.size)]);
        Self { pieces: pieces.into_iter(), offset: 0, left: 0 }
    }

    /// Passes the next `bytes` to `put`, each part with its offset in the file.
    pub(crate) fn place(
        &mut self,
        mut bytes: &[u8],
        mut put: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let next = self.pieces.next();
                (self.offset, self.left) =
                    next.ok_or_else(|| Error::invalid("more data than in its sparse map"))?;
                continue;
            }
            let length = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            put(self.offset, &bytes[..length])?;
            bytes = &bytes[length..];
            (self.offset, self.left) = (self.offset + length as u64, self.left - length as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_ascend_fit_and_add_up() {
        assert!(checked(vec![(0, 5), (10, 5)], 20, 10).is_ok());
        assert!(checked(vec![(20, 0)], 20, 0).is_ok());
        for (pieces, size, stored) in [
            (vec![(0, 5), (4, 5)], 20, 10),
            (vec![(10, 5), (0, 5)], 20, 10),
            (vec![(10, 11)], 20, 11),
            (vec![(0, 5)], 20, 6),
            (vec![(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(checked(pieces.clone(), size, stored).is_err(), "{pieces:?}");
        }
    }

    #[test]
    fn a_map_in_the_data_may_cross_blocks() {
        let text = b"2\n0\n5\n100\n6\n";
        let mut prefix = Prefix::default();
        assert!(!prefix.feed(&text[..7]).unwrap());
        assert!(prefix.feed(&text[7..]).unwrap());
        assert_eq!(prefix.pieces(), [(0, 5), (100, 6)]);
        assert!(Prefix::default().feed(b"99999999\n").is_err());
        assert!(Prefix::default().feed(b"-1\n").is_err());
    }

    #[test]
    fn bytes_go_where_the_map_says_however_they_come() {
        let sparse = Some(vec![(2, 3), (7, 0), (10, 2)]);
        let entry = Entry { size: 20, sparse, ..Entry::new("f", crate::tar::Kind::File, 0o644) };
        for step in 1..=5 {
            let (mut placement, mut file) = (Placement::of(&entry), [b'.'; 13]);
            let mut put = |offset: u64, part: &[u8]| {
                let at = usize::try_from(offset).unwrap();
                file[at..at + part.len()].copy_from_slice(part);
                Ok(())
            };
            b"abcde".chunks(step).for_each(|bytes| placement.place(bytes, &mut put).unwrap());
            assert!(placement.place(b"f", &mut put).is_err(), "more data than in the map");
            assert_eq!(&file, b"..abc.....de.", "{step}");
        }
    }
}
