//! The header block: reading and writing its fields. No I/O.
//!
//! Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".

use super::BLOCK;
use crate::error::{Error, Result};

/// A header block.
#[derive(Clone)]
pub struct Header(pub [u8; BLOCK]);

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Header({:?}, {:?})",
            String::from_utf8_lossy(text(&self.0[..100])),
            char::from(self.typeflag())
        )
    }
}

/// The sparse map in an old GNU header.
#[derive(Debug)]
pub struct OldSparse {
    /// Offset and length of up to four segments.
    pub pieces: Vec<(i64, i64)>,
    /// Whether blocks with more segments follow the header.
    pub more: bool,
    /// Size of the file in bytes, including holes.
    pub real_size: i64,
}

/// Offset and length of each field.
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const LINK: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 8);
const MAJOR: (usize, usize) = (329, 8);
const MINOR: (usize, usize) = (337, 8);
const PREFIX: (usize, usize) = (345, 155);

impl Header {
    /// An empty ustar header with this type.
    #[must_use]
    pub fn ustar(typeflag: u8) -> Self {
        let mut block = [0; BLOCK];
        block[156] = typeflag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        Self(block)
    }

    fn field(&self, (at, length): (usize, usize)) -> &[u8] {
        &self.0[at..at + length]
    }

    /// Whether this is a zero block: two of these end an archive.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Verifies the checksum; old archives have it over signed bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is wrong.
    pub fn check(&self) -> Result<()> {
        let stored = number(self.field(CHECKSUM))?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stored != unsigned && stored != signed {
            return Err(Error::invalid("tar header: checksum mismatch"));
        }
        Ok(())
    }

    /// The type of the entry: `b'0'` for a regular file, and so on.
    #[must_use]
    pub fn typeflag(&self) -> u8 {
        self.0[156]
    }

    fn is_posix(&self) -> bool {
        self.field(MAGIC) == b"ustar\x0000"
    }

    /// Whether the header is in GNU format.
    #[must_use]
    pub fn is_gnu(&self) -> bool {
        self.field(MAGIC) == b"ustar  \0"
    }

    /// The name, with the prefix of a POSIX header.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = text(self.field(PREFIX));
        if self.is_posix() && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    /// The target of a link.
    #[must_use]
    pub fn link(&self) -> Vec<u8> {
        text(self.field(LINK)).to_vec()
    }

    /// Permission bits.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the field is not a number.
    pub fn mode(&self) -> Result<i64> {
        number(self.field(MODE)).map_err(|e| e.context("mode"))
    }

    /// User ID of the owner.
    ///
    /// # Errors
    /// See [`Header::mode`].
    pub fn uid(&self) -> Result<i64> {
        number(self.field(UID)).map_err(|e| e.context("uid"))
    }

    /// Group ID.
    ///
    /// # Errors
    /// See [`Header::mode`].
    pub fn gid(&self) -> Result<i64> {
        number(self.field(GID)).map_err(|e| e.context("gid"))
    }

    /// Size of the data that follows, in bytes.
    ///
    /// # Errors
    /// See [`Header::mode`].
    pub fn size(&self) -> Result<i64> {
        number(self.field(SIZE)).map_err(|e| e.context("size"))
    }

    /// Modification time in seconds since the epoch.
    ///
    /// # Errors
    /// See [`Header::mode`].
    pub fn mtime(&self) -> Result<i64> {
        number(self.field(MTIME)).map_err(|e| e.context("mtime"))
    }

    /// Major and minor number of a device.
    ///
    /// # Errors
    /// See [`Header::mode`].
    pub fn device(&self) -> Result<(i64, i64)> {
        let part = |field| number(self.field(field)).map_err(|e| e.context("device number"));
        Ok((part(MAJOR)?, part(MINOR)?))
    }

    /// The sparse map of an old GNU header.
    ///
    /// # Errors
    /// See [`Header::mode`].
    pub fn old_sparse(&self) -> Result<OldSparse> {
        let pieces = sparse_pieces(&self.0[386..482])?;
        Ok(OldSparse { pieces, more: self.0[482] != 0, real_size: number(&self.0[483..495])? })
    }

    /// Sets the name: up to 100 bytes, or up to 155 and 100 bytes around a slash. `false`: it does not fit.
    #[must_use]
    pub fn set_path(&mut self, path: &[u8]) -> bool {
        if path.len() <= 100 {
            self.0[..path.len()].copy_from_slice(path);
            return true;
        }
        if path.len() > 256 {
            return false;
        }
        let split = (path.len() - 101..path.len().min(156)).rev().find(|at| path[*at] == b'/' && *at > 0);
        let Some(split) = split else { return false };
        let name = &path[split + 1..];
        if name.is_empty() || name.len() > 100 {
            return false;
        }
        self.0[..name.len()].copy_from_slice(name);
        self.0[PREFIX.0..PREFIX.0 + split].copy_from_slice(&path[..split]);
        true
    }

    /// Sets the target of a link: up to 100 bytes. `false`: it does not fit.
    #[must_use]
    pub fn set_link(&mut self, link: &[u8]) -> bool {
        if link.len() > LINK.1 {
            return false;
        }
        self.0[LINK.0..LINK.0 + link.len()].copy_from_slice(link);
        true
    }

    /// Sets mode, owner, group, size and time (in seconds). Returns the names of those that do not fit, which become 0.
    pub fn set_numbers(&mut self, mode: u32, uid: u64, gid: u64, size: u64, mtime: i64) -> Vec<&'static str> {
        let mut wide = Vec::new();
        let seconds = u64::try_from(mtime).unwrap_or(u64::MAX);
        for (name, field, value) in [
            ("mode", MODE, u64::from(mode)),
            ("uid", UID, uid),
            ("gid", GID, gid),
            ("size", SIZE, size),
            ("mtime", MTIME, seconds),
        ] {
            if !self.set_octal(field, value) {
                let _ = self.set_octal(field, 0);
                wide.push(name);
            }
        }
        wide
    }

    /// Sets the numbers of a device.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for numbers above 2,097,151, which do not fit.
    pub fn set_device(&mut self, major: u32, minor: u32) -> Result<()> {
        if self.set_octal(MAJOR, u64::from(major)) && self.set_octal(MINOR, u64::from(minor)) {
            return Ok(());
        }
        Err(Error::unsupported(format!("tar: device {major}:{minor}: numbers out of range")))
    }

    fn set_octal(&mut self, (at, length): (usize, usize), value: u64) -> bool {
        let digits = format!("{value:0width$o}\0", width = length - 1);
        if digits.len() != length {
            return false;
        }
        self.0[at..at + length].copy_from_slice(digits.as_bytes());
        true
    }

    /// Sets the checksum, after all other fields.
    pub fn seal(&mut self) {
        self.0[CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1].fill(b' ');
        let sum: u32 = self.0.iter().map(|b| u32::from(*b)).sum();
        let digits = format!("{sum:06o}\0 ");
        self.0[CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1].copy_from_slice(digits.as_bytes());
    }
}

/// Segments (24 bytes: offset and length) up to the first empty one.
pub(super) fn sparse_pieces(bytes: &[u8]) -> Result<Vec<(i64, i64)>> {
    let mut pieces = Vec::new();
    for piece in bytes.chunks_exact(24) {
        if piece[0] == 0 || piece[12] == 0 {
            break;
        }
        pieces.push((number(&piece[..12])?, number(&piece[12..])?));
    }
    Ok(pieces)
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// Parses a numeric field: octal digits with spaces and NUL bytes around them, or GNU's base 256, marked by the top bit.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for other characters and numbers of more than 63 bits.
pub fn number(field: &[u8]) -> Result<i64> {
    let wrong = || Error::invalid(format!("tar header: invalid number {:?}", String::from_utf8_lossy(field)));
    if field.first().is_some_and(|b| b & 0x80 != 0) {
        return base_256(field).ok_or_else(wrong);
    }
    let trimmed = text(field).trim_ascii();
    let trimmed = if trimmed.is_empty() { field.trim_ascii() } else { trimmed };
    if trimmed.iter().all(|b| *b == 0) {
        return Ok(0);
    }
    let mut value = 0_i64;
    for byte in trimmed {
        let digit = byte.checked_sub(b'0').filter(|d| *d < 8).ok_or_else(wrong)?;
        value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit))).ok_or_else(wrong)?;
    }
    Ok(value)
}

/// Two's complement, big-endian. The first bit marks the encoding, the second is the sign.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = match (at, negative) {
            (0, false) => byte & 0x7f,
            (0, true) => byte | 0x80,
            _ => *byte,
        };
        let grown = value.checked_mul(256)?;
        value = grown.checked_add(i64::from(byte))?;
        if at == 0 {
            value = if negative { i64::from(byte.cast_signed()) } else { i64::from(byte) };
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"644     ", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"\x80\0\0\0\0\0\x01\0", 256),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\x00", -256),
            (b"77777777777\0", 0o77_777_777_777),
        ] {
            assert_eq!(number(field).unwrap(), value, "{field:?}");
        }
        for bad in [&b"9"[..], b"12x", b"-1", b"1 2", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_long_path_is_split_at_a_slash_when_it_fits() {
        let mut header = Header::ustar(b'0');
        let path = [vec![b'a'; 120], vec![b'/'], vec![b'b'; 90]].concat();
        assert!(header.set_path(&path));
        assert_eq!(header.path(), path);
        assert!(!Header::ustar(b'0').set_path(&[b'a'; 101]));
        assert!(!Header::ustar(b'0').set_path(&[[b'a'; 160].as_slice(), b"/b"].concat()));
    }

    #[test]
    fn a_sealed_header_passes_its_check_and_a_changed_one_does_not() {
        let mut header = Header::ustar(b'0');
        assert!(header.set_numbers(0o644, 0, 0, 5, 7).is_empty());
        header.seal();
        header.check().unwrap();
        header.0[0] = b'x';
        assert!(header.check().is_err());
    }
}
