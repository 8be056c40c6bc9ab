//! `plan`: prints the steps that `create` would take on this host. It takes none of them and needs no privilege.

use super::{Command, Context, Outcome};
use crate::{output, setup};
use goflags::{Order, Parsed};
use libcontainer::{ContainerId, Stdio};

pub(super) const COMMAND: Command = Command {
    name: "plan",
    summary: "show the steps that create would take on this host",
    usage: "[container-id]",
    about: "Reads the bundle and prints what `create` would do with it on this host, step by step. Nothing is changed and no\n\
            privilege is needed (without root, use a config.json from `spec --rootless`). The default id is \"plan\".",
    flags: &[super::BUNDLE, super::NO_PIVOT, super::NO_NEW_KEYRING, super::PRESERVE_FDS],
    order: Order::Anywhere,
    arguments: (0, Some(1)),
    own: true,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let id = match parsed.positional(0) {
        "" => ContainerId::new("plan")?,
        id => ContainerId::new(id)?,
    };
    let bundle = setup::load_bundle(parsed)?;
    let stdio = if setup::wants_terminal(&bundle) { Stdio::Terminal } else { Stdio::inherit() };
    let mut options = setup::create_options(context, parsed, stdio);
    options.preserve_fds = u32::try_from(parsed.integer("preserve-fds")).unwrap_or(0);
    let plan = context.runtime()?.plan(&id, &bundle, &options)?;
    output::print(&format!("{}\n", plan.to_string().trim_end()))?;
    Ok(0)
}
