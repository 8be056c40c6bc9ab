//! Commands of runc that this version does not have: their flags are known, so that the refusal names the command and not a flag.

use super::{Command, Context, Failure, Outcome};
use crate::args::{Flag, Order, Parsed};

pub(super) const CHECKPOINT: Command = Command {
    name: "checkpoint",
    summary: "checkpoint a running container (not supported by this version)",
    usage: "<container-id>",
    about: "",
    flags: &[
        Flag::text(&["image-path"], "folder for CRIU's images"),
        Flag::text(&["work-path"], "folder for CRIU's work files and logs"),
        Flag::text(&["parent-path"], "folder of an earlier pre-dump"),
        Flag::bool(&["leave-running"], "let the container go on"),
        Flag::bool(&["tcp-established"], "allow open TCP connections"),
        Flag::bool(&["tcp-skip-in-flight"], "skip TCP connections that are being made"),
        Flag::bool(&["link-remap"], "allow open files that were removed"),
        Flag::bool(&["ext-unix-sk"], "allow unix sockets to the outside"),
        Flag::bool(&["shell-job"], "allow a container that has a terminal of the host"),
        Flag::bool(&["lazy-pages"], "serve memory pages on demand"),
        Flag::integer(&["status-fd"], "a byte is written here when lazy pages can be served").default("-1"),
        Flag::text(&["page-server"], "address and port of a page server"),
        Flag::bool(&["file-locks"], "keep file locks"),
        Flag::bool(&["pre-dump"], "dump memory only, and let the container go on"),
        Flag::text(&["manage-cgroups-mode"], "soft, full, strict or ignore"),
        Flag::texts(&["empty-ns"], "make this namespace, but do not restore its contents"),
        Flag::bool(&["auto-dedup"], "remove memory pages that are held twice"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run: |context, parsed| refuse(context, parsed, "checkpoint"),
};

pub(super) const RESTORE: Command = Command {
    name: "restore",
    summary: "restore a container from a previous checkpoint (not supported by this version)",
    usage: "<container-id>",
    about: "",
    flags: &[
        super::CONSOLE_SOCKET,
        Flag::text(&["image-path"], "folder of CRIU's images"),
        Flag::text(&["work-path"], "folder for CRIU's work files and logs"),
        Flag::bool(&["tcp-established"], "allow open TCP connections"),
        Flag::bool(&["ext-unix-sk"], "allow unix sockets to the outside"),
        Flag::bool(&["shell-job"], "allow a container that has a terminal of the host"),
        Flag::bool(&["file-locks"], "keep file locks"),
        Flag::text(&["manage-cgroups-mode"], "soft, full, strict or ignore"),
        super::BUNDLE,
        super::DETACH,
        super::PID_FILE,
        Flag::bool(&["no-subreaper"], "do not adopt and reap the orphans of the container's processes"),
        super::NO_PIVOT,
        Flag::texts(&["empty-ns"], "make this namespace, but do not restore its contents"),
        Flag::bool(&["auto-dedup"], "remove memory pages that are held twice"),
        Flag::bool(&["lazy-pages"], "fetch memory pages on demand"),
        Flag::text(&["lsm-profile"], "TYPE:NAME of the security profile to use"),
        Flag::text(&["lsm-mount-context"], "security context of the mounts"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run: |context, parsed| refuse(context, parsed, "restore"),
};

pub(super) const EVENTS: Command = Command {
    name: "events",
    summary: "display container events such as OOM notifications and statistics (not supported by this version)",
    usage: "<container-id>",
    about: "",
    flags: &[
        Flag::text(&["interval"], "time between two statistics").default("5s"),
        Flag::bool(&["stats"], "print the statistics once"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run: |context, parsed| refuse(context, parsed, "events"),
};

fn refuse(context: &Context, _: &Parsed, name: &str) -> Outcome {
    Err(Failure::new(format!("{name} is not supported by this version of {}", context.program)))
}
