//! `tmpcopyup`: fills a new, still detached tmpfs with what lies at its mount point. The source is hostile: no symlink is
//! followed, special files are recreated, and depth and size are bounded by the tmpfs and by `MAX_DEPTH`. Nothing allocates.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::child::{Done, On, failed};
use super::frame::Call;
use crate::plan::step::CopyUp;
use crate::sys::openat2;
use crate::sys::{Errno, fs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

const MAX_DEPTH: u32 = 64;
const PATH_MAX: usize = 4096;

const WHOLE: CopyUp = CopyUp { uid: true, gid: true, mode: true };
/// chown(2): leave it as it is.
const SAME: u32 = u32::MAX;

/// Copies the directory `from` (O_PATH) into the root of the mount `to`, contents, owners, modes; of the directory itself what is to
/// be taken.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, take: CopyUp) -> Done {
    directory(from, to, c".", take, MAX_DEPTH)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, take: CopyUp, depth: u32) -> Done {
    let Some(depth) = depth.checked_sub(1) else { return failed(Call::CopyUp, libc::ELOOP) };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let source = openat2::open(from, name, flags, fs::RESOLVE_BENEATH).on(Call::CopyUp)?;
    let copy = openat2::open(to, name, flags, fs::RESOLVE_BENEATH).on(Call::CopyUp)?;
    let mut buffer = [0u8; 4096];
    loop {
        let n = fs::getdents(source.as_fd(), &mut buffer).on(Call::CopyUp)?;
        if n == 0 {
            break;
        }
        for name in fs::names(buffer.get(..n).unwrap_or_default()) {
            one(source.as_fd(), copy.as_fd(), name, depth)?;
        }
    }
    let stat = fs::fstat(source.as_fd()).on(Call::CopyUp)?;
    let (uid, gid) = (if take.uid { stat.st_uid } else { SAME }, if take.gid { stat.st_gid } else { SAME });
    fs::fchownat(copy.as_fd(), c"", uid, gid).on(Call::CopyUp)?;
    if take.mode { fs::fchmod(copy.as_fd(), stat.st_mode & 0o7777).on(Call::CopyUp) } else { Ok(()) }
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Done {
    let source =
        openat2::open(from, name, libc::O_PATH | libc::O_NOFOLLOW, fs::RESOLVE_BENEATH).on(Call::CopyUp)?;
    let stat = fs::fstat(source.as_fd()).on(Call::CopyUp)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            fs::mkdirat(to, name, 0o700).on(Call::CopyUp)?;
            directory(from, to, name, WHOLE, depth)
        }
        libc::S_IFLNK => {
            let mut target = [0u8; PATH_MAX];
            let length =
                fs::readlinkat(source.as_fd(), c"", target.get_mut(..PATH_MAX - 1).unwrap_or_default())
                    .on(Call::CopyUp)?;
            let text = target.get(..=length).and_then(|t| CStr::from_bytes_until_nul(t).ok());
            let Some(text) = text else { return failed(Call::CopyUp, libc::ENAMETOOLONG) };
            fs::symlinkat(text, to, name).on(Call::CopyUp)?;
            fs::fchownat(to, name, stat.st_uid, stat.st_gid).on(Call::CopyUp)
        }
        libc::S_IFREG => regular(from, to, name, &stat),
        _ => {
            fs::mknodat(to, name, stat.st_mode, stat.st_rdev).on(Call::CopyUp)?;
            fs::fchownat(to, name, stat.st_uid, stat.st_gid).on(Call::CopyUp)
        }
    }
}

fn regular(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &libc::stat) -> Done {
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let source = openat2::open(from, name, flags, fs::RESOLVE_BENEATH).on(Call::CopyUp)?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let copy = openat2::create(to, name, flags, 0o600, fs::RESOLVE_BENEATH).on(Call::CopyUp)?;
    loop {
        match fs::sendfile(copy.as_fd(), source.as_fd(), 1 << 20) {
            Ok(0) => break,
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e).on(Call::CopyUp),
        }
    }
    fs::fchownat(copy.as_fd(), c"", stat.st_uid, stat.st_gid).on(Call::CopyUp)?;
    fs::fchmod(copy.as_fd(), stat.st_mode & 0o7777).on(Call::CopyUp)
}
