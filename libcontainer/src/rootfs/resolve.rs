//! Paths inside a hostile root, by descriptor only: openat2(2) with RESOLVE_IN_ROOT, and a walk that makes what is missing.
//!
//! Runs between clone and exec as well as in the parent: nothing here allocates.

use crate::sys::fs::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS};
use crate::sys::{Errno, SysResult};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As many symlinks as the kernel follows in one lookup.
const MAX_LINKS: usize = 40;
const PATH_MAX: usize = 4096;

/// What `create` makes at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Directory { mode: u32 },
    File { mode: u32 },
}

/// Opens what is at `path` in `root`; symlinks are followed as if `root` were `/`.
pub(crate) fn open(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> SysResult<OwnedFd> {
    fs::openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
}

/// As `open`, but a symlink anywhere in the path is ELOOP.
pub(crate) fn open_without_symlinks(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> SysResult<OwnedFd> {
    fs::openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
}

/// Opens (O_PATH) what is at `path` in `root`; if nothing is there, makes it and its parents (mode 0755). A dangling symlink is
/// followed inside the root and its target made, as the kernel would for O_CREAT.
pub(crate) fn create(root: BorrowedFd<'_>, path: &CStr, make: Make) -> SysResult<OwnedFd> {
    match open(root, path, libc::O_PATH) {
        Err(Errno(libc::ENOENT)) => {}
        other => return other,
    }
    let mut text = StackPath::new(path.to_bytes())?;
    for _ in 0..MAX_LINKS {
        match walk(root, &mut text, make)? {
            Some(fd) => return Ok(fd),
            None => continue,
        }
    }
    Err(Errno(libc::ELOOP))
}

/// One pass over the components. `None`: a dangling symlink was replaced by its target in `text`; walk again.
fn walk(root: BorrowedFd<'_>, text: &mut StackPath, make: Make) -> SysResult<Option<OwnedFd>> {
    let mut parent = open(root, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    let mut start = 0;
    loop {
        while text.byte(start) == Some(b'/') {
            start += 1;
        }
        let end = text.component_end(start);
        if end == start {
            return Ok(Some(parent));
        }
        let last = text.rest_is_empty(end);
        let next = {
            let prefix = text.prefix(end)?;
            open(root, prefix.as_cstr()?, libc::O_PATH)
        };
        match next {
            Ok(fd) => parent = fd,
            Err(Errno(libc::ENOENT)) => {
                let name = text.component(start, end)?;
                let made = match make {
                    Make::File { mode } if last => {
                        fs::mknodat(parent.as_fd(), name.as_cstr()?, libc::S_IFREG | mode, 0)
                    }
                    Make::Directory { mode } if last => fs::mkdirat(parent.as_fd(), name.as_cstr()?, mode),
                    _ => fs::mkdirat(parent.as_fd(), name.as_cstr()?, 0o755),
                };
                match made {
                    Ok(()) => {}
                    Err(Errno(libc::EEXIST)) => {
                        let mut target = [0u8; PATH_MAX];
                        match fs::readlinkat(parent.as_fd(), name.as_cstr()?, &mut target) {
                            // No symlink: somebody else has just made it. Looked up again below.
                            Err(Errno(libc::EINVAL)) => {}
                            Err(e) => return Err(e),
                            Ok(length) => {
                                text.substitute(start, end, target.get(..length).unwrap_or_default())?;
                                return Ok(None);
                            }
                        }
                    }
                    Err(e) => return Err(e),
                }
                parent = fs::openat2(
                    parent.as_fd(),
                    name.as_cstr()?,
                    libc::O_PATH | libc::O_NOFOLLOW,
                    RESOLVE_NO_SYMLINKS,
                )?;
            }
            Err(e) => return Err(e),
        }
        start = end;
    }
}

/// A path in a fixed buffer, always NUL-terminated.
pub(crate) struct StackPath {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl StackPath {
    pub(crate) fn new(text: &[u8]) -> SysResult<Self> {
        let mut path = StackPath { bytes: [0; PATH_MAX], length: 0 };
        path.append(text)?;
        Ok(path)
    }

    pub(crate) fn append(&mut self, text: &[u8]) -> SysResult<()> {
        let end =
            self.length.checked_add(text.len()).filter(|e| *e < PATH_MAX).ok_or(Errno(libc::ENAMETOOLONG))?;
        self.bytes.get_mut(self.length..end).ok_or(Errno(libc::ENAMETOOLONG))?.copy_from_slice(text);
        self.length = end;
        if let Some(terminator) = self.bytes.get_mut(end) {
            *terminator = 0;
        }
        Ok(())
    }

    pub(crate) fn as_cstr(&self) -> SysResult<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno(libc::ENAMETOOLONG))
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text().get(at).copied()
    }

    fn component_end(&self, start: usize) -> usize {
        let rest = self.text().get(start..).unwrap_or_default();
        start + rest.iter().position(|b| *b == b'/').unwrap_or(rest.len())
    }

    fn rest_is_empty(&self, from: usize) -> bool {
        self.text().get(from..).unwrap_or_default().iter().all(|b| *b == b'/')
    }

    fn prefix(&self, end: usize) -> SysResult<StackPath> {
        StackPath::new(self.text().get(..end).unwrap_or_default())
    }

    fn component(&self, start: usize, end: usize) -> SysResult<StackPath> {
        StackPath::new(self.text().get(start..end).unwrap_or_default())
    }

    /// Replaces the component by the target of the symlink it names: an absolute target begins at the root again.
    fn substitute(&mut self, start: usize, end: usize, target: &[u8]) -> SysResult<()> {
        let before = if target.first() == Some(&b'/') { 0 } else { start };
        let mut path = StackPath::new(self.text().get(..before).unwrap_or_default())?;
        path.append(target)?;
        path.append(self.text().get(end..).unwrap_or_default())?;
        *self = path;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn root_at(dir: &Path) -> OwnedFd {
        let path = CString::new(dir.as_os_str().as_encoded_bytes()).unwrap();
        fs::openat_following(fs::CWD, &path, libc::O_PATH | libc::O_DIRECTORY).unwrap()
    }

    #[test]
    fn what_is_missing_is_made_inside_the_root_even_behind_hostile_symlinks() {
        let base = std::env::temp_dir().join(format!("knarr-resolve-{}", std::process::id()));
        let root = base.join("root");
        std::fs::create_dir_all(&root).unwrap();
        symlink("/outside", root.join("abs")).unwrap();
        symlink("../../../above", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = root_at(&root);
        let dir = Make::Directory { mode: 0o755 };
        for (path, made) in
            [(c"/a/b/c", "a/b/c"), (c"/abs/x", "outside/x"), (c"/up/y", "above/y"), (c"//z//", "z")]
        {
            create(fd.as_fd(), path, dir).unwrap();
            assert!(root.join(made).is_dir(), "{path:?}");
        }
        create(fd.as_fd(), c"/abs/f", Make::File { mode: 0o644 }).unwrap();
        assert!(root.join("outside/f").is_file());
        assert!(!base.join("above").exists() && !Path::new("/outside").exists());
        assert_eq!(create(fd.as_fd(), c"/loop/x", dir).err(), Some(Errno(libc::ELOOP)));
        assert_eq!(open_without_symlinks(fd.as_fd(), c"/abs", libc::O_PATH).err(), Some(Errno(libc::ELOOP)));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
