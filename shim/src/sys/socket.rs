//! Messages with descriptors over a Unix socket, and pairs of such sockets.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg,
    socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// Two connected sockets that preserve message boundaries.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one message with at most eight descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map(drop)
}

/// The length of the next message; 0 is the end.
pub(crate) fn waiting(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
    recv(socket.as_raw_fd(), &mut [], flags)
}

/// Receives the next message, which must fit into `buffer`.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = nix::cmsg_space!([RawFd; 8]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(list) = part {
            // SAFETY: the kernel has just made these descriptors for this message; they have no other owner.
            fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// The listening socket that this program got as descriptor 3.
pub(crate) fn inherited_listener() -> Result<UnixListener, Errno> {
    const NUMBER: RawFd = 3;
    // SAFETY: fcntl(F_SETFD) takes an integer.
    Errno::result(unsafe { libc::fcntl(NUMBER, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, as the call above shows, and at the program's start it has no other owner.
    Ok(UnixListener::from(unsafe { OwnedFd::from_raw_fd(NUMBER) }))
}

/// A connection that accept4(2) has just made.
pub(crate) fn accepted(fd: RawFd) -> UnixStream {
    // SAFETY: accept4 has just made this descriptor, which has no other owner.
    UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) })
}
