//! Runs hooks: the programs that config.json names, on the host (prestart, createRuntime, poststart, poststop) or in the container's
//! namespaces (createContainer, startContainer). Each gets the state as JSON on stdin, and has a time limit if config.json sets one.

use super::{Job, Watch, launch};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{self, ProcessPlan, c_string};
use crate::process::Stdio;
use crate::signal::{self, ExitStatus};
use crate::sys::pidfd::{self, Child};
use oci_spec::runtime::Hook;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio as Pipe};
use std::time::{Duration, Instant};

/// How much of a hook's output is kept for an error, in bytes.
const OUTPUT_LIMIT: usize = 64 << 10;

/// Where a hook runs.
pub(crate) enum Place<'a> {
    /// In the caller's namespaces, in the bundle's directory if it still exists. With a process, the hook is killed when that has ended.
    Host { bundle: &'a Path, process: Option<BorrowedFd<'a>> },
    /// In these namespaces of this process, in its cgroup and its root, which is not yet `/`: with all privileges, as a program of the
    /// host.
    Container { process: BorrowedFd<'a>, namespaces: u64, cgroup: &'a Cgroup, root: &'a Path },
    /// As a process of the container, with its privileges only: the program is one of the container's.
    Inside { process: BorrowedFd<'a>, cgroup: &'a Cgroup, plan: &'a dyn Fn(&Hook) -> Result<ProcessPlan> },
}

/// Runs hooks in order; the first failure ends it. `kind` and the position name the hook, in runc's text.
pub(crate) fn run(kind: &str, hooks: Option<&[Hook]>, state: &str, place: &Place<'_>) -> Result<()> {
    numbered(hooks).try_for_each(|(i, hook)| one(kind, i, hook, state, place))
}

/// Runs all hooks in order, even if earlier ones failed, and returns all failures together.
pub(crate) fn run_all(kind: &str, hooks: Option<&[Hook]>, state: &str, place: &Place<'_>) -> Result<()> {
    let errors = numbered(hooks).filter_map(|(i, hook)| one(kind, i, hook, state, place).err()).collect();
    Error::join(errors).map_or(Ok(()), Err)
}

fn numbered(hooks: Option<&[Hook]>) -> impl Iterator<Item = (usize, &Hook)> {
    hooks.unwrap_or_default().iter().enumerate()
}

fn one(kind: &str, number: usize, hook: &Hook, state: &str, place: &Place<'_>) -> Result<()> {
    let result = match place {
        Place::Host { bundle, process } => on_host(hook, state, bundle, *process),
        Place::Container { process, namespaces, cgroup, root } => host_program(hook, *namespaces, root)
            .and_then(|plan| in_container(hook, state, plan, *process, cgroup)),
        Place::Inside { process, cgroup, plan } => {
            plan(hook).and_then(|plan| in_container(hook, state, plan, *process, cgroup))
        }
    };
    result.map_err(Error::in_hook).with_context(|| format!("error running {kind} hook #{number}"))
}

fn on_host(hook: &Hook, state: &str, bundle: &Path, container: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some(first) = args.first() {
        command.arg0(first);
    }
    command.args(args.iter().skip(1));
    if bundle.is_dir() {
        command.current_dir(bundle);
    }
    // Without an environment of its own it gets the caller's, as with runc: `#!/usr/bin/env` needs a PATH.
    if let Some(env) = hook.env().as_ref().filter(|env| !env.is_empty()) {
        let pairs = env.iter().map(|variable| variable.split_once('=').unwrap_or((variable, "")));
        command.env_clear().envs(pairs.filter(|(name, _)| !name.is_empty()));
    }
    let (reader, writer) = pipe()?;
    let (out, out_writer) = pipe()?;
    command
        .stdin(Pipe::from(reader))
        .stdout(Pipe::from(out_writer.try_clone().context("dup")?))
        .stderr(Pipe::from(out_writer));
    crate::sys::process::start_clean(&mut command);
    let mut child = command.spawn().with_context(|| format!("execute {:?}", hook.path()))?;
    drop(command);
    let process = pidfd::open(i32::try_from(child.id()).unwrap_or(0)).context("pidfd_open");
    let ends = (File::from(writer), File::from(out));
    let ended = process.and_then(|process| converse(process.as_fd(), container, ends, state, hook));
    if ended.is_err() {
        let _ = child.kill();
    }
    let _ = child.wait();
    ended
}

/// The hook's program and its argument vector.
pub(crate) fn program(hook: &Hook) -> Result<(CString, Vec<CString>)> {
    let path = c_string("hooks.path", hook.path().as_os_str().as_bytes())?;
    let args = hook.args().as_deref().unwrap_or_default();
    let mut argv = args.iter().map(|s| c_string("hooks.args", s.as_bytes())).collect::<Result<Vec<_>>>()?;
    if argv.is_empty() {
        argv.push(path.clone());
    }
    Ok((path, argv))
}

fn host_program(hook: &Hook, namespaces: u64, root: &Path) -> Result<ProcessPlan> {
    let (path, argv) = program(hook)?;
    let env = hook.env().as_deref().unwrap_or_default();
    let envp = env.iter().map(|s| c_string("hooks.env", s.as_bytes())).collect::<Result<_>>()?;
    let root = c_string("root.path", root.as_os_str().as_bytes())?;
    Ok(plan::hook(path, argv, envp, namespaces, root))
}

fn in_container(
    hook: &Hook,
    state: &str,
    plan: ProcessPlan,
    container: BorrowedFd<'_>,
    cgroup: &Cgroup,
) -> Result<()> {
    let (reader, writer) = pipe()?;
    let (out, out_writer) = pipe()?;
    let stdio =
        Stdio::Fds { stdin: reader, stdout: out_writer.try_clone().context("dup")?, stderr: out_writer };
    let dir = cgroup.open_present()?;
    let job = Job { cgroup_dir: dir.as_ref(), target: Some(container), ..Job::new(plan, stdio, cgroup) };
    let (_, process, _) = launch(job, &mut NoWatch)?.release()?;
    let process = Child::new(process);
    converse(process.as_fd(), Some(container), (File::from(writer), File::from(out)), state, hook)
}

/// Sends the state, collects the output and waits for the end, at most for the hook's timeout, and no longer than the container's process
/// lives.
fn converse(
    process: BorrowedFd<'_>,
    container: Option<BorrowedFd<'_>>,
    (stdin, mut output): (File, File),
    state: &str,
    hook: &Hook,
) -> Result<()> {
    // A hook need not read its stdin, and may fill the pipe of its output.
    crate::sys::fs::set_nonblocking(stdin.as_fd(), true).context("fcntl")?;
    crate::sys::fs::set_nonblocking(output.as_fd(), true).context("fcntl")?;
    let mut stdin = Some(stdin);
    let mut unsent = state.as_bytes();
    let orphaned = || container.is_some_and(|container| signal::ends_within(container, 0).unwrap_or(false));
    let limit = hook.timeout().map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    let begin = Instant::now();
    let mut text = Vec::new();
    loop {
        let slice = match limit {
            Some(limit) => match limit.checked_sub(begin.elapsed()) {
                Some(left) => i32::try_from(left.as_millis().min(100)).unwrap_or(100).max(1),
                None => {
                    return Err(Error::new(
                        ErrorKind::Os,
                        format!("hook ran past specified timeout of {:.1}s", limit.as_secs_f64()),
                    ));
                }
            },
            None => 100,
        };
        // A state with long annotations is larger than a pipe: the rest is sent as the hook reads.
        stdin = stdin.filter(|pipe| feed(pipe, &mut unsent));
        // The output's pipe must not fill up, so it is emptied regularly while we wait for the end.
        let ended = signal::ends_within(process, slice)?;
        drain(&mut output, &mut text);
        if ended {
            break;
        }
        if orphaned() {
            break;
        }
    }
    if orphaned() {
        return Err(Error::new(ErrorKind::Os, "the container's process has ended meanwhile"));
    }
    match signal::peek(process)? {
        ExitStatus::Exited(0) => Ok(()),
        status => {
            let output = String::from_utf8_lossy(&text);
            Err(Error::new(ErrorKind::Os, format!("{status}, output: {}", output.trim_end())))
        }
    }
}

/// Writes what fits into the pipe; false when nothing is left to write, or the reader has gone.
fn feed(mut pipe: &File, unsent: &mut &[u8]) -> bool {
    while !unsent.is_empty() {
        match pipe.write(unsent) {
            Ok(n) => *unsent = unsent.get(n..).unwrap_or_default(),
            Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
    false
}

fn drain(output: &mut File, text: &mut Vec<u8>) {
    let mut buffer = [0u8; 4096];
    while let Ok(n @ 1..) = output.read(&mut buffer) {
        let room = OUTPUT_LIMIT.saturating_sub(text.len());
        text.extend(buffer.iter().take(n.min(room)));
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = std::io::pipe().context("pipe2")?;
    Ok((reader.into(), writer.into()))
}

/// For launches without gates.
pub(crate) struct NoWatch;

impl Watch for NoWatch {
    fn hooks(&mut self, _: i32, _: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
    fn listener(&mut self, _: i32, _: OwnedFd) -> Result<()> {
        Ok(())
    }
}
