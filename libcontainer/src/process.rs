//! A process in a container, its standard streams, the signals it gets and the status it leaves.

use crate::error::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the container's process gets as descriptors 0, 1 and 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These.
    Fds {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A new terminal from the container's own devpts, with the kernel's settings; its master is handed back by `take_terminal`. Its
    /// output has carriage returns (termios(3), ONLCR) for a terminal in raw mode.
    Terminal,
}

impl Stdio {
    /// The caller's descriptors 0, 1 and 2.
    pub fn inherit() -> Self {
        Stdio::Inherit
    }
}

/// A signal by number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// Ask to end.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// End at once.
    pub const KILL: Signal = Signal(libc::SIGKILL);

    /// A signal by number.
    ///
    /// # Errors
    /// `InvalidSpec` when it is not 0 to 64; 0 only asks whether the process is there.
    pub fn from_number(number: i32) -> Result<Self> {
        if (0..=64).contains(&number) {
            return Ok(Signal(number));
        }
        Err(Error::invalid(format!("unknown signal \"{number}\"")))
    }

    /// A signal by number or name, with or without `SIG`, in any case: `9`, `KILL`, `sigkill`, `RTMIN+3`.
    ///
    /// # Errors
    /// `InvalidSpec` when there is no such signal.
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
    /// This signal ended it.
    Signaled(i32),
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            ExitStatus::Exited(code) => write!(f, "exit status {code}"),
            ExitStatus::Signaled(signal) => {
                // The words of signal(7), for the signals that end processes most.
                let words = match signal {
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
                write!(f, "signal {signal}, {words}")
            }
        }
    }
}

impl ExitStatus {
    /// The code a shell would give: the exit code, or 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signaled(signal) => 128 + signal,
        }
    }
}

/// What an exec changes besides the process description.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExecOptions {
    /// The streams of the process.
    pub stdio: Stdio,
    /// Hand on this many descriptors from 3 on.
    pub preserve_fds: u32,
    /// Start it even though the container is paused (it stays frozen until resumed).
    pub ignore_paused: bool,
    /// Sub-cgroups to join, each `path` or `controller:path`, relative to the container's cgroup.
    pub cgroup: Vec<String>,
    /// Its RLIMIT_NOFILE, soft and hard, where neither its description nor the container's sets one; `None`: the caller's.
    pub open_files: Option<(u64, u64)>,
}

impl ExecOptions {
    /// Defaults with these streams.
    pub fn new(stdio: Stdio) -> Self {
        ExecOptions { stdio, preserve_fds: 0, ignore_paused: false, cgroup: Vec::new(), open_files: None }
    }
}

/// A process that was started in a container; ready for poll(2) by its pidfd.
#[derive(Debug)]
pub struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
}

impl Process {
    /// Its pid in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The master of its terminal, once; `None` without `Stdio::Terminal`.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Its pidfd, to be kept without the rest: readable when it has ended, and what waitid(2) with P_PIDFD and pidfd_send_signal(2)
    /// take.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Waits for its end. It must be a child of the caller.
    ///
    /// # Errors
    /// `NotFound` when it is no child of the caller (waitid(2): ECHILD).
    pub fn wait(&self) -> Result<ExitStatus> {
        crate::launch::wait(self.pidfd.as_fd())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `NotFound` when it has ended.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        crate::launch::signal(self.pidfd.as_fd(), signal)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
