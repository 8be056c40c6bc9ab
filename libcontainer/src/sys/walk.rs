//! openat2(2) for kernels and outer seccomp filters without it: it walks the path one component at a time, opening each with
//! O_PATH | O_NOFOLLOW below the previous one. Symbolic links are read and inserted into the path, `..` is removed from it, and the walk
//! starts again at the directory: no link is ever followed, and no `..` is ever opened, so that no rename leads out.

use super::fs::{self, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat_create};
use super::path::{PATH_MAX, StackPath};
use super::{Errno, SysResult};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The maximum number of restarts: for the symbolic links that the kernel would follow, and the `..` of a path of 4096 bytes.
const MAX_LINKS: usize = 40;
const MAX_PASSES: usize = MAX_LINKS + PATH_MAX / 3;

/// The result of one pass over the path.
enum Pass {
    Found(OwnedFd),
    /// A `..` was removed from the path.
    Shorter,
    /// A symbolic link was inserted into the path.
    Linked,
}

/// As openat2(2). A magic link of procfs counts as its text, which stays below `dir` like that of any link.
pub(crate) fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> SysResult<OwnedFd> {
    if path.is_empty() {
        return Err(Errno(libc::ENOENT));
    }
    let mut text = StackPath::new(path.to_bytes())?;
    let mut links = 0;
    if resolve & RESOLVE_IN_ROOT == 0 && text.byte(0) == Some(b'/') {
        return Err(Errno(libc::EXDEV));
    }
    for _ in 0..MAX_PASSES {
        match pass(dir, &mut text, flags, mode, resolve)? {
            Pass::Found(fd) => return Ok(fd),
            Pass::Shorter => {}
            Pass::Linked if links == MAX_LINKS => break,
            Pass::Linked => links += 1,
        }
    }
    Err(Errno(libc::ELOOP))
}

fn pass(dir: BorrowedFd<'_>, text: &mut StackPath, flags: i32, mode: u32, resolve: u64) -> SysResult<Pass> {
    let only_directories = flags & libc::O_DIRECTORY != 0 || text.ends_in_slash();
    let flags = if only_directories { flags | libc::O_DIRECTORY } else { flags };
    let look = libc::O_PATH | libc::O_NOFOLLOW;
    let mut parent: Option<OwnedFd> = None;
    let mut before = 0;
    let mut start = 0;
    loop {
        while text.byte(start) == Some(b'/') {
            start += 1;
        }
        let end = text.component_end(start);
        let here = parent.as_ref().map_or(dir, |fd| fd.as_fd());
        if end == start {
            // An empty path, or only slashes and dots: the directory itself.
            return openat_create(here, c".", flags, 0).map(Pass::Found);
        }
        let name = text.component(start, end)?;
        match name.as_cstr()?.to_bytes() {
            b"." => {
                start = end;
                continue;
            }
            b".." => {
                if parent.is_none() && resolve & RESOLVE_IN_ROOT == 0 {
                    return Err(Errno(libc::EXDEV));
                }
                text.remove(before, end)?;
                return Ok(Pass::Shorter);
            }
            _ => {}
        }
        let last = text.rest_is_empty(end);
        if last && flags & libc::O_CREAT != 0 {
            return openat_create(here, name.as_cstr()?, flags | libc::O_NOFOLLOW, mode).map(Pass::Found);
        }
        let next = openat_create(here, name.as_cstr()?, look, 0)?;
        let kind = fs::fstat(next.as_fd())?.st_mode & libc::S_IFMT;
        // A slash at the end means the target of the link.
        let itself = last && flags & libc::O_NOFOLLOW != 0 && !text.ends_in_slash();
        if kind == libc::S_IFLNK && !itself {
            return follow(next.as_fd(), text, start, end, resolve);
        }
        let next = if last { finish(here, next, name.as_cstr()?, flags, kind)? } else { next };
        if resolve & RESOLVE_NO_XDEV != 0 && fs::mount_id(next.as_fd())? != fs::mount_id(dir)? {
            return Err(Errno(libc::EXDEV));
        }
        if last {
            return Ok(Pass::Found(next));
        }
        before = start;
        start = end;
        parent = Some(next);
    }
}

/// Replaces the name of the link by its text.
fn follow(
    link: BorrowedFd<'_>,
    text: &mut StackPath,
    start: usize,
    end: usize,
    resolve: u64,
) -> SysResult<Pass> {
    if resolve & RESOLVE_NO_SYMLINKS != 0 {
        return Err(Errno(libc::ELOOP));
    }
    let mut target = [0u8; PATH_MAX];
    let length = fs::readlinkat(link, c"", &mut target)?;
    let target = target.get(..length).unwrap_or_default();
    if target.first() == Some(&b'/') && resolve & RESOLVE_IN_ROOT == 0 {
        return Err(Errno(libc::EXDEV));
    }
    text.substitute(start, end, target)?;
    Ok(Pass::Linked)
}

/// Opens the last component, which `next` has found, with `flags`.
fn finish(
    parent: BorrowedFd<'_>,
    next: OwnedFd,
    name: &CStr,
    flags: i32,
    kind: libc::mode_t,
) -> SysResult<OwnedFd> {
    if flags & libc::O_PATH == 0 {
        // If a link has replaced it since, O_NOFOLLOW refuses that.
        return openat_create(parent, name, flags | libc::O_NOFOLLOW, 0);
    }
    if flags & libc::O_DIRECTORY != 0 && kind != libc::S_IFDIR {
        return Err(Errno(libc::ENOTDIR));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::{RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS};
    use crate::sys::openat2;
    use std::ffi::CString;
    use std::os::unix::fs::{MetadataExt, symlink};

    const PATH: i32 = libc::O_PATH;

    /// Compares every case in a tree with malicious links with the kernel's openat2.
    #[test]
    fn a_walk_comes_to_what_the_kernel_comes_to() {
        let base = std::env::temp_dir().join(format!("knarr-walk-{}", std::process::id()));
        let root = base.join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "inside").unwrap();
        for (to, name) in [
            ("/etc", "abs"),
            ("../../../etc", "up"),
            ("loop", "loop"),
            ("../..", "a/b/out"),
            ("b/../../etc/passwd", "a/file"),
            ("/nowhere", "dangling"),
            ("b/", "a/slash"),
        ] {
            symlink(to, root.join(name)).unwrap();
        }
        let name = CString::new(root.as_os_str().as_encoded_bytes()).unwrap();
        let dir = fs::openat_following(fs::CWD, &name, PATH | libc::O_DIRECTORY).unwrap();
        let dir = dir.as_fd();
        let told = |result: SysResult<OwnedFd>| match result {
            Ok(fd) => {
                let file = std::fs::File::from(fd).metadata().unwrap();
                Ok((file.ino(), file.mode()))
            }
            Err(e) => Err(e),
        };
        for path in [
            c"/",
            c".",
            c"",
            c"..",
            c"/..",
            c"a",
            c"/a/b/",
            c"//a//./b",
            c"a/b/..",
            c"a/b/../..",
            c"../a/../a/b",
            c"abs",
            c"abs/passwd",
            c"up/passwd",
            c"loop",
            c"loop/x",
            c"a/b/out/etc/passwd",
            c"a/file",
            c"a/file/",
            c"a/file/x",
            c"dangling",
            c"a/slash",
            c"a/slash/out",
            c"none",
            c"none/x",
            c"etc/passwd",
            c"abs/../a",
        ] {
            for flags in [PATH, PATH | libc::O_NOFOLLOW, PATH | libc::O_DIRECTORY, libc::O_RDONLY] {
                for resolve in [
                    RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
                    RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
                    RESOLVE_BENEATH,
                    RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
                ] {
                    let walked = told(openat2(dir, path, flags, 0, resolve));
                    let kernel = told(openat2::open(dir, path, flags, resolve));
                    assert_eq!(walked, kernel, "{path:?}, flags {flags:o}, resolve {resolve:#x}");
                }
            }
        }
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn another_mount_is_told_by_its_id() {
        let root = fs::openat_following(fs::CWD, c"/", PATH).unwrap();
        let strict = RESOLVE_BENEATH | RESOLVE_NO_XDEV;
        assert_eq!(openat2(root.as_fd(), c"proc/version", PATH, 0, strict).err(), Some(Errno(libc::EXDEV)));
        let proc = fs::openat_following(fs::CWD, c"/proc", PATH).unwrap();
        openat2(proc.as_fd(), c"self/status", libc::O_RDONLY, 0, strict).unwrap();
    }
}
