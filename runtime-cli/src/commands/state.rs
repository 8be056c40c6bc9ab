//! `state`: prints a container's state as JSON.

use super::{Command, Context, Outcome};
use crate::output;
use goflags::{Order, Parsed};

pub(super) const COMMAND: Command = Command {
    name: "state",
    summary: "output the state of a container",
    usage: "<container-id>",
    about: "Prints the container's state as JSON.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let state = context.container(parsed)?.state()?;
    output::print(&output::json(&state, "  ")?)?;
    Ok(0)
}
