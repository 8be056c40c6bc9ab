//! `delete`: takes a container away.

use super::{Command, Context, Failure, Outcome};
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

fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let id = ContainerId::new(parsed.positional(0))?;
    let force = parsed.is("force");
    let runtime = context.runtime()?;
    match runtime.load(&id) {
        Ok(container) => container
            .delete(if force { Delete::Force } else { Delete::Stopped })
            .map_err(|e| Failure::from(e).prefixed(&format!("cannot delete container {id}")))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // A `create` that died early leaves a folder that is no container yet.
            let remains = runtime.remove_remains(&id);
            match remains {
                Err(busy) if busy.kind() == ErrorKind::Busy => return Err(busy.into()),
                _ if force => {}
                _ => {
                    notify::forget(context, &id);
                    return Err(error.into());
                }
            }
        }
        Err(error) => return Err(error.into()),
    }
    notify::forget(context, &id);
    Ok(0)
}
