//! Copies trees by descriptor, for files of all types.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom as Position};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::mounts::Mounts;
use super::{CopyOptions, Owner, Place, special};
use crate::error::{Doing, Error, Result};
use crate::layer::change::{join, split};
use crate::layer::diff::{is_whiteout, xattrs};
use crate::tar::show;
use crate::tree::{self, Node};

/// Deepest nesting that is copied; each level holds two descriptors.
const MAX_DEPTH: usize = 256;
/// Between two pieces of a file, the caller may end the copy.
const PIECE: u64 = 64 << 20;
/// As much is read of files that have no size, such as those of procfs.
const SIZELESS: u64 = 16 << 20;

/// Directories of the source that nothing is known about but their names, because an archive only implies them. What is there in
/// their places stays as it is, links are followed.
pub(crate) struct Implied<'a> {
    /// Paths below the source, sorted.
    pub(crate) paths: &'a [Vec<u8>],
    /// Where links are resolved.
    pub(crate) place: &'a Place,
    /// The path in it that is copied to.
    pub(crate) target: &'a [u8],
}

impl Implied<'_> {
    fn has(&self, path: &[u8]) -> bool {
        self.paths.binary_search_by(|known| known.as_slice().cmp(path)).is_ok()
    }

    /// The directory in the place of the implied one, if there is one.
    fn existing(&self, path: &[u8]) -> Option<OwnedFd> {
        self.place.open_dir(&[self.target, b"/", path].concat()).ok()
    }
}

/// What the two places of a copy ask for.
#[derive(Default)]
pub(super) struct Rules<'a> {
    pub(super) implied: Option<&'a Implied<'a>>,
    /// Devices, pipes and sockets that are in the way are not replaced.
    pub(super) keeps_special: bool,
    /// The mounts that are copied; `None`: all.
    pub(super) mounts: Option<Mounts>,
}

/// A copy that is under way.
pub(super) struct TreeCopy<'a> {
    /// The directory that everything is copied to.
    top: &'a OwnedFd,
    options: CopyOptions,
    rules: Rules<'a>,
    /// Where the first copy of a file with several names is, below `top`.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The first device that was left out, and why.
    left_out: Option<String>,
    going: &'a dyn Fn() -> Result<()>,
}

impl<'a> TreeCopy<'a> {
    pub(super) fn new(
        top: &'a OwnedFd,
        options: CopyOptions,
        rules: Rules<'a>,
        going: &'a dyn Fn() -> Result<()>,
    ) -> Self {
        Self { top, options, rules, links: HashMap::new(), left_out: None, going }
    }

    /// Fails if anything was left out.
    pub(super) fn finish(self) -> Result<()> {
        self.left_out.map_or(Ok(()), |what| Err(Error::unsupported(what)))
    }

    /// Copies contents and attributes of a directory to the top.
    pub(super) fn contents(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(from).doing(|| "fstat")?;
        let copied = self.children(from, to, b"");
        copied.and(self.attributes(from.as_fd(), to.as_fd(), &stat))
    }

    /// Copies what is in a directory to the top, without its attributes.
    pub(super) fn contents_of(&mut self, from: &Node, to: &OwnedFd) -> Result<()> {
        let original = from.open_dir().doing(|| "open")?;
        if self.is_empty(from)? { Ok(()) } else { self.children(&original, to, b"") }
    }

    /// Whether a directory is copied without what is in it.
    fn is_empty(&mut self, directory: &Node) -> Result<bool> {
        self.rules.mounts.as_mut().map_or(Ok(false), |mounts| mounts.hide(directory))
    }

    /// Copies what is in a directory; `path` is that of `to` below the top.
    fn children(&mut self, from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<()> {
        if path.split(|b| *b == b'/').count() > MAX_DEPTH {
            let message = format!("{}: directories nested more than {MAX_DEPTH} deep", brief(path));
            return Err(Error::limit(message));
        }
        for (name, _) in tree::list(from).doing(|| format!("list {}", brief(path)))? {
            let path = join(path, name.to_bytes());
            let node = match Node::in_dir(from, &name) {
                // It was removed meanwhile, or overlay lists a whiteout that hides nothing.
                Err(Errno::NOENT) => continue,
                other => other.doing(|| format!("open {}", brief(&path)))?,
            };
            if node.kind() != FileType::Socket {
                self.entry(node, to, &name, &path)?;
            }
        }
        Ok(())
    }

    /// Copies a file of any type to `name` in `to`; `path` is the same below the top.
    pub(super) fn entry(&mut self, node: Node, to: &OwnedFd, name: &CStr, path: &[u8]) -> Result<()> {
        let doing = || brief(path);
        (self.going)()?;
        let kind = node.kind();
        if kind == FileType::Directory {
            return self.directory(node, to, name, path);
        }
        if self.is_linked(&node, to, name, path).doing(doing)? {
            return Ok(());
        }
        let copied = match kind {
            FileType::RegularFile => self.file(&node, to, name),
            FileType::Symlink => self.symlink(&node, to, name),
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                self.special(&node, to, name, path)
            }
            _ => Err(Error::unsupported("sockets cannot be copied")),
        };
        copied.doing(doing)
    }

    fn directory(&mut self, node: Node, to: &OwnedFd, name: &CStr, path: &[u8]) -> Result<()> {
        let doing = || brief(path);
        let stat = node.stat;
        let original = node.open_dir().doing(|| "open").doing(doing)?;
        let is_empty = self.is_empty(&node).doing(doing)?;
        // Its levels hold descriptors.
        drop(node);
        let implied = self.rules.implied.filter(|implied| implied.has(path));
        if let Some(existing) = implied.and_then(|implied| implied.existing(path)) {
            return self.children(&original, &existing, path);
        }
        let made = make_dir(to, name, stat.st_mode).doing(doing)?;
        let copied = if is_empty { Ok(()) } else { self.children(&original, &made, path) };
        // After a failure, too: an incomplete directory is of more use if its owner can enter it.
        copied.and(self.attributes(original.as_fd(), made.as_fd(), &stat).doing(doing))
    }

    /// Links the file to an earlier copy of itself. `false`: there is none, or it cannot be linked.
    fn is_linked(&mut self, node: &Node, to: &OwnedFd, name: &CStr, path: &[u8]) -> Result<bool> {
        if node.stat.st_nlink < 2 {
            return Ok(false);
        }
        let key = (node.stat.st_dev, node.stat.st_ino);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, path.to_vec());
            return Ok(false);
        };
        let (dir, first) = split(first);
        let Ok(dir) = tree::open_dir(self.top, dir, OFlags::PATH) else { return Ok(false) };
        self.clear(to, name)?;
        Ok(rustix::fs::linkat(&dir, first, to, name, AtFlags::empty()).is_ok())
    }

    fn file(&self, node: &Node, to: &OwnedFd, name: &CStr) -> Result<()> {
        let original = node.open_file().doing(|| "open")?;
        self.clear(to, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).doing(|| "create")?;
        let (mut original, mut made) = (File::from(original), File::from(made));
        let copied = self
            .data(&mut original, &mut made)
            .and_then(|()| self.attributes(original.as_fd(), made.as_fd(), &node.stat));
        copied.inspect_err(|_| {
            let _ = rustix::fs::unlinkat(to, name, AtFlags::empty());
        })
    }

    /// Copies as much as the file has now, without the holes: one that grows does not go on for ever.
    fn data(&self, from: &mut File, to: &mut File) -> Result<()> {
        let length = |file: &File| file.metadata().map(|meta| meta.len()).doing(|| "fstat");
        let size = match length(from)? {
            0 => SIZELESS,
            size => size,
        };
        let mut at = 0;
        while at < size {
            (self.going)()?;
            let start = match rustix::fs::seek(&*from, SeekFrom::Data(at)) {
                // A hole up to the end.
                Err(Errno::NXIO) if length(from)? > 0 => {
                    let end = size.min(length(from)?).max(at);
                    return to.set_len(end).doing(|| "ftruncate");
                }
                // The file system has no holes, or no size for this file.
                Err(Errno::INVAL | Errno::NXIO) => at,
                other => other.doing(|| "lseek")?,
            };
            let hole = match rustix::fs::seek(&*from, SeekFrom::Hole(start)) {
                Ok(hole) if hole > start => hole,
                _ => size,
            };
            let end = hole.min(size).min(start.saturating_add(PIECE));
            for file in [&mut *from, &mut *to] {
                file.seek(Position::Start(start)).doing(|| "lseek")?;
            }
            // copy_file_range(2) or a reflink where the file systems can.
            let copied =
                std::io::copy(&mut from.by_ref().take(end.saturating_sub(start)), to).doing(|| "copy")?;
            if copied == 0 {
                break;
            }
            at = start + copied;
        }
        Ok(())
    }

    fn symlink(&self, node: &Node, to: &OwnedFd, name: &CStr) -> Result<()> {
        let link = node.read_link().doing(|| "readlink")?;
        self.clear(to, name)?;
        rustix::fs::symlinkat(&link, to, name).doing(|| "symlink")?;
        let (uid, gid) = self.ids(&node.stat);
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).doing(|| "chown")?;
        rustix::fs::utimensat(to, name, &tree::timestamps(&node.stat), AtFlags::SYMLINK_NOFOLLOW)
            .doing(|| "utimensat")
    }

    /// Copies a pipe or a device, or leaves it out.
    fn special(&mut self, node: &Node, to: &OwnedFd, name: &CStr, path: &[u8]) -> Result<()> {
        let (kind, stat) = (node.kind(), &node.stat);
        if is_whiteout(stat) {
            return Ok(());
        }
        if kind != FileType::Fifo && !self.options.devices {
            self.leave_out(path, "devices are copied in archive mode only");
            return Ok(());
        }
        let is_same = |there: Node| there.kind() == kind && there.stat.st_rdev == stat.st_rdev;
        if !(self.rules.keeps_special && Node::in_dir(to, name).is_ok_and(is_same)) {
            self.clear(to, name)?;
        }
        match rustix::fs::mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev) {
            // The same one, which a program may have opened.
            Err(Errno::EXIST) => {}
            Err(Errno::PERM) => {
                self.leave_out(path, "not permitted to create a device");
                return Ok(());
            }
            other => other.doing(|| "mknod")?,
        }
        let made = Node::in_dir(to, name).doing(|| "open")?;
        if made.kind() != kind || made.stat.st_rdev != stat.st_rdev {
            return Err(Error::invalid("was replaced while it was copied"));
        }
        let (uid, gid) = self.ids(stat);
        made.chown(uid, gid).doing(|| "chown")?;
        made.chmod(self.mode(stat)).doing(|| "chmod")?;
        rustix::fs::utimensat(to, name, &tree::timestamps(stat), AtFlags::SYMLINK_NOFOLLOW)
            .doing(|| "utimensat")
    }

    fn leave_out(&mut self, path: &[u8], why: &str) {
        self.left_out.get_or_insert_with(|| format!("{}: {why}; all else was copied", brief(path)));
    }

    /// Removes a file that is to be replaced. Writing to it would follow a link or change its other hard links.
    fn clear(&self, dir: &OwnedFd, name: &CStr) -> Result<()> {
        let special = |there: Node| special(there.kind());
        if self.rules.keeps_special
            && let Some(what) = Node::in_dir(dir, name).ok().and_then(special)
        {
            return Err(Error::invalid(format!("{what} is there, which is not replaced: remove it first")));
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(Error::invalid("cannot replace a directory with a file")),
            Err(errno) => Err(errno).doing(|| "unlink"),
        }
    }

    fn ids(&self, stat: &Stat) -> (Uid, Gid) {
        match self.options.owner {
            Owner::Keep => (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)),
            Owner::Set(uid, gid) => (Uid::from_raw(uid), Gid::from_raw(gid)),
        }
    }

    /// Set-user-ID bits are only kept together with the owner.
    fn mode(&self, stat: &Stat) -> Mode {
        let bits = if self.options.owner == Owner::Keep { 0o7777 } else { 0o1777 };
        Mode::from_raw_mode(stat.st_mode & bits)
    }

    fn attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
        let (uid, gid) = self.ids(stat);
        rustix::fs::fchown(to, Some(uid), Some(gid)).doing(|| "fchown")?;
        rustix::fs::fchmod(to, self.mode(stat)).doing(|| "fchmod")?;
        if self.options.owner == Owner::Keep {
            for (name, value) in xattrs(from)? {
                match rustix::fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
                    Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                    other => other.doing(|| "fsetxattr")?,
                }
            }
        }
        rustix::fs::futimens(to, &tree::timestamps(stat)).doing(|| "futimens")
    }
}

/// Makes a directory if there is none, and opens it.
fn make_dir(to: &OwnedFd, name: &CStr, mode: u32) -> Result<OwnedFd> {
    match rustix::fs::mkdirat(to, name, Mode::from_raw_mode(mode & 0o755 | 0o700)) {
        Err(Errno::EXIST) => {}
        other => other.doing(|| "mkdir")?,
    }
    match tree::open_dir(to, name.to_bytes(), OFlags::RDONLY) {
        Err(Errno::NOTDIR | Errno::LOOP) => Err(Error::invalid("cannot replace a file with a directory")),
        other => other.doing(|| "open"),
    }
}

/// A path for messages: of a long one, the first and the last components.
fn brief(path: &[u8]) -> String {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    match parts.len() {
        0..=12 => show(path),
        length => show(&[&parts[..3], &[b"..."], &parts[length - 3..]].concat().join(&b'/')),
    }
}
