//! A copy-on-write root: overlayfs over directories that stay unchanged. It is not mounted on the host: the container's process
//! attaches it in its mount namespace, with which it disappears.

use crate::error::{Context, Error, ErrorKind, Object, Result};
use crate::sys::{Errno, fs, mount};
use std::ffi::{CStr, CString};
use std::fs::{DirBuilder, File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for the end of a mount whose container has just ended.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for other mounts of the same upper directory to be made. Anyone who may read the directory can lock it, for ever.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The directories of a root file system (kernel documentation, filesystems/overlayfs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    lower: Vec<PathBuf>,
    upper: Option<PathBuf>,
}

impl Overlay {
    /// The directories from the uppermost layer to the lowest. Without `upper` the root is read-only, and there must be two or more: for
    /// a read-only root of one directory, name it in `root.path` and set `root.readonly`.
    pub fn new(lower: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Overlay { lower: lower.into_iter().map(Into::into).collect(), upper: None }
    }

    /// A directory of the host that receives what the container writes: in `upper`, beside overlayfs's `work`. Both are created if they are
    /// missing, and kept when the container is deleted. Only one container may use it at a time.
    pub fn upper(mut self, directory: impl Into<PathBuf>) -> Self {
        self.upper = Some(directory.into());
        self
    }

    /// Whether the kernel could mount it, as far as the number of directories tells.
    pub(crate) fn check(&self) -> Result<()> {
        match (self.lower.len(), &self.upper) {
            (0, _) => Err(Error::invalid("overlay: no lower directory")),
            (1, None) => Err(Error::invalid("overlay: one lower directory and no upper one")
                .hint("for a read-only root of one directory, name it in root.path and set root.readonly")),
            _ => Ok(()),
        }
    }

    /// Creates the file system, as a detached mount.
    pub(crate) fn mount(&self) -> Result<OwnedFd> {
        self.mounted().map_err(|e| e.about(Object::Root))
    }

    fn mounted(&self) -> Result<OwnedFd> {
        let context = self.lowered()?;
        // Held until the mount exists, which the kernel then reports as a use of the directory.
        let mut lock = None;
        if let Some(directory) = &self.upper {
            let [upper, work] = ["upper", "work"].map(|name| directory.join(name));
            for (path, mode) in [(&upper, 0o755), (&work, 0o700)] {
                DirBuilder::new()
                    .recursive(true)
                    .mode(mode)
                    .create(path)
                    .with_context(|| format!("mkdir {path:?}"))?;
            }
            lock = Some(self.lock(&upper, &work)?);
            set(context.as_fd(), c"upperdir", &upper)?;
            set(context.as_fd(), c"workdir", &work)?;
        }
        mount::fsconfig_create(context.as_fd())
            .context("create the overlay: fsconfig(create)")
            .map_err(|e| e.hint("the upper directory must not be on an overlay; see dmesg"))?;
        let mounted = mount::fsmount(context.as_fd(), 0).context("fsmount: overlay");
        drop(lock);
        mounted
    }

    /// A file system that has its lower directories only.
    fn lowered(&self) -> Result<OwnedFd> {
        let context = mount::fsopen(c"overlay").context("fsopen: overlay")?;
        for lower in &self.lower {
            // One option for each (kernel 6.8): no limit on their total length, and no characters that have to be escaped.
            set(context.as_fd(), c"lowerdir+", lower)
                .map_err(|e| e.hint("copy-on-write root file systems need Linux 6.8"))?;
        }
        Ok(context)
    }

    /// Locks out other mounts of the same upper directory, and refuses one that is mounted already: the kernel allows it, and leaves
    /// open what happens to the files.
    fn lock(&self, upper: &Path, work: &Path) -> Result<Lock> {
        let what = || format!("overlay: upper directory {upper:?}");
        let file = File::open(upper).context("open").with_context(what)?;
        let lock = Lock::within(LOCK_TIMEOUT, file).with_context(what)?;
        // A mount leaves a directory in its work directory. Before there is one, the kernel, which logs an error for the attempt, need
        // not be asked.
        let mounted_before = work.join("work").exists();
        let end = Instant::now() + RELEASE_TIMEOUT;
        while mounted_before && self.is_used(upper)? {
            if Instant::now() > end {
                return Err(Error::new(ErrorKind::Busy, "another container, or a mount, uses it"))
                    .with_context(what);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(lock)
    }

    /// Whether a mount has this upper directory. With `index` the kernel refuses it then (EBUSY), and it looks at this before it finds
    /// that the work directory of this attempt is none (EINVAL).
    fn is_used(&self, upper: &Path) -> Result<bool> {
        let attempt = self.lowered()?;
        set(attempt.as_fd(), c"upperdir", upper)?;
        set(attempt.as_fd(), c"workdir", upper)?;
        mount::fsconfig_text(attempt.as_fd(), c"index", c"on").context("fsconfig: overlay: index")?;
        Ok(matches!(mount::fsconfig_create(attempt.as_fd()), Err(Errno(libc::EBUSY))))
    }
}

/// The lock on an upper directory. It is unlocked explicitly, since a child of another thread may have a copy of the descriptor.
struct Lock(File);

impl Lock {
    fn within(timeout: Duration, file: File) -> Result<Self> {
        let end = Instant::now() + timeout;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::Error(e)) => return Err(e).context("flock"),
                Err(TryLockError::WouldBlock) if Instant::now() > end => {
                    return Err(Error::new(ErrorKind::Busy, "flock: another process keeps it locked"));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn set(context: BorrowedFd<'_>, option: &CStr, path: &Path) -> Result<()> {
    let what = || format!("overlay: {} {path:?}", option.to_string_lossy());
    let value = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("{}: contains a NUL byte", what())))?;
    fs::openat_following(fs::CWD, &value, libc::O_PATH | libc::O_DIRECTORY)
        .context("open")
        .with_context(what)?;
    mount::fsconfig_text(context, option, &value).context("fsconfig").with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_stays_locked_is_not_waited_for_without_end() {
        let directory = std::env::temp_dir();
        let open = || File::open(&directory).unwrap();
        let held = open();
        held.lock_shared().unwrap();
        let error = Lock::within(Duration::from_millis(20), open()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        held.unlock().unwrap();
        assert!(Lock::within(Duration::from_millis(20), open()).is_ok());
    }
}
