//! `features`: what this runtime can do, as the specification's features.md lays down; engines read it before they use it.

use super::{Command, Context, Outcome};
use crate::args::{Order, Parsed};
use crate::{output, version};
use libcontainer::Features;

pub(super) const COMMAND: Command = Command {
    name: "features",
    summary: "show the enabled features",
    usage: "",
    about: "Prints JSON as described in features.md of the OCI runtime specification.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (0, Some(0)),
    run,
};

fn run(_: &Context, _: &Parsed) -> Outcome {
    let features = Features::new([
        ("io.github.knarr.commit", version::COMMIT.to_owned()),
        ("io.github.knarr.version", version::VERSION.to_owned()),
    ]);
    output::print(&(output::json(&features, "    ")? + "\n"))?;
    Ok(0)
}
