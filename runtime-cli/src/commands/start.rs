//! `start`: lets the process of a created container run its program.

use super::{Command, Context, Failure, Outcome};
use crate::args::{Order, Parsed};
use crate::notify::Notify;

pub(super) const COMMAND: Command = Command {
    name: "start",
    summary: "executes the user defined process in a created container",
    usage: "<container-id>",
    about: "Lets the process of a container that was made by `create` run its program.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
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
