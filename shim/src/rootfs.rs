//! Unmounts a bundle's `rootfs`.

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Unmounts everything on and below `<bundle>/rootfs`. It is not an error if there is nothing.
pub fn unmount(bundle: &Path) -> io::Result<()> {
    let rootfs = bundle.join("rootfs");
    // Detaching a mount detaches those below it. There may be several mounts on the same point.
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    let mut mounted = false;
    loop {
        match umount2(&rootfs, flags) {
            Ok(()) => mounted = true,
            Err(Errno::EINVAL | Errno::ENOENT) if mounted => return Ok(()),
            Err(Errno::EINVAL) => return below(&rootfs),
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Unmounts the mounts in `rootfs`, which is not a mount itself. The contents may come from a container, so no link is followed.
fn below(rootfs: &Path) -> io::Result<()> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let points =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let mut points: Vec<PathBuf> = points.map(unescape).filter(|point| point.starts_with(rootfs)).collect();
    // Later mounts are on or in earlier ones.
    points.reverse();
    for point in points {
        let Some(inside) = point.strip_prefix(rootfs).ok().filter(|path| !path.as_os_str().is_empty()) else {
            continue;
        };
        let mount = match open_below(rootfs, inside) {
            Ok(mount) => mount,
            Err(Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        match umount2(format!("/proc/self/fd/{}", mount.as_raw_fd()).as_str(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn open_below(rootfs: &Path, inside: &Path) -> Result<std::os::fd::OwnedFd, Errno> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
    use nix::sys::stat::Mode;
    let dir = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(&dir, inside, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve))
}

/// Decodes a path of proc_pid_mountinfo(5), which has blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .first_chunk::<3>()
            .filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = octal {
            bytes.push(
                digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
            );
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::unescape;
    use std::path::Path;

    #[test]
    fn escapes_of_mountinfo_are_read() {
        assert_eq!(unescape(br"/a\040b\134c\011"), Path::new("/a b\\c\t"));
        assert_eq!(unescape(br"/plain\9"), Path::new(r"/plain\9"));
    }
}
