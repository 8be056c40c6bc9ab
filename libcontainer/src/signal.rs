//! Signals and exits of processes, by pidfd: the only module that sends signals, waits, and decodes a status.

use crate::error::{Context, Error, ErrorKind, Internal, Object, Result};
use crate::sys::Errno;
use crate::sys::pidfd::{self, Child};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for another process to reap a child of its own that has ended, in milliseconds.
const REAP_TIMEOUT: i32 = 1000;

/// A signal: 1 to 64, or 0, which only checks whether the process exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self> {
        Signal::from_number(number)
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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

/// A process whose end may be waited for more than once, and by several threads. The kernel gives the exit status of a child to the
/// first that asks; here it is kept.
#[derive(Debug)]
pub(crate) struct Watched {
    process: OwnedFd,
    status: Mutex<Option<ExitStatus>>,
}

impl Watched {
    pub(crate) fn new(process: OwnedFd) -> Self {
        Watched { process, status: Mutex::new(None) }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.process
    }

    /// Waits for the end of a child, and reaps it.
    pub(crate) fn wait(&self) -> Result<ExitStatus> {
        self.is_ours()?;
        self.ended()
    }

    /// Waits for the end of a process that is a child, or that has ended; a child is reaped.
    pub(crate) fn ended(&self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.wait_until(None)? {
                return Ok(status);
            }
            // It has ended, but a debugger keeps it from its parent.
            pidfd::wait(self.as_fd(), libc::WNOWAIT).context("waitid")?;
        }
    }

    /// An error when somebody else's child was to be waited for, since that may last for ever.
    pub(crate) fn is_ours(&self) -> Result<()> {
        match pidfd::wait(self.as_fd(), libc::WNOHANG | libc::WNOWAIT) {
            Err(Errno(libc::ECHILD)) if !ends_within(self.as_fd(), 0)? => {
                let error = Error::os("waitid", Errno(libc::ECHILD).into()).with_kind(ErrorKind::NotFound);
                Err(error.about(Object::Child).hint("only its parent can wait for a process that runs"))
            }
            _ => Ok(()),
        }
    }

    /// The exit status of the process, which need not be a child, if it ends before the deadline; a child is reaped. `None` also while
    /// it waits to be reaped by somebody else.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<ExitStatus>> {
        let left = || deadline.map(|end| end.saturating_duration_since(Instant::now()));
        // Rounded up, or the last millisecond would be spent in polls that do not wait.
        let slice = |left: Duration| i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        loop {
            if ends_within(self.as_fd(), left().map_or(-1, slice))? {
                return self.status(left().map_or(REAP_TIMEOUT, slice).min(REAP_TIMEOUT));
            }
            if left().is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
    }

    /// The exit status of a process that has ended; `patience` is for its parent, if that is somebody else, in milliseconds.
    fn status(&self, patience: i32) -> Result<Option<ExitStatus>> {
        let mut kept = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = match pidfd::wait(self.as_fd(), libc::WNOHANG) {
                Err(Errno(libc::ECHILD)) => {
                    // Other threads, which may have less patience, must not wait for this one.
                    drop(kept);
                    return kept_status(self.as_fd(), patience);
                }
                other => other.context("waitid")?.map(decode),
            };
        }
        Ok(*kept)
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

/// The exit status that the kernel keeps of a process which its parent reaps; `None` if that takes longer than `patience`.
fn kept_status(process: BorrowedFd<'_>, patience: i32) -> Result<Option<ExitStatus>> {
    let unknown = || {
        let error = Error::os("the exit status is unknown: waitid", Errno(libc::ECHILD).into());
        error.with_kind(ErrorKind::NotFound).about(Object::ExitStatus)
    };
    match pidfd::kept_status(process) {
        Ok(Some(status)) => return Ok(Some(decode(status))),
        Ok(None) if pidfd::hung_up(process, patience).context("poll: the process")? => {}
        Ok(None) if patience < REAP_TIMEOUT => return Ok(None),
        _ => return Err(unknown()),
    }
    pidfd::kept_status(process).ok().flatten().map(decode).map(Some).ok_or_else(unknown)
}

fn decode((code, status): (i32, i32)) -> ExitStatus {
    if code == libc::CLD_EXITED { ExitStatus::Exited(status) } else { ExitStatus::Signaled(status) }
}

/// Waits for a child that will not be killed any more, and reaps it.
pub(crate) fn wait_for(child: Child) -> Result<ExitStatus> {
    status(child.keep().as_fd(), 0)
}

/// Waits for a child without reaping it.
pub(crate) fn peek(process: BorrowedFd<'_>) -> Result<ExitStatus> {
    status(process, libc::WNOWAIT)
}

fn status(process: BorrowedFd<'_>, flags: i32) -> Result<ExitStatus> {
    pidfd::wait(process, flags).context("waitid")?.map(decode).ok_or_else(|| Internal::NoStatus.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicI32, Ordering};

    #[test]
    fn a_thread_that_waits_for_somebody_elses_child_does_not_hold_up_others() {
        // A zombie whose parent, which ends with its stdin, never reaps it.
        let mut parent = Command::new("sh")
            .args(["-c", "sleep 0 & echo $!; exec cat >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let watched = Watched::new(pidfd::open(line.trim().parse().unwrap()).unwrap());
        assert!(ends_within(watched.as_fd(), 20_000).unwrap());
        let tid = AtomicI32::new(0);
        std::thread::scope(|scope| {
            let patient = scope.spawn(|| {
                tid.store(nix::unistd::gettid().as_raw(), Ordering::Release);
                watched.wait_until(None)
            });
            let sleeps = || {
                let file = format!("/proc/self/task/{}/stat", tid.load(Ordering::Acquire));
                std::fs::read_to_string(file).is_ok_and(|stat| stat.contains(") S "))
            };
            // The only place to sleep is the poll for the parent.
            while !sleeps() && !patient.is_finished() {
                std::thread::yield_now();
            }
            assert!(watched.status.try_lock().is_ok());
            let _ = patient.join().unwrap();
        });
        // Closes its stdin.
        assert!(parent.wait().unwrap().success());
    }

    #[test]
    fn statuses_and_signals_are_read_as_they_were_written() {
        for (status, value) in
            [(ExitStatus::Exited(3), json!({"exited": 3})), (ExitStatus::Signaled(9), json!({"signaled": 9}))]
        {
            assert_eq!(serde_json::to_value(status).unwrap(), value);
            assert_eq!(serde_json::from_value::<ExitStatus>(value).unwrap(), status);
        }
        assert_eq!(serde_json::to_value(Signal::KILL).unwrap(), json!(9));
        assert_eq!(serde_json::from_value::<Signal>(json!(15)).unwrap(), Signal::TERM);
        for bad in [json!(65), json!(-1), json!("KILL")] {
            assert!(serde_json::from_value::<Signal>(bad).is_err());
        }
    }
}
