//! `resume`: thaws what `pause` froze.

use super::{Command, Context, Outcome};
use crate::args::{Order, Parsed};

pub(super) const COMMAND: Command = Command {
    name: "resume",
    summary: "resumes all processes that have been previously paused",
    usage: "<container-id>",
    about: "Lets the processes of a paused container go on.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    context.container(parsed)?.resume()?;
    Ok(0)
}
