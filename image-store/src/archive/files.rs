//! Names to bytes, in a folder or in a tar. Both may be hostile: links out of a folder are not followed, and links within
//! a tar are looked up within it.

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

/// Something that has files by name.
pub trait Files: Sync {
    /// Opens a file and tells its size.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)>;

    /// Whether there is such a file.
    fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), [`ErrorKind::Limit`](crate::ErrorKind::Limit) above `limit` bytes.
    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        crate::digest::read_limited(self.open(name)?.0, limit, name)
    }
}

/// A folder.
#[derive(Debug)]
pub struct FolderFiles(File);

impl FolderFiles {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> Result<Self> {
        let folder = File::open(path).doing(|| format!("open {path:?}"))?;
        if !folder.metadata()?.is_dir() {
            return Err(Error::invalid(format!("open {path:?}: is no folder")));
        }
        Ok(Self(folder))
    }
}

impl Files for FolderFiles {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)> {
        let path = clean(name.as_bytes())?;
        let opened = crate::tree::open_below(&self.0, &path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => {
                return Err(Error::not_found(format!("{name:?}: is not in the folder")));
            }
            Err(errno) => return Err(errno).doing(|| format!("open {name:?}")),
        };
        let meta = file.metadata().doing(|| format!("stat {name:?}"))?;
        if !meta.is_file() {
            return Err(Error::invalid(format!("{name:?}: is no file")));
        }
        Ok((Box::new(file), meta.len()))
    }
}

/// Most entries of an archive of images.
const ENTRIES_LIMIT: usize = 1 << 20;

/// A tar, indexed once and then read in any order, by several threads at once.
#[derive(Debug)]
pub struct TarFiles {
    file: Arc<File>,
    names: HashMap<Vec<u8>, Place>,
}

#[derive(Debug, Clone)]
enum Place {
    Data(u64, u64),
    Link(Vec<u8>),
}

impl TarFiles {
    /// Indexes the archive in `file`. One that is compressed, or that can not be read in any order because it is a pipe, is
    /// copied to a nameless file in `scratch` first.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for what is no archive.
    pub fn open(mut file: File, scratch: &Path) -> Result<Self> {
        let seekable = file.stream_position().is_ok();
        let mut input = BufReader::with_capacity(128 << 10, &file);
        let compression = Compression::sniff(input.fill_buf().doing(|| "read archive")?)?;
        if !seekable || compression != Compression::None {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let copy = rustix::fs::open(scratch, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
            let mut copy = File::from(copy.doing(|| format!("make a temporary file in {scratch:?}"))?);
            io::copy(&mut compression.decoder(input)?, &mut copy).doing(|| "copy archive")?;
            copy.flush()?;
            file = copy;
        }
        let names = index(&file)?;
        Ok(Self { file: Arc::new(file), names })
    }
}

/// A reader that knows its place and can skip without reading.
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
                return Err(Error::unsupported(format!("archive entry {}: is sparse", show(&entry.path))));
            }
            Kind::File => {
                let start = reader.skip_data(Positioned::position, Positioned::seek_to);
                if start.checked_add(entry.size).is_none_or(|end| end > length) {
                    return Err(Error::invalid(format!(
                        "archive entry {}: ends after the archive",
                        show(&entry.path)
                    )));
                }
                Place::Data(start, entry.size)
            }
            // Docker once wrote layers that repeat as symbolic links from folder to folder.
            Kind::Symlink(target) => {
                let folder = clean(split(&entry.path).0)?;
                match clean(&join(&folder, &target)) {
                    Ok(target) => Place::Link(target),
                    Err(_) => continue,
                }
            }
            Kind::Hardlink(target) => Place::Link(clean(&target)?),
            _ => continue,
        };
        if names.len() >= ENTRIES_LIMIT {
            return Err(Error::limit(format!("archive: more than {ENTRIES_LIMIT} entries")));
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
                None => return Err(Error::not_found(format!("{name:?}: is not in the archive"))),
            }
        }
        Err(Error::invalid(format!("archive entry {name:?}: too many links")))
    }
}

/// Part of a file; does not move the file's own position.
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
