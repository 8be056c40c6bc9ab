//! Signals and exits of processes, by pidfd: the only module that sends signals, waits, and decodes a status.

use crate::error::{Context, Error, ErrorKind, Internal, Result};
use crate::sys::pidfd::{self, Child};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A signal: 1 to 64, or 0, which only checks whether the process exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// Asks the process to exit.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// Kills the process at once.
    pub const KILL: Signal = Signal(libc::SIGKILL);

    /// A signal by number.
    ///
    /// # Errors
    /// `InvalidSpec` unless it is 0 to 64.
    pub fn from_number(number: i32) -> Result<Self> {
        if (0..=64).contains(&number) {
            return Ok(Signal(number));
        }
        Err(Error::invalid(format!("unknown signal \"{number}\"")))
    }

    /// A signal by number or name, with or without `SIG`, in any case: `9`, `KILL`, `sigkill`, `RTMIN+3`.
    ///
    /// # Errors
    /// `InvalidSpec` when no signal has that name or number.
    pub fn parse(text: &str) -> Result<Self> {
        if let Ok(number) = text.parse() {
            return Signal::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = SIGNALS.iter().find(|(n, _)| *n == name) {
            return Ok(Signal(*number));
        }
        let real_time = |prefix: &str, base: i32, sign: i32| {
            let rest = name.strip_prefix(prefix)?;
            let offset = if rest.is_empty() {
                0
            } else {
                rest.get(1..)?.parse().ok().filter(|o| (0..=30).contains(o))?
            };
            let number = base + sign * offset;
            (rest.is_empty() || rest.starts_with(if sign > 0 { '+' } else { '-' }))
                .then_some(number)
                .filter(|n| (34..=64).contains(n))
        };
        real_time("RTMIN", 34, 1)
            .or_else(|| real_time("RTMAX", 64, -1))
            .map(Signal)
            .ok_or_else(|| Error::invalid(format!("unknown signal {text:?}")))
    }

    /// The signal's number.
    pub fn number(self) -> i32 {
        self.0
    }
}

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// It was killed by this signal.
    Signaled(i32),
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            ExitStatus::Exited(code) => write!(f, "exit status {code}"),
            ExitStatus::Signaled(signal) => {
                // As signal(7) describes the signals that end processes most often.
                let text = match signal {
                    libc::SIGILL => "illegal instruction",
                    libc::SIGABRT => "aborted",
                    libc::SIGBUS => "bus error",
                    libc::SIGKILL => "killed",
                    libc::SIGSEGV => "segmentation fault",
                    libc::SIGPIPE => "broken pipe",
                    libc::SIGTERM => "terminated",
                    libc::SIGSYS => "bad system call",
                    _ => return write!(f, "signal {signal}"),
                };
                write!(f, "signal {signal}, {text}")
            }
        }
    }
}

impl ExitStatus {
    /// The code that a shell would report: the exit code, or 128 plus the signal's number.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signaled(signal) => 128 + signal,
        }
    }
}

/// Waits for a child, and reaps it.
pub(crate) fn wait(process: BorrowedFd<'_>) -> Result<ExitStatus> {
    status(process, 0)
}

/// Waits for a child that will not be killed any more, and reaps it.
pub(crate) fn wait_for(child: Child) -> Result<ExitStatus> {
    wait(child.keep().as_fd())
}

/// Waits for a child without reaping it.
pub(crate) fn peek(process: BorrowedFd<'_>) -> Result<ExitStatus> {
    status(process, libc::WNOWAIT)
}

fn status(process: BorrowedFd<'_>, flags: i32) -> Result<ExitStatus> {
    match pidfd::wait(process, flags).context("waitid")? {
        Some((libc::CLD_EXITED, code)) => Ok(ExitStatus::Exited(code)),
        Some((_, signal)) => Ok(ExitStatus::Signaled(signal)),
        None => Err(Internal::NoStatus.into()),
    }
}

/// Sends a signal.
pub(crate) fn send(process: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    pidfd::send_signal(process, signal.number()).context("pidfd_send_signal")
}

/// Whether a process, which need not be a child, has exited or does so within this many milliseconds.
pub(crate) fn ends_within(process: BorrowedFd<'_>, milliseconds: i32) -> Result<bool> {
    pidfd::readable(process, milliseconds).context("poll: the process")
}

/// The pid behind a pidfd, from its fdinfo.
pub(crate) fn pid_of(process: BorrowedFd<'_>) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", process.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::new(ErrorKind::NotFound, "the process has exited"))
}
