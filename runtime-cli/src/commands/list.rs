//! `list`: lists the containers of a state directory as a table, JSON or ids.

use super::{Command, Context, Failure, Outcome};
use crate::output;
use goflags::{Flag, Order, Parsed};
use libcontainer::{ErrorKind, Object, State, Status};

pub(super) const COMMAND: Command = Command {
    name: "list",
    summary: "lists containers started by this command with the given root",
    usage: "",
    about: "Lists the containers in the state directory (--root).",
    flags: &[super::FORMAT, Flag::bool(&["quiet", "q"], "print ids only")],
    order: Order::Anywhere,
    arguments: (0, Some(0)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let (states, unreadable) = match context.runtime()?.list() {
        // Nothing was ever created here. A root that the caller chose must exist.
        Err(error)
            if (error.kind(), error.object()) == (ErrorKind::NotFound, Some(Object::StateRoot))
                && !context.root_given =>
        {
            (Vec::new(), Vec::new())
        }
        result => result.map(|listing| (listing.states, listing.unreadable))?,
    };
    for (id, error) in unreadable {
        context.log.warning(&format!("load container {id}: {error}"));
    }
    let text = match (parsed.is("quiet"), parsed.text("format")) {
        (true, _) => states.iter().map(|s| format!("{}\n", s.id)).collect(),
        (false, "" | "table") => table(&states),
        // As Go prints an empty list.
        (false, "json") if states.is_empty() => "null\n".to_owned(),
        (false, "json") => output::json(&states, "")? + "\n",
        _ => return Err(Failure::new("invalid format option")),
    };
    output::print(&text)?;
    Ok(0)
}

fn table(states: &[State]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(states.iter().map(|s| {
        let bundle = s.bundle.to_string_lossy().into_owned();
        [
            s.id.clone(),
            s.pid.to_string(),
            status(s.status).to_owned(),
            bundle,
            s.created.clone(),
            s.owner.clone(),
        ]
    }));
    output::table(&rows)
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Creating => "creating",
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Stopped => "stopped",
        _ => "unknown",
    }
}
