//! `features`: prints the features of this runtime as the specification's features.md describes them, for engines.

use super::{Command, Context, Outcome};
use crate::{output, version};
use goflags::{Order, Parsed};
use libcontainer::Features;

pub(super) const COMMAND: Command = Command {
    name: "features",
    summary: "show the enabled features",
    usage: "",
    about: "Prints JSON as described in features.md of the OCI runtime specification.",
    flags: &[],
    order: Order::Anywhere,
    arguments: (0, Some(0)),
    own: false,
    hidden: false,
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
