//! `run`: creates and starts a container. It stays in the foreground until the process ends, unless detached.

use super::create::create;
use super::{Command, Context, Failure, Outcome};
use crate::foreground::{self, Subject};
use crate::notify::{Listening, Notify};
use crate::setup::{self, Mode};
use goflags::{Flag, Order, Parsed};
use libcontainer::Container;

pub(super) const COMMAND: Command = Command {
    name: "run",
    summary: "create and run a container",
    usage: "<container-id>",
    about: "Creates and starts a container and waits for it. The exit status is the process's, or 128+N if signal N ended it.\n\
            The container is deleted afterwards. The id must be unique on this host.",
    flags: &[
        super::BUNDLE,
        super::CONSOLE_SOCKET,
        super::INIT_PIDFD_SOCKET,
        super::DETACH,
        Flag::bool(&["keep"], "keep the container after its process exits"),
        super::PID_FILE,
        super::NO_SUBREAPER,
        super::NO_PIVOT,
        super::NO_NEW_KEYRING,
        super::PRESERVE_FDS,
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    super::protect_program()?;
    let result = if parsed.is("detach") { detached(context, parsed) } else { in_foreground(context, parsed) };
    result.map_err(|e| e.prefixed(&format!("{} run failed", context.program)))
}

fn detached(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let mut new = setup::prepare(context, parsed, Mode::Detached)?;
    new.options.start_here = true;
    let (mut container, notify) = create(context, new)?;
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
    // Before the process exists, so that no signal is missed.
    let signals = foreground::Signals::block()?;
    if !parsed.is("no-subreaper") {
        foreground::become_subreaper(context.log);
    }
    let mut new = setup::prepare(context, parsed, Mode::Foreground)?;
    new.options.start_here = true;
    let mut streams = std::mem::take(&mut new.streams);
    let (mut container, notify) = create(context, new)?;
    let master = container.take_terminal();
    let status =
        streams.attach(master).and_then(|()| start(&mut container, notify.as_ref())).and_then(|listening| {
            let subject = Subject::Container(&container);
            foreground::run(context.log, subject, streams, &signals, listening.as_ref())
        });
    match status {
        Ok(status) => {
            if !parsed.is("keep") {
                setup::remove(context, container);
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

/// Removes a container that could not be started, unless it is to be kept.
fn undone(context: &Context<'_>, parsed: &Parsed, container: Container, failure: Failure) -> Failure {
    if !parsed.is("keep") {
        setup::remove(context, container);
        let pid_file = parsed.text("pid-file");
        if !pid_file.is_empty() {
            let _ = std::fs::remove_file(pid_file);
        }
    }
    failure
}
