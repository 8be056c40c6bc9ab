//! `pause`: pauses all processes of a container.

use super::{Command, Context, Outcome};
use goflags::{Order, Parsed};

pub(super) const COMMAND: Command = Command {
    name: "pause",
    summary: "pause suspends all processes inside the container",
    usage: "<container-id>",
    about: "Pauses all processes of the container; `resume` resumes them.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    context.container(parsed)?.pause()?;
    Ok(0)
}
