//! Writes a directory as a layer: the inverse of `apply`. Overlay's marks become whiteouts. The same tree always gives the
//! same bytes: entries are sorted, whiteouts come before other entries, and there are no user names.
//!
//! The tree may belong to a running and malicious container: directories are opened from the root without following links,
//! and one descriptor is held at any depth. What changes meanwhile does not end the work: a file is written with the size that it
//! had at first, with zeros if it became shorter, and what was removed is left out.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::Marks;
use super::change::join;
use crate::error::{Doing, Error, Result};
use crate::tar::{Entry, Kind, Timestamp, Writer, show};
use crate::tree::{self, Node};

/// How a directory is written as a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffOptions {
    /// Overlay's marks, which become whiteouts; `None` for a whole root file system.
    pub marks: Option<Marks>,
    /// Latest modification time, in seconds since the epoch: later ones become this one (SOURCE_DATE_EPOCH).
    pub latest: Option<i64>,
}

/// How a container changed a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is new.
    Added,
    /// It was changed.
    Changed,
    /// It was deleted.
    Deleted,
}

struct Diff<'a, W: Write> {
    root: BorrowedFd<'a>,
    going: &'a dyn Fn() -> Result<()>,
    writer: &'a mut Writer<W>,
    options: DiffOptions,
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

/// Writes everything below `root`, without `root` itself; returns the number of entries. `going` is called for each entry and for each
/// piece of a file, and ends that if it fails.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for upper directories that overlay wrote with redirects or
/// metacopy, and for names that start with `.wh.`; failed system calls; errors of the output and of `going`.
pub fn write_diff<W: Write>(
    root: BorrowedFd<'_>,
    writer: &mut Writer<W>,
    options: DiffOptions,
    going: &dyn Fn() -> Result<()>,
) -> Result<u64> {
    let mut diff = Diff { root, going, writer, options, links: HashMap::new(), entries: 0 };
    // Directories that are being written. The last is continued first, so that children follow their directory.
    let names = tree::list(root).doing(|| "list the root directory")?;
    let mut stack = vec![(Vec::new(), names.into_iter())];
    while let Some((dir, rest)) = stack.last_mut() {
        let Some((name, _)) = rest.next() else {
            stack.pop();
            continue;
        };
        let path = join(dir, name.to_bytes());
        let dir = dir.clone();
        going()?;
        if let Some(opened) =
            diff.one(&dir, &name, &path).doing(|| format!("write {} to a layer", show(&path)))?
        {
            let children = diff.children(&opened, &path)?;
            stack.push((path, children.into_iter()));
        }
    }
    Ok(diff.entries)
}

/// `None` if what was to be opened is not there any more, or has become another type of file.
fn unless_gone<T>(opened: rustix::io::Result<T>) -> Result<Option<T>> {
    match opened {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => Ok(None),
        other => other.map(Some).doing(|| "open"),
    }
}

impl<W: Write> Diff<'_, W> {
    /// Writes one entry; returns a directory, opened.
    fn one(&mut self, dir: &[u8], name: &CString, path: &[u8]) -> Result<Option<OwnedFd>> {
        let Some(parent) = unless_gone(tree::open_dir(self.root, dir, OFlags::PATH))? else {
            return Ok(None);
        };
        let Some(node) = unless_gone(Node::in_dir(&parent, name))? else { return Ok(None) };
        let stat = node.stat;
        if self.is_whiteout(&stat) {
            self.mark(dir, &whiteout(name))?;
            return Ok(None);
        }
        if self.options.marks.is_some() && name.to_bytes().starts_with(b".wh.") {
            return Err(Error::unsupported("names that start with \".wh.\" cannot be stored in a layer"));
        }
        let Some(kind) = kind(&node)? else {
            return Ok(None);
        };
        let mut entry = self.entry(path, kind, &stat);
        let handle = match entry.kind {
            Kind::File => Some(node.open_file()),
            Kind::Directory => Some(node.open_dir()),
            _ => None,
        };
        let handle = match handle.map(unless_gone).transpose()? {
            Some(None) => return Ok(None),
            handle => handle.flatten(),
        };
        entry.xattrs = match &handle {
            Some(handle) => xattrs(handle.as_fd())?,
            None => xattrs_of(&node)?,
        };
        if let Some(handle) = &handle {
            refuse_redirects(handle, self.options.marks)?;
        }
        if stat.st_nlink > 1 && entry.kind != Kind::Directory {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::Hardlink(first.clone());
                entry.xattrs.clear();
                self.put(&entry)?;
                return Ok(None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        self.put(&entry)?;
        match (entry.kind, handle) {
            (Kind::File, Some(handle)) => self.data(File::from(handle), entry.size).map(|()| None),
            (Kind::Directory, handle) => Ok(handle),
            _ => Ok(None),
        }
    }

    /// Writes the opaque mark and the whiteouts of a directory, and returns the other names in it.
    fn children(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<Vec<(CString, FileType)>> {
        let doing = || format!("directory {}", show(path));
        let mut names = match tree::list(dir) {
            // A directory that was removed meanwhile.
            Err(Errno::NOENT) => Vec::new(),
            other => other.doing(doing)?,
        };
        let Some(marks) = self.options.marks else {
            return Ok(names);
        };
        let mut value = [0_u8; 1];
        if rustix::fs::fgetxattr(dir, marks.opaque(), &mut value).is_ok() && value == *b"y" {
            self.mark(path, b".wh..wh..opq")?;
        }
        let hides = |name: &CString| {
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_whiteout(&stat))
        };
        let whiteouts: Vec<_> = names.extract_if(.., |(name, _)| hides(name)).collect();
        whiteouts.iter().try_for_each(|(name, _)| self.mark(path, &whiteout(name)))?;
        Ok(names)
    }

    fn is_whiteout(&self, stat: &Stat) -> bool {
        self.options.marks.is_some() && is_whiteout(stat)
    }

    fn mark(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        // No attributes: those of a mark have no meaning, and the time would be that of the deletion.
        self.put(&Entry::new(join(dir, name), Kind::File, 0))
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        self.writer.entry(entry)
    }

    fn entry(&self, path: &[u8], kind: Kind, stat: &Stat) -> Entry {
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
        let mut mtime = Timestamp { seconds: stat.st_mtime, nanoseconds };
        if let Some(latest) = self.options.latest.filter(|latest| mtime.seconds >= *latest) {
            mtime = Timestamp { seconds: latest, nanoseconds: 0 };
        }
        let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        let mode = stat.st_mode & 0o7777;
        Entry { uid: stat.st_uid, gid: stat.st_gid, mtime, size, ..Entry::new(path, kind, mode) }
    }

    /// Writes as many bytes as the entry says, whatever the length of the file is by now.
    fn data(&mut self, file: File, size: u64) -> Result<()> {
        let (mut left, mut file) = (size, file.take(size));
        let mut buffer = vec![0; 128 << 10];
        while left > 0 {
            (self.going)()?;
            let piece = match file.read(&mut buffer).doing(|| "read")? {
                // It became shorter.
                0 => {
                    let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    buffer[..length].fill(0);
                    &buffer[..length]
                }
                count => &buffer[..count],
            };
            self.writer.data(piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }
}

fn whiteout(name: &CString) -> Vec<u8> {
    [b".wh.", name.to_bytes()].concat()
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// `None` for sockets, which a tar archive cannot hold.
fn kind(node: &Node) -> Result<Option<Kind>> {
    let device = (rustix::fs::major(node.stat.st_rdev), rustix::fs::minor(node.stat.st_rdev));
    Ok(Some(match node.kind() {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink(node.read_link().doing(|| "readlink")?.into_bytes()),
        FileType::CharacterDevice => Kind::Character(device.0, device.1),
        FileType::BlockDevice => Kind::Block(device.0, device.1),
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    }))
}

/// Refuses files whose name or contents overlay keeps elsewhere; our mounts disable these features.
fn refuse_redirects(handle: &OwnedFd, marks: Option<Marks>) -> Result<()> {
    let prefix = match marks {
        Some(Marks::Trusted) => "trusted",
        Some(Marks::User) => "user",
        None => return Ok(()),
    };
    for kind in ["redirect", "metacopy"] {
        let name = format!("{prefix}.overlay.{kind}");
        if rustix::fs::fgetxattr(handle, name.as_str(), &mut [0_u8; 256]) != Err(Errno::NODATA) {
            return Err(Error::unsupported(format!(
                "unexpected attribute {name}: it was mounted by another program"
            )));
        }
    }
    Ok(())
}

/// Extended attributes of an open file, sorted, without overlay's and without SELinux labels.
pub(crate) fn xattrs(fd: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let list = grow(|buffer| rustix::fs::flistxattr(fd, buffer)).doing(|| "flistxattr")?;
    read_xattrs(&list, |name, buffer| rustix::fs::fgetxattr(fd, name, buffer))
}

/// The same of a file that cannot be opened for reading.
fn xattrs_of(node: &Node) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = node.path();
    let list = grow(|buffer| rustix::fs::listxattr(&path, buffer)).doing(|| "listxattr")?;
    read_xattrs(&list, |name, buffer| rustix::fs::getxattr(&path, name, buffer))
}

fn read_xattrs(
    list: &[u8],
    read: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.")
            || name.starts_with(b"user.overlay.")
            || name == b"security.selinux"
        {
            continue;
        }
        match grow(|buffer| read(name, buffer)) {
            Ok(value) => all.push((name.to_vec(), value)),
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno).doing(|| format!("getxattr {}", show(name))),
        }
    }
    all.sort();
    Ok(all)
}

/// Reads an attribute: they have up to 64 KiB, but most only a few bytes.
fn grow(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    for size in [256, 64 << 10] {
        let mut buffer = vec![0; size];
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
}

/// The changes that `upper` makes to the lower directories `lowers`, topmost first: sorted absolute paths, as docker-diff(1)
/// lists them.
///
/// # Errors
/// Failed system calls.
pub fn differences(upper: BorrowedFd<'_>, lowers: &[OwnedFd]) -> Result<Vec<(Difference, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut todo = vec![Vec::new()];
    while let Some(dir) = todo.pop() {
        let open = tree::open_dir(upper, &dir, OFlags::RDONLY).doing(|| format!("open {}", show(&dir)))?;
        for (name, _) in tree::list(&open).doing(|| format!("list {}", show(&dir)))? {
            let path = join(&dir, name.to_bytes());
            let stat = rustix::fs::statat(&open, &name, AtFlags::SYMLINK_NOFOLLOW)
                .doing(|| format!("stat {}", show(&path)))?;
            let difference = match (is_whiteout(&stat), below(lowers, &path)) {
                (true, _) => Difference::Deleted,
                (false, true) => Difference::Changed,
                (false, false) => Difference::Added,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                todo.push(path.clone());
            }
            found.push((difference, [b"/", path.as_slice()].concat()));
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(found)
}

/// Whether the path exists in the merged lower directories.
fn below(lowers: &[OwnedFd], path: &[u8]) -> bool {
    for lower in lowers {
        match tree::open_below(lower, path, OFlags::PATH) {
            Ok(found) => return rustix::fs::fstat(&found).is_ok_and(|stat| !is_whiteout(&stat)),
            Err(Errno::NOENT) => {}
            Err(_) => return false,
        }
    }
    false
}
