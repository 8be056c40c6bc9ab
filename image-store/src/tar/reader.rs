//! A streaming reader: headers in all formats become [`Entry`]s, data is passed on without copying.
//!
//! The size of the data is that of the PAX record if there is one, both for reading and for skipping it. Nothing after the
//! end marker is interpreted.

use std::io::BufRead;

use super::header::{Header, sparse_pieces};
use super::pax::Pax;
use super::sparse;
use super::{BLOCK, Entry, Kind, Timestamp, show};
use crate::error::{Doing, Error, Result};

/// Largest extended header or long name in bytes, as in Go's archive/tar.
const EXTENSION_LIMIT: u64 = 1 << 20;

/// Reads a tar archive, entry by entry.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes of the current entry's data that were not read yet.
    data: u64,
    /// Bytes of padding after the data.
    padding: u64,
    /// A valid header was read: the input is a tar archive.
    recognized: bool,
    ended: bool,
}

/// Fields from the extended headers before an entry.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// Reads an archive from `input`.
    pub fn new(input: R) -> Self {
        Self { input, data: 0, padding: 0, recognized: false, ended: false }
    }

    /// Reads the header of the next entry; `None` at the end. Unread data of the entry before is skipped.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the archive is malformed,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for unknown types of entries,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) for oversized extended headers, errors of the input.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.data(|_| Ok(()))?;
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            let Some(header) = self.header()? else {
                if extended {
                    return Err(Error::invalid("tar: truncated after an extended header"));
                }
                return Ok(None);
            };
            let flag = header.typeflag();
            match flag {
                b'x' | b'L' | b'K' | b'g' => {
                    let data = self.extension(&header)?;
                    match flag {
                        b'x' => extensions.pax = Pax::parse(&data)?,
                        b'L' => extensions.long_path = Some(super::header::text(&data).to_vec()),
                        b'K' => extensions.long_link = Some(super::header::text(&data).to_vec()),
                        // Global headers are ignored, as in other engines: mostly comments of git-archive(1).
                        _ => continue,
                    }
                    extended = true;
                }
                _ => {
                    let name = header.path();
                    return self
                        .entry(&header, extensions)
                        .doing(|| format!("tar entry {}", show(&name)))
                        .map(Some);
                }
            }
        }
    }

    /// Passes the unread data of the current entry to `sink`, piece by piece from the input's buffer. Of a sparse file these
    /// are the segments of the map without the holes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the archive is truncated, errors of the input and of `sink`.
    pub fn data(&mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.data > 0 {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Err(Error::invalid("tar: truncated in an entry's data"));
            }
            let length = usize::try_from(self.data).unwrap_or(usize::MAX).min(available.len());
            sink(&available[..length])?;
            self.input.consume(length);
            self.data -= length as u64;
        }
        self.skip_padding()
    }

    /// Returns the position of the current entry's data in an input that can seek, and moves the input to its end.
    pub(crate) fn skip_data(&mut self, position: impl Fn(&R) -> u64, seek: impl Fn(&mut R, u64)) -> u64 {
        let start = position(&self.input);
        let end = start.saturating_add(self.data).saturating_add(self.padding);
        (self.data, self.padding) = (0, 0);
        seek(&mut self.input, end);
        start
    }

    /// Returns the input, to read what follows the end marker.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn skip_padding(&mut self) -> Result<()> {
        while self.padding > 0 {
            let available = self.input.fill_buf()?.len();
            if available == 0 {
                return Err(Error::invalid("tar: truncated in the padding of an entry"));
            }
            let length = usize::try_from(self.padding).unwrap_or(usize::MAX).min(available);
            self.input.consume(length);
            self.padding -= length as u64;
        }
        Ok(())
    }

    /// The next header; `None` at a zero block that is the last or followed by another, and at the end of the input.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let Some(header) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if !header.is_zero() {
            header.check().map_err(|error| if self.recognized { error } else { not_an_archive() })?;
            self.recognized = true;
            return Ok(Some(header));
        }
        self.ended = true;
        match self.block()? {
            Some(second) if !second.is_zero() => Err(Error::invalid("tar: unexpected zero block")),
            _ => Ok(None),
        }
    }

    /// Reads one block; `None` at the end of the input.
    fn block(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                if filled == 0 {
                    return Ok(None);
                }
                let truncated = Error::invalid("tar: truncated in a header");
                return Err(if self.recognized { truncated } else { not_an_archive() });
            }
            let length = available.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&available[..length]);
            self.input.consume(length);
            filled += length;
        }
        Ok(Some(Header(block)))
    }

    fn frame(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = u64::try_from(header.size()?).map_err(|_| Error::invalid("tar: negative size"))?;
        if size > EXTENSION_LIMIT {
            return Err(Error::limit(format!("tar: extended header too large ({size} bytes)")));
        }
        self.frame(size);
        let mut data = Vec::new();
        self.data(|piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(data)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry> {
        let Extensions { pax, long_path, long_link } = extensions;
        let path = pax.path.clone().or(long_path).unwrap_or_else(|| header.path());
        let link = pax.link.clone().or(long_link).unwrap_or_else(|| header.link());
        let id = |from_pax: Option<u64>, raw: Result<i64>, what: &str| -> Result<u32> {
            let value = from_pax.map_or_else(|| raw.map(i128::from), |v| Ok(i128::from(v)))?;
            // For chown(2), -1 means "no change".
            let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| Error::invalid(format!("{what} {value} out of range")))
        };
        let mtime = match pax.mtime {
            Some(time) => time,
            None => Timestamp { seconds: header.mtime()?, nanoseconds: 0 },
        };
        let kind = kind(header, &path, link)?;
        let mut entry = Entry {
            uid: id(pax.uid, header.uid(), "uid")?,
            gid: id(pax.gid, header.gid(), "gid")?,
            mode: u32::try_from(header.mode()? & 0o7777).unwrap_or_default(),
            mtime,
            xattrs: pax.xattrs.clone(),
            ..Entry::new(path, kind, 0)
        };
        self.frame_data(header, &pax, &mut entry)?;
        if entry.path.is_empty() || entry.path.contains(&0) {
            return Err(Error::invalid("name is empty or contains a NUL byte"));
        }
        Ok(entry)
    }

    /// Sets the size of the entry and of the data that follows, and reads the sparse map.
    fn frame_data(&mut self, header: &Header, pax: &Pax, entry: &mut Entry) -> Result<()> {
        let raw = u64::try_from(header.size()?).map_err(|_| Error::invalid("negative size"))?;
        let stored = pax.size.unwrap_or(raw);
        if i64::try_from(stored).is_err() {
            return Err(Error::invalid("size exceeds 63 bits"));
        }
        // As in Go, only regular files have data, even if the header has a size.
        if entry.kind != Kind::File {
            self.frame(0);
            return Ok(());
        }
        entry.size = stored;
        self.frame(stored);
        let records = &pax.sparse;
        let map = if header.typeflag() == b'S' {
            self.old_sparse(header, entry)?
        } else if records.major == Some(1) && records.minor == Some(0) {
            self.sparse_prefix(records.real_size, entry)?
        } else if records.real_size.is_some() && !records.map.is_empty() {
            entry.size = records.real_size.unwrap_or_default();
            sparse::from_records(records, stored)?
        } else {
            return Ok(());
        };
        if let Some(name) = &records.name {
            entry.path.clone_from(name);
        }
        entry.sparse = Some(map);
        Ok(())
    }

    /// GNU's old format: four segments in the header, more in blocks between header and data.
    fn old_sparse(&mut self, header: &Header, entry: &mut Entry) -> Result<Vec<(u64, u64)>> {
        if !header.is_gnu() {
            return Err(Error::invalid("sparse file without a GNU header"));
        }
        let super::header::OldSparse { mut pieces, mut more, real_size } = header.old_sparse()?;
        while more {
            let block = self.block()?.ok_or_else(|| Error::invalid("truncated in a sparse map"))?;
            pieces.extend(sparse_pieces(&block.0[..504])?);
            more = block.0[504] != 0;
            if pieces.len() > sparse::MAX_SEGMENTS {
                return Err(Error::limit(format!("sparse map: more than {} segments", sparse::MAX_SEGMENTS)));
            }
        }
        let stored = entry.size;
        let unsigned =
            |v: i64| u64::try_from(v).map_err(|_| Error::invalid("negative number in a sparse map"));
        entry.size = unsigned(real_size)?;
        let pieces =
            pieces.into_iter().map(|(o, l)| Ok((unsigned(o)?, unsigned(l)?))).collect::<Result<_>>()?;
        sparse::checked(pieces, entry.size, stored)
    }

    /// Format 1.0: the map is at the start of the data, padded to whole blocks.
    fn sparse_prefix(&mut self, real_size: Option<u64>, entry: &mut Entry) -> Result<Vec<(u64, u64)>> {
        let mut prefix = sparse::Prefix::default();
        loop {
            let too_short = || Error::invalid("truncated in a sparse map");
            self.data = self.data.checked_sub(BLOCK as u64).ok_or_else(too_short)?;
            let block = self.block()?.ok_or_else(too_short)?;
            if prefix.feed(&block.0)? {
                break;
            }
        }
        entry.size = real_size.ok_or_else(|| Error::invalid("sparse file without its real size"))?;
        sparse::checked(prefix.pieces(), entry.size, self.data)
    }
}

fn not_an_archive() -> Error {
    Error::invalid("not a tar archive")
}

fn kind(header: &Header, path: &[u8], link: Vec<u8>) -> Result<Kind> {
    let device = || -> Result<(u32, u32)> {
        let (major, minor) = header.device()?;
        let part = |n: i64| u32::try_from(n).map_err(|_| Error::invalid("device number out of range"));
        Ok((part(major)?, part(minor)?))
    };
    let target = |link: Vec<u8>| {
        if link.is_empty() || link.contains(&0) {
            return Err(Error::invalid("link target missing or invalid"));
        }
        Ok(link)
    };
    Ok(match header.typeflag() {
        // In archives before POSIX, a directory is a file whose name ends in a slash.
        0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::Hardlink(target(link)?),
        b'2' => Kind::Symlink(target(link)?),
        b'3' => device().map(|(major, minor)| Kind::Character(major, minor))?,
        b'4' => device().map(|(major, minor)| Kind::Block(major, minor))?,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(Error::unsupported(format!("unknown type {:?}", char::from(other)))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Writer;

    fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut reader = Reader::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut data = Vec::new();
            reader.data(|piece| {
                data.extend_from_slice(piece);
                Ok(())
            })?;
            all.push((entry, data));
        }
        Ok(all)
    }

    fn file(name: &str, size: u64) -> Entry {
        Entry { size, ..Entry::new(name, Kind::File, 0o644) }
    }

    /// An entry of type `x` with these records, then a file whose header has the size `header_size`.
    fn with_records(records: &[(&str, &str)], header_size: u64, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            crate::tar::writer::record(&mut bytes, key.as_bytes(), value.as_bytes());
        }
        with_pax(&bytes, header_size, data)
    }

    fn with_pax(records: &[u8], header_size: u64, data: &[u8]) -> Vec<u8> {
        let mut pax = Header::ustar(b'x');
        assert!(pax.set_path(b"pax") && pax.set_numbers(0o644, 0, 0, records.len() as u64, 0).is_empty());
        pax.seal();
        let mut out = pax.0.to_vec();
        out.extend_from_slice(records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let mut header = Header::ustar(b'0');
        assert!(header.set_path(b"f") && header.set_numbers(0o644, 0, 0, header_size, 0).is_empty());
        header.seal();
        out.extend_from_slice(&header.0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        out
    }

    #[test]
    fn what_the_writer_writes_comes_back_whole() {
        let long = "d/".repeat(300) + "name";
        let entries = [
            Entry::new("dir/", Kind::Directory, 0o1777),
            Entry {
                uid: 3_000_000_000,
                gid: 7,
                mtime: Timestamp { seconds: -5, nanoseconds: 250_000_000 },
                xattrs: vec![(b"user.x".to_vec(), b"\0\xff=\n".to_vec())],
                ..file(&long, 0)
            },
            Entry::new(b"\xff\xfe".to_vec(), Kind::Symlink(long.clone().into_bytes()), 0o777),
            Entry::new("h", Kind::Hardlink(b"dir/x".to_vec()), 0o644),
            Entry::new("c", Kind::Character(1, 3), 0o666),
            Entry::new("b", Kind::Block(8, 0), 0o660),
            Entry::new("p", Kind::Fifo, 0o600),
        ];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
        }
        writer.entry(&file("data", 700)).unwrap();
        writer.data(&[7; 700]).unwrap();
        let bytes = writer.finish().unwrap();
        let all = read_all(&bytes).unwrap();
        for (found, wanted) in all.iter().zip(&entries) {
            assert_eq!(&found.0, wanted);
        }
        assert_eq!(all[7].1, vec![7; 700]);
        for cut in (1..bytes.len() - 2 * BLOCK).filter(|cut| cut % BLOCK != 0) {
            assert!(read_all(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_size_of_pax_frames_the_data_cve_2025_62518() {
        let mut inner = Header::ustar(b'0');
        assert!(inner.set_path(b"smuggled") && inner.set_numbers(0o644, 0, 0, 0, 0).is_empty());
        inner.seal();
        let all = read_all(&with_pax(b"12 size=512\n", 0, &inner.0)).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].0.size, all[0].1.as_slice()), (512, &inner.0[..]));
    }

    #[test]
    fn sparse_files_of_the_new_formats_have_a_map() {
        let name = ("GNU.sparse.name", "x");
        let old = [("GNU.sparse.major", "0"), ("GNU.sparse.minor", "1"), ("GNU.sparse.size", "1000")];
        let first = with_records(&[&old[..], &[("GNU.sparse.map", "0,2,998,2"), name]].concat(), 4, b"abcd");
        let mut block = b"2\n0\n2\n998\n2\n".to_vec();
        block.resize(BLOCK, 0);
        block.extend_from_slice(b"abcd");
        let new =
            [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1000"), name];
        let second = with_records(&new, 516, &block);
        for bytes in [first, second] {
            let all = read_all(&bytes).unwrap();
            let (entry, data) = &all[0];
            assert_eq!((entry.path.as_slice(), entry.size, data.as_slice()), (&b"x"[..], 1000, &b"abcd"[..]));
            assert_eq!(entry.sparse.as_deref(), Some(&[(0, 2), (998, 2)][..]));
        }
    }

    #[test]
    fn what_is_not_a_tar_archive_is_named_so() {
        for bytes in [&b"PK\x03\x04"[..], &[b'x'; 2 * BLOCK]] {
            assert_eq!(read_all(bytes).unwrap_err().to_string(), "not a tar archive");
        }
        let mut bytes = with_records(&[], 0, b"");
        bytes.truncate(BLOCK + 7);
        assert_eq!(read_all(&bytes).unwrap_err().to_string(), "tar: truncated in a header");
    }

    #[test]
    fn malicious_headers_are_refused() {
        for record in
            [("size", "99999999999999999999"), ("uid", "4294967295"), ("path", "a\0b"), ("mtime", "1.2.3")]
        {
            assert!(read_all(&with_records(&[record], 0, b"")).is_err(), "{record:?}");
        }
        let mut huge = Header::ustar(b'x');
        assert!(huge.set_numbers(0o644, 0, 0, 1 << 30, 0).is_empty());
        huge.seal();
        assert_eq!(read_all(&huge.0).unwrap_err().kind(), crate::ErrorKind::Limit);
        let mut unknown = Header::ustar(b'V');
        assert!(unknown.set_path(b"v") && unknown.set_numbers(0o644, 0, 0, 0, 0).is_empty());
        unknown.seal();
        assert_eq!(read_all(&unknown.0).unwrap_err().kind(), crate::ErrorKind::Unsupported);
    }

    #[test]
    fn random_damage_never_panics() {
        let records =
            [("GNU.sparse.size", "1000"), ("GNU.sparse.map", "0,2,998,2"), ("uid", "5"), ("mtime", "1.5")];
        let good = with_records(&records, 4, b"abcd");
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            // Correct the checksums, so that the damage is not only found by them.
            for block in [0, 1024] {
                let mut header = Header(bytes[block..block + BLOCK].try_into().unwrap());
                header.seal();
                bytes[block..block + BLOCK].copy_from_slice(&header.0);
            }
            let _ = read_all(&bytes);
        }
    }
}
