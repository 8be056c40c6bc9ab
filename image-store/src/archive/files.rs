//! Reading files by name from a directory or a tar archive. Either may be malicious: links in a directory are not followed,
//! and links in a tar archive are resolved within it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::{Doing, Error, Result};
use crate::layer::change::{clean, join, split};
use crate::layer::compression::Compression;
use crate::tar::{Kind, Reader, show};

/// A collection of files by name.
pub trait Files: Sync {
    /// Opens a file; returns a reader and its size in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such file.
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)>;

    /// Whether the file exists.
    fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such file,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) if it is larger.
    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        crate::digest::read_limited(self.open(name)?.0, limit, name)
    }
}

/// The files of a directory.
#[derive(Debug)]
pub struct DirFiles(File);

impl DirFiles {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// Those of open(2); [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if `path` is not a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = File::open(path).doing(|| format!("open {path:?}"))?;
        if !dir.metadata()?.is_dir() {
            return Err(Error::invalid(format!("open {path:?}: not a directory")));
        }
        Ok(Self(dir))
    }
}

impl Files for DirFiles {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)> {
        let path = clean(name.as_bytes())?;
        let opened = crate::tree::open_below(&self.0, &path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => {
                return Err(Error::not_found(format!("{name:?}: not in the directory")));
            }
            Err(errno) => return Err(errno).doing(|| format!("open {name:?}")),
        };
        let meta = file.metadata().doing(|| format!("stat {name:?}"))?;
        if !meta.is_file() {
            return Err(Error::invalid(format!("{name:?}: not a regular file")));
        }
        Ok((Box::new(file), meta.len()))
    }
}

/// Largest number of entries in an archive.
const MAX_ENTRIES: usize = 1 << 20;

/// The files of a tar archive: indexed once, then read in any order and by several threads.
#[derive(Debug)]
pub struct TarFiles {
    file: Arc<File>,
    names: HashMap<Vec<u8>, Place>,
}

#[derive(Debug, Clone)]
enum Place {
    /// Offset and length of the data.
    Data(u64, u64),
    /// The name of another entry.
    Link(Vec<u8>),
}

impl TarFiles {
    /// Indexes the archive in `file`. If it is compressed or a pipe, it is first unpacked to an unnamed file in the directory
    /// `scratch`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is not a tar archive; failed system calls.
    pub fn open(mut file: File, scratch: &Path) -> Result<Self> {
        let seekable = file.stream_position().is_ok();
        let mut input = BufReader::with_capacity(128 << 10, &file);
        let compression = Compression::sniff(input.fill_buf().doing(|| "read archive")?)?;
        if !seekable || compression != Compression::None {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let copy = rustix::fs::open(scratch, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
            let mut copy = File::from(copy.doing(|| format!("create a temporary file in {scratch:?}"))?);
            io::copy(&mut compression.decoder(input)?, &mut copy).doing(|| "copy archive")?;
            copy.flush()?;
            file = copy;
        }
        let names = index(&file)?;
        Ok(Self { file: Arc::new(file), names })
    }
}

/// A buffered reader with a position, which can skip without reading.
struct Positioned<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    start: u64,
    at: usize,
    filled: usize,
}

impl Positioned<'_> {
    fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    fn seek_to(&mut self, position: u64) {
        (self.start, self.at, self.filled) = (position, 0, 0);
    }
}

impl Read for Positioned<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        crate::buffered::read(self, out)
    }
}

impl BufRead for Positioned<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.filled {
            self.start += self.filled as u64;
            self.at = 0;
            self.filled = self.file.read_at(&mut self.buffer, self.start)?;
        }
        Ok(&self.buffer[self.at..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

fn index(file: &File) -> Result<HashMap<Vec<u8>, Place>> {
    let length = file.metadata()?.len();
    let input = Positioned { file, buffer: vec![0; 4096], start: 0, at: 0, filled: 0 };
    let mut reader = Reader::new(input);
    let mut names = HashMap::new();
    while let Some(entry) = reader.next_entry().doing(|| "read archive")? {
        let place = match entry.kind {
            Kind::File if entry.sparse.is_some() => {
                return Err(Error::unsupported(format!(
                    "archive entry {}: sparse files are not supported",
                    show(&entry.path)
                )));
            }
            Kind::File => {
                let start = reader.skip_data(Positioned::position, Positioned::seek_to);
                if start.checked_add(entry.size).is_none_or(|end| end > length) {
                    return Err(Error::invalid(format!("archive entry {}: truncated", show(&entry.path))));
                }
                Place::Data(start, entry.size)
            }
            // Old Docker versions wrote repeated layers as symbolic links.
            Kind::Symlink(target) => {
                let dir = clean(split(&entry.path).0)?;
                match clean(&join(&dir, &target)) {
                    Ok(target) => Place::Link(target),
                    Err(_) => continue,
                }
            }
            Kind::Hardlink(target) => Place::Link(clean(&target)?),
            _ => continue,
        };
        if names.len() >= MAX_ENTRIES {
            return Err(Error::limit(format!("archive: more than {MAX_ENTRIES} entries")));
        }
        names.insert(clean(&entry.path).doing(|| "archive entry")?, place);
    }
    Ok(names)
}

impl Files for TarFiles {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)> {
        let mut path = clean(name.as_bytes())?;
        for _ in 0..8 {
            match self.names.get(&path) {
                Some(Place::Data(start, length)) => {
                    let slice = Slice { file: self.file.clone(), at: *start, end: start + length };
                    return Ok((Box::new(slice), *length));
                }
                Some(Place::Link(target)) => path.clone_from(target),
                None => return Err(Error::not_found(format!("{name:?}: not in the archive"))),
            }
        }
        Err(Error::invalid(format!("archive entry {name:?}: too many links")))
    }
}

/// A part of a file, read without moving the file's position.
struct Slice {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
