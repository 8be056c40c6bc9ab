//! `kill`: sends a signal to a container's first process.

use super::{Command, Context, Outcome};
use goflags::{Flag, Order, Parsed};
use libcontainer::{ErrorKind, Signal};

pub(super) const COMMAND: Command = Command {
    name: "kill",
    summary: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    usage: "<container-id> [signal]",
    about: "The signal is a number or a name: 9, KILL and SIGKILL are the same.",
    flags: &[Flag::bool(&["all", "a"], "ignore a container that is not running").hidden()],
    order: Order::Anywhere,
    arguments: (1, Some(2)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let container = context.container(parsed)?;
    let signal = match parsed.positional(1) {
        "" => Signal::TERM,
        text => Signal::parse(text)?,
    };
    match container.kill(signal) {
        // All that is left of runc's flag, which is obsolete there too.
        Err(error) if error.kind() == ErrorKind::WrongState && parsed.is("all") => Ok(0),
        result => Ok(result.map(|()| 0)?),
    }
}
