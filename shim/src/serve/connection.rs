//! The connection of a client: frames in, answers out, without waiting for the client.
//!
//! This module does not know what the requests mean.

use crate::wire::frame::{Decoder, Frame};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The connection of a client that does not read its answers is closed when more bytes than this are waiting.
const MAX_BACKLOG: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    backlog: Vec<u8>,
}

/// The connection is broken, or must be closed.
#[derive(Debug)]
pub(crate) struct Closed;

impl Connection {
    /// A new connection, whose socket must be non-blocking.
    pub(crate) fn new(socket: UnixStream) -> Self {
        Connection { socket, decoder: Decoder::new(), backlog: Vec::new() }
    }

    /// Whether the client has the same user as this process. The socket's directory is closed to others already.
    pub(crate) fn is_from_same_user(&self) -> bool {
        getsockopt(&self.socket, sockopt::PeerCredentials)
            .is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw())
    }

    /// Reads what has arrived. `next` returns the complete frames.
    pub(crate) fn receive(&mut self) -> Result<(), Closed> {
        let mut buffer = [0; 4096];
        // Bounded, so that a client that sends without a pause does not hold up the others.
        for _ in 0..64 {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Closed),
                Ok(count) => self.decoder.push(buffer.get(..count).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.decoder.next()
    }

    /// Sends bytes, now or as soon as the client reads.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let mut rest = bytes;
        if self.backlog.is_empty() {
            rest = rest.get(write(&mut self.socket, rest)?..).unwrap_or_default();
        }
        self.backlog.extend_from_slice(rest);
        if self.backlog.len() > MAX_BACKLOG { Err(Closed) } else { Ok(()) }
    }

    /// Sends the backlog.
    pub(crate) fn flush(&mut self) -> Result<(), Closed> {
        let count = write(&mut self.socket, &self.backlog)?;
        self.backlog.drain(..count);
        if self.backlog.is_empty() {
            self.backlog = Vec::new();
        }
        Ok(())
    }

    /// Whether there is a backlog.
    pub(crate) fn is_backed_up(&self) -> bool {
        !self.backlog.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Writes as much as possible without waiting.
fn write(socket: &mut UnixStream, bytes: &[u8]) -> Result<usize, Closed> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match socket.write(rest) {
            Ok(count) => done += count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) if e.raw_os_error() == Some(Errno::EINTR as i32) => {}
            Err(_) => return Err(Closed),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{RESPONSE, encode_response};

    #[test]
    fn answers_wait_for_a_client_that_does_not_read_and_arrive_complete() {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut server = Connection::new(here);
        assert!(server.is_from_same_user());
        let long = vec![7; 1 << 20];
        for stream in [1, 3] {
            server.send(&encode_response(stream, Ok(long.clone()))).unwrap();
        }
        assert!(server.is_backed_up());
        there.set_nonblocking(true).unwrap();
        let mut client = Connection::new(there);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            server.flush().unwrap();
            client.receive().unwrap();
            while let Some(frame) = client.next() {
                assert_eq!(frame.kind, RESPONSE);
                assert!(frame.body.unwrap().len() > long.len());
                seen.push(frame.stream);
            }
        }
        assert_eq!(seen, [1, 3]);
        assert!(!server.is_backed_up());
    }

    #[test]
    fn a_client_that_never_reads_is_disconnected() {
        let (here, _there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut server = Connection::new(here);
        let long = vec![0; 1 << 20];
        assert!((0..64).any(|_| server.send(&long).is_err()));
    }

    #[test]
    fn the_end_of_the_client_is_seen() {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut server = Connection::new(here);
        server.receive().unwrap();
        drop(there);
        assert!(server.receive().is_err());
    }
}
