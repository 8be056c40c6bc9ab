//! Reading and writing tar as image layers use it: ustar, GNU and PAX, with bytes as names.
//!
//! An own reader since every general one is either lenient where layers are hostile (what a PAX `size` means for the
//! data that follows: CVE-2025-62518) or hides what layers need (raw names, sparse maps, PAX xattrs with NULs).
//! It follows Go's archive/tar in what it takes, for that is what the other engines read layers with.
//! Knows nothing of whiteouts and of the disk.

pub mod header;
mod pax;
pub mod reader;
mod sparse;
pub mod writer;

pub use reader::Reader;
pub(crate) use sparse::Placement;
pub use writer::Writer;

/// The unit of a tar archive, in bytes.
pub const BLOCK: usize = 512;

/// A point in time: seconds since the epoch, possibly before it, and the nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its data follows.
    File,
    /// A folder.
    Directory,
    /// A symbolic link to these bytes.
    Symlink(Vec<u8>),
    /// Another name of the file at this path in the archive.
    Hardlink(Vec<u8>),
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry, with all its dialects resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as it stands in the archive: neither cleaned nor checked.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-uid, set-gid and sticky: at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Length of a regular file in bytes, holes included.
    pub size: u64,
    /// Extended attributes by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data of a sparse file goes: (offset, length), ascending. `None`: one piece from the start.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// An entry of `kind` at `path` that belongs to root and was made at the epoch.
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

/// A name as errors show it.
pub(crate) fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&path[..path.len().min(200)]))
}
