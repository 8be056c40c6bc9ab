//! `exec`: runs another process in a running container. The status is that of the process, or 255 if it cannot be started.

use super::{Command, Context, Failure, Outcome};
use crate::descriptors::preserved_fds;
use crate::foreground::{self, Signals, Streams, Subject};
use crate::process_spec;
use crate::receivers::Receivers;
use goflags::{Flag, Order, Parsed};
use libcontainer::{ExecOptions, ExecProcess, Stdio};
use std::os::fd::AsFd;

pub(super) const COMMAND: Command = Command {
    name: "exec",
    summary: "execute new process inside the container",
    usage: "<container-id> <command> [command options]  || -p process.json <container-id>",
    about: "Environment, working directory, user and capabilities default to those of the container's process.",
    flags: &[
        super::CONSOLE_SOCKET,
        Flag::text(&["pidfd-socket"], "AF_UNIX socket that receives a pidfd of the process"),
        Flag::text(&["cwd"], "working directory in the container"),
        Flag::texts(&["env", "e"], "NAME=value (may be repeated)"),
        Flag::bool(&["tty", "t"], "allocate a terminal"),
        Flag::text(&["user", "u"], "numeric <uid>[:<gid>]"),
        Flag::integers(&["additional-gids", "g"], "additional group (may be repeated)"),
        Flag::text(&["process", "p"], "file with a process object as in config.json"),
        super::DETACH,
        super::PID_FILE,
        Flag::text(&["process-label"], "SELinux label of the process"),
        Flag::text(&["apparmor"], "AppArmor profile of the process"),
        Flag::bool(&["no-new-privs"], "set no_new_privs"),
        Flag::texts(&["cap", "c"], "additional capability (may be repeated)"),
        super::PRESERVE_FDS,
        Flag::texts(&["cgroup"], "run in this sub-cgroup of the container, [<controller>:]<path>"),
        Flag::bool(&["ignore-paused"], "allow exec in a paused container"),
    ],
    order: Order::First,
    arguments: (1, None),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    super::protect_program()?;
    exec(context, parsed).map_err(|failure| Failure { status: 255, ..failure.prefixed("exec failed") })
}

fn exec(context: &Context, parsed: &Parsed) -> Outcome {
    let container = context.container(parsed)?;
    let (process, warnings) = process_spec::for_exec(container.process_spec(), parsed)?;
    for warning in warnings {
        context.log.warning(&warning);
    }
    let terminal = process.terminal().unwrap_or(false);
    let detach = parsed.is("detach");
    let receivers = Receivers::connect(context, parsed, terminal, detach)?;
    let start = |stdio: Stdio| -> Result<ExecProcess, Failure> {
        let mut options = ExecOptions::new(stdio);
        options.preserve_fds = preserved_fds(parsed, 0)?;
        options.ignore_paused = parsed.is("ignore-paused");
        options.cgroup = parsed.all("cgroup").map(str::to_owned).collect();
        container.exec(&process, options).map_err(|e| Failure::starting(&e))
    };
    if detach {
        let mut process = start(if terminal { Stdio::Terminal } else { Stdio::inherit() })?;
        receivers
            .send_console(process.take_terminal())
            .and_then(|()| announce(&receivers, &process))
            .map_err(|e| killed(&process, e))?;
        return Ok(0);
    }
    // Before the process exists, so that no signal is missed.
    let signals = Signals::block()?;
    let (mut streams, stdio) = Streams::open(terminal)?;
    let mut process = start(stdio)?;
    let master = process.take_terminal();
    streams.attach(master).and_then(|()| announce(&receivers, &process)).map_err(|e| killed(&process, e))?;
    foreground::run(context.log, Subject::Process(&process), streams, &signals, None)
}

fn announce(receivers: &Receivers, process: &ExecProcess) -> Result<(), Failure> {
    receivers.send_pidfd(process.as_fd())?;
    receivers.write_pid(process.pid())
}

/// Kills a process that could not be reported.
fn killed(process: &ExecProcess, failure: Failure) -> Failure {
    if let Ok(kill) = libcontainer::Signal::from_number(nix::libc::SIGKILL) {
        let _ = process.kill(kill);
        let _ = process.wait();
    }
    failure
}
