//! A command of runc that this version does not have. Its flags are known, so that the error names the command and not a flag.

use super::{Command, Context, Failure, Outcome};
use goflags::{Flag, Order, Parsed};

pub(super) const EVENTS: Command = Command {
    name: "events",
    summary: "display container events such as OOM notifications and statistics (not supported yet)",
    usage: "<container-id>",
    about: "",
    flags: &[
        Flag::text(&["interval"], "time between statistics").default("5s"),
        Flag::bool(&["stats"], "print the statistics once"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run: |context, parsed| refuse(context, parsed, "events"),
};

fn refuse(context: &Context, _: &Parsed, name: &str) -> Outcome {
    Err(Failure::new(format!("{name} is not supported by this version of {}", context.program)))
}
