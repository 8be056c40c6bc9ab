//! `pause`: freezes all processes of a container.

use super::{Command, Context, Outcome};
use crate::args::{Order, Parsed};

pub(super) const COMMAND: Command = Command {
    name: "pause",
    summary: "pause suspends all processes inside the container",
    usage: "<container-id>",
    about: "Freezes all processes of the container until `resume`.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    context.container(parsed)?.pause()?;
    Ok(0)
}
