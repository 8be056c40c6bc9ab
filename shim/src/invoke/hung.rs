//! A shim that hangs: it has its socket and says nothing. `delete` ends it.
//!
//! Which process that is the kernel says, by the socket: no file, and nothing that a container has a say in. It must not know what a
//! shim does.

use super::Call;
use crate::sys::process::{pidfd_open, pidfd_send_signal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// How long a killed process may take to end, in milliseconds.
const PATIENCE: u16 = 1500;

/// Ends the shim at the other end of `stream`.
pub(super) fn end(stream: &UnixStream, call: &Call) -> Result<(), String> {
    let failed = |name: &str, error: Errno| format!("{name}: {error}");
    let peer =
        getsockopt(stream, sockopt::PeerCredentials).map_err(|e| failed("getsockopt(SO_PEERCRED)", e))?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid() != own {
        return Err(format!("process {} is of user {}, not {own}", peer.pid(), peer.uid()));
    }
    let Some(process) = process(stream, peer.pid()).map_err(|e| failed("pidfd_open", e))? else {
        return Ok(());
    };
    // Since Linux 6.16 there is a pidfd of a process that is gone as well; its pid may be another's by now.
    if has_ended(&process, 0)? {
        return Ok(());
    }
    if !is_shim(peer.pid(), &call.flags.namespace) {
        return Err(format!("process {} is no shim of namespace {:?}", peer.pid(), call.flags.namespace));
    }
    match pidfd_send_signal(process.as_fd(), libc::SIGKILL) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Ok(()),
        Err(e) => return Err(failed("pidfd_send_signal", e)),
    }
    if has_ended(&process, PATIENCE)? {
        return Ok(());
    }
    Err(format!("process {} does not end although it was killed", peer.pid()))
}

/// Whether it ends within so many milliseconds.
fn has_ended(process: &OwnedFd, limit: u16) -> Result<bool, String> {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(limit)).map(|count| count > 0).map_err(|e| format!("poll: {e}"))
}

/// The process that listens; `None` if it has ended. Before Linux 6.5 by its pid: it is the listener's still, since the socket would have no
/// listener any more if that had ended.
fn process(stream: &UnixStream, pid: i32) -> Result<Option<OwnedFd>, Errno> {
    match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(process) => return Ok(Some(process)),
        Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
        Err(Errno::ENOPROTOOPT) => {}
        Err(e) => return Err(e),
    }
    match pidfd_open(pid) {
        Ok(process) => Ok(Some(process)),
        Err(Errno::ESRCH) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Its command line is a server's of this namespace: what `start` has given it.
fn is_shim(pid: i32, namespace: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let has = |name: &[u8], value: &[u8]| words.windows(2).any(|pair| pair == [name, value]);
    let program = words.first().and_then(|word| word.rsplit(|byte| *byte == b'/').next()).unwrap_or_default();
    program.starts_with(b"containerd-shim-")
        && has(b"-namespace", namespace.as_bytes())
        && words.contains(&b"-id".as_slice())
        && !line.ends_with(b"\0start\0")
        && !line.ends_with(b"\0delete\0")
}
