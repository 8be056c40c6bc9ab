//! Maps of sparse files: where the stored bytes belong. All of GNU's formats end up as one checked list. Pure.

use super::pax::{SparseRecords, decimal};
use crate::error::{Error, Result};

/// Most pieces of one file; more is an attack on memory.
const PIECES_LIMIT: usize = 1 << 16;

/// Checks a map against the file's real size and the bytes that are stored.
pub(super) fn checked(pieces: Vec<(u64, u64)>, real_size: u64, stored: u64) -> Result<Vec<(u64, u64)>> {
    let wrong = |why: &str| Err(Error::invalid(format!("sparse map: {why}")));
    if pieces.len() > PIECES_LIMIT {
        return Err(Error::limit(format!("sparse map: more than {PIECES_LIMIT} pieces")));
    }
    let (mut end, mut total) = (0_u64, 0_u64);
    for (offset, length) in &pieces {
        let Some(next) = offset.checked_add(*length) else {
            return wrong("a piece ends beyond 64 bits");
        };
        if *offset < end || next > real_size {
            return wrong("pieces overlap, go backwards or lie outside the file");
        }
        (end, total) = (next, total + length);
    }
    if total != stored {
        return wrong("the pieces are not as long as the data");
    }
    Ok(pieces)
}

/// The map of formats 0.0 and 0.1, which stands in the records.
pub(super) fn from_records(records: &SparseRecords, stored: u64) -> Result<Vec<(u64, u64)>> {
    if !records.map.len().is_multiple_of(2) {
        return Err(Error::invalid("sparse map: an offset without a length"));
    }
    let pieces = records.map.chunks_exact(2).map(|p| (p[0], p[1])).collect();
    checked(pieces, records.real_size.unwrap_or(0), stored)
}

/// The map of format 1.0: decimal lines at the start of the data. Fed block by block until it is complete.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Prefix {
    /// Takes one block; `true` when the map is complete.
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
                return Err(Error::invalid("sparse map: a number of more than 20 digits"));
            }
        }
        self.is_complete()
    }

    fn is_complete(&self) -> Result<bool> {
        let Some(count) = self.numbers.first() else {
            return Ok(false);
        };
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        if count > PIECES_LIMIT {
            return Err(Error::limit(format!("sparse map: more than {PIECES_LIMIT} pieces")));
        }
        Ok(self.numbers.len() > 2 * count)
    }

    pub(super) fn pieces(self) -> Vec<(u64, u64)> {
        self.numbers[1..].chunks_exact(2).map(|p| (p[0], p[1])).collect()
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
}
