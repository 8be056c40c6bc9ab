//! `start`: runs the program of a created container.

use super::{Command, Context, Failure, Outcome};
use crate::notify::Notify;
use goflags::{Order, Parsed};

pub(super) const COMMAND: Command = Command {
    name: "start",
    summary: "executes the user defined process in a created container",
    usage: "<container-id>",
    about: "Starts a container that was created with `create`.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let mut container = context.container(parsed)?;
    if container.has_start_hooks() {
        super::protect_program()?;
    }
    let notify = Notify::of_created(context, container.id());
    let listening = notify.as_ref().map(Notify::listen).transpose()?;
    container.start().map_err(|e| Failure::starting(&e))?;
    if let (Some(listening), Some(pidfd)) = (listening, container.pidfd()) {
        listening.wait(pidfd, container.pid())?;
    }
    Ok(0)
}
