//! `knarr`: runc's command line and exit statuses on top of libcontainer. This file finds the command and logs its error.

#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use context::Context;
use failure::{Failure, Outcome};
use goflags::Order;
use log::Log;

mod commands;
mod context;
mod copy;
mod descriptors;
mod dispatch;
mod failure;
mod foreground;
mod global;
mod help;
mod log;
mod notify;
mod output;
mod process_spec;
mod receivers;
mod root;
mod setup;
mod sockets;
mod sys;
mod terminal;
mod version;

/// Runs the program and returns its exit status.
#[cfg_attr(test, allow(dead_code, reason = "called by `sys`"))]
fn knarr() -> u8 {
    let mut log = Log::default();
    let arguments = goflags::texts(std::env::args_os()).map_err(Failure::from);
    match arguments.and_then(|arguments| run(&arguments, &mut log)) {
        Ok(status) => status,
        Err(failure) => {
            log.fatal(&failure.message, failure.line.as_deref());
            failure.status
        }
    }
}

/// Runs the command; `log` becomes the one that the flags ask for.
fn run(arguments: &[String], log: &mut Log) -> Outcome {
    let (called, rest) =
        arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let program = version::program(called);
    let global = match goflags::parse(global::FLAGS, rest, Order::First) {
        Ok(global) => global,
        Err(error) => {
            output::print(&format!("Incorrect Usage. {error}\n\n{}", help::program(program)))?;
            return Err(error.into());
        }
    };
    let rest = global.positional.split_first();
    let Some((name, rest)) = rest.filter(|_| !global.is("help") && !global.is("version")) else {
        let version = global.is("version") && !global.is("help");
        output::print(&if version { version::text(program) } else { help::program(program) })?;
        return Ok(0);
    };
    let command = commands::find(name);
    // What only prints texts must work where there is no directory for states, as when a package is built.
    let root = match command {
        Some(command) if command.hidden => root::default().into(),
        _ => root::choose(&global)?,
    };
    *log = Log::open(global.text("log"), global.text("log-format"), global.is("debug"))?;
    if global.is_set("criu") {
        log.warning("--criu ignored (criu binary from $PATH is used); do not use");
    }
    let Some(command) = command else {
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
