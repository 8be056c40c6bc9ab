//! The size of a terminal.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets the size of a terminal by its master (TIOCSWINSZ).
pub(crate) fn resize(master: BorrowedFd<'_>, width: u16, height: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a winsize and outlives the call, which only reads it.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}
