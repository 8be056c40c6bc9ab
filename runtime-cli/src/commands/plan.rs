//! `plan`: the steps that `create` would take on this host, without taking them and without root.

use super::{Command, Context, Outcome};
use crate::args::{Order, Parsed};
use crate::output;
use libcontainer::{Bundle, ContainerId, CreateOptions, Stdio};

pub(super) const COMMAND: Command = Command {
    name: "plan",
    summary: "show the steps that create would take on this host",
    usage: "[container-id]",
    about: "Reads the bundle and prints what `create` would do with it on this host, step by step. Nothing is done, and no\n\
            privilege is needed. Without an id the plan is for a container called \"plan\".",
    flags: &[super::BUNDLE, super::NO_PIVOT, super::NO_NEW_KEYRING, super::PRESERVE_FDS],
    order: Order::Anywhere,
    arguments: (0, Some(1)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let id = match parsed.positional(0) {
        "" => ContainerId::new("plan")?,
        id => ContainerId::new(id)?,
    };
    let bundle = Bundle::load(match parsed.text("bundle") {
        "" => ".",
        path => path,
    })?;
    let terminal =
        bundle.spec().process().as_ref().and_then(libcontainer::spec::Process::terminal).unwrap_or(false);
    let mut options = CreateOptions::new(if terminal { Stdio::Terminal } else { Stdio::inherit() });
    options.no_pivot = parsed.is("no-pivot");
    options.no_new_keyring = parsed.is("no-new-keyring");
    options.systemd_cgroup = context.systemd_cgroup;
    options.rootless_cgroups = context.rootless;
    options.preserve_fds = u32::try_from(parsed.integer("preserve-fds")).unwrap_or(0);
    let plan = context.runtime()?.plan(&id, &bundle, &options)?;
    output::print(&format!("{}\n", plan.to_string().trim_end()))?;
    Ok(0)
}
