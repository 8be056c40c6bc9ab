//! `restore`: a container from the images that `checkpoint` has saved; in the foreground until its process ends, unless detached.

use super::checkpoint::{check_empty, image_path, work_path};
use super::{Command, Context, Outcome};
use crate::args::{Flag, Order, Parsed};
use crate::foreground::{self, Subject};
use crate::setup::Setup;
use libcontainer::{CgroupMode, RestoreOptions, Stdio};

pub(super) const COMMAND: Command = Command {
    name: "restore",
    summary: "restore a container from a previous checkpoint",
    usage: "<container-id>",
    about: "Makes a container from the images of `checkpoint` and the bundle it was made from, with the root as it was then. Its processes\n\
            go on where they were. The work is done by criu(8), 3.17 or newer, which is found in PATH.",
    flags: &[
        super::CONSOLE_SOCKET,
        Flag::text(&["image-path"], "folder of CRIU's images; by default ./checkpoint"),
        Flag::text(&["work-path"], "folder for CRIU's work files and logs; by default that of the images"),
        Flag::bool(&["tcp-established"], "restore open TCP connections"),
        Flag::bool(&["ext-unix-sk"], "allow unix sockets to the outside"),
        Flag::bool(&["shell-job"], "allow a container that has a terminal of the host"),
        Flag::bool(&["file-locks"], "restore file locks"),
        Flag::text(&["manage-cgroups-mode"], "soft, full, strict or ignore (default: soft)"),
        super::BUNDLE,
        super::DETACH,
        super::PID_FILE,
        Flag::bool(&["no-subreaper"], "do not adopt and reap the orphans of the container's processes"),
        super::NO_PIVOT,
        Flag::texts(
            &["empty-ns"],
            "make this namespace, but do not restore its contents; always so for network",
        ),
        Flag::bool(&["auto-dedup"], "remove memory pages from the images once they are read"),
        Flag::bool(
            &["lazy-pages"],
            "fetch memory pages on demand, from a `criu lazy-pages` with the same images",
        ),
        Flag::text(&["lsm-profile"], "TYPE:NAME of the security profile to use"),
        Flag::text(&["lsm-mount-context"], "security context of the mounts"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    super::protect_program()?;
    let result = if parsed.is("detach") { detached(context, parsed) } else { in_foreground(context, parsed) };
    result.map_err(|e| e.prefixed(&format!("{} restore failed", context.program)))
}

fn detached(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let options = options(parsed)?;
    let _ = Setup::detached(context, parsed)?.restore(context, options)?;
    Ok(0)
}

fn in_foreground(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let options = options(parsed)?;
    // Before the process exists, so that no signal and no SIGCHLD is missed.
    let signals = foreground::Signals::block()?;
    if !parsed.is("no-subreaper") {
        foreground::become_subreaper(context.log);
    }
    let (setup, mut streams) = Setup::foreground(context, parsed)?;
    let mut container = setup.restore(context, options)?;
    let master = container.take_terminal();
    let status = streams
        .attach(master)
        .and_then(|()| foreground::run(context.log, Subject::Container(&container), streams, &signals, None));
    super::run::delete(context, container);
    status
}

fn options(parsed: &Parsed) -> Result<RestoreOptions, super::Failure> {
    let text = |name: &str| Some(parsed.text(name).to_owned()).filter(|text| !text.is_empty());
    check_empty(parsed)?;
    let mut options = RestoreOptions::new(image_path(parsed), Stdio::inherit());
    options.work = work_path(parsed);
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
