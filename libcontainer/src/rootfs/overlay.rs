//! A copy-on-write root: overlayfs over directories that stay unchanged. It is not mounted on the host: the container's process
//! attaches it in its mount namespace, with which it disappears.

use crate::error::{Context, Error, Result};
use crate::sys::{fs, mount};
use std::ffi::{CStr, CString};
use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directories of a root file system (kernel documentation, filesystems/overlayfs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    lower: Vec<PathBuf>,
    upper: Option<PathBuf>,
}

impl Overlay {
    /// The directories from the uppermost layer to the lowest. Without `upper` the root is read-only.
    pub fn new(lower: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Overlay { lower: lower.into_iter().map(Into::into).collect(), upper: None }
    }

    /// A directory of the host that receives what the container writes: in `upper`, beside overlayfs's `work`. Both are created if they are
    /// missing, and kept when the container is deleted.
    pub fn upper(mut self, directory: impl Into<PathBuf>) -> Self {
        self.upper = Some(directory.into());
        self
    }

    /// Creates the file system, as a detached mount.
    pub(crate) fn mount(&self) -> Result<OwnedFd> {
        let context = mount::fsopen(c"overlay").context("fsopen: overlay")?;
        if self.lower.is_empty() {
            return Err(Error::invalid("overlay: no lower directory"));
        }
        for lower in &self.lower {
            // One option for each (kernel 6.8): no limit on their total length, and no characters that have to be escaped.
            set(context.as_fd(), c"lowerdir+", lower)
                .map_err(|e| e.hint("copy-on-write root file systems need Linux 6.8"))?;
        }
        if let Some(directory) = &self.upper {
            for (option, name) in [(c"upperdir", "upper"), (c"workdir", "work")] {
                let path = directory.join(name);
                let mode = if name == "upper" { 0o755 } else { 0o700 };
                DirBuilder::new()
                    .recursive(true)
                    .mode(mode)
                    .create(&path)
                    .with_context(|| format!("mkdir {path:?}"))?;
                set(context.as_fd(), option, &path)?;
            }
        }
        mount::fsconfig_create(context.as_fd())
            .context("create the overlay: fsconfig(create)")
            .map_err(|e| e.hint("the upper directory must not be on an overlay; see dmesg"))?;
        mount::fsmount(context.as_fd(), 0).context("fsmount: overlay")
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
