//! The supervisor's loop while a process runs: its output goes to the log and to all clients, their input goes to it. Knows neither
//! the store nor how the process was started.
//!
//! The owner is the client that started the process and waits for it. As with a pipe, a slow owner slows the process down, and a
//! stream that it closes is closed. Other clients that do not read are disconnected.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::engine::frames::{Frame, Inbox, Stream};
use crate::engine::log::Log;
use crate::failure::{Failure, Result, os};

/// With this much data waiting for the owner, or for the process, the other side has to wait.
const HIGH_WATER: usize = 64 << 10;
/// With this much data waiting for another client, it is disconnected.
const MAX_BACKLOG: usize = 4 << 20;
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// A client.
#[derive(Debug)]
struct Client {
    socket: UnixStream,
    inbox: Inbox,
    waiting: Vec<u8>,
    owner: bool,
    /// It sends input.
    typing: bool,
    gone: bool,
}

/// All clients of a process, and its log.
#[derive(Debug)]
pub(crate) struct Relay {
    listener: Option<UnixListener>,
    clients: Vec<Client>,
    log: Option<Log>,
}

/// The process, as the loop sees it.
pub(crate) struct Process<'a> {
    pub(crate) pidfd: BorrowedFd<'a>,
    pub(crate) kill: &'a dyn Fn(i32),
    pub(crate) input: Option<File>,
    pub(crate) outputs: Vec<(Stream, File)>,
    /// The master of its terminal, if it has one.
    pub(crate) terminal: Option<File>,
    /// Its input is closed when the first client that sends some leaves, as with a pipe.
    pub(crate) input_once: bool,
    /// Its input is closed once the pending input is written.
    pub(crate) input_ends: bool,
}

impl Relay {
    pub(crate) fn new(owner: UnixStream) -> Result<Self> {
        let mut relay = Self { listener: None, clients: Vec::new(), log: None };
        relay.add(owner, true)?;
        Ok(relay)
    }

    /// Accepts further clients, and logs the output.
    pub(crate) fn listen(&mut self, listener: UnixListener, log: Option<Log>) -> Result<()> {
        listener.set_nonblocking(true)?;
        (self.listener, self.log) = (Some(listener), log);
        Ok(())
    }

    fn add(&mut self, socket: UnixStream, owner: bool) -> Result<()> {
        socket.set_nonblocking(true)?;
        let client = Client {
            socket,
            inbox: Inbox::default(),
            waiting: Vec::new(),
            owner,
            typing: false,
            gone: false,
        };
        self.clients.push(client);
        Ok(())
    }

    /// Sends a frame to all clients.
    pub(crate) fn broadcast(&mut self, frame: &Frame) {
        for client in self.clients.iter_mut().filter(|client| !client.gone) {
            frame.encode(&mut client.waiting);
            client.send();
        }
    }

    fn forget(&mut self) {
        self.clients.retain(|client| !client.gone && (client.owner || client.waiting.len() < MAX_BACKLOG));
    }

    /// Runs until the process has exited and its output has been read.
    pub(crate) fn run(&mut self, process: &mut Process<'_>) -> Result<()> {
        let mut input = Vec::new();
        loop {
            let ready = self.wait(process, &input)?;
            let mut at = 0;
            process.outputs.retain(|output| {
                at += 1;
                ready.outputs.get(at - 1) != Some(&true) || self.pass_output(output)
            });
            self.read_frames(process, &mut input, &ready.clients);
            write_input(process, &mut input);
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
        let room = self.clients.iter().all(|client| !client.owner || client.waiting.len() < HIGH_WATER);
        let outputs = if room { &process.outputs[..] } else { &[] };
        let mut fds = vec![PollFd::new(&process.pidfd, PollFlags::IN)];
        fds.extend(outputs.iter().map(|(_, file)| PollFd::new(file, PollFlags::IN)));
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, input.len() < HIGH_WATER);
            flags.set(PollFlags::OUT, !client.waiting.is_empty());
            fds.push(PollFd::new(&client.socket, flags));
        }
        let extra = fds.len();
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        if let Some(file) = process.input.as_ref().filter(|_| !input.is_empty()) {
            fds.push(PollFd::new(file, PollFlags::OUT));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(os(errno, "poll")),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (outputs, clients) = ready[1..extra].split_at(outputs.len());
        Ok(Ready {
            ended: ready[0],
            outputs: outputs.to_vec(),
            clients: clients.to_vec(),
            listener: self.listener.is_some() && ready[extra],
        })
    }

    /// Passes on some output; `false` at its end (EIO for a terminal).
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
                self.broadcast(&Frame::Output(*stream, buffer[..count].to_vec()));
                true
            }
        }
    }

    /// Reads what the clients send.
    fn read_frames(&mut self, process: &mut Process<'_>, input: &mut Vec<u8>, ready: &[bool]) {
        for (client, ready) in self.clients.iter_mut().zip(ready) {
            client.send();
            if *ready {
                client.receive();
            }
            while let Ok(Some(frame)) = client.inbox.next() {
                client.typing |= frame == Frame::Typing;
                apply(frame, client.owner, process, input);
            }
            let ends = client.gone && client.typing && process.terminal.is_none();
            process.input_ends |= ends && process.input_once;
        }
        self.forget();
    }

    /// Reads what is left in the pipes, without waiting for other processes that hold them open.
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

    /// Sends the last frame, and waits until the owner has read everything; for other clients up to a timeout.
    pub(crate) fn finish(mut self, frame: &Frame) {
        // Clients that connected after the end.
        while let Some(Ok((socket, _))) = self.listener.as_ref().map(UnixListener::accept) {
            let _ = self.add(socket, false);
        }
        for client in &mut self.clients {
            frame.encode(&mut client.waiting);
            let _ = client.socket.set_nonblocking(false);
            let _ = client.socket.set_write_timeout(Some(FINISH_TIMEOUT).filter(|_| !client.owner));
            let _ = client.socket.write_all(&client.waiting);
        }
    }
}

/// What poll(2) found.
struct Ready {
    ended: bool,
    outputs: Vec<bool>,
    clients: Vec<bool>,
    listener: bool,
}

impl Client {
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

fn apply(frame: Frame, owner: bool, process: &mut Process<'_>, input: &mut Vec<u8>) {
    match frame {
        Frame::Input(bytes) if process.input.is_some() => input.extend_from_slice(&bytes),
        // Ctrl-D.
        Frame::EndOfInput if process.terminal.is_some() => input.push(4),
        Frame::EndOfInput => process.input_ends |= process.input_once,
        Frame::Size(rows, columns) => {
            if let Some(master) = &process.terminal {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = tcsetwinsize(master, size);
            }
        }
        Frame::Signal(number) => (process.kill)(number),
        Frame::Close(stream) if owner => process.outputs.retain(|(other, _)| *other != stream),
        _ => {}
    }
}

/// Writes pending input to the process, as much as it accepts.
fn write_input(process: &mut Process<'_>, input: &mut Vec<u8>) {
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

/// Makes a file non-blocking.
pub(crate) fn nonblocking(file: impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK).map_err(Failure::from)
}
