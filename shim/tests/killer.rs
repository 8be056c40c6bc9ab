//! Kills a process at its N-th system call, or stops processes before they end, by ptrace.

use integration::process::wait_for;
use integration::{Stop, fail};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use procfs::process::Process;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The end of a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was killed at the system call.
    Killed,
    /// It ended before that, with this status.
    Exited(i32),
}

/// Kills the running process `pid` when it enters its system call of this number, counted from now; 1 is the next.
pub(crate) fn kill_at(pid: i32, number: usize) -> Result<JoinHandle<End>, Stop> {
    let tracer = thread::spawn(move || trace(Pid::from_raw(pid), number));
    wait_for("the process is traced", || is_traced(pid).then_some(()))?;
    Ok(tracer)
}

/// A process that has ended already was traced before.
fn is_traced(pid: i32) -> bool {
    let status = Process::new(pid).and_then(|process| process.status());
    status.map_or(true, |status| status.tracerpid != 0)
}

/// Runs `command`, which is killed when it enters its system call of this number. A shell stops before it executes the command,
/// so that it can be traced from there: its last few system calls count too.
pub(crate) fn run_and_kill_at(command: &Command, number: usize) -> Result<End, Stop> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    let child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let pid = child.id().cast_signed();
    let stopped = || {
        Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.state == 'T').then_some(())
    };
    wait_for("the shell stops", stopped)?;
    // A traced process continues without SIGCONT.
    kill_at(pid, number)?.join().or_else(|_| fail("the tracer panicked"))
}

/// All requests come from the thread that attached, as ptrace(2) requires.
fn trace(pid: Pid, number: usize) -> End {
    if ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).is_err() || ptrace::interrupt(pid).is_err()
    {
        return End::Exited(-1);
    }
    let mut stops = 0;
    loop {
        let signal = match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(_, status)) => return End::Exited(status),
            // Reaped elsewhere.
            Ok(WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => return End::Exited(-1),
            Ok(WaitStatus::PtraceSyscall(_)) => {
                stops += 1;
                // Each system call stops twice: when it is entered and when it is left.
                if stops == 2 * number - 1 {
                    let _ = kill(pid, Signal::SIGKILL);
                    let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
                    return End::Killed;
                }
                None
            }
            Ok(WaitStatus::Stopped(_, signal)) => Some(signal),
            _ => None,
        };
        if ptrace::syscall(pid, signal).is_err() {
            let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
            return End::Exited(-1);
        }
    }
}

/// Stopped workers. Dropping it continues them.
pub(crate) struct Held {
    tracer: Option<JoinHandle<()>>,
    release: Arc<AtomicBool>,
}

/// Each process that the server `pid` forks from now on stops when it is about to end.
pub(crate) fn hold_workers(pid: i32) -> Result<Held, Stop> {
    let release = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&release);
    let tracer = thread::spawn(move || hold(Pid::from_raw(pid), &flag));
    let held = Held { tracer: Some(tracer), release };
    wait_for("the server is traced", || is_traced(pid).then_some(()))?;
    Ok(held)
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release.store(true, Ordering::Relaxed);
        let _ = self.tracer.take().map(JoinHandle::join);
    }
}

/// Traces until this thread ends, which detaches all processes.
fn hold(server: Pid, release: &AtomicBool) {
    if ptrace::seize(server, ptrace::Options::PTRACE_O_TRACEFORK).is_err() {
        return;
    }
    // Not the children of other threads.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
    while !release.load(Ordering::Relaxed) {
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXIT)) => {}
            Ok(WaitStatus::PtraceEvent(worker, _, libc::PTRACE_EVENT_STOP)) if worker != server => {
                // Its children are not traced.
                let _ = ptrace::setoptions(worker, ptrace::Options::PTRACE_O_TRACEEXIT);
                let _ = ptrace::cont(worker, None);
            }
            Ok(WaitStatus::PtraceEvent(pid, ..)) => drop(ptrace::cont(pid, None)),
            Ok(WaitStatus::Stopped(pid, signal)) => drop(ptrace::cont(pid, signal)),
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
}
