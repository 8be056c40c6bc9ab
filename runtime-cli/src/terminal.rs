//! The terminal that the command was called from: in raw mode while a process uses it, restored afterwards.

use crate::failure::Failure;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The caller's terminal. Dropping it restores its modes.
#[derive(Debug)]
pub(crate) struct HostTerminal {
    fd: OwnedFd,
    saved: Option<Termios>,
}

impl HostTerminal {
    /// The terminal among stderr, stdout and stdin, else the controlling one.
    pub(crate) fn find() -> Result<Self, Failure> {
        let (stderr, stdout, stdin) = (std::io::stderr(), std::io::stdout(), std::io::stdin());
        let found = [
            (stderr.is_terminal(), stderr.as_fd()),
            (stdout.is_terminal(), stdout.as_fd()),
            (stdin.is_terminal(), stdin.as_fd()),
        ]
        .into_iter()
        .find_map(|(terminal, fd)| terminal.then_some(fd));
        let failure = |e: std::io::Error| {
            let doing = "no controlling terminal: use --detach and --console-socket";
            Failure::os(doing, "open /dev/tty", e)
        };
        let fd = match found {
            Some(fd) => fd.try_clone_to_owned().map_err(failure)?,
            None => {
                std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failure)?.into()
            }
        };
        Ok(HostTerminal { fd, saved: None })
    }

    /// Sets raw mode, so that every key reaches the process. Output processing stays on, since the process's own terminal does not add
    /// carriage returns (`clear_onlcr`).
    pub(crate) fn set_raw(&mut self) -> Result<(), Failure> {
        let failure =
            |call: &str, e: nix::Error| Failure::os("set the caller's terminal to raw mode", call, e);
        let saved = tcgetattr(&self.fd).map_err(|e| failure("tcgetattr", e))?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        raw.output_flags |= OutputFlags::OPOST;
        tcsetattr(&self.fd, SetArg::TCSANOW, &raw).map_err(|e| failure("tcsetattr", e))?;
        self.saved = Some(saved);
        Ok(())
    }

    pub(crate) fn copy_size_to(&self, other: BorrowedFd<'_>) -> rustix::io::Result<()> {
        rustix::termios::tcsetwinsize(other, rustix::termios::tcgetwinsize(&self.fd)?)
    }
}

impl Drop for HostTerminal {
    fn drop(&mut self) {
        let Some(saved) = self.saved.take() else { return };
        // Else, from the background, tcsetattr would stop this process.
        let mut background = SigSet::empty();
        background.add(Signal::SIGTTOU);
        let _ = background.thread_block();
        let _ = tcsetattr(&self.fd, SetArg::TCSANOW, &saved);
    }
}

/// Turns off carriage returns before the newlines of the process's output: its reader is a program, or a terminal that adds its own.
pub(crate) fn clear_onlcr(master: BorrowedFd<'_>) -> Result<(), Failure> {
    let failure = |call: &str, e: nix::Error| Failure::os("prepare the process's terminal", call, e);
    let mut modes = tcgetattr(master).map_err(|e| failure("tcgetattr", e))?;
    modes.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &modes).map_err(|e| failure("tcsetattr", e))
}
