//! The streams of processes. Each copy waits for the end that is not ready, and ends with its input or its reader.

use super::Server;
use super::clock::Alarm;
use super::copy::{self, Copy, Wait};
use super::poll::{Interest, Token};
use super::slots::{Key, Slots};
use super::streams::{Plumbing, unblock};
use crate::sys::process::pidfd_send_signal;
use crate::wire::code::Failure;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a logger may take to end after SIGTERM.
const LOGGER_TIMEOUT: Duration = Duration::from_secs(12);

/// The first and the longest pause between two checks for a reader.
const CHECK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// A copy of a process's stream.
#[derive(Debug)]
struct Stream {
    copy: Copy,
    process: Key,
    wait: Wait,
    /// A reader of containerd's fifo, which keeps what containerd has not read yet.
    hold: Option<OwnedFd>,
}

/// All copies.
#[derive(Debug)]
pub(crate) struct Copies(Slots<Stream>);

impl Copies {
    pub(crate) fn new() -> Self {
        Copies(Slots::new())
    }
}

impl Server {
    /// Starts to copy the streams of a new process.
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
                self.advance_copy(copy);
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
            self.advance_copy(copy);
        }
        Ok(())
    }

    /// A descriptor of the terminal's master for another copy.
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
        let added = self.poll.add(copy.source(), Interest::Read, Token::Copy(self.copies.0.next_key()));
        added.map_err(|e| Failure::from(std::io::Error::from(e)))?;
        Ok(self.copies.0.insert(Stream { copy, process, wait: Wait::Source, hold }))
    }

    /// One end of a copy is ready: moves what can be moved.
    pub(crate) fn advance_copy(&mut self, key: Key) {
        let Some(stream) = self.copies.0.get_mut(key) else { return };
        let wait = stream.copy.advance();
        if wait == stream.wait {
            return;
        }
        let before = std::mem::replace(&mut stream.wait, wait);
        // Only one end is watched: a source that has hung up would wake the server again and again.
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
        let Some(stream) = self.copies.0.remove(key) else { return };
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
            // Only containerd's reader counts.
            drop(stream.hold);
            process.unread.push(stream.copy.into_sink());
            self.check_readers(stream.process, CHECK.0);
        }
        self.continue_delete(stream.process);
    }

    /// Keeps fifos without a reader open until they have one: else their contents would be lost, and a later reader (containerd was away
    /// or is slow) would wait for a writer for ever. The kernel does not notify of readers.
    fn check_readers(&mut self, key: Key, pause: Duration) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        process.unread.retain(|fifo| !copy::has_reader(fifo.as_fd()));
        if !process.unread.is_empty() {
            process.next_check = (pause * 2).min(CHECK.1);
            self.clock.alarms.replace(Instant::now() + pause, Alarm::CheckReaders(key));
        }
    }

    /// `CloseIO`: without a writer the process sees the end of its input after the contents of the fifo.
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
            if let Some(stream) = self.copies.0.remove(copy) {
                match stream.wait {
                    Wait::Source => self.poll.remove(stream.copy.source()),
                    Wait::Sink => self.poll.remove(stream.copy.sink()),
                    Wait::Ended => {}
                }
            }
        }
        self.end_logger(key);
    }

    /// Sends SIGTERM to a logger. `reap` waits for it, and if it does not end it is killed.
    fn end_logger(&mut self, key: Key) {
        let Some(logger) = self.table.processes.get_mut(key).and_then(|process| process.logger.as_mut())
        else {
            return;
        };
        if !logger.terminated {
            logger.terminated = true;
            let _ = pidfd_send_signal(logger.pidfd.as_fd(), libc::SIGTERM);
            self.clock.alarms.replace(Instant::now() + LOGGER_TIMEOUT, Alarm::KillLogger(key));
        }
    }

    /// Does what is due.
    pub(crate) fn fire_alarms(&mut self, now: Instant) {
        while let Some(alarm) = self.clock.alarms.take(now) {
            match alarm {
                Alarm::Idle => {
                    self.table.drop_handles();
                    self.clock.is_idle = true;
                }
                Alarm::Unconnected => self.check_unconnected(),
                Alarm::CheckReaders(key) => {
                    let pause = self.table.processes.get(key).map_or(CHECK.1, |process| process.next_check);
                    self.check_readers(key, pause);
                }
                Alarm::Drain(key) => {
                    // Another process keeps the streams open, or the logger does not end: they are closed.
                    self.close_streams(key);
                    self.continue_delete(key);
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
