//! `delete`: removes a container.

use super::{Command, Context, Failure, Outcome};
use crate::notify;
use goflags::{Flag, Order, Parsed};
use libcontainer::{ContainerId, Delete, ErrorKind, Object};
use std::time::{Duration, Instant};

/// How long `--force` waits for a `create` that has nothing yet by which it could be ended; as long as for a killed process.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const COMMAND: Command = Command {
    name: "delete",
    summary: "delete any resources held by the container often used with detached container",
    usage: "<container-id>",
    about: "Deletes a stopped container, or one that was never started, with its cgroups, mounts and state.",
    flags: &[Flag::bool(&["force", "f"], "kill the container first; ignore a missing container")],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let id = ContainerId::new(parsed.positional(0))?;
    let force = parsed.is("force");
    let runtime = context.runtime()?;
    let end = Instant::now() + PATIENCE;
    loop {
        match runtime.load(&id) {
            Ok(container) => {
                _ = container
                    .delete(if force { Delete::Force } else { Delete::Stopped })
                    .map_err(|e| Failure::from(e.error).prefixed(&format!("cannot delete container {id}")))?
            }
            Err(error) if error.object() == Some(Object::Container) => {
                // A `create` that died early leaves a directory that is not a container yet. One that lives soon makes it one.
                match runtime.remove_remains(&id) {
                    Err(busy) if busy.kind() == ErrorKind::Busy && force && Instant::now() < end => {
                        std::thread::sleep(Duration::from_millis(10));
                        continue;
                    }
                    Err(busy) if busy.kind() == ErrorKind::Busy => return Err(busy.into()),
                    _ if force => {}
                    _ => {
                        notify::remove(context, &id);
                        return Err(error.into());
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        break;
    }
    notify::remove(context, &id);
    Ok(0)
}
