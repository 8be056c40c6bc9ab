//! Messages with descriptors over a Unix socket, and pairs of such sockets.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg,
    socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// Two connected sockets that keep messages apart.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// One message with descriptors, at most eight.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map(drop)
}

/// The length of the message that is next; 0 is the end.
pub(crate) fn waiting(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
    recv(socket.as_raw_fd(), &mut [], flags)
}

/// The next message, which has no more bytes than there is room.
pub(crate) fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = nix::cmsg_space!([RawFd; 8]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(room)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(list) = part {
            // SAFETY: the kernel has just installed these descriptors for this message, and nobody else knows them.
            fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// The listening socket that this program was started with, as descriptor 3.
pub(crate) fn inherited_listener() -> Result<UnixListener, Errno> {
    const NUMBER: RawFd = 3;
    // SAFETY: an integer is passed, and asked for.
    Errno::result(unsafe { libc::fcntl(NUMBER, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, as the call above shows, and at the program's start nobody else has taken it.
    Ok(UnixListener::from(unsafe { OwnedFd::from_raw_fd(NUMBER) }))
}

/// A connection that accept4(2) has just made.
pub(crate) fn accepted(fd: RawFd) -> UnixStream {
    // SAFETY: the number comes from the kernel by accept4, and nobody else has taken it.
    UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) })
}
