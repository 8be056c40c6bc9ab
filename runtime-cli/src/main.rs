//! `knarr`: runc's words and exit codes on top of libcontainer. Here: global flags, dispatch, and the last words of a failure.

#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use args::{Flag, Order};
use commands::{ALL, Context, Failure, Outcome};
use log::Log;

mod args;
mod commands;
mod copy;
mod dispatch;
mod failure;
mod foreground;
mod help;
mod log;
mod notify;
mod output;
mod process_spec;
mod root;
mod setup;
mod sockets;
mod sys;
mod terminal;
mod version;

/// The flags before the command.
const GLOBAL: &[Flag] = &[
    Flag::bool(&["debug"], "log what is done"),
    Flag::text(&["log"], "append log lines to this file instead of stderr"),
    Flag::text(&["log-format"], "'text' or 'json'").default("text"),
    Flag::text(&["root"], "directory for the states of containers; best on a tmpfs").default("$root"),
    Flag::text(&["criu"], "ignored").hidden(),
    Flag::bool(&["systemd-cgroup"], "let systemd make the cgroup: cgroupsPath is then \"slice:prefix:name\""),
    Flag::text(&["rootless"], "tolerate that cgroups can not be written: 'true', 'false' or 'auto'")
        .default("auto"),
    Flag::bool(&["version", "v"], "print the version").hidden(),
];

/// The whole program: its exit status.
#[cfg_attr(test, allow(dead_code, reason = "called by `sys`"))]
fn knarr() -> u8 {
    let mut log = Log::default();
    match arguments().and_then(|arguments| run(&arguments, &mut log)) {
        Ok(status) => status,
        Err(failure) => {
            log.fatal(&failure.message, failure.line.as_deref());
            failure.status
        }
    }
}

fn arguments() -> Result<Vec<String>, Failure> {
    let text = |(index, argument): (usize, std::ffi::OsString)| {
        argument
            .into_string()
            .map_err(|bad| Failure::new(format!("argument {index}, {bad:?}: not valid UTF-8")))
    };
    std::env::args_os().enumerate().map(text).collect()
}

/// Runs the command; `log` becomes the one that the flags ask for.
fn run(arguments: &[String], log: &mut Log) -> Outcome {
    let (called, rest) =
        arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let program = version::program(called);
    let global = match args::parse(GLOBAL, rest, Order::First) {
        Ok(global) => global,
        Err(error) => {
            output::print(&format!("Incorrect Usage. {error}\n\n{}", help(program)))?;
            return Err(Failure::new(error));
        }
    };
    let rest = global.positional.split_first();
    let Some((name, rest)) = rest.filter(|_| !global.is("help") && !global.is("version")) else {
        let text =
            if global.is("version") && !global.is("help") { version::text(program) } else { help(program) };
        output::print(&text)?;
        return Ok(0);
    };
    let root = root::choose(&global)?;
    *log = Log::open(global.text("log"), global.text("log-format"), global.is("debug"))?;
    if global.is_set("criu") {
        log.warning("--criu ignored (criu binary from $PATH is used); do not use");
    }
    let Some(command) = ALL.iter().find(|c| c.name == name) else {
        return dispatch::topic(program, name, rest);
    };
    let context = Context {
        program,
        root,
        root_given: global.is_set("root"),
        systemd_cgroup: global.is("systemd-cgroup"),
        rootless: root::rootless(&global)?,
        log,
    };
    dispatch::run(&context, called, command, rest)
}

fn help(program: &str) -> String {
    help::program(program, GLOBAL, &root::default())
}
