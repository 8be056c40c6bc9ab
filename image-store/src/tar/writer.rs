//! A writer with reproducible output: ustar headers, with PAX records for fields that do not fit.
//!
//! Names of users and groups are not written.

use std::io::Write;

use super::header::Header;
use super::{BLOCK, Entry, Kind, Timestamp, show};
use crate::error::{Doing, Error, Result};

/// Writes a tar archive, entry by entry.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    /// Bytes of the current entry that are still to be written.
    data: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self { output, data: 0, padding: 0 }
    }

    /// Starts an entry. For a regular file, write `size` bytes with [`Writer::data`] next. Sparse maps are not written.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for device numbers that do not fit,
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if the entry before is incomplete, errors of the output.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.close_entry()?;
        let mut records = Vec::new();
        let mut header = header(entry, &mut records)?;
        if !records.is_empty() {
            self.extended(&records)?;
        }
        header.seal();
        self.output.write_all(&header.0).doing(|| format!("write tar entry {}", show(&entry.path)))?;
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        self.data = size;
        self.padding =
            usize::try_from((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64).unwrap_or_default();
        Ok(())
    }

    /// Writes the next bytes of the current file.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if they exceed the entry's size, errors of the output.
    pub fn data(&mut self, piece: &[u8]) -> Result<()> {
        let Some(rest) = self.data.checked_sub(piece.len() as u64) else {
            return Err(Error::mismatch("write tar: a file grew while it was read"));
        };
        self.output.write_all(piece).doing(|| "write tar")?;
        self.data = rest;
        Ok(())
    }

    /// Writes the two zero blocks at the end and returns the output.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if the last entry is incomplete, errors of the output.
    pub fn finish(mut self) -> Result<W> {
        self.close_entry()?;
        self.output.write_all(&[0; 2 * BLOCK]).doing(|| "write tar")?;
        Ok(self.output)
    }

    fn close_entry(&mut self) -> Result<()> {
        if self.data > 0 {
            return Err(Error::mismatch("write tar: a file shrank while it was read"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.output.write_all(&[0; BLOCK][..padding]).doing(|| "write tar")
    }

    fn extended(&mut self, records: &[u8]) -> Result<()> {
        let mut header = Header::ustar(b'x');
        let fits = header.set_path(b"PaxHeaders.0/entry");
        let wide = header.set_numbers(0o644, 0, 0, records.len() as u64, 0);
        if !fits || !wide.is_empty() {
            return Err(Error::limit("write tar: extended header too large"));
        }
        header.seal();
        let mut block = header.0.to_vec();
        block.extend_from_slice(records);
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        self.output.write_all(&block).doing(|| "write tar")
    }
}

fn header(entry: &Entry, records: &mut Vec<u8>) -> Result<Header> {
    let (flag, link, device) = match &entry.kind {
        Kind::File => (b'0', None, None),
        Kind::Hardlink(target) => (b'1', Some(target), None),
        Kind::Symlink(target) => (b'2', Some(target), None),
        Kind::Character(major, minor) => (b'3', None, Some((*major, *minor))),
        Kind::Block(major, minor) => (b'4', None, Some((*major, *minor))),
        Kind::Directory => (b'5', None, None),
        Kind::Fifo => (b'6', None, None),
    };
    let mut header = Header::ustar(flag);
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    if !header.set_path(&path) {
        record(records, b"path", &path);
        let _ = header.set_path(&path[..path.len().min(100)]);
    }
    if let Some(link) = link.filter(|link| !header.set_link(link)) {
        record(records, b"linkpath", link);
    }
    if let Some((major, minor)) = device {
        header.set_device(major, minor)?;
    }
    let size = if entry.kind == Kind::File { entry.size } else { 0 };
    let (uid, gid) = (u64::from(entry.uid), u64::from(entry.gid));
    let wide = header.set_numbers(entry.mode, uid, gid, size, entry.mtime.seconds);
    for (key, value) in [("uid", uid), ("gid", gid), ("size", size)] {
        if wide.contains(&key) {
            record(records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    if entry.mtime.nanoseconds != 0 || wide.contains(&"mtime") {
        record(records, b"mtime", time(entry.mtime).as_bytes());
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        record(records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    Ok(header)
}

/// Appends `length key=value\n`; the length includes itself.
pub(super) fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let content = key.len() + value.len() + 3;
    let mut length = content;
    while length != content + length.to_string().len() {
        length = content + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn time(time: Timestamp) -> String {
    let fraction = |nanoseconds: u32| format!("{nanoseconds:09}").trim_end_matches('0').to_owned();
    match (time.seconds, time.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds @ 0.., nanoseconds) => format!("{seconds}.{}", fraction(nanoseconds)),
        (seconds, nanoseconds) => format!("-{}.{}", -(seconds + 1), fraction(1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for (value, wanted) in [("b", "6 a=b\n"), ("bbbb", "9 a=bbbb\n"), ("bbbbb", "11 a=bbbbb\n")] {
            let mut out = Vec::new();
            record(&mut out, b"a", value.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }

    #[test]
    fn a_file_must_have_the_size_its_header_says() {
        let mut writer = Writer::new(Vec::new());
        writer.entry(&Entry { size: 2, ..Entry::new("f", Kind::File, 0o644) }).unwrap();
        assert!(writer.data(b"abc").is_err());
        writer.data(b"a").unwrap();
        assert!(writer.finish().is_err());
    }
}
