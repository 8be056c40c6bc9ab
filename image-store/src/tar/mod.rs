//! Reading and writing tar archives as in image layers: ustar, GNU tar and PAX (pax(1)), with names as bytes.
//!
//! General tar crates are lenient with malicious input (the meaning of a PAX `size`: CVE-2025-62518) or hide what layers need
//! (raw names, sparse maps, attributes with NUL bytes). This reader accepts what Go's archive/tar does, because the other
//! engines read layers with it.

pub mod header;
mod pax;
pub mod reader;
mod sparse;
pub mod writer;

pub use reader::Reader;
pub(crate) use sparse::Placement;
pub use writer::Writer;

/// Size of a tar block in bytes.
pub const BLOCK: usize = 512;

/// A time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch; negative before it.
    pub seconds: i64,
    /// Nanoseconds after that second: 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// A hard link to the file at this path in the archive.
    Hardlink(Vec<u8>),
    /// A character device with this major and minor number.
    Character(u32, u32),
    /// A block device with this major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An entry, independent of the format of its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as in the archive, not validated.
    pub path: Vec<u8>,
    /// The type.
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// User ID of the owner.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Size of a regular file in bytes, including holes.
    pub size: u64,
    /// Extended attributes: full name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The data segments of a sparse file, as ascending (offset, length); `None` if the file is not sparse.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// An entry of size 0 that is owned by root and was modified at the epoch.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            size: 0,
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

/// Formats a name for messages.
pub(crate) fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&path[..path.len().min(200)]))
}
