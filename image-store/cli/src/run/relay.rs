//! The parent's loop while a process runs: its output goes to the log and to all who watch, their input goes to it. Knows
//! neither the store nor how the process was made.
//!
//! The owner is who started it and waits for it: as with a pipe, a slow one slows the process down, and what it closes is
//! closed. Others who watch are left behind when they do not read.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use image_store::{Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{Winsize, tcsetwinsize};

use super::frames::{Frame, Inbox, Stream};
use super::log::Log;

/// How much may wait for an owner, or for the process, before the other side has to wait.
const FULL: usize = 64 << 10;
/// How much may wait for another watcher before it is left behind.
const TOO_MUCH: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Who watches.
#[derive(Debug)]
struct Watcher {
    socket: UnixStream,
    inbox: Inbox,
    waiting: Vec<u8>,
    owner: bool,
    /// Gives input.
    types: bool,
    gone: bool,
}

/// All who watch a process, and its log.
#[derive(Debug)]
pub(super) struct Relay {
    listener: Option<UnixListener>,
    watchers: Vec<Watcher>,
    log: Option<Log>,
}

/// The process's side.
pub(super) struct Process<'a> {
    pub(super) pidfd: BorrowedFd<'a>,
    pub(super) kill: &'a dyn Fn(i32),
    pub(super) input: Option<File>,
    pub(super) outputs: Vec<(Stream, File)>,
    /// The master, when it has a terminal.
    pub(super) terminal: Option<File>,
    /// Its input ends with the first who gives it any, as a pipe does.
    pub(super) input_once: bool,
    /// Its input ends when what waits is written.
    pub(super) input_ends: bool,
}

impl Relay {
    pub(super) fn new(owner: UnixStream) -> Result<Self> {
        let mut relay = Self { listener: None, watchers: Vec::new(), log: None };
        relay.add(owner, true)?;
        Ok(relay)
    }

    /// Lets others come, and keeps what is written.
    pub(super) fn listen(&mut self, listener: UnixListener, log: Option<Log>) -> Result<()> {
        listener.set_nonblocking(true)?;
        (self.listener, self.log) = (Some(listener), log);
        Ok(())
    }

    fn add(&mut self, socket: UnixStream, owner: bool) -> Result<()> {
        socket.set_nonblocking(true)?;
        let watcher = Watcher {
            socket,
            inbox: Inbox::default(),
            waiting: Vec::new(),
            owner,
            types: false,
            gone: false,
        };
        self.watchers.push(watcher);
        Ok(())
    }

    /// Tells everybody.
    pub(super) fn say(&mut self, frame: &Frame) {
        for watcher in self.watchers.iter_mut().filter(|watcher| !watcher.gone) {
            frame.encode(&mut watcher.waiting);
            watcher.send();
        }
    }

    fn forget(&mut self) {
        self.watchers.retain(|watcher| !watcher.gone && (watcher.owner || watcher.waiting.len() < TOO_MUCH));
    }

    /// Until the process has ended and all it wrote has been read.
    pub(super) fn run(&mut self, process: &mut Process<'_>) -> Result<()> {
        let mut input = Vec::new();
        loop {
            let ready = self.wait(process, &input)?;
            let mut at = 0;
            process.outputs.retain(|output| {
                at += 1;
                ready.outputs.get(at - 1) != Some(&true) || self.pass_output(output)
            });
            self.hear(process, &mut input, &ready.watchers);
            feed(process, &mut input);
            if let Some(Ok((socket, _))) =
                self.listener.as_ref().filter(|_| ready.listener).map(UnixListener::accept)
            {
                self.add(socket, false)?;
            }
            if ready.ended {
                break;
            }
        }
        self.drain(process);
        Ok(())
    }

    fn wait(&self, process: &Process<'_>, input: &[u8]) -> Result<Ready> {
        let room = self.watchers.iter().all(|watcher| !watcher.owner || watcher.waiting.len() < FULL);
        let outputs = if room { &process.outputs[..] } else { &[] };
        let mut fds = vec![PollFd::new(&process.pidfd, PollFlags::IN)];
        fds.extend(outputs.iter().map(|(_, file)| PollFd::new(file, PollFlags::IN)));
        for watcher in &self.watchers {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, input.len() < FULL);
            flags.set(PollFlags::OUT, !watcher.waiting.is_empty());
            fds.push(PollFd::new(&watcher.socket, flags));
        }
        let extra = fds.len();
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        if let Some(file) = process.input.as_ref().filter(|_| !input.is_empty()) {
            fds.push(PollFd::new(file, PollFlags::OUT));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::from(errno).context("poll")),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (outputs, watchers) = ready[1..extra].split_at(outputs.len());
        Ok(Ready {
            ended: ready[0],
            outputs: outputs.to_vec(),
            watchers: watchers.to_vec(),
            listener: self.listener.is_some() && ready[extra],
        })
    }

    /// `false`: the other end is closed (EIO is how a terminal says so).
    fn pass_output(&mut self, (stream, file): &(Stream, File)) -> bool {
        let mut buffer = [0; 32 << 10];
        let mut file = file;
        match file.read(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => true,
            Ok(0) | Err(_) => false,
            Ok(count) => {
                if let Some(log) = &mut self.log {
                    log.write(*stream, &buffer[..count]);
                }
                self.say(&Frame::Output(*stream, buffer[..count].to_vec()));
                true
            }
        }
    }

    /// What those who watch say.
    fn hear(&mut self, process: &mut Process<'_>, input: &mut Vec<u8>, ready: &[bool]) {
        for (watcher, ready) in self.watchers.iter_mut().zip(ready) {
            watcher.send();
            if *ready {
                watcher.receive();
            }
            while let Ok(Some(frame)) = watcher.inbox.next() {
                watcher.types |= frame == Frame::Types;
                obey(frame, watcher.owner, process, input);
            }
            let ends = watcher.gone && watcher.types && process.terminal.is_none();
            process.input_ends |= ends && process.input_once;
        }
        self.forget();
    }

    /// What was written before the end is still in the pipes; what others hold open is not waited for.
    fn drain(&mut self, process: &mut Process<'_>) {
        for output in std::mem::take(&mut process.outputs) {
            for _ in 0..64 {
                let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
                let mut fds = [PollFd::new(&output.1, PollFlags::IN)];
                let more = poll(&mut fds, Some(&none)).is_ok_and(|ready| ready > 0);
                if !more || !self.pass_output(&output) {
                    break;
                }
            }
        }
        if let Some(log) = &mut self.log {
            [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| log.flush(stream));
        }
    }

    /// Tells everybody the last thing, and waits until the owner has heard all. Others get a moment.
    pub(super) fn finish(mut self, frame: &Frame) {
        // Those who came when it was over already.
        while let Some(Ok((socket, _))) = self.listener.as_ref().map(UnixListener::accept) {
            let _ = self.add(socket, false);
        }
        for watcher in &mut self.watchers {
            frame.encode(&mut watcher.waiting);
            let _ = watcher.socket.set_nonblocking(false);
            let _ = watcher.socket.set_write_timeout(Some(PATIENCE).filter(|_| !watcher.owner));
            let _ = watcher.socket.write_all(&watcher.waiting);
        }
    }
}

/// What poll(2) found.
struct Ready {
    ended: bool,
    outputs: Vec<bool>,
    watchers: Vec<bool>,
    listener: bool,
}

impl Watcher {
    fn send(&mut self) {
        while !self.waiting.is_empty() && !self.gone {
            match self.socket.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; 32 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Ok(count) => self.inbox.push(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
    }
}

fn obey(frame: Frame, owner: bool, process: &mut Process<'_>, input: &mut Vec<u8>) {
    match frame {
        Frame::Input(bytes) if process.input.is_some() => input.extend_from_slice(&bytes),
        // What Ctrl-D is at a terminal.
        Frame::EndOfInput if process.terminal.is_some() => input.push(4),
        Frame::EndOfInput => process.input_ends |= process.input_once,
        Frame::Size(rows, columns) => {
            if let Some(master) = &process.terminal {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = tcsetwinsize(master, size);
            }
        }
        Frame::Signal(number) => (process.kill)(number),
        Frame::Enough(stream) if owner => process.outputs.retain(|(other, _)| *other != stream),
        _ => {}
    }
}

/// Writes what waits for the process, as far as it takes it.
fn feed(process: &mut Process<'_>, input: &mut Vec<u8>) {
    while !input.is_empty() {
        let Some(file) = &mut process.input else {
            input.clear();
            return;
        };
        match file.write(input) {
            Ok(count) => drop(input.drain(..count)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => process.input = None,
        }
    }
    if process.input_ends {
        process.input = None;
    }
}

/// Writes to it never wait.
pub(super) fn nonblocking(file: impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(&file).map_err(Error::from)?;
    rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK).map_err(Error::from)
}
