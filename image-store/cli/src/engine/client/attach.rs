//! The client of a supervisor: prints the container's output, and sends it the terminal's input and size and the signals that this
//! process receives.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Number, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use super::outcome::Outcome;
use crate::cli::Args;
use crate::engine::frames::{Frame, Inbox, Stream};
use crate::engine::keys::DetachKeys;
use crate::failure::{Result, os};

/// Signals that are forwarded, and the one for a resized terminal.
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

/// With this much data waiting for the supervisor, no more input is read.
const HIGH_WATER: usize = 64 << 10;

/// Which streams of the container are connected, and how.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) terminal: bool,
    /// Forward signals.
    pub(crate) signals: bool,
    pub(crate) keys: DetachKeys,
}

impl Ends {
    /// All streams, with signals and detach keys as the flags say.
    pub(crate) fn all(args: &Args, terminal: bool) -> Result<Self> {
        let signals = args.get("sig-proxy") != Some("false");
        let keys = args.get("detach-keys").map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse)?;
        Ok(Self { stdin: true, stdout: true, stderr: true, terminal, signals, keys })
    }
}

fn warn(text: &str) {
    eprintln!("knarr-image: warning: {text}");
}

/// Waits until the program was started; `None` if it was.
pub(crate) fn started(socket: &mut UnixStream) -> Result<Option<Outcome>> {
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
            Err(error) => return Err(os(error, "read from the container's supervisor")),
        }
    }
}

/// Blocks the signals, and returns a descriptor for them.
fn block_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    FORWARDED.iter().for_each(|signal| set.add(*signal));
    let failed = |errno: nix::errno::Errno| os(std::io::Error::from(errno), "block signals");
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(failed)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
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

/// Stays connected until the process exits or the user detaches. `redraw` makes a program on a terminal redraw itself.
pub(crate) fn attach(socket: UnixStream, ends: Ends, redraw: bool) -> Result<Outcome> {
    socket.set_nonblocking(true)?;
    let signals = block_signals()?;
    let _raw = Raw::enter(ends.terminal && ends.stdin);
    let input = ends.stdin;
    let mut watch = Watch { socket, ends, inbox: Inbox::default(), waiting: Vec::new(), signals, input };
    if watch.input {
        watch.queue(&Frame::Typing);
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
    fn queue(&mut self, frame: &Frame) {
        frame.encode(&mut self.waiting);
    }

    /// Sends the size of the terminal, or a slightly wider one.
    fn resize(&mut self, wider: u16) {
        if let Some(size) = tcgetwinsize(rustix::stdio::stdin()).ok().filter(|_| self.ends.terminal) {
            self.queue(&Frame::Size(size.ws_row, size.ws_col.saturating_add(wider)));
        }
    }

    /// Waits for events, and handles them.
    fn turn(&mut self) -> Result<Option<Outcome>> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.waiting.is_empty());
        let mut fds = vec![PollFd::new(&self.socket, flags), PollFd::new(&self.signals, PollFlags::IN)];
        let stdin = rustix::stdio::stdin();
        if self.input && self.waiting.len() < HIGH_WATER {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(os(errno, "poll")),
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
                self.queue(&Frame::Signal(number));
            } else {
                // Not for the container, but for this process, as if it were not blocked.
                let _ = nix::sys::signal::Signal::try_from(number).map(|signal| {
                    let mut set = SigSet::empty();
                    set.add(signal);
                    let _ = nix::sys::signal::raise(signal);
                    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None)
                });
            }
        }
    }

    /// Reads input; `true` if the detach keys were typed.
    fn read_input(&mut self) -> Result<bool> {
        let mut buffer = [0; 16 << 10];
        let stdin = rustix::stdio::stdin().as_fd().try_clone_to_owned()?;
        match std::fs::File::from(stdin).read(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(0) | Err(_) => {
                self.input = false;
                self.queue(&Frame::EndOfInput);
            }
            Ok(count) if self.ends.terminal => {
                let (typed, left) = self.ends.keys.filter(&buffer[..count]);
                if !typed.is_empty() {
                    self.queue(&Frame::Input(typed));
                }
                return Ok(left);
            }
            Ok(count) => self.queue(&Frame::Input(buffer[..count].to_vec())),
        }
        Ok(false)
    }

    fn send(&mut self) {
        while !self.waiting.is_empty() {
            match self.socket.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The next read finds that the supervisor is gone.
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

    /// If our output is closed (`| head`), the container's stream is closed as well.
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
            self.queue(&Frame::Close(stream));
        }
    }
}
