//! `knarr`: runc's words and exit codes on top of libcontainer. Here: global flags, dispatch, and the last words of a failure.

use args::{Flag, Order, Parsed};
use commands::{ALL, Command, Context, Failure, Outcome};
use log::Log;
use std::process::ExitCode;

mod args;
mod commands;
mod copy;
mod foreground;
mod help;
mod log;
mod output;
mod process_spec;
mod root;
mod setup;
mod sockets;
mod terminal;
mod version;

const GLOBAL: &[Flag] = &[
    Flag::bool(&["debug"], "log what is done"),
    Flag::text(&["log"], "append log lines to this file instead of stderr"),
    Flag::text(&["log-format"], "'text' or 'json'").default("text"),
    Flag::text(&["root"], "directory for the states of containers; best on a tmpfs").default("$root"),
    Flag::text(&["criu"], "ignored").hidden(),
    Flag::bool(&["systemd-cgroup"], "let systemd make the cgroup: cgroupsPath is then \"slice:prefix:name\""),
    Flag::text(&["rootless"], "tolerate that cgroups can not be written: 'true', 'false' or 'auto'").default("auto"),
    Flag::bool(&["version", "v"], "print the version").hidden(),
];

fn main() -> ExitCode {
    let mut log = Log::default();
    match arguments().and_then(|arguments| run(&arguments, &mut log)) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            log.fatal(&failure.message);
            ExitCode::from(failure.status)
        }
    }
}

fn arguments() -> Result<Vec<String>, Failure> {
    let text = |(index, argument): (usize, std::ffi::OsString)| {
        argument.into_string().map_err(|bad| Failure::new(format!("argument {index}, {bad:?}: not valid UTF-8")))
    };
    std::env::args_os().enumerate().map(text).collect()
}

/// Runs the command; `log` becomes the one that the flags ask for.
fn run(arguments: &[String], log: &mut Log) -> Outcome {
    let (called, rest) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let program = version::program(called);
    let global = match args::parse(GLOBAL, rest, Order::First) {
        Ok(global) => global,
        Err(error) => {
            let text = format!("Incorrect Usage. {error}\n\n{}", help::program(program, GLOBAL, &root::default(program)));
            output::print(&text)?;
            return Err(Failure::new(error));
        }
    };
    let rest = global.positional.split_first();
    let Some((name, rest)) = rest.filter(|_| !global.is("help") && !global.is("version")) else {
        let text = if global.is("version") && !global.is("help") {
            version::text(program)
        } else {
            help::program(program, GLOBAL, &root::default(program))
        };
        output::print(&text)?;
        return Ok(0);
    };
    let root = root::choose(program, &global)?;
    *log = Log::open(global.text("log"), global.text("log-format"), global.is("debug")).map_err(Failure::new)?;
    if global.is_set("criu") {
        log.warning("--criu ignored (criu binary from $PATH is used); do not use");
    }
    let Some(command) = ALL.iter().find(|c| c.name == name) else { return topic(program, name, rest) };
    let context = Context {
        program,
        root,
        root_given: global.is_set("root"),
        systemd_cgroup: global.is("systemd-cgroup"),
        log: std::mem::take(log),
    };
    let result = dispatch(&context, called, command, rest);
    *log = context.log;
    result
}

fn dispatch(context: &Context, called: &str, command: &Command, arguments: &[String]) -> Outcome {
    let parsed = match args::parse(command.flags, arguments, command.order) {
        Ok(parsed) => parsed,
        Err(error) => {
            output::print(&format!("Incorrect Usage: {error}\n\n{}", help::command(context.program, command)))?;
            return Err(Failure::new(error));
        }
    };
    if parsed.is("help") {
        output::print(&help::command(context.program, command))?;
        return Ok(0);
    }
    if let Some(error) = wrong_count(command, &parsed) {
        output::print(&format!("Incorrect Usage.\n\n{}", help::command(context.program, command)))?;
        return Err(Failure::new(format!("{called}: {:?} requires {error} argument(s)", command.name)));
    }
    (command.run)(context, &parsed)
}

fn wrong_count(command: &Command, parsed: &Parsed) -> Option<String> {
    let count = parsed.positional.len();
    match command.arguments {
        (least, Some(most)) if least == most && count != least => Some(format!("exactly {least}")),
        (least, _) if count < least => Some(format!("a minimum of {least}")),
        (_, Some(most)) if count > most => Some(format!("a maximum of {most}")),
        _ => None,
    }
}

/// `help`, `help TOPIC`, and a command that is not there.
fn topic(program: &str, name: &str, rest: &[String]) -> Outcome {
    let topic = match (name, rest) {
        ("help" | "h", []) => {
            output::print(&help::program(program, GLOBAL, &root::default(program)))?;
            return Ok(0);
        }
        ("help" | "h", [topic, ..]) => topic.as_str(),
        _ => name,
    };
    match ALL.iter().find(|c| c.name == topic) {
        Some(command) => output::print(&help::command(program, command)).map(|()| 0),
        None => Err(Failure { message: format!("No help topic for '{topic}'"), status: 3 }),
    }
}
