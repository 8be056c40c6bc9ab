//! One cgroup as an open directory: its files by name, its children by name, its tree without recursion. A name is one component, and
//! symlinks are not followed (cgroup file systems have none).
//!
//! It does not depend on the meaning of the files, or on the version of cgroups.

use crate::error::{Context, Error, Result};
use crate::sys::fs;
use nix::dir::Dir as Listing;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// An open cgroup. `path` is for messages.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

type SysResult<T> = std::result::Result<T, Errno>;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

impl Dir {
    /// The root of a mounted hierarchy.
    pub(super) fn mount(path: &Path) -> Result<Dir> {
        // The mount point itself may be a symlink (cpu -> cpu,cpuacct), made by the host.
        let flags = DIRECTORY.difference(OFlag::O_NOFOLLOW);
        let fd = nix::fcntl::open(path, flags, Mode::empty())
            .context("open")
            .with_context(|| format!("cgroup {path:?}"))?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// For CLONE_INTO_CGROUP.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens a cgroup below this one. `..` is refused with EXDEV.
    pub(super) fn below(&self, path: &Path) -> SysResult<Dir> {
        let mut current: Option<OwnedFd> = None;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::EXDEV),
            };
            let next = match &current {
                Some(fd) => openat(fd, name, DIRECTORY, Mode::empty())?,
                None => openat(&self.fd, name, DIRECTORY, Mode::empty())?,
            };
            current = Some(next);
        }
        match current {
            Some(fd) => Ok(Dir { fd, path: self.path.join(path.strip_prefix("/").unwrap_or(path)) }),
            None => self.child(c"."),
        }
    }

    fn child(&self, name: &CStr) -> SysResult<Dir> {
        let fd = openat(&self.fd, name, DIRECTORY, Mode::empty())?;
        let name = OsStr::new(name.to_str().unwrap_or("?"));
        Ok(Dir { fd, path: if name == "." { self.path.clone() } else { self.path.join(name) } })
    }

    fn parent(&self) -> SysResult<Dir> {
        let fd = openat(&self.fd, "..", DIRECTORY, Mode::empty())?;
        Ok(Dir { fd, path: self.path.parent().unwrap_or(Path::new("/")).to_owned() })
    }

    pub(super) fn mkdir(&self, path: &Path) -> SysResult<()> {
        mkdirat(&self.fd, path, Mode::from_bits_truncate(0o755))
    }

    pub(super) fn rmdir(&self, path: &Path) -> SysResult<()> {
        unlinkat(&self.fd, path, UnlinkatFlags::RemoveDir)
    }

    pub(super) fn file(&self, name: &str, flags: OFlag) -> SysResult<File> {
        openat(&self.fd, name, flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()).map(File::from)
    }

    /// Writes `value` in one call, as the kernel requires.
    pub(super) fn write(&self, name: &str, value: &str) -> SysResult<()> {
        let mut file = self.file(name, OFlag::O_WRONLY)?;
        loop {
            match file.write(value.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(errno(&e)),
            }
        }
    }

    /// Whether the file's permissions allow to move a process here.
    pub(super) fn may_join(&self) -> SysResult<()> {
        self.file("cgroup.procs", OFlag::O_WRONLY).map(drop)
    }

    pub(super) fn read(&self, name: &str) -> SysResult<String> {
        fs::read_text(self.file(name, OFlag::O_RDONLY)?).map_err(|e| errno(&e))
    }

    /// The value of a file of `key value` lines.
    pub(super) fn read_key(&self, name: &str, key: &str) -> SysResult<Option<u64>> {
        Ok(value_of(&self.read(name)?, key))
    }

    pub(super) fn chown(&self, name: &str, uid: u32) -> SysResult<()> {
        fchownat(
            &self.fd,
            name,
            Some(Uid::from_raw(uid)),
            None::<Gid>,
            AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH,
        )
    }

    /// The processes of this cgroup itself, without those that are not visible in the caller's pid namespace.
    pub(super) fn own_processes(&self) -> SysResult<Vec<i32>> {
        let (text, threads) = match self.read("cgroup.procs") {
            // A threaded cgroup only lists threads.
            Err(Errno::EOPNOTSUPP) => (self.read("cgroup.threads")?, true),
            result => (result?, false),
        };
        let pids = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0);
        if !threads {
            return Ok(pids.collect());
        }
        let mut pids: Vec<i32> = pids.filter_map(process_of).collect();
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The names of the cgroups below. If there are none, the link count shows that without a listing.
    pub(super) fn children(&self) -> SysResult<Vec<CString>> {
        if fstat(&self.fd)?.st_nlink <= 2 {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        let mut listing = Listing::openat(&self.fd, ".", DIRECTORY, Mode::empty())?;
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() == Some(nix::dir::Type::Directory) && name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Visits this cgroup and all below, parents first, and calls `leave` with a parent and a name when all below that name is done.
    /// It needs one descriptor, however deep a malicious tree is. Cgroups that vanish meanwhile are left out.
    pub(super) fn walk(
        &self,
        enter: &mut dyn FnMut(&Dir) -> SysResult<()>,
        leave: &mut dyn FnMut(&Dir, &CStr) -> SysResult<()>,
    ) -> SysResult<()> {
        let mut current = self.child(c".")?;
        enter(&current)?;
        let mut pending = vec![current.children()?];
        let mut names: Vec<CString> = Vec::new();
        while let Some(list) = pending.last_mut() {
            let Some(name) = list.pop() else {
                pending.pop();
                if let Some(name) = names.pop() {
                    current = current.parent()?;
                    leave(&current, &name)?;
                }
                continue;
            };
            match current
                .child(&name)
                .and_then(|child| enter(&child).and_then(|()| Ok((child.children()?, child))))
            {
                Ok((children, child)) => {
                    pending.push(children);
                    names.push(name);
                    current = child;
                }
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits until `key` of cgroup.events (v2) has this value; false on timeout.
    pub(super) fn wait_event(&self, key: &str, value: u64, limit: Duration) -> SysResult<bool> {
        let file = self.file("cgroup.events", OFlag::O_RDONLY)?;
        let end = Instant::now() + limit;
        loop {
            let mut buffer = [0u8; 256];
            let length = match file.read_at(&mut buffer, 0) {
                Ok(length) => length,
                // The cgroup was removed, so it is empty.
                Err(e) if errno(&e) == Errno::ENODEV => return Ok(true),
                Err(e) => return Err(errno(&e)),
            };
            let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or_default();
            if value_of(text, key) == Some(value) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // A change between the read and the poll is not lost: kernfs compares with what this descriptor has read.
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// The process of a thread, if it is still there.
fn process_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

pub(super) fn errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))
}

/// A failed call of `nix`, as the crate's error.
pub(super) fn os(call: &'static str, errno: Errno) -> Error {
    Error::os(call, errno.into())
}

impl<T> Context<T> for SysResult<T> {
    fn context(self, context: &'static str) -> Result<T> {
        self.map_err(|e| os(context, e))
    }
    fn with_context<C: Into<std::borrow::Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|e| Error::os(context(), e.into()))
    }
}
