//! Paths inside a malicious root, by descriptor only: openat2(2) with RESOLVE_IN_ROOT, and a walk that makes missing components.
//!
//! Runs between clone and exec as well as in the parent: nothing here allocates.

use crate::sys::fs::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS};
use crate::sys::openat2;
use crate::sys::path::{PATH_MAX, StackPath};
use crate::sys::{Errno, SysResult};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The number of symlinks that the kernel follows in one lookup.
const MAX_LINKS: usize = 40;

/// The kind of file that `create` makes at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Directory { mode: u32 },
    File { mode: u32 },
}

/// Opens `path` in `root`; symlinks are followed as if `root` were `/`.
pub(crate) fn open(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> SysResult<OwnedFd> {
    openat2::open(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
}

/// As `open`, but a symlink anywhere in the path is ELOOP.
pub(crate) fn open_without_symlinks(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> SysResult<OwnedFd> {
    openat2::open(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
}

/// Opens (O_PATH) `path` in `root`; if it does not exist, makes it and its parents (mode 0755). A dangling symlink is followed inside
/// the root and its target made, as the kernel does for O_CREAT.
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
                            // Not a symlink: another process has just made it. Looked up again below.
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
                parent = openat2::open(
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
