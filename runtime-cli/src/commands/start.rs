//! `start`: lets the process of a created container run its program.

use super::{Command, Context, Failure, Outcome};
use crate::args::{Order, Parsed};

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

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    context
        .container(parsed)?
        .start()
        .map_err(|e| Failure::starting(&e))?;
    Ok(0)
}
