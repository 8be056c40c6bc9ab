//! The commands on containers and volumes.

use crate::cli::flags::{FORCE_PRUNE, FORMAT, INSPECT_FORMAT, JSON, NO_TRUNC, QUIET};
use crate::cli::{ANY, Command, Flag, command, filter, switch, value};
use crate::engine::commands::{
    attach, exec, logs, pause, ps, rename, rm, run, start, stop, top, volume, wait,
};
use crate::engine::supervisor;
use crate::rootless;

use super::run_flags;

const KEYS: Flag =
    value("detach-keys", None, "KEYS", "what leaves it running behind (default ctrl-p,ctrl-q)");
const PROXY: Flag = value("sig-proxy", None, "BOOL", "pass on signals we get (default true)");
const TIME: Flag = value("time", Some('t'), "SECONDS", "how long to wait before killing (default 10)");

static EXEC: &[Flag] = &[
    switch("interactive", Some('i'), "keep standard input open"),
    switch("tty", Some('t'), "give it a terminal"),
    switch("detach", Some('d'), "run in the background"),
    value("env", Some('e'), "NAME[=VALUE]", "set a variable; without a value, ours"),
    value("env-file", None, "FILE", "variables, one a line"),
    value("workdir", Some('w'), "FOLDER", "where it starts"),
    value("user", Some('u'), "USER[:GROUP]", "who it runs as"),
    switch("privileged", None, "all capabilities"),
    KEYS,
];

static PS: &[Flag] = &[
    switch("all", Some('a'), "also those that do not run"),
    filter(Some('f'), ps::KEYS),
    value("last", Some('n'), "COUNT", "the last so many, in whatever state"),
    switch("latest", Some('l'), "the last one"),
    switch("size", Some('s'), "show what each has written"),
    FORMAT,
    JSON,
    QUIET,
    NO_TRUNC,
];

static LOGS: &[Flag] = &[
    switch("follow", Some('f'), "go on until the container ends"),
    value("tail", Some('n'), "COUNT", "only the last so many lines"),
    switch("timestamps", Some('t'), "show times"),
    value("since", None, "TIME", "from then on: a time, or how long ago, such as 10m"),
    value("until", None, "TIME", "until then"),
];

/// The table.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        stop_at_first: true,
        ..command(
            "run",
            "IMAGE [COMMAND [ARGUMENT...]]",
            "run a command in a new container",
            run_flags::FLAGS,
            (1, ANY),
            run::run,
        )
    },
    Command {
        stop_at_first: true,
        ..command(
            "create",
            "IMAGE [COMMAND [ARGUMENT...]]",
            "make a container without starting it",
            run_flags::FLAGS,
            (1, ANY),
            run::create,
        )
    },
    Command {
        stop_at_first: true,
        ..command(
            "exec",
            "CONTAINER COMMAND [ARGUMENT...]",
            "run a further command in a running container",
            EXEC,
            (2, ANY),
            exec::exec,
        )
    },
    command("ps", "", "list containers", PS, (0, 0), ps::ps),
    command(
        "start",
        "CONTAINER...",
        "start stopped containers, or again",
        &[
            switch("attach", Some('a'), "watch it"),
            switch("interactive", Some('i'), "watch it, and type"),
            KEYS,
            PROXY,
        ],
        (1, ANY),
        start::start,
    ),
    command(
        "attach",
        "CONTAINER",
        "watch a running container, and type",
        &[switch("no-stdin", None, "do not type"), KEYS, PROXY],
        (1, 1),
        attach::attach,
    ),
    command("logs", "CONTAINER", "what a container has written", LOGS, (1, 1), logs::logs),
    command("top", "CONTAINER", "the processes of a container", &[], (1, 1), top::top),
    command(
        "stop",
        "CONTAINER...",
        "end containers",
        &[TIME, value("signal", Some('s'), "SIGNAL", "what asks them to end")],
        (1, ANY),
        stop::stop,
    ),
    command(
        "restart",
        "CONTAINER...",
        "end containers, and start them again",
        &[TIME],
        (1, ANY),
        stop::restart,
    ),
    command(
        "kill",
        "CONTAINER...",
        "send a signal to containers",
        &[value("signal", Some('s'), "SIGNAL", "which (default KILL)")],
        (1, ANY),
        stop::kill,
    ),
    command("pause", "CONTAINER...", "freeze containers", &[], (1, ANY), pause::pause),
    command("unpause", "CONTAINER...", "thaw containers", &[], (1, ANY), pause::unpause),
    command(
        "wait",
        "CONTAINER...",
        "wait until containers end, print their codes",
        &[],
        (1, ANY),
        wait::wait,
    ),
    command("rename", "CONTAINER NAME", "give a container another name", &[], (2, 2), rename::rename),
    command(
        "rm",
        "CONTAINER...",
        "remove containers",
        &[
            switch("force", Some('f'), "also running ones; no error when there is none"),
            switch("volumes", Some('v'), "and volumes that were made for them alone"),
        ],
        (1, ANY),
        rm::rm,
    ),
    command(
        "container prune",
        "",
        "remove all stopped containers",
        &[FORCE_PRUNE, filter(None, rm::PRUNE_KEYS)],
        (0, 0),
        rm::prune,
    ),
    command(
        "volume create",
        "[VOLUME]",
        "create a volume, and print its name (default: a random one)",
        &[],
        (0, 1),
        volume::create,
    ),
    command(
        "volume inspect",
        "VOLUME...",
        "show details of volumes as JSON",
        &[INSPECT_FORMAT],
        (1, ANY),
        volume::inspect,
    ),
    command(
        "volume ls",
        "",
        "list volumes",
        &[filter(Some('f'), volume::KEYS), FORMAT, JSON, QUIET],
        (0, 0),
        volume::list,
    ),
    command(
        "volume prune",
        "",
        "remove anonymous volumes that no container uses",
        &[
            switch("all", Some('a'), "also named volumes that no container uses"),
            FORCE_PRUNE,
            filter(None, volume::PRUNE_KEYS),
        ],
        (0, 0),
        volume::prune,
    ),
    command(
        "volume rm",
        "VOLUME...",
        "remove volumes that no container uses",
        &[switch("force", Some('f'), "succeed even if the volume does not exist")],
        (1, ANY),
        volume::rm,
    ),
    command("supervise", "", "", &[], (1, 2), supervisor::supervise),
    Command { store: false, ..command("map-ids", "", "", &[], (3, 3), rootless::map_ids) },
];
