//! The clients of the server: the socket, their connections, and calls that are held back.
//!
//! This module does not know what the calls do.

use super::connection::Connection;
use super::log::Log;
use super::poll::{Interest, Poll, Token};
use super::slots::{Key, Slots};
use super::table::Caller;
use crate::wire::code::Failure;
use crate::wire::frame::{REQUEST, Request, encode_response};
use crate::wire::method::MethodCall;
use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockFlag, accept4, listen};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

#[derive(Debug)]
pub(crate) struct Clients {
    listener: UnixListener,
    connections: Slots<Connection>,
    /// Calls that would make events, held back while containerd is behind with the earlier ones.
    held: VecDeque<(Caller, MethodCall)>,
}

impl Clients {
    pub(crate) fn new(listener: UnixListener, poll: &Poll) -> Result<Self, Errno> {
        let _ = listener.set_nonblocking(true);
        // A client sees the credentials of the process that listened last: from here on those of this one.
        listen(&listener, Backlog::new(128)?)?;
        poll.add(&listener, Interest::Read, Token::Listener)?;
        Ok(Clients { listener, connections: Slots::new(), held: VecDeque::new() })
    }

    /// Accepts all pending connections.
    pub(crate) fn accept(&mut self, poll: &Poll, log: &Log) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        while let Ok(fd) = accept4(self.listener.as_raw_fd(), flags) {
            let connection = Connection::new(crate::sys::socket::accepted(fd));
            if !connection.is_from_same_user() {
                log.warn("refused a connection from another user");
                continue;
            }
            let key = self.connections.next_key();
            if poll.add(&connection, Interest::Read, Token::Connection(key)).is_ok() {
                self.connections.insert(connection);
            }
        }
    }

    /// Sends delayed answers and receives requests, as far as possible without waiting. Returns whether the connection is still open;
    /// `next_call` returns the calls.
    pub(crate) fn receive(&mut self, key: Key, poll: &Poll) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return true };
        let was_backed_up = connection.is_backed_up();
        let open = connection.flush().is_ok() && connection.receive().is_ok();
        if was_backed_up && !connection.is_backed_up() {
            let _ = poll.change(&*connection, Interest::Read, Token::Connection(key));
        }
        open
    }

    /// The next call that a client has made.
    pub(crate) fn next_call(&mut self, key: Key) -> Option<(Caller, Result<MethodCall, Failure>)> {
        loop {
            let frame = self.connections.get_mut(key)?.next()?;
            let caller = Caller { connection: key, stream: frame.stream };
            match frame.body.and_then(|body| Request::read(&body)) {
                Ok(request) if frame.kind == REQUEST => return Some((caller, MethodCall::read(request))),
                Ok(_) => {}
                Err(failure) => return Some((caller, Err(failure))),
            }
        }
    }

    /// Answers a call, unless the client is gone. Returns false if the connection must be closed.
    #[must_use]
    pub(crate) fn answer(&mut self, caller: Caller, result: Result<Vec<u8>, Failure>, poll: &Poll) -> bool {
        let Some(connection) = self.connections.get_mut(caller.connection) else { return true };
        let was_backed_up = connection.is_backed_up();
        if connection.send(&encode_response(caller.stream, result)).is_err() {
            return false;
        }
        if !was_backed_up && connection.is_backed_up() {
            let _ = poll.change(&*connection, Interest::Both, Token::Connection(caller.connection));
        }
        true
    }

    /// Closes a connection and drops its held calls.
    pub(crate) fn hang_up(&mut self, key: Key, poll: &Poll) {
        if let Some(connection) = self.connections.remove(key) {
            poll.remove(&connection);
        }
        self.held.retain(|(caller, _)| caller.connection != key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether answers are waiting to be sent.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.connections.iter().any(|(_, connection)| connection.is_backed_up())
    }

    pub(crate) fn hold(&mut self, caller: Caller, call: MethodCall) {
        self.held.push_back((caller, call));
    }

    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// The first of the held calls.
    pub(crate) fn next_held(&mut self) -> Option<(Caller, MethodCall)> {
        let first = self.held.pop_front();
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        first
    }

    /// Removes the socket's name. Only once: the next socket of that name belongs to another server.
    pub(crate) fn remove_name(&self) {
        if let Ok(address) = self.listener.local_addr()
            && let Some(path) = address.as_pathname()
        {
            let _ = std::fs::remove_file(path);
        }
    }
}
