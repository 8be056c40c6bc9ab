//! `create`: a container up to the point where its process waits for `start`.

use super::{Command, Context, Outcome};
use crate::args::{Flag, Order, Parsed};
use crate::setup::Setup;

pub(super) const COMMAND: Command = Command {
    name: "create",
    summary: "create a container",
    usage: "<container-id>",
    about: "Makes a container from a bundle: a directory with a config.json and a root file system.\n\
            Its process waits until `start`. The id must be new on this host.",
    flags: &[
        super::BUNDLE,
        super::CONSOLE_SOCKET,
        Flag::text(&["pidfd-socket"], "AF_UNIX socket that gets a pidfd of the container's first process"),
        super::PID_FILE,
        super::NO_PIVOT,
        super::NO_NEW_KEYRING,
        super::PRESERVE_FDS,
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    super::protect_program()?;
    create(context, parsed).map_err(|e| e.prefixed(&format!("{} create failed", context.program)))
}

fn create(context: &Context, parsed: &Parsed) -> Outcome {
    let setup = Setup::detached(context, parsed)?;
    let _ = setup.create(context)?;
    Ok(0)
}
