//! Directory trees by descriptor: opening below a root without following links, listing, removing.
//!
//! No link is followed, so that a malicious tree cannot lead out of its root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::tar::show;

/// Depth of the recursion at which a subtree is moved to the top: bounds descriptors and stack for a tree of any depth.
const MAX_DEPTH: usize = 64;

/// Opens the directory at a clean path below `root` without following links; an empty path is `root` itself.
///
/// # Errors
/// Those of openat2(2): `ELOOP` if a component is a symbolic link.
pub(crate) fn open_dir(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_below(root, path, flags | OFlags::DIRECTORY)
}

/// Like [`open_dir`], for a file of any type.
pub(crate) fn open_below(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_resolved(root, path, flags, ResolveFlags::empty())
}

fn open_resolved(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)
}

/// A file of any type, opened with `O_PATH`: it is what its `stat` says, whatever takes its name meanwhile.
pub(crate) struct Node {
    fd: OwnedFd,
    pub(crate) stat: Stat,
}

impl Node {
    /// The file `name` in a directory; links are not followed.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub(crate) fn in_dir(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        Self::of(open_below(dir, name.to_bytes(), OFlags::PATH)?)
    }

    /// # Errors
    /// Those of fstat(2).
    pub(crate) fn of(fd: OwnedFd) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, stat })
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn open_dir(&self) -> rustix::io::Result<OwnedFd> {
        open_dir(&self.fd, b"", OFlags::RDONLY)
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::open(self.path(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self) -> rustix::io::Result<CString> {
        rustix::fs::readlinkat(&self.fd, c"", Vec::new())
    }

    /// Changes the owner.
    pub(crate) fn chown(&self, uid: Uid, gid: Gid) -> rustix::io::Result<()> {
        rustix::fs::chownat(&self.fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
    }

    /// Changes the mode of what is not a link.
    pub(crate) fn chmod(&self, mode: Mode) -> rustix::io::Result<()> {
        rustix::fs::chmod(self.path(), mode)
    }

    /// The directory that this one is in; of a mount point, that is outside of the mount.
    pub(crate) fn parent_dir(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, c"..", flags, Mode::empty())
    }

    /// The way by which the file itself can be reached with calls that take only paths.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The number of the mount that an open file is in. statx(2) has it, too, but only since Linux 5.8.
///
/// # Errors
/// Those of reading /proc.
pub(crate) fn mount_id(file: impl AsFd) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(&path).doing(|| format!("read {path:?}"))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| Error::unsupported(format!("{path:?}: has no mnt_id")))
}

/// The names in a directory, sorted bytewise, with their types if the file system reports them.
///
/// # Errors
/// Those of getdents64(2).
pub(crate) fn list(dir: impl AsFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    // Reopened, because the position in the directory is shared by all duplicates of a descriptor.
    let dir =
        rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// The modification time of a file, as both times for utimensat(2).
pub(crate) fn timestamps(stat: &Stat) -> Timestamps {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes `name` in `parent` and everything below it, if it exists. Mounts below it stay, with the directories that lead
/// to them. Subtrees that are too deep are first moved into `spill`, a directory on the same file system.
///
/// # Errors
/// The first system call that fails, unless the file is already gone; `EXDEV` at a mount point.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8], spill: BorrowedFd<'_>) -> Result<()> {
    let mut spilled = 0;
    remove_level(parent, name, spill, 0, &mut spilled)?;
    let mut done = 0;
    while done < spilled {
        remove_level(spill, spill_name(done).as_bytes(), spill, 0, &mut spilled)?;
        done += 1;
    }
    Ok(())
}

fn spill_name(number: u64) -> String {
    format!(".deep-{}-{number}", std::process::id())
}

fn remove_level(
    parent: BorrowedFd<'_>,
    name: &[u8],
    spill: BorrowedFd<'_>,
    depth: usize,
    spilled: &mut u64,
) -> Result<()> {
    let refused = match unlink(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EISDIR on Linux; EPERM by POSIX and on some file systems.
        Err(errno @ (Errno::ISDIR | Errno::PERM)) => errno,
        Err(errno) => return Err(errno).doing(|| format!("unlink {}", show(name))),
    };
    if depth >= MAX_DEPTH {
        let target = spill_name(*spilled);
        *spilled += 1;
        let rename = || rustix::fs::renameat(parent, name, spill, target.as_str());
        let renamed = match rename() {
            // Moving a directory changes its `..`, so it must be writable itself.
            Err(Errno::ACCESS) => make_writable(parent)
                .and_then(|()| rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty()))
                .and_then(|()| rename()),
            other => other,
        };
        return renamed.doing(|| format!("rename {}", show(name)));
    }
    let open = || open_resolved(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::NO_XDEV);
    let dir = match open() {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        // Not a directory: unlink failed for another reason, for example an immutable file.
        Err(Errno::NOTDIR) => return Err(refused).doing(|| format!("unlink {}", show(name))),
        Err(Errno::XDEV) => {
            return Err(Errno::XDEV).doing(|| format!("{}: is a mount point", show(name)));
        }
        Err(Errno::ACCESS) => {
            // Without CAP_DAC_OVERRIDE the owner needs permission to list it.
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())
                .doing(|| format!("chmod {}", show(name)))?;
            open().doing(|| format!("open {}", show(name)))?
        }
        Err(errno) => return Err(errno).doing(|| format!("open {}", show(name))),
    };
    let children = match list(&dir) {
        // Another process removes the same tree: an unlinked directory cannot be listed.
        Err(Errno::NOENT) => return Ok(()),
        other => other.doing(|| format!("list {}", show(name)))?,
    };
    for (child, _) in children {
        remove_level(dir.as_fd(), child.to_bytes(), spill, depth + 1, spilled)?;
    }
    match unlink(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).doing(|| format!("rmdir {}", show(name))),
    }
}

fn unlink(parent: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, flags) {
        Err(Errno::ACCESS) => {
            make_writable(parent)?;
            rustix::fs::unlinkat(parent, name, flags)
        }
        other => other,
    }
}

/// Lets the owner change a directory without CAP_DAC_OVERRIDE.
fn make_writable(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fchmod(dir, Mode::RWXU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_may_remove_the_same_tree_at_once() {
        let place = crate::scratch::Scratch::new("at-once");
        for dir in 0..300 {
            std::fs::create_dir_all(place.path().join(format!("t/{dir}/a/b"))).unwrap();
        }
        let remove = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let top = rustix::fs::open(place.path(), flags, Mode::empty()).unwrap();
            remove(top.as_fd(), b"t", top.as_fd())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..4).map(|_| scope.spawn(remove)).collect();
            for other in others {
                other.join().unwrap().unwrap();
            }
        });
        assert!(!place.path().join("t").exists());
    }

    #[test]
    fn a_tree_deeper_than_the_descriptor_limit_is_removed() {
        let place = crate::scratch::Scratch::new("deep");
        let top = rustix::fs::open(place.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut at =
            rustix::fs::openat(&top, c".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, c"d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        remove(top.as_fd(), b"d", top.as_fd()).unwrap();
        assert!(list(&top).unwrap().is_empty());
        remove(top.as_fd(), b"gone", top.as_fd()).unwrap();
    }

    /// A user may have mounted a directory of the host below a volume that is being removed.
    #[test]
    fn what_is_mounted_in_a_tree_is_not_removed() {
        use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};
        let place = crate::scratch::Scratch::new("mounted");
        for directory in ["host/sub", "t/other", "t/sub/mounted"] {
            std::fs::create_dir_all(place.path().join(directory)).unwrap();
        }
        std::fs::write(place.path().join("host/canary"), "").unwrap();
        let target = place.path().join("t/sub/mounted");
        if let Err(errno) = mount_bind_recursive(place.path().join("host"), &target) {
            eprintln!("skipped: cannot mount here: {errno}");
            return;
        }
        let top = rustix::fs::open(place.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let removed = remove(top.as_fd(), b"t", top.as_fd());
        unmount(&target, UnmountFlags::DETACH).unwrap();
        assert!(place.path().join("host/canary").exists() && place.path().join("host/sub").exists());
        assert_eq!(removed.unwrap_err().errno(), Some(Errno::XDEV.raw_os_error()));
        remove(top.as_fd(), b"t", top.as_fd()).unwrap();
        assert!(!place.path().join("t").exists());
    }

    #[test]
    fn a_link_is_removed_and_not_what_it_names() {
        let place = crate::scratch::Scratch::new("link");
        std::fs::create_dir_all(place.path().join("keep/x")).unwrap();
        std::os::unix::fs::symlink("../keep", place.path().join("l")).unwrap();
        let top = rustix::fs::open(place.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        remove(top.as_fd(), b"l", top.as_fd()).unwrap();
        assert!(place.path().join("keep/x").exists());
        assert_eq!(open_dir(&top, b"keep/../keep", OFlags::RDONLY).err(), None);
        std::os::unix::fs::symlink("keep", place.path().join("l")).unwrap();
        assert_eq!(open_dir(&top, b"l/x", OFlags::RDONLY).err(), Some(Errno::LOOP));
        assert_eq!(open_dir(&top, b"../x", OFlags::RDONLY).err(), Some(Errno::XDEV));
    }
}
