//! A process in the foreground: waits for its end, forwards signals, reaps orphans and drives the copies. One thread, one poll(2). This
//! module does not know how the process was made.

use crate::copy::Copying;
use crate::failure::Failure;
use crate::log::Log;
use crate::notify::Listening;
use crate::terminal::HostTerminal;
use libcontainer::{Container, ExecProcess, ExitStatus, Signal, Stdio};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long to wait for the output of a terminal after its process has ended, in milliseconds. The kernel delivers output from a work
/// queue, so an empty terminal may fill again.
const TERMINAL_LINGER: u16 = 100;

/// The process in the foreground.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Container(&'a Container),
    Process(&'a ExecProcess),
}

impl<'a> Subject<'a> {
    fn pidfd(self) -> Option<BorrowedFd<'a>> {
        match self {
            Subject::Container(container) => container.pidfd(),
            Subject::Process(process) => Some(process.as_fd()),
        }
    }
    fn wait(self) -> libcontainer::Result<ExitStatus> {
        match self {
            Subject::Container(container) => container.wait(),
            Subject::Process(process) => process.wait(),
        }
    }
    fn kill(self, signal: Signal) -> libcontainer::Result<()> {
        match self {
            Subject::Container(container) => container.kill(signal),
            Subject::Process(process) => process.kill(signal),
        }
    }
}

/// Signals, read from a descriptor instead of being delivered.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals that can be forwarded. SIGTTIN and SIGTTOU are not blocked: they stop this command when it uses the terminal
    /// from the background, as the shell expects. Faults still kill it.
    pub(crate) fn block() -> Result<Self, Failure> {
        let mut set = SigSet::all();
        for kept in [
            Number::SIGTTIN,
            Number::SIGTTOU,
            Number::SIGSEGV,
            Number::SIGBUS,
            Number::SIGFPE,
            Number::SIGILL,
        ] {
            set.remove(kept);
        }
        let failure = |call: &str, e: Errno| Failure::os("take over signals", call, e);
        set.thread_block().map_err(|e| failure("sigprocmask", e))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|e| failure("signalfd", e))?;
        Ok(Signals(fd))
    }

    fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().and_then(|info| i32::try_from(info.ssi_signo).ok())
    }
}

/// Orphans of the container's processes become children of this process (PR_SET_CHILD_SUBREAPER).
pub(crate) fn become_subreaper(log: &Log) {
    if let Err(e) = nix::sys::prctl::set_child_subreaper(true) {
        log.warning(&Failure::os("become a subreaper", "prctl PR_SET_CHILD_SUBREAPER", e).message);
    }
}

/// This command's side of the streams of a process. By default there is nothing to copy.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    copying: Copying,
    host: Option<HostTerminal>,
}

impl Streams {
    /// Opens this side, and the streams that the process gets. Without a terminal of its own, the process gets the streams of this
    /// command, and nothing is copied. Only a terminal of the host is replaced by a pipe: the process could type into it (TIOCSTI).
    pub(crate) fn open(terminal: bool) -> Result<(Self, Stdio), Failure> {
        if terminal {
            let host = HostTerminal::find()?;
            return Ok((Streams { copying: Copying::default(), host: Some(host) }, Stdio::Terminal));
        }
        let (copying, stdio) = Copying::pipes()?;
        Ok((Streams { copying, host: None }, stdio))
    }

    /// Takes the master of the process's terminal.
    pub(crate) fn attach(&mut self, master: Option<OwnedFd>) -> Result<(), Failure> {
        let Some(host) = &mut self.host else { return Ok(()) };
        let Some(master) = master else {
            return Err(Failure::new("the process has no terminal"));
        };
        crate::terminal::clear_onlcr(master.as_fd())?;
        let _ = host.copy_size_to(master.as_fd());
        host.set_raw()?;
        self.copying = Copying::terminal(master)?;
        Ok(())
    }

    fn resize(&self) {
        // A closed terminal has no size; its hang-up follows.
        if let (Some(host), Some(master)) = (&self.host, self.copying.master()) {
            let _ = host.copy_size_to(master);
        }
    }
}

/// Waits for the end of the process and returns its exit code, or 128 plus the signal's number. Meanwhile, readiness from `notify` is
/// passed to the service manager.
pub(crate) fn run(
    log: &Log,
    subject: Subject<'_>,
    mut streams: Streams,
    signals: &Signals,
    mut notify: Option<&Listening<'_>>,
) -> Result<u8, Failure> {
    let Some(pidfd) = subject.pidfd() else {
        return Err(Failure::new("cannot wait for the process: no pidfd"));
    };
    streams.resize();
    loop {
        // Without a listener, the third is the first again, which changes nothing.
        let fds = [signals.0.as_fd(), pidfd, notify.map_or(signals.0.as_fd(), AsFd::as_fd)];
        let ready = wait_for_events(&mut streams.copying, &fds, PollTimeout::NONE)?;
        if ready[0] {
            while let Some(number) = signals.next() {
                dispatch(log, subject, &streams, number);
            }
        }
        if ready[2] {
            // To its manager this process is the service, so it stays until the container ends.
            notify = notify.filter(|listening| !ready_passed_on(log, listening));
        }
        if ready[1] {
            break;
        }
    }
    let status = subject.wait()?;
    log.debug(|| format!("process exited: {status:?}"));
    drain(&mut streams, signals)?;
    Ok(u8::try_from(status.code()).unwrap_or(255))
}

fn ready_passed_on(log: &Log, listening: &Listening<'_>) -> bool {
    listening.pass_on(nix::unistd::getpid().as_raw()).unwrap_or_else(|failure| {
        log.warning(&failure.message);
        true
    })
}

fn dispatch(log: &Log, subject: Subject<'_>, streams: &Streams, number: i32) {
    match number {
        nix::libc::SIGCHLD => reap_orphans(subject),
        nix::libc::SIGWINCH if streams.host.is_some() => streams.resize(),
        _ => {
            log.debug(|| format!("forwarding signal {number}"));
            let sent = Signal::from_number(number).and_then(|signal| subject.kill(signal));
            if let Err(error) = sent {
                log.debug(|| format!("forward signal {number}: {error}"));
            }
        }
    }
}

/// Reaps adopted children. The process itself is left to `wait`.
fn reap_orphans(subject: Subject<'_>) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    while let Ok(status) = waitid(Id::All, flags | WaitPidFlag::WNOWAIT) {
        let Some(pid) = status.pid() else { return };
        let own = subject.pidfd().is_some_and(|pidfd| {
            matches!(waitid(Id::PIDFd(pidfd), flags | WaitPidFlag::WNOWAIT), Ok(s) if s != WaitStatus::StillAlive && s.pid() == Some(pid))
        });
        if own || waitid(Id::Pid(pid), flags).is_err() {
            return;
        }
    }
}

/// Copies what the process left in its pipes or its terminal. A descendant that outlives it may hold them open, so only the output of
/// now is waited for.
fn drain(streams: &mut Streams, signals: &Signals) -> Result<(), Failure> {
    streams.copying.stop_input();
    while streams.copying.is_open() {
        // What was read must be written, however slow its reader is.
        let timeout = match (streams.copying.has_pending(), &streams.host) {
            (true, _) => PollTimeout::NONE,
            (false, Some(_)) => PollTimeout::from(TERMINAL_LINGER),
            (false, None) => PollTimeout::ZERO,
        };
        let before = streams.copying.moved();
        let ready = wait_for_events(&mut streams.copying, &[signals.0.as_fd()], timeout)?;
        if ready[0]
            && signals
                .next()
                .is_some_and(|n| matches!(n, nix::libc::SIGINT | nix::libc::SIGTERM | nix::libc::SIGHUP))
        {
            break;
        }
        if !ready[0] && streams.copying.moved() == before && !streams.copying.has_pending() {
            break;
        }
    }
    Ok(())
}

/// Waits until one of `fds` or of the copied streams is ready, copies what can be copied, and returns which of `fds` are ready.
fn wait_for_events<const N: usize>(
    copying: &mut Copying,
    fds: &[BorrowedFd<'_>; N],
    timeout: PollTimeout,
) -> Result<[bool; N], Failure> {
    let ready = {
        let mut set: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        copying.register(&mut set);
        loop {
            match poll(&mut set, timeout) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Failure::os("wait for the process", "poll", e)),
            }
        }
        set.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLNVAL)).collect::<Vec<_>>()
    };
    copying.move_ready(&ready[N..]);
    Ok(std::array::from_fn(|i| !ready[i].is_empty()))
}
