//! Protects the host's program file from containers (CVE-2019-5736).
//!
//! A process in a container can reach the file of the program that created it: through `#!/proc/self/exe` as the container's program, or
//! /proc/PID/exe of an exec that has just entered. If it can open that file for writing, it controls the host. So a program that is about to
//! create a container runs from a mount that cannot be written through: a detached, read-only bind mount of its own file, which has no
//! path and disappears with the process. It is not a copy, so it uses no memory.

use crate::error::{Context, Error, Result};
use crate::sys::cstr::CStrArray;
use crate::sys::mount::{self, SetAttr};
use crate::sys::{Errno, exe, fs, is_absent};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// Makes sure that the running program's file cannot be written through this process: if it could be, executes the program again, with
/// the same arguments and environment, from a read-only mount of itself, and does not return.
///
/// Call this at the start of a program that creates containers or runs processes in them, before it opens files or starts threads. A caller
/// without CAP_SYS_ADMIN needs no protection: its containers have user namespaces without any right to the host's files.
///
/// # Errors
/// `Os` if the program cannot be executed again.
pub fn protect_program<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<()> {
    let file =
        fs::openat_following(fs::CWD, c"/proc/self/exe", libc::O_PATH).context("open \"/proc/self/exe\"")?;
    if is_unwritable(&file)? {
        return Ok(());
    }
    let program = match read_only_mount(&file) {
        Ok(mount) => mount,
        // In another mount namespace, or with mounts below it that a user namespace may not detach: it cannot be cloned.
        Err(Errno(libc::EINVAL)) => sealed_copy()?,
        Err(e) if is_absent(libc::SYS_open_tree, e) || is_absent(libc::SYS_mount_setattr, e) => {
            sealed_copy()?
        }
        Err(Errno(libc::EPERM)) => return Ok(()),
        Err(e) => return Err(e).context("mount the program's file read-only"),
    };
    let arguments = arguments
        .into_iter()
        .map(|a| CString::new(a.as_ref().as_bytes()))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|_| Error::invalid("an argument contains a NUL byte"))?;
    Err(exe::execute_again(program.as_fd(), &CStrArray::new(arguments, 0)))
        .context("execute the program again from a read-only mount: execveat")
}

/// Whether it is on a read-only mount or file system, immutable, protected by fs-verity, or a sealed copy.
fn is_unwritable(file: &OwnedFd) -> Result<bool> {
    if fs::is_read_only(file.as_fd()).context("fstatvfs of the program's file")? {
        return Ok(true);
    }
    let attributes = match fs::statx(file.as_fd(), libc::STATX_BASIC_STATS) {
        Ok(stat) => stat.stx_attributes,
        // Without the call, which a filter may refuse, it may be written to for all that is known.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => 0,
        Err(e) => return Err(e).context("statx of the program's file"),
    };
    let protecting = libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_VERITY;
    let links = fs::fstat(file.as_fd()).context("fstat of the program's file")?.st_nlink;
    Ok(attributes & u64::from(protecting.unsigned_abs()) != 0 || (links == 0 && exe::is_sealed()))
}

fn read_only_mount(file: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
    let tree = mount::open_tree(file.as_raw_fd(), c"", mount::OPEN_TREE_CLONE)?;
    let attr = SetAttr { set: mount::MOUNT_ATTR_RDONLY, propagation: libc::MS_PRIVATE, ..SetAttr::default() };
    mount::mount_setattr(tree.as_fd(), false, &attr)?;
    Ok(tree)
}

/// For kernels without mount_setattr(2), older than 5.12, and if the mount cannot be cloned.
fn sealed_copy() -> Result<OwnedFd> {
    let source = fs::openat_following(fs::CWD, c"/proc/self/exe", libc::O_RDONLY)
        .context("open \"/proc/self/exe\"")?;
    let copy = exe::memory_file(c"knarr").context("memfd_create")?;
    while fs::sendfile(copy.as_fd(), source.as_fd(), 1 << 24).context("sendfile")? > 0 {}
    seal(copy.as_fd()).context("fcntl(F_ADD_SEALS)")?;
    Ok(copy)
}

/// While the kernel itself uses a page (because it moves it, for example), the file could still be written to: the kernel waits for a
/// sixth of a second, then returns EBUSY. No other process uses this file, so that passes by itself, though late on a stalled machine.
fn seal(copy: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match exe::seal(copy) {
            Err(Errno(libc::EBUSY)) if Instant::now() < end => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write, pipe};

    #[test]
    fn sealing_waits_for_a_page_in_use() {
        let mut file = File::from(exe::memory_file(c"test").unwrap());
        file.write_all(&[1; 4096]).unwrap();
        file.rewind().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        // No copy: the pipe holds the page itself.
        assert_eq!(fs::sendfile(writer.as_fd(), file.as_fd(), 4096), Ok(4096));
        assert_eq!(exe::seal(file.as_fd()), Err(Errno(libc::EBUSY)));
        let free = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            reader.read_exact(&mut [0; 4096]).unwrap();
        });
        assert_eq!(seal(file.as_fd()), Ok(()));
        free.join().unwrap();
        assert_eq!(file.write(&[2]).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
