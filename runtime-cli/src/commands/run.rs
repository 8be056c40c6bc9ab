//! `run`: create and start in one; in the foreground until the process ends, unless detached.

use super::{Command, Context, Failure, Outcome};
use crate::args::{Flag, Order, Parsed};
use crate::foreground::{self, Subject};
use crate::notify::{self, Listening, Notify};
use crate::setup::Setup;
use libcontainer::{Container, Delete};

pub(super) const COMMAND: Command = Command {
    name: "run",
    summary: "create and run a container",
    usage: "<container-id>",
    about: "Makes a container from a bundle, starts its process and waits for its end: the exit status is the process's,\n\
            or 128 and the number of the signal that ended it. The container is deleted then. The id must be new on this host.",
    flags: &[
        super::BUNDLE,
        super::CONSOLE_SOCKET,
        Flag::text(&["pidfd-socket"], "AF_UNIX socket that gets a pidfd of the container's first process"),
        super::DETACH,
        Flag::bool(&["keep"], "do not delete the container after its process has ended"),
        super::PID_FILE,
        Flag::bool(&["no-subreaper"], "do not adopt and reap the orphans of the container's processes"),
        super::NO_PIVOT,
        super::NO_NEW_KEYRING,
        super::PRESERVE_FDS,
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    super::protect_program()?;
    let result = if parsed.is("detach") { detached(context, parsed) } else { in_foreground(context, parsed) };
    result.map_err(|e| e.prefixed(&format!("{} run failed", context.program)))
}

fn detached(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let setup = Setup::detached(context, parsed)?;
    let (mut container, notify) = setup.create_to_start(context)?;
    let started =
        start(&mut container, notify.as_ref()).and_then(|listening| match (listening, container.pidfd()) {
            (Some(listening), Some(pidfd)) => listening.wait(pidfd, container.pid()),
            _ => Ok(()),
        });
    match started {
        Ok(()) => Ok(0),
        Err(failure) => Err(undone(context, parsed, container, failure)),
    }
}

fn in_foreground(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    // Before the process exists, so that no signal and no SIGCHLD is missed.
    let signals = foreground::Signals::block()?;
    if !parsed.is("no-subreaper") {
        foreground::become_subreaper(context.log);
    }
    let (setup, mut streams) = Setup::foreground(context, parsed)?;
    let (mut container, notify) = setup.create_to_start(context)?;
    let master = container.take_terminal();
    let status =
        streams.attach(master).and_then(|()| start(&mut container, notify.as_ref())).and_then(|listening| {
            let subject = Subject::Container(&container);
            foreground::run(context.log, subject, streams, &signals, listening.as_ref())
        });
    match status {
        Ok(status) => {
            if !parsed.is("keep") {
                delete(context, container);
            }
            Ok(status)
        }
        Err(failure) => Err(undone(context, parsed, container, failure)),
    }
}

fn start<'a>(
    container: &mut Container,
    notify: Option<&'a Notify>,
) -> Result<Option<Listening<'a>>, Failure> {
    let listening = notify.map(Notify::listen).transpose()?;
    container.start().map_err(|e| Failure::running(&e))?;
    Ok(listening)
}

/// Takes a container away again that could not be run.
fn undone(context: &Context<'_>, parsed: &Parsed, container: Container, failure: Failure) -> Failure {
    if !parsed.is("keep") {
        delete(context, container);
        let pid_file = parsed.text("pid-file");
        if !pid_file.is_empty() {
            let _ = std::fs::remove_file(pid_file);
        }
    }
    failure
}

/// By force: processes may be left in a container without a pid namespace of its own.
pub(super) fn delete(context: &Context<'_>, container: Container) {
    let id = container.id().clone();
    if let Err(error) = container.delete(Delete::Force) {
        context.log.warning(&error.to_string());
    }
    notify::forget(context, &id);
}
