//! Copies files and directories between a root file system and the host, in both directions.
//!
//! The container's side may be malicious and may change during the copy: everything in it is opened from its root's
//! descriptor with `RESOLVE_IN_ROOT` (openat2(2)), so that links cannot lead out of it, and none of its programs and
//! libraries is run or loaded (CVE-2018-15664, CVE-2019-14271, CVE-2026-41567).

mod mounts;
mod tree_copy;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::tar::show;
use crate::tree::Node;

use mounts::Mounts;
pub(crate) use tree_copy::Implied;
use tree_copy::{Rules, TreeCopy};

/// Largest number of links that a target may go through, as in the kernel.
const MAX_LINKS: usize = 40;

/// The owner of the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The owner and group of the original.
    Keep,
    /// This user ID and group ID.
    Set(u32, u32),
}

/// How files are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The owner of the copies.
    pub owner: Owner,
    /// If the source is a symbolic link, copy what it leads to. Links inside of a directory are always copied as links.
    pub follow: bool,
    /// Copy devices, too. Only for targets that are out of reach of other users, or if the user asked for it.
    pub devices: bool,
}

/// A directory to resolve paths in, confined or not.
#[derive(Debug)]
pub struct Place {
    root: OwnedFd,
    confined: bool,
    /// The mounts that are copied; `None`: all.
    mounts: Option<Mounts>,
}

impl Place {
    /// A root file system: no path or symbolic link leads out of it.
    #[must_use]
    pub fn root(root: OwnedFd) -> Self {
        Self { root, confined: true, mounts: None }
    }

    /// The same root file system, of which only what is mounted at these paths belongs to it, with the mounts below. Other
    /// directories that something is mounted on, such as /proc, are copied as empty directories. Paths that do not exist are ignored.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn with_mounts<'p>(mut self, paths: impl IntoIterator<Item = &'p str>) -> Result<Self> {
        let own = paths.into_iter().filter_map(|path| self.open(path.as_bytes(), OFlags::PATH).ok());
        self.mounts = Some(Mounts::new(&self.root, own)?);
        Ok(self)
    }

    /// The host: paths are resolved as for this process.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn host() -> Result<Self> {
        let root = File::open(".").doing(|| "open \".\"")?;
        Ok(Self { root: root.into(), confined: false, mounts: None })
    }

    /// Opens the directory at `path`, following links.
    pub(crate) fn open_dir(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the file at `path`, following links.
    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = if self.confined {
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
        } else {
            ResolveFlags::empty()
        };
        rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

/// Copies `source` in `from` to `target` in `to`, by the rules of docker-cp(1): if the target is a directory, the source
/// is copied into it; if it is a symbolic link, to where the link leads, even if there is nothing yet; a source that ends in
/// `/.` stands for the contents of the directory; a target that ends in `/` must be a directory. Hard links and holes are kept.
/// Sockets are left out. On the host, devices, pipes and sockets are never replaced.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the source or the target's parent does not exist,
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if a directory would replace a file or a file a directory, and if the target is
/// neither a directory nor a regular file,
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if devices were left out: all else is copied then; failed system
/// calls.
pub fn copy(from: &Place, source: &str, to: &Place, target: &str, options: CopyOptions) -> Result<()> {
    let opened = Source::open(from, source, options.follow).doing(|| format!("copy from {source:?}"))?;
    opened.copy(to, target, options, None).doing(|| format!("copy {source:?} to {target:?}"))
}

/// Copies the contents of the directory `from` to the directory `target` in `to`.
///
/// # Errors
/// Those of [`copy`].
pub(crate) fn copy_contents(
    from: OwnedFd,
    to: &Place,
    target: &str,
    options: CopyOptions,
    implied: &Implied<'_>,
) -> Result<()> {
    let source = Source { node: Node::of(from)?, name: c".".to_owned(), contents: true, mounts: None };
    source.copy(to, target, options, Some(implied)).doing(|| format!("copy to {target:?}"))
}

/// Copies the contents and attributes of the directory `from` to the directory `to`, with owners and devices. Files that are only
/// in `to` stay. Sockets are left out, and, as when layers are unpacked, devices that the caller is not permitted to create. `going`
/// is called now and then, and ends the copy if it fails.
///
/// # Errors
/// Failed system calls; those of `going`.
pub(crate) fn copy_directory(from: &OwnedFd, to: &OwnedFd, going: &dyn Fn() -> Result<()>) -> Result<()> {
    let options = CopyOptions { owner: Owner::Keep, follow: false, devices: true };
    TreeCopy::new(to, options, Rules::default(), going).contents(from, to)
}

/// What is copied.
struct Source {
    node: Node,
    /// The last component of its path.
    name: CString,
    /// Only the contents of a directory are copied.
    contents: bool,
    mounts: Option<Mounts>,
}

impl Source {
    fn open(place: &Place, path: &str, follow: bool) -> Result<Self> {
        let (parent, name) = split(path.as_bytes())?;
        let contents = name.as_bytes() == b"." || path.ends_with("/.");
        let missing = |errno| match errno {
            Errno::NOENT => Error::not_found("does not exist"),
            Errno::NOTDIR => Error::not_found("not a directory"),
            errno => errno.into(),
        };
        // With a slash at its end, a path names a directory, not a link to one.
        let node = if contents || path.ends_with('/') {
            place.open(path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY).and_then(Node::of)
        } else if follow {
            place.open(path.as_bytes(), OFlags::PATH).and_then(Node::of)
        } else {
            let parent = place.open(&parent, OFlags::PATH | OFlags::DIRECTORY).map_err(missing)?;
            Node::in_dir(&parent, &name)
        };
        Ok(Self { node: node.map_err(missing)?, name, contents, mounts: place.mounts.clone() })
    }

    fn copy(
        self,
        to: &Place,
        target: &str,
        options: CopyOptions,
        implied: Option<&Implied<'_>>,
    ) -> Result<()> {
        let going = || Ok(());
        let is_dir = self.node.kind() == FileType::Directory;
        let rules = Rules { implied, keeps_special: !to.confined, mounts: self.mounts };
        if let Ok(into) = to.open_dir(target.as_bytes()) {
            let mut copy = TreeCopy::new(&into, options, rules, &going);
            if self.contents {
                copy.contents_of(&self.node, &into)?;
            } else {
                copy.entry(self.node, &into, &self.name, self.name.as_bytes())?;
            }
            return copy.finish();
        }
        if !is_dir && target.ends_with('/') {
            let why = match to.open(target.trim_end_matches('/').as_bytes(), OFlags::PATH) {
                Ok(_) => "not a directory",
                Err(_) => "does not exist",
            };
            return Err(Error::not_found(why));
        }
        let (into, name) = destination(to, target)?;
        if let Some(what) = Node::in_dir(&into, &name).ok().and_then(|there| special(there.kind())) {
            // Docker's text.
            let message =
                format!("destination {target:?} must be a directory or a regular file: it is {what}");
            return Err(Error::invalid(message));
        }
        let mut copy = TreeCopy::new(&into, options, rules, &going);
        copy.entry(self.node, &into, &name, name.as_bytes())?;
        copy.finish()
    }
}

/// The directory that a target is made in, and its name there. If the target is a link, it is where the link leads, which may not
/// exist yet.
fn destination(place: &Place, target: &str) -> Result<(OwnedFd, CString)> {
    let mut path = target.as_bytes().to_vec();
    let is_proc =
        |dir: &OwnedFd| rustix::fs::fstatfs(dir).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC);
    for _ in 0..MAX_LINKS {
        let (parent, name) = split(&path)?;
        let dir = match place.open_dir(&parent) {
            Err(Errno::NOENT) => return Err(Error::not_found(format!("{}: does not exist", show(&parent)))),
            other => other.doing(|| format!("open {}", show(&parent)))?,
        };
        match rustix::fs::readlinkat(&dir, &name, Vec::new()) {
            // Such as /dev/stdout: a new file in the place of what is open there would not be seen by who reads it.
            Ok(_) if is_proc(&dir) => {
                return Err(Error::invalid(
                    "leads to an open file of a process: use \"-\" to write a tar archive to standard output",
                ));
            }
            Ok(link) if link.as_bytes().starts_with(b"/") => path = link.into_bytes(),
            Ok(link) => path = [parent.as_slice(), b"/", link.as_bytes()].concat(),
            Err(Errno::INVAL | Errno::NOENT) => return Ok((dir, name)),
            Err(errno) => return Err(errno).doing(|| format!("readlink {}", show(&path))),
        }
    }
    Err(Errno::LOOP).doing(|| format!("follow {target:?}"))
}

/// Describes a file that is neither a directory nor a regular file nor a link.
fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::CharacterDevice => Some("a character device"),
        FileType::BlockDevice => Some("a block device"),
        FileType::Fifo => Some("a named pipe"),
        FileType::Socket => Some("a socket"),
        _ => None,
    }
}

/// Splits a path into directory and last component.
fn split(path: &[u8]) -> Result<(Vec<u8>, CString)> {
    let mut trimmed = path;
    while let Some(shorter) = trimmed.strip_suffix(b"/.").or_else(|| trimmed.strip_suffix(b"/")) {
        trimmed = shorter;
    }
    let (parent, name) = match trimmed.iter().rposition(|b| *b == b'/') {
        Some(0) => (b"/".as_slice(), &trimmed[1..]),
        Some(at) => (&trimmed[..at], &trimmed[at + 1..]),
        None if trimmed.is_empty() && path.starts_with(b"/") => (b"/".as_slice(), b".".as_slice()),
        None => (b".".as_slice(), if trimmed.is_empty() { b"." } else { trimmed }),
    };
    // A trailing `..` is part of the directory: it must be resolved with it.
    let (parent, name) = if name == b".." { (trimmed, b".".as_slice()) } else { (parent, name) };
    let name = CString::new(name)
        .map_err(|_| Error::invalid(format!("path {}: contains a NUL byte", show(path))))?;
    Ok((parent.to_vec(), name))
}

#[cfg(test)]
mod tests;
