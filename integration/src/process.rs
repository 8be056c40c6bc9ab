//! Programs started by a test: output to files, a time limit, orphans reaped.
//!
//! The test process is a subreaper, as a containerd shim is: the init of a container whose runtime command has ended
//! becomes its child. Those are waited for here and their exit status is kept, so that a runtime sees them vanish.
//! Output goes to files, since a detached container would hold a pipe open forever.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use procfs::process::{Process, Stat, all_processes};

use crate::outcome::{Outcome, Stop, eq, fail, has};
use crate::sys;

/// How long a command may take; `KNARR_SLOW=10` makes all limits ten times longer (software emulation).
pub fn limit(seconds: u64) -> Duration {
    let slow = std::env::var("KNARR_SLOW").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds.saturating_mul(slow))
}

/// Children of this process: which ones are waited for by a [`Running`], and how the others ended.
#[derive(Default)]
struct Family {
    spawned: HashSet<u32>,
    orphans: HashMap<i32, WaitStatus>,
}

static FAMILY: Mutex<Option<Family>> = Mutex::new(None);

fn family<T>(with: impl FnOnce(&mut Family) -> T) -> T {
    let mut guard = FAMILY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    with(guard.get_or_insert_with(Family::default))
}

/// All processes of this pid namespace, zombies among them.
pub fn processes() -> Vec<Stat> {
    all_processes().into_iter().flatten().flatten().filter_map(|process| process.stat().ok()).collect()
}

/// Whether a process executes exactly this command line.
pub fn executes(pid: i32, args: &[&str]) -> bool {
    Process::new(pid).and_then(|process| process.cmdline()).is_ok_and(|line| line == args)
}

/// Waits for the dead orphans among our children.
pub fn reap() {
    let me = std::process::id().cast_signed();
    for Stat { pid, .. } in processes().into_iter().filter(|p| p.ppid == me && p.state == 'Z') {
        if family(|f| f.spawned.contains(&pid.cast_unsigned())) {
            continue;
        }
        if let Ok(status) = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
            family(|f| f.orphans.insert(pid, status));
        }
    }
}

/// How an orphan ended (128 + signal if by one), once it has.
pub fn orphan_code(pid: i32) -> Option<i32> {
    reap();
    match family(|f| f.orphans.get(&pid).copied())? {
        WaitStatus::Exited(_, code) => Some(code),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    }
}

/// Calls `done` until it gives something; reaps meanwhile. After half a minute it is a failure.
#[track_caller]
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> Result<T, Stop> {
    let end = Instant::now() + limit(30);
    loop {
        if let Some(found) = done() {
            return Ok(found);
        }
        if Instant::now() > end {
            return fail(format!("waited too long until {what}"));
        }
        reap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A started program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its command line, for messages.
    pub line: String,
    files: Option<(PathBuf, PathBuf)>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its command line, for messages.
    pub line: String,
    /// Exit status; 128 + signal if it died of one.
    pub code: i32,
    /// All it wrote to its standard output.
    pub stdout: String,
    /// All it wrote to its standard error.
    pub stderr: String,
}

/// Starts `command` with its output in two new files under `dir`.
pub fn start(mut command: Command, dir: &std::path::Path) -> Result<Running, Stop> {
    let mut number = 0;
    let (out, err) = loop {
        let pair = (dir.join(format!("stdout.{number}")), dir.join(format!("stderr.{number}")));
        if !pair.0.exists() {
            break pair;
        }
        number += 1;
    };
    command.stdout(File::create(&out)?).stderr(File::create(&err)?);
    start_as_is(command, Some((out, err)))
}

/// Starts `command` with the standard streams the caller gave it.
pub fn start_as_is(mut command: Command, files: Option<(PathBuf, PathBuf)>) -> Result<Running, Stop> {
    let line = format!("{command:?}").replace('"', "");
    if std::env::var_os("KNARR_TRACE").is_some() {
        crate::output::say(&format!("  + {line}"));
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return fail(format!("start {line}: {error}")),
    };
    family(|f| f.spawned.insert(child.id()));
    Ok(Running { child, line, files })
}

impl Running {
    /// The program's process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Outcome {
        kill(Pid::from_raw(self.pid()), signal)?;
        Ok(())
    }

    /// What it has written so far.
    pub fn stdout(&self) -> String {
        self.files.as_ref().map(|f| lossy(&f.0)).unwrap_or_default()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.files.as_ref().map(|f| lossy(&f.1)).unwrap_or_default()
    }

    /// Waits until its standard output contains `part`.
    #[track_caller]
    pub fn wait_for_output(&self, part: &str) -> Outcome {
        let seen = wait_for(&format!("{} prints {part:?}", self.line), || {
            self.stdout().contains(part).then_some(())
        });
        seen.or_else(|_| fail(format!("no {part:?} from {}:\n{}{}", self.line, self.stdout(), self.stderr())))
    }

    /// Waits for its end; after a minute it is killed and the test fails.
    #[track_caller]
    pub fn wait(self) -> Result<Ended, Stop> {
        self.wait_at_most(60)
    }

    /// Waits for its end; after so many seconds it is killed and the test fails.
    #[track_caller]
    pub fn wait_at_most(mut self, seconds: u64) -> Result<Ended, Stop> {
        let end = Instant::now() + limit(seconds);
        let pidfd = sys::pidfd_open(self.child.id())?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                family(|f| f.spawned.remove(&self.child.id()));
                reap();
                return Ok(Ended {
                    code: code(status),
                    stdout: self.stdout(),
                    stderr: self.stderr(),
                    line: self.line,
                });
            }
            if Instant::now() > end {
                self.child.kill()?;
                self.child.wait()?;
                family(|f| f.spawned.remove(&self.child.id()));
                let (out, err) = (self.stdout(), self.stderr());
                return fail(format!("{}: did not end within {seconds} seconds\n{out}{err}", self.line));
            }
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(20_u8))?;
            reap();
        }
    }
}

impl Ended {
    /// Itself, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> Result<Ended, Stop> {
        if self.code == 0 {
            return Ok(self);
        }
        fail(format!("{}: status {}\n{}{}", self.line, self.code, self.stdout, self.stderr))
    }

    /// Itself, if its exit status was `code`.
    #[track_caller]
    pub fn status(self, code: i32) -> Result<Ended, Stop> {
        eq(self.code, code, format!("exit status of {}\n{}{}", self.line, self.stdout, self.stderr))?;
        Ok(self)
    }

    /// Itself, if it failed in an orderly way: a status that is not a signal's, and a message.
    #[track_caller]
    pub fn refused(self) -> Result<Ended, Stop> {
        if self.code == 0 || self.code > 255 || (129..=192).contains(&self.code) {
            return fail(format!(
                "{}: status {}, not an error\n{}{}",
                self.line, self.code, self.stdout, self.stderr
            ));
        }
        if self.stderr.trim().is_empty() {
            return fail(format!("{}: status {} without a message", self.line, self.code));
        }
        if self.stderr.contains("panicked at") || self.stderr.contains("goroutine ") {
            return fail(format!("{}: a crash, not an error\n{}", self.line, self.stderr));
        }
        Ok(self)
    }

    /// Itself, if it failed and said `part` (any case).
    #[track_caller]
    pub fn refused_with(self, part: &str) -> Result<Ended, Stop> {
        let ended = self.refused()?;
        has(ended.stderr.to_lowercase(), part.to_lowercase())?;
        Ok(ended)
    }

    /// Its output without the last newline.
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }

    /// Its output as JSON.
    #[track_caller]
    pub fn json(&self) -> Result<serde_json::Value, Stop> {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => Ok(value),
            Err(error) => fail(format!("{}: no JSON: {error}\n{}{}", self.line, self.stdout, self.stderr)),
        }
    }
}

fn lossy(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

/// A command of the host with nothing to read on its standard input.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// The command, from a caller that ignores SIGCHLD, SIGHUP and SIGUSR1: what is ignored stays so over an exec.
pub fn ignoring(command: &Command) -> Command {
    let mut caller = self::command("env");
    caller.arg("--ignore-signal=CHLD,HUP,USR1").arg(command.get_program()).args(command.get_args());
    caller
}

/// Forgets which children are waited for, so that [`reap`] takes them too: after a test that stopped half-way.
pub fn forget() {
    family(|f| f.spawned.clear());
}

/// Forgets how the orphans of the tests before have ended: the kernel uses their pids again.
pub fn forget_orphans() {
    family(|f| f.orphans.clear());
}
