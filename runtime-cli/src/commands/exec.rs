//! `exec`: a further process in a running container. Status 255 when it can not be started, else the process's own.

use super::{Command, Context, Failure, Outcome};
use crate::args::{Flag, Order, Parsed};
use crate::foreground::{self, Signals, Streams, Subject};
use crate::process_spec;
use crate::setup::{Receivers, preserved_fds};
use libcontainer::{ExecOptions, Process, Stdio};
use std::os::fd::AsFd;

pub(super) const COMMAND: Command = Command {
    name: "exec",
    summary: "execute new process inside the container",
    usage: "<container-id> <command> [command options]  || -p process.json <container-id>",
    about: "What the flags do not say is as in the container's own process: environment, folder, user, capabilities.",
    flags: &[
        super::CONSOLE_SOCKET,
        Flag::text(&["pidfd-socket"], "AF_UNIX socket that gets a pidfd of the process"),
        Flag::text(&["cwd"], "working directory in the container"),
        Flag::texts(&["env", "e"], "NAME=value, may be given many times"),
        Flag::bool(&["tty", "t"], "give the process a terminal"),
        Flag::text(&["user", "u"], "numeric <uid>[:<gid>]"),
        Flag::integers(&["additional-gids", "g"], "a further group, may be given many times"),
        Flag::text(
            &["process", "p"],
            "file with the description of the process, as \"process\" in config.json",
        ),
        super::DETACH,
        super::PID_FILE,
        Flag::text(&["process-label"], "SELinux label of the process"),
        Flag::text(&["apparmor"], "AppArmor profile of the process"),
        Flag::bool(&["no-new-privs"], "no gain of privileges by exec of a set-user-id program"),
        Flag::texts(&["cap", "c"], "a further capability, may be given many times"),
        super::PRESERVE_FDS,
        Flag::texts(&["cgroup"], "run in this existing cgroup below the container's, [<controller>:]<path>"),
        Flag::bool(&["ignore-paused"], "allow a paused container: the process waits for resume"),
    ],
    order: Order::First,
    arguments: (1, None),
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
    let start = |stdio: Stdio| -> Result<Process, Failure> {
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
            .map_err(|e| ended(&process, e))?;
        return Ok(0);
    }
    // Before the process exists, so that no signal and no SIGCHLD is missed.
    let signals = Signals::block()?;
    let (mut streams, stdio) = Streams::open(terminal)?;
    let mut process = start(stdio)?;
    let master = process.take_terminal();
    streams.attach(master).and_then(|()| announce(&receivers, &process)).map_err(|e| ended(&process, e))?;
    foreground::run(context.log, Subject::Process(&process), streams, &signals, None)
}

fn announce(receivers: &Receivers, process: &Process) -> Result<(), Failure> {
    receivers.send_pidfd(process.as_fd())?;
    receivers.write_pid(process.pid())
}

/// A process that nobody could be told of does not stay.
fn ended(process: &Process, failure: Failure) -> Failure {
    if let Ok(kill) = libcontainer::Signal::from_number(nix::libc::SIGKILL) {
        let _ = process.kill(kill);
        let _ = process.wait();
    }
    failure
}
