//! epoll(7), with tokens for the sources of events.
//!
//! A descriptor must be removed before it is closed: a worker may have a copy of it, and the kernel would continue to report it.

use super::slots::Key;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::AsFd;
use std::time::Duration;

/// The source of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A client connects.
    Listener,
    /// A signal has arrived.
    Signals,
    /// A client has sent something, or has room for more answers.
    Connection(Key),
    /// A worker has a report.
    Worker(Key),
    /// A copy can continue.
    Copy(Key),
    /// A container's memory events.
    Oom(Key),
    /// The connection that events are sent on.
    Events,
}

impl Token {
    fn number(self) -> u64 {
        let (kind, key) = match self {
            Token::Listener => (0, 0),
            Token::Signals => (1, 0),
            Token::Connection(key) => (2, key),
            Token::Worker(key) => (3, key),
            Token::Copy(key) => (4, key),
            Token::Oom(key) => (5, key),
            Token::Events => (6, 0),
        };
        (kind << 32) | u64::from(key)
    }

    fn from_number(number: u64) -> Option<Self> {
        let key = u32::try_from(number & u64::from(u32::MAX)).ok()?;
        Some(match number >> 32 {
            0 => Token::Listener,
            1 => Token::Signals,
            2 => Token::Connection(key),
            3 => Token::Worker(key),
            4 => Token::Copy(key),
            5 => Token::Oom(key),
            6 => Token::Events,
            _ => return None,
        })
    }
}

/// The state of a descriptor that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
    Both,
    /// An exceptional condition: a change of a cgroup's file.
    Urgent,
    /// Only the end of the other side, which is always reported.
    End,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Interest::Read => EpollFlags::EPOLLIN,
            Interest::Write => EpollFlags::EPOLLOUT,
            Interest::Urgent => EpollFlags::EPOLLPRI,
            Interest::End => EpollFlags::empty(),
            Interest::Both => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Poll(Epoll);

impl Poll {
    pub(crate) fn new() -> Result<Self, Errno> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Poll)
    }

    pub(crate) fn add(&self, fd: impl AsFd, interest: Interest, token: Token) -> Result<(), Errno> {
        self.0.add(fd, EpollEvent::new(interest.flags(), token.number()))
    }

    pub(crate) fn change(&self, fd: impl AsFd, interest: Interest, token: Token) -> Result<(), Errno> {
        self.0.modify(fd, &mut EpollEvent::new(interest.flags(), token.number()))
    }

    /// Must be called before the descriptor is closed.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = self.0.delete(fd);
    }

    /// Waits for events, at most for `limit`.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Vec<Token>, Errno> {
        let mut events = [EpollEvent::empty(); 32];
        // Rounded up: else the last fraction of a millisecond would be a busy loop.
        let timeout = limit.map_or(EpollTimeout::NONE, |limit| {
            EpollTimeout::try_from(limit + Duration::from_micros(999)).unwrap_or(EpollTimeout::MAX)
        });
        let count = match self.0.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        Ok(events.iter().take(count).filter_map(|event| Token::from_number(event.data())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn tokens_survive_being_numbers() {
        let key = u32::MAX - 1;
        for token in [
            Token::Listener,
            Token::Signals,
            Token::Connection(1),
            Token::Worker(key),
            Token::Copy(7),
            Token::Oom(key),
            Token::Events,
        ] {
            assert_eq!(Token::from_number(token.number()), Some(token));
        }
        assert_eq!(Token::from_number(u64::MAX), None);
    }
}
