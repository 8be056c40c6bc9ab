//! `kill`: a signal to a container's first process.

use super::{Command, Context, Outcome};
use crate::args::{Flag, Order, Parsed};
use libcontainer::{ErrorKind, Signal};

pub(super) const COMMAND: Command = Command {
    name: "kill",
    summary: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    usage: "<container-id> [signal]",
    about: "The signal is a number or a name: 9, KILL and SIGKILL are the same.",
    flags: &[Flag::bool(&["all", "a"], "it is no error when the container does not run").hidden()],
    order: Order::Anywhere,
    arguments: (1, Some(2)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let container = context.container(parsed)?;
    let signal = match parsed.positional(1) {
        "" => Signal::TERM,
        text => Signal::parse(text)?,
    };
    match container.kill(signal) {
        // runc's flag, obsolete there too: only this much is left of it.
        Err(error) if error.kind() == ErrorKind::WrongState && parsed.is("all") => Ok(0),
        result => Ok(result.map(|()| 0)?),
    }
}
