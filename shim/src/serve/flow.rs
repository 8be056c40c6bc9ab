//! The streams of processes, in the loop: copies wait for the one of their two ends that is not ready, and end when nothing more
//! will come.

use super::Server;
use super::alarm::Alarm;
use super::copy::{self, Copy, Wait};
use super::poll::{Interest, Token};
use super::slots::Key;
use super::streams::{Plumbing, unblock};
use crate::sys::process::pidfd_send_signal;
use crate::wire::code::Failure;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a logger may take to end after it was asked to.
const LOGGER: Duration = Duration::from_secs(12);

/// The first and the longest pause between two looks for a reader.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// A copy, and whose it is.
#[derive(Debug)]
pub(crate) struct Stream {
    copy: Copy,
    process: Key,
    wait: Wait,
    /// A reader of containerd's fifo, which keeps what containerd has not read yet.
    hold: Option<OwnedFd>,
}

impl Server {
    /// Sets a new process's streams going.
    pub(crate) fn connect_streams(&mut self, key: Key, plumbing: Plumbing) {
        if let Err(failure) = self.try_connect(key, plumbing) {
            self.log.warn(&format!("connect the streams: {failure}"));
        }
    }

    fn try_connect(&mut self, key: Key, plumbing: Plumbing) -> Result<(), Failure> {
        for outlet in plumbing.outlets {
            let from = match outlet.from {
                Some(from) => Some(from),
                None => self.terminal_of(key)?,
            };
            if let Some(from) = from {
                let copy = self.begin_copy(key, from, outlet.to, outlet.hold)?;
                if let Some(process) = self.table.processes.get_mut(key) {
                    process.outputs.push(copy);
                }
                self.flow(copy);
            }
        }
        let Some(inlet) = plumbing.inlet else { return Ok(()) };
        if let Some(process) = self.table.processes.get_mut(key) {
            process.stdin_hold = (!process.stdin_closed).then_some(inlet.hold);
        }
        let to = match inlet.to {
            Some(to) => Some(to),
            None => self.terminal_of(key)?,
        };
        if let Some(to) = to {
            let copy = self.begin_copy(key, inlet.from, to, None)?;
            if let Some(process) = self.table.processes.get_mut(key) {
                process.input = Some(copy);
            }
            self.flow(copy);
        }
        Ok(())
    }

    /// A descriptor of the terminal's master for one more copy.
    fn terminal_of(&self, key: Key) -> Result<Option<OwnedFd>, Failure> {
        let Some(terminal) = self.table.processes.get(key).and_then(|process| process.terminal.as_ref())
        else {
            return Ok(None);
        };
        unblock(terminal)?;
        Ok(Some(terminal.as_fd().try_clone_to_owned()?))
    }

    fn begin_copy(
        &mut self,
        process: Key,
        from: OwnedFd,
        to: OwnedFd,
        hold: Option<OwnedFd>,
    ) -> Result<Key, Failure> {
        let copy = Copy::new(from, to);
        let added = self.poll.add(copy.source(), Interest::Read, Token::Copy(self.copies.next_key()));
        added.map_err(|e| Failure::from(std::io::Error::from(e)))?;
        Ok(self.copies.insert(Stream { copy, process, wait: Wait::Source, hold }))
    }

    /// One end of a copy is ready: moves what can be moved.
    pub(crate) fn flow(&mut self, key: Key) {
        let Some(stream) = self.copies.get_mut(key) else { return };
        let wait = stream.copy.advance();
        if wait == stream.wait {
            return;
        }
        let before = std::mem::replace(&mut stream.wait, wait);
        // Only the end that is waited for: a source that has hung up would wake the server for ever.
        let (source, sink) = (stream.copy.source(), stream.copy.sink());
        match before {
            Wait::Source => self.poll.remove(source),
            Wait::Sink => self.poll.remove(sink),
            Wait::Ended => {}
        }
        let added = match wait {
            Wait::Source => self.poll.add(source, Interest::Read, Token::Copy(key)),
            Wait::Sink => self.poll.add(sink, Interest::Write, Token::Copy(key)),
            Wait::Ended => Err(Errno::EPIPE),
        };
        if added.is_err() {
            self.end_copy(key);
        }
    }

    fn end_copy(&mut self, key: Key) {
        let Some(stream) = self.copies.remove(key) else { return };
        match stream.wait {
            Wait::Source => self.poll.remove(stream.copy.source()),
            Wait::Sink => self.poll.remove(stream.copy.sink()),
            Wait::Ended => {}
        }
        let Some(process) = self.table.processes.get_mut(stream.process) else { return };
        process.outputs.retain(|other| *other != key);
        if process.input == Some(key) {
            process.input = None;
            process.stdin_hold = None;
        }
        if stream.hold.is_some() {
            // The reader that counts is another's.
            drop(stream.hold);
            process.unread.push(stream.copy.into_sink());
            self.look_for_readers(stream.process, LOOK.0);
        }
        self.go_on_deleting(stream.process);
    }

    /// A fifo without a reader is kept open until there is one: what is in it would go with its last user, and a reader that comes
    /// later (containerd was away, or slow) would wait for a writer for ever. The kernel does not say when one comes.
    fn look_for_readers(&mut self, key: Key, pause: Duration) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        process.unread.retain(|fifo| !copy::has_reader(fifo.as_fd()));
        if !process.unread.is_empty() {
            process.next_look = (pause * 2).min(LOOK.1);
            self.alarms.replace(Instant::now() + pause, Alarm::Look(key));
        }
    }

    /// `CloseIO`: with the last writer gone the process sees the end of its input, after all that is in the fifo.
    pub(crate) fn close_stdin(&mut self, key: Key) {
        if let Some(process) = self.table.processes.get_mut(key) {
            process.stdin_closed = true;
            process.stdin_hold = None;
        }
    }

    /// Ends all copies of a process at once.
    pub(crate) fn close_streams(&mut self, key: Key) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        process.stdin_hold = None;
        process.unread.clear();
        process.terminal = None;
        let copies: Vec<Key> = process.outputs.drain(..).chain(process.input.take()).collect();
        for copy in copies {
            if let Some(stream) = self.copies.remove(copy) {
                match stream.wait {
                    Wait::Source => self.poll.remove(stream.copy.source()),
                    Wait::Sink => self.poll.remove(stream.copy.sink()),
                    Wait::Ended => {}
                }
            }
        }
        self.end_logger(key);
    }

    /// Asks a logger to end. It is waited for (`reap`), and killed if it does not.
    fn end_logger(&mut self, key: Key) {
        let Some(logger) = self.table.processes.get_mut(key).and_then(|process| process.logger.as_mut())
        else {
            return;
        };
        if !logger.told {
            logger.told = true;
            let _ = pidfd_send_signal(logger.pidfd.as_fd(), libc::SIGTERM);
            self.alarms.replace(Instant::now() + LOGGER, Alarm::KillLogger(key));
        }
    }

    /// What is due now.
    pub(crate) fn ring(&mut self, now: Instant) {
        while let Some(alarm) = self.alarms.take(now) {
            match alarm {
                Alarm::Idle => {
                    self.table.forget_handles();
                    self.is_idle = true;
                }
                Alarm::Lonely => self.mind_loneliness(),
                Alarm::Look(key) => {
                    let pause = self.table.processes.get(key).map_or(LOOK.1, |process| process.next_look);
                    self.look_for_readers(key, pause);
                }
                Alarm::Drain(key) => {
                    // Another process holds the streams open, or the logger does not end: they are cut.
                    self.close_streams(key);
                    self.go_on_deleting(key);
                }
                Alarm::KillLogger(key) => {
                    let process = self.table.processes.get(key);
                    if let Some(logger) = process.and_then(|process| process.logger.as_ref()) {
                        let _ = pidfd_send_signal(logger.pidfd.as_fd(), libc::SIGKILL);
                    }
                }
            }
        }
    }
}
