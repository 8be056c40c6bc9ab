//! Sends descriptors to a caller's AF_UNIX stream socket: a terminal's master, a pidfd.

use crate::failure::Failure;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A connected socket whose other end is waiting for a descriptor.
#[derive(Debug)]
pub(crate) struct FdReceiver(UnixStream, PathBuf);

impl FdReceiver {
    /// Connects to `path`, which may be longer than the 107 bytes that an address holds.
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        let failure =
            |call: &str, e: std::io::Error| Failure::os(format_args!("connect to {path:?}"), call, e);
        let stream = if path.as_os_str().len() <= 107 {
            UnixStream::connect(path).map_err(|e| failure("connect", e))?
        } else {
            let Some(name) = path.file_name().filter(|n| n.as_bytes().len() <= 80) else {
                return Err(Failure::new(format!(
                    "connect to {path:?}: the file name is longer than 80 bytes"
                )));
            };
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut options = std::fs::OpenOptions::new();
            let flags = nix::libc::O_PATH | nix::libc::O_DIRECTORY;
            let dir = options
                .read(true)
                .custom_flags(flags)
                .open(parent)
                .map_err(|e| failure("open its directory", e))?;
            let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
            UnixStream::connect(short).map_err(|e| failure("connect", e))?
        };
        Ok(FdReceiver(stream, path.to_owned()))
    }

    /// Sends `fd` with `name` as the payload.
    pub(crate) fn send(&self, name: &str, fd: BorrowedFd<'_>) -> Result<(), Failure> {
        let payload = [IoSlice::new(name.as_bytes())];
        let fds = [fd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        // MSG_NOSIGNAL: if the receiver is gone, that is an error rather than a SIGPIPE.
        sendmsg::<()>(self.0.as_raw_fd(), &payload, &rights, MsgFlags::MSG_NOSIGNAL, None)
            .map_err(|e| Failure::os(format_args!("send {name} to {:?}", self.1), "sendmsg", e))?;
        Ok(())
    }
}
