//! The sockets between parent, child and `start`: pairs that keep message boundaries, and descriptors passed over them.

use super::{Errno, SysResult, length, owned, ret};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// socketpair(2), AF_UNIX, SOCK_SEQPACKET.
pub(crate) fn pair() -> SysResult<(OwnedFd, OwnedFd)> {
    let mut fds = [-1i32; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for two descriptors.
    ret(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }.into())?;
    let [a, b] = fds;
    Ok((owned(a.into()), owned(b.into())))
}

pub(crate) fn accept(listener: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    loop {
        let none = std::ptr::null_mut();
        // SAFETY: the peer's address is not asked for.
        match ret(unsafe {
            libc::accept4(listener.as_raw_fd(), none, std::ptr::null_mut(), libc::SOCK_CLOEXEC)
        }
        .into())
        {
            Err(e) if e.0 == libc::EINTR || e.0 == libc::ECONNABORTED => {}
            // The container's own filter. Nothing else runs in this process that could inherit the descriptor meanwhile.
            Err(Errno(libc::EPERM | libc::ENOSYS)) => return accept_plainly(listener),
            other => return other.map(owned),
        }
    }
}

fn accept_plainly(listener: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let none = std::ptr::null_mut();
    loop {
        // The C library's: on s390x and 32-bit x86 it is a function of socketcall(2).
        // SAFETY: the peer's address is not asked for.
        match ret(unsafe { libc::accept(listener.as_raw_fd(), none, std::ptr::null_mut()) }.into()) {
            Err(e) if e.0 == libc::EINTR || e.0 == libc::ECONNABORTED => {}
            other => {
                let peer = other.map(owned)?;
                // SAFETY: no pointers.
                ret(unsafe { libc::fcntl(peer.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
                return Ok(peer);
            }
        }
    }
}

/// Sends one message. A closed peer gives EPIPE without SIGPIPE: this process belongs to the caller.
pub(crate) fn send(socket: BorrowedFd<'_>, data: &[u8]) -> SysResult<()> {
    let (start, flags) = (data.as_ptr().cast(), libc::MSG_NOSIGNAL);
    // SAFETY: `data` is valid for its length.
    length(unsafe { libc::send(socket.as_raw_fd(), start, data.len(), flags) }).map(drop)
}

/// The payload of a control message with one descriptor, an i32.
const ONE_FD: u32 = 4;

/// Space for one descriptor's control message, aligned as a cmsghdr must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends `data` with one descriptor.
pub(crate) fn send_fd(socket: BorrowedFd<'_>, data: &[u8], fd: BorrowedFd<'_>) -> SysResult<()> {
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(ONE_FD) } as _;
    // SAFETY: msg_control and msg_controllen describe `control`, which has room for a header.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: `header` points into `control`, which is aligned for it.
    let header = unsafe { header.as_mut() }.ok_or(Errno(libc::EINVAL))?;
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: CMSG_LEN only computes.
    header.cmsg_len = unsafe { libc::CMSG_LEN(ONE_FD) } as _;
    // SAFETY: CMSG_DATA only computes an address from a valid header.
    let place = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: `control` has room for the header and one i32 behind it.
    unsafe { place.cast::<i32>().write_unaligned(fd.as_raw_fd()) };
    // SAFETY: `message` and all that it points to outlive the call.
    length(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }).map(drop)
}

/// Receives one message into `buffer`, and a descriptor if one came with it. 0 bytes: the peer is closed.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> SysResult<(usize, Option<OwnedFd>)> {
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let n = loop {
        // SAFETY: `message` and all that it points to outlive the call.
        match length(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) }) {
            // A peer that closes without reading all messages leaves ECONNRESET, returned once, before the messages that it sent itself.
            Err(Errno(libc::EINTR | libc::ECONNRESET)) => {}
            other => break other?,
        }
    };
    // SAFETY: recvmsg has set msg_controllen to what it wrote to `control`.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: null, or a header inside `control`.
    let Some(header) = (unsafe { header.as_ref() }) else { return Ok((n, None)) };
    if header.cmsg_level != libc::SOL_SOCKET || header.cmsg_type != libc::SCM_RIGHTS {
        return Ok((n, None));
    }
    // SAFETY: CMSG_DATA only computes an address from a valid header.
    let place = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: an SCM_RIGHTS message has at least one i32, written by the kernel.
    let fd = unsafe { place.cast::<i32>().read_unaligned() };
    Ok((n, Some(owned(fd.into()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_a_peer_said_before_it_ended_is_heard_although_it_did_not_listen() {
        let (here, there) = pair().unwrap();
        send(there.as_fd(), b"why").unwrap();
        send(here.as_fd(), b"go").unwrap();
        drop(there);
        let mut buffer = [0u8; 16];
        assert_eq!(receive(here.as_fd(), &mut buffer).unwrap().0, 3);
        assert_eq!(&buffer[..3], b"why");
        assert_eq!(receive(here.as_fd(), &mut buffer).unwrap().0, 0);
    }
}
