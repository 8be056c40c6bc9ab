//! While a container runs in the foreground: its terminal is ours, signals we get go to it, its code becomes ours.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use image_store::{Error, Result};
use libcontainer::{Container, Signal};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Number, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

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

/// Signals that come as descriptors from now on. Blocked before the container is made, so that none gets lost.
pub(super) struct Signals(SignalFd);

impl Signals {
    pub(super) fn block() -> Result<Self> {
        let mut set = SigSet::empty();
        FORWARDED.iter().for_each(|signal| set.add(*signal));
        let os = |errno: nix::errno::Errno| Error::from(std::io::Error::from(errno)).context("block signals");
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(os)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self).map_err(os)
    }
}

/// The caller's terminal without line editing; as it was when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
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

/// Runs until the container's process ends; returns its code as a shell has it.
pub(super) fn wait(container: &mut Container, signals: &Signals, interactive: bool) -> Result<i32> {
    let master = container.take_terminal().map(std::fs::File::from);
    let _raw = master.as_ref().filter(|_| interactive).map(|_| Raw::enter());
    if let Some(master) = &master {
        resize(master);
    }
    let mut input = interactive && master.is_some();
    let mut output = master.is_some();
    while let Some(pidfd) = container.pidfd() {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        let stdin = rustix::stdio::stdin();
        if let Some(master) = master.as_ref().filter(|_| output) {
            fds.push(PollFd::new(master, PollFlags::IN));
        }
        if input {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(|errno| Error::from(errno).context("poll"))?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[1] {
            pass_on(container, signals, master.as_ref());
        }
        if output && ready.get(2) == Some(&true) {
            output = master.as_ref().is_some_and(copy_out);
        }
        if input && ready.last() == Some(&true) {
            input = master.as_ref().is_some_and(copy_in);
        }
        if ready[0] {
            break;
        }
    }
    // What it wrote last may still be in the terminal.
    if let Some(master) = master.as_ref().filter(|_| output) {
        while pending(master) && copy_out(master) {}
    }
    container
        .wait()
        .map(|status| status.code())
        .map_err(|e| Error::new(image_store::ErrorKind::Os, e.to_string()))
}

fn pending(master: &std::fs::File) -> bool {
    let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(master, PollFlags::IN)];
    poll(&mut fds, Some(&none)).is_ok_and(|ready| ready > 0 && fds[0].revents().contains(PollFlags::IN))
}

fn pass_on(container: &Container, signals: &Signals, master: Option<&std::fs::File>) {
    while let Ok(Some(info)) = signals.0.read_signal() {
        let number = i32::try_from(info.ssi_signo).unwrap_or_default();
        if number == Number::SIGWINCH as i32 {
            if let Some(master) = master {
                resize(master);
            }
        } else if let Ok(signal) = Signal::from_number(number) {
            // One that has ended already needs none.
            let _ = container.kill(signal);
        }
    }
}

fn resize(master: &std::fs::File) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

/// `false`: the other side is gone (EIO is how a terminal says so).
fn copy_out(mut master: &std::fs::File) -> bool {
    let mut buffer = [0; 8192];
    match master.read(&mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(count) => std::io::stdout()
            .lock()
            .write_all(&buffer[..count])
            .and_then(|()| std::io::stdout().flush())
            .is_ok(),
    }
}

/// `false`: there is nothing more to type.
fn copy_in(mut master: &std::fs::File) -> bool {
    let mut buffer = [0; 4096];
    let stdin: OwnedFd = match rustix::stdio::stdin().as_fd().try_clone_to_owned() {
        Ok(stdin) => stdin,
        Err(_) => return false,
    };
    match std::fs::File::from(stdin).read(&mut buffer) {
        // End of input: what Ctrl-D is at a terminal.
        Ok(0) => {
            let _ = master.write_all(&[4]);
            false
        }
        Ok(count) => master.write_all(&buffer[..count]).is_ok(),
        Err(_) => false,
    }
}
