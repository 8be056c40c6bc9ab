//! Copies files and directories between a root file system and the host, in both directions.
//!
//! The container's side may be malicious and may change during the copy: everything in it is opened from its root's
//! descriptor with `RESOLVE_IN_ROOT` (openat2(2)), so that links cannot lead out of it, and none of its programs and
//! libraries is run or loaded (CVE-2018-15664, CVE-2019-14271, CVE-2026-41567).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::layer::diff::xattrs;
use crate::tar::show;
use crate::tree;

/// Deepest nesting that is copied; each level holds two descriptors.
const MAX_DEPTH: usize = 256;

/// The owner of the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The owner and group of the original.
    Keep,
    /// This user ID and group ID.
    Set(u32, u32),
}

/// A directory to resolve paths in, confined or not.
#[derive(Debug)]
pub struct Place {
    root: OwnedFd,
    confined: bool,
}

impl Place {
    /// A root file system: no path or symbolic link leads out of it.
    #[must_use]
    pub fn root(root: OwnedFd) -> Self {
        Self { root, confined: true }
    }

    /// The host: paths are resolved as for this process.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn host() -> Result<Self> {
        let root = File::open(".").doing(|| "open \".\"")?;
        Ok(Self { root: root.into(), confined: false })
    }

    /// Opens the directory at `path`, following links.
    pub(crate) fn open_dir(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.open(path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)
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
/// is copied into it; a source that ends in `/.` stands for the contents of the directory; a target that ends in `/`
/// must be a directory.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the source or the target's parent does not exist,
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if a directory would replace a file or a file a directory,
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for devices and pipes; failed system calls.
pub fn copy(from: &Place, source: &str, to: &Place, target: &str, owner: Owner) -> Result<()> {
    let content = source.ends_with("/.") || source == ".";
    let (parent, name) = split(source)?;
    let parent = open_dir(from, &parent).doing(|| format!("copy from {source:?}"))?;
    let stat = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)
        .doing(|| format!("copy from {source:?}"))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if let Ok(into) = to.open(target.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
        if is_dir && content {
            let original = tree::open_dir(&parent, name.to_bytes(), OFlags::RDONLY)
                .doing(|| format!("open {source:?}"))?;
            return copy_children(&original, &into, owner, 0)
                .doing(|| format!("copy {source:?} to {target:?}"));
        }
        let last = if name.to_bytes() == b"." { c"root".to_owned() } else { name.clone() };
        return copy_one(&parent, &name, &stat, &into, &last, owner, 0)
            .doing(|| format!("copy {source:?} to {target:?}"));
    }
    if !is_dir && target.ends_with('/') {
        let why = match to.open(target.trim_end_matches('/').as_bytes(), OFlags::PATH) {
            Ok(_) => "not a directory",
            Err(_) => "does not exist",
        };
        return Err(Error::not_found(format!("copy to {target:?}: {why}")));
    }
    let (into, last) = split(target.trim_end_matches('/'))?;
    let into = open_dir(to, &into).doing(|| format!("copy to {target:?}"))?;
    copy_one(&parent, &name, &stat, &into, &last, owner, 0).doing(|| format!("copy {source:?} to {target:?}"))
}

/// Copies the contents and attributes of the directory `from` to the directory `to`, with `owner`. Files that are only in
/// `to` stay. Sockets are left out.
///
/// # Errors
/// Failed system calls; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a device or pipe.
pub(crate) fn copy_directory(from: &OwnedFd, to: &OwnedFd, owner: Owner) -> Result<()> {
    let stat = rustix::fs::fstat(from).doing(|| "fstat")?;
    copy_children(from, to, owner, 0)?;
    attributes(from.as_fd(), to.as_fd(), &stat, owner)
}

/// Splits a path into directory and last component; the latter is not followed if it is a link.
fn split(path: &str) -> Result<(Vec<u8>, CString)> {
    let absolute = path.starts_with('/');
    let trimmed = path.trim_end_matches("/.").trim_end_matches('/');
    let (parent, name) = match trimmed.rsplit_once('/') {
        Some((parent, name)) => (if parent.is_empty() { "/" } else { parent }, name),
        None if trimmed.is_empty() && absolute => ("/", "."),
        None => (".", if trimmed.is_empty() { "." } else { trimmed }),
    };
    // A trailing `..` is part of the directory: it must be resolved with it.
    let (parent, name) = if name == ".." { (trimmed, ".") } else { (parent, name) };
    let name =
        CString::new(name).map_err(|_| Error::invalid(format!("path {path:?}: contains a NUL byte")))?;
    Ok((parent.as_bytes().to_vec(), name))
}

fn open_dir(place: &Place, path: &[u8]) -> Result<OwnedFd> {
    match place.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => Err(Error::not_found(format!("{}: does not exist", show(path)))),
        other => other.doing(|| format!("open {}", show(path))),
    }
}

fn copy_one(
    from: &OwnedFd,
    name: &CString,
    stat: &Stat,
    to: &OwnedFd,
    target: &CString,
    owner: Owner,
    depth: usize,
) -> Result<()> {
    let doing = || show(target.to_bytes());
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            match rustix::fs::mkdirat(to, target, Mode::RWXU) {
                Err(Errno::EXIST) => {}
                other => other.doing(|| "mkdir").doing(doing)?,
            }
            let original =
                tree::open_dir(from, name.to_bytes(), OFlags::RDONLY).doing(|| "open").doing(doing)?;
            let made = match tree::open_dir(to, target.to_bytes(), OFlags::RDONLY) {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(Error::invalid("cannot replace a file with a directory").context(doing()));
                }
                other => other.doing(|| "open").doing(doing)?,
            };
            copy_children(&original, &made, owner, depth + 1).doing(doing)?;
            attributes(original.as_fd(), made.as_fd(), stat, owner).doing(doing)
        }
        FileType::RegularFile => {
            let original =
                tree::open_below(from, name.to_bytes(), OFlags::RDONLY | OFlags::NONBLOCK).doing(doing)?;
            clear(to, target).doing(doing)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(to, target, flags, Mode::RUSR | Mode::WUSR)
                .doing(|| "create")
                .doing(doing)?;
            let (mut original, mut made) = (File::from(original), File::from(made));
            // copy_file_range(2) or a reflink where the file systems can.
            std::io::copy(&mut original, &mut made).doing(|| "copy").doing(doing)?;
            attributes(original.as_fd(), made.as_fd(), stat, owner).doing(doing)
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, name, Vec::new()).doing(|| "readlink").doing(doing)?;
            clear(to, target).doing(doing)?;
            rustix::fs::symlinkat(&link, to, target).doing(|| "symlink").doing(doing)?;
            let (uid, gid) = ids(stat, owner);
            rustix::fs::chownat(to, target, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .doing(|| "chown")
                .doing(doing)?;
            rustix::fs::utimensat(to, target, &tree::timestamps(stat), AtFlags::SYMLINK_NOFOLLOW)
                .doing(|| "utimensat")
                .doing(doing)
        }
        // Devices and pipes are never copied between a container and the host.
        _ => Err(Error::unsupported("not a file, directory or symbolic link").context(doing())),
    }
}

fn copy_children(from: &OwnedFd, to: &OwnedFd, owner: Owner, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::limit(format!("directories nested more than {MAX_DEPTH} deep")));
    }
    for (name, _) in tree::list(from).doing(|| "list")? {
        let stat = rustix::fs::statat(from, &name, AtFlags::SYMLINK_NOFOLLOW).doing(|| "stat")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            continue;
        }
        copy_one(from, &name, &stat, to, &name, owner, depth)?;
    }
    Ok(())
}

/// Removes a file that is to be replaced. Writing to it would follow a link or change its other hard links.
fn clear(dir: &OwnedFd, name: &CString) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(Error::invalid("cannot replace a directory with a file")),
        Err(errno) => Err(errno).doing(|| "unlink"),
    }
}

fn ids(stat: &Stat, owner: Owner) -> (Uid, Gid) {
    match owner {
        Owner::Keep => (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)),
        Owner::Set(uid, gid) => (Uid::from_raw(uid), Gid::from_raw(gid)),
    }
}

fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat, owner: Owner) -> Result<()> {
    let (uid, gid) = ids(stat, owner);
    rustix::fs::fchown(to, Some(uid), Some(gid)).doing(|| "fchown")?;
    // Set-user-ID bits are only kept together with the owner.
    let bits = if owner == Owner::Keep { 0o7777 } else { 0o1777 };
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & bits)).doing(|| "fchmod")?;
    if owner == Owner::Keep {
        for (name, value) in xattrs(from)? {
            match rustix::fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                other => other.doing(|| "fsetxattr")?,
            }
        }
    }
    rustix::fs::futimens(to, &tree::timestamps(stat)).doing(|| "futimens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_rules_are_dockers_and_links_do_not_lead_out() {
        let place = crate::scratch::Scratch::new("copy");
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("root/etc/conf.d")).unwrap();
        fs::create_dir_all(at("host")).unwrap();
        fs::write(at("root/etc/conf.d/a"), "a").unwrap();
        fs::write(at("canary"), "untouched").unwrap();
        std::os::unix::fs::symlink(at("host"), at("root/out")).unwrap();
        std::os::unix::fs::symlink("../../canary", at("root/link")).unwrap();
        let root = || Place::root(File::open(at("root")).unwrap().into());
        let host = Place::host().unwrap();
        let me = Owner::Set(rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let out = |source: &str, target: &str| copy(&root(), source, &host, at(target).to_str().unwrap(), me);
        out("/etc/conf.d", "host").unwrap();
        assert_eq!(fs::read_to_string(at("host/conf.d/a")).unwrap(), "a");
        out("/etc/conf.d/.", "host").unwrap();
        assert!(at("host/a").exists());
        out("/etc/conf.d", "host/new").unwrap();
        assert!(at("host/new/a").exists());
        out("/etc/conf.d/a", "host/renamed").unwrap();
        out("link", "host").unwrap();
        assert!(fs::symlink_metadata(at("host/link")).unwrap().is_symlink());
        out("../../../etc/conf.d/a", "host/dots").unwrap();
        assert_eq!(fs::read_to_string(at("host/dots")).unwrap(), "a");
        assert!(out("/nothing", "host").is_err() && out("/etc/conf.d/a", "host/no/such").is_err());
        let into =
            |source: &str, target: &str| copy(&host, at(source).to_str().unwrap(), &root(), target, me);
        into("host/a", "/etc/new").unwrap();
        assert!(at("root/etc/new").exists());
        into("host/a", "/link").unwrap();
        assert_eq!(
            fs::read_to_string(at("canary")).unwrap(),
            "untouched",
            "a link is replaced, not written through"
        );
        assert!(into("host/a", "/out/x").is_err(), "an absolute link leads to what is not in the root");
        assert!(!at("host/x").exists());
        assert!(into("host/conf.d", "/etc/new").is_err(), "a directory onto a file");
    }
}
