//! `delete`: takes a container away.

use super::{Command, Context, Outcome};
use crate::args::{Flag, Order, Parsed};
use crate::notify;
use libcontainer::{ContainerId, Delete, ErrorKind};

pub(super) const COMMAND: Command = Command {
    name: "delete",
    summary: "delete any resources held by the container often used with detached container",
    usage: "<container-id>",
    about: "Removes a container that is stopped, or was never started: its cgroups, its mounts, its state.",
    flags: &[Flag::bool(
        &["force", "f"],
        "kill the container's processes first; a container that is not there is no error",
    )],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let id = ContainerId::new(parsed.positional(0))?;
    let force = parsed.is("force");
    let container = match context.runtime()?.load(&id) {
        Err(error) if force && error.kind() == ErrorKind::NotFound => return Ok(0),
        result => result?,
    };
    notify::forget(context, &id);
    container.delete(if force { Delete::Force } else { Delete::Stopped })?;
    Ok(0)
}
