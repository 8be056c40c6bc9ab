//! The side of those who watch a container: its terminal is ours, what we type goes to it, signals we get too, its code
//! becomes ours. Talks to the container's parent alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use image_store::{Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Number, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use super::frames::{Frame, Inbox, Stream};
use super::keys::DetachKeys;

/// Signals that are passed on, and that of a resized window.
const FORWARDED: &[Number] = &[
    Number::SIGHUP,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGTERM,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGCONT,
    Number::SIGWINCH,
];

/// Typed input waits for the container when so much of it does.
const FULL: usize = 64 << 10;

/// What is connected.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) terminal: bool,
    /// Pass signals on.
    pub(super) signals: bool,
    pub(super) keys: DetachKeys,
}

/// How watching ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The process has, with this code.
    Ended(i32),
    /// It was left running.
    Detached,
    /// It could not be made: code and reason.
    Failed(u8, String),
    /// Its parent is gone.
    Lost,
}

fn warn(text: &str) {
    eprintln!("knarr-image: warning: {text}");
}

/// Waits until the program runs; `None` is that it does.
pub(super) fn started(socket: &mut UnixStream) -> Result<Option<Outcome>> {
    let mut inbox = Inbox::default();
    let mut buffer = [0; 4096];
    loop {
        while let Some(frame) = inbox.next()? {
            match frame {
                Frame::Warning(text) => warn(&text),
                Frame::Started => return Ok(None),
                Frame::Ended(code) => return Ok(Some(Outcome::Ended(code))),
                Frame::Failed(code, why) => return Ok(Some(Outcome::Failed(code, why))),
                _ => {}
            }
        }
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(Some(Outcome::Lost)),
            Ok(count) => inbox.push(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from(error).context("hear the container's parent")),
        }
    }
}

/// Signals that come as a descriptor from now on.
fn block_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    FORWARDED.iter().for_each(|signal| set.add(*signal));
    let os = |errno: nix::errno::Errno| Error::from(std::io::Error::from(errno)).context("block signals");
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(os)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(os)
}

/// The caller's terminal without line editing; as it was when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter(wanted: bool) -> Self {
        let stdin = rustix::stdio::stdin();
        if !wanted || !isatty(stdin) {
            return Self(None);
        }
        let Ok(before) = tcgetattr(stdin) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        let _ = tcsetattr(stdin, OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

struct Watch {
    socket: UnixStream,
    ends: Ends,
    inbox: Inbox,
    waiting: Vec<u8>,
    signals: SignalFd,
    input: bool,
}

/// Watches until the process ends or is left. With `redraw` a program on a terminal is made to draw itself anew.
pub(super) fn attach(socket: UnixStream, ends: Ends, redraw: bool) -> Result<Outcome> {
    socket.set_nonblocking(true)?;
    let signals = block_signals()?;
    let _raw = Raw::enter(ends.terminal && ends.stdin);
    let input = ends.stdin;
    let mut watch = Watch { socket, ends, inbox: Inbox::default(), waiting: Vec::new(), signals, input };
    if watch.input {
        watch.say(&Frame::Types);
    }
    if redraw {
        watch.resize(1);
    }
    watch.resize(0);
    loop {
        if let Some(outcome) = watch.turn()? {
            return Ok(outcome);
        }
    }
}

impl Watch {
    fn say(&mut self, frame: &Frame) {
        frame.encode(&mut self.waiting);
    }

    /// Tells the size of our terminal, or one that is a bit wider.
    fn resize(&mut self, wider: u16) {
        if let Some(size) = tcgetwinsize(rustix::stdio::stdin()).ok().filter(|_| self.ends.terminal) {
            self.say(&Frame::Size(size.ws_row, size.ws_col.saturating_add(wider)));
        }
    }

    /// One round: waits, then does what there is to do.
    fn turn(&mut self) -> Result<Option<Outcome>> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.waiting.is_empty());
        let mut fds = vec![PollFd::new(&self.socket, flags), PollFd::new(&self.signals, PollFlags::IN)];
        let stdin = rustix::stdio::stdin();
        if self.input && self.waiting.len() < FULL {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::from(errno).context("poll")),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[1] {
            self.pass_signals();
        }
        if ready.get(2) == Some(&true) && self.read_input()? {
            self.send();
            return Ok(Some(Outcome::Detached));
        }
        self.send();
        if ready[0] { self.receive() } else { Ok(None) }
    }

    fn pass_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if number == Number::SIGWINCH as i32 {
                self.resize(0);
            } else if self.ends.signals {
                self.say(&Frame::Signal(number));
            } else {
                // Not for the container: for us, as if it had not been blocked.
                let _ = nix::sys::signal::Signal::try_from(number).map(|signal| {
                    let mut set = SigSet::empty();
                    set.add(signal);
                    let _ = nix::sys::signal::raise(signal);
                    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None)
                });
            }
        }
    }

    /// `true`: the detach keys were typed.
    fn read_input(&mut self) -> Result<bool> {
        let mut buffer = [0; 16 << 10];
        let stdin = rustix::stdio::stdin().as_fd().try_clone_to_owned()?;
        match std::fs::File::from(stdin).read(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(0) | Err(_) => {
                self.input = false;
                self.say(&Frame::EndOfInput);
            }
            Ok(count) if self.ends.terminal => {
                let (typed, left) = self.ends.keys.filter(&buffer[..count]);
                if !typed.is_empty() {
                    self.say(&Frame::Input(typed));
                }
                return Ok(left);
            }
            Ok(count) => self.say(&Frame::Input(buffer[..count].to_vec())),
        }
        Ok(false)
    }

    fn send(&mut self) {
        while !self.waiting.is_empty() {
            match self.socket.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Whoever is gone is heard of when we read.
                Err(_) => self.waiting.clear(),
            }
        }
    }

    fn receive(&mut self) -> Result<Option<Outcome>> {
        let mut buffer = vec![0; 64 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) => return Ok(Some(Outcome::Lost)),
            Ok(count) => self.inbox.push(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return Ok(Some(Outcome::Lost)),
        }
        while let Some(frame) = self.inbox.next()? {
            match frame {
                Frame::Output(stream, bytes) => self.show(stream, &bytes),
                Frame::Warning(text) => warn(&text),
                Frame::Ended(code) => return Ok(Some(Outcome::Ended(code))),
                Frame::Failed(code, why) => return Ok(Some(Outcome::Failed(code, why))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// A reader that has enough (`| head`) is told to the container, which then sees its pipe closed.
    fn show(&mut self, stream: Stream, bytes: &[u8]) {
        let done = match stream {
            Stream::Stdout if self.ends.stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush()).is_ok()
            }
            Stream::Stderr if self.ends.stderr => std::io::stderr().lock().write_all(bytes).is_ok(),
            _ => true,
        };
        if !done {
            self.say(&Frame::Enough(stream));
        }
    }
}
