//! `resume`: resumes a paused container.

use super::{Command, Context, Outcome};
use goflags::{Order, Parsed};

pub(super) const COMMAND: Command = Command {
    name: "resume",
    summary: "resumes all processes that have been previously paused",
    usage: "<container-id>",
    about: "Resumes a paused container.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    context.container(parsed)?.resume()?;
    Ok(0)
}
