//! `restore`: makes a container from the images of `checkpoint`. It stays in the foreground until the process ends, unless detached.

use super::criu::{self, check_empty_namespaces, image_path};
use super::{Command, Context, Failure, Outcome};
use crate::foreground::{self, Subject};
use crate::setup::{self, Mode, Prepared};
use goflags::{Flag, Order, Parsed};
use libcontainer::{CgroupMode, Container, RestoreOptions, Stdio};

pub(super) const COMMAND: Command = Command {
    name: "restore",
    summary: "restore a container from a previous checkpoint",
    usage: "<container-id>",
    about: "Creates a container from the images of `checkpoint` and the bundle it was created from. Its root file system must be\n\
            unchanged. Requires criu(8) 3.17 or newer in PATH.",
    flags: &[
        super::CONSOLE_SOCKET,
        criu::IMAGE_PATH,
        criu::WORK_PATH,
        Flag::bool(&["tcp-established"], "restore open TCP connections"),
        criu::EXTERNAL_SOCKETS,
        criu::SHELL_JOB,
        Flag::bool(&["file-locks"], "restore file locks"),
        criu::CGROUPS_MODE,
        super::BUNDLE,
        super::DETACH,
        super::PID_FILE,
        super::NO_SUBREAPER,
        super::NO_PIVOT,
        criu::EMPTY_NAMESPACE,
        Flag::bool(&["auto-dedup"], "remove memory pages from the images after reading them"),
        Flag::bool(
            &["lazy-pages"],
            "fetch memory pages on demand, from a `criu lazy-pages` with the same images",
        ),
        Flag::text(&["lsm-profile"], "security profile, as TYPE:NAME"),
        Flag::text(&["lsm-mount-context"], "security context of the mounts"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    super::protect_program()?;
    let result = if parsed.is("detach") { detached(context, parsed) } else { in_foreground(context, parsed) };
    result.map_err(|e| e.prefixed(&format!("{} restore failed", context.program)))
}

fn detached(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let options = options(parsed)?;
    restore(context, setup::prepare(context, parsed, Mode::Detached)?, options).map(|_| 0)
}

fn in_foreground(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let options = options(parsed)?;
    // Before the process exists, so that no signal is missed.
    let signals = foreground::Signals::block()?;
    if !parsed.is("no-subreaper") {
        foreground::become_subreaper(context.log);
    }
    let mut new = setup::prepare(context, parsed, Mode::Foreground)?;
    let mut streams = std::mem::take(&mut new.streams);
    let mut container = restore(context, new, options)?;
    let master = container.take_terminal();
    let status = streams
        .attach(master)
        .and_then(|()| foreground::run(context.log, Subject::Container(&container), streams, &signals, None));
    setup::remove(context, container);
    status
}

fn restore(context: &Context<'_>, new: Prepared, mut options: RestoreOptions) -> Result<Container, Failure> {
    context.log.debug(|| format!("restore container {} from {:?}", new.id, options.image));
    options.stdio = new.options.stdio;
    options.systemd_cgroup = new.options.systemd_cgroup;
    let made = new.runtime.restore(&new.id, &new.bundle, options).map_err(Failure::from);
    setup::announce(context, new.reports, made).map(|(container, _)| container)
}

fn options(parsed: &Parsed) -> Result<RestoreOptions, Failure> {
    let text = |name: &str| Some(parsed.text(name).to_owned()).filter(|text| !text.is_empty());
    check_empty_namespaces(parsed)?;
    let mut options = RestoreOptions::new(image_path(parsed), Stdio::inherit());
    options.work = criu::path(parsed, "work-path");
    options.tcp_established = parsed.is("tcp-established");
    options.external_unix_sockets = parsed.is("ext-unix-sk");
    options.shell_job = parsed.is("shell-job");
    options.file_locks = parsed.is("file-locks");
    options.auto_dedup = parsed.is("auto-dedup");
    options.lazy_pages = parsed.is("lazy-pages");
    options.cgroups = CgroupMode::parse(parsed.text("manage-cgroups-mode"))?;
    options.lsm_profile = text("lsm-profile");
    options.lsm_mount_context = text("lsm-mount-context");
    Ok(options)
}
