//! The table of the commands on containers; the others are in `commands`.

use crate::args::{Command, Flag, switch, value};
use crate::commands::{FORMAT, JSON, NO_TRUNC, QUIET, command};

const ANY: usize = usize::MAX;
const KEYS: Flag =
    value("detach-keys", None, "KEYS", "what leaves it running behind (default ctrl-p,ctrl-q)");
const PROXY: Flag = value("sig-proxy", None, "BOOL", "pass on signals we get (default true)");
const TIME: Flag = value("time", Some('t'), "SECONDS", "how long to wait before killing (default 10)");
const FILTER: Flag =
    value("filter", Some('f'), "KEY=VALUE", "id, name, label, status, exited, ancestor, volume");

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
    FILTER,
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

/// All of them.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        stop_at_first: true,
        ..command(
            "run",
            "IMAGE [COMMAND [ARGUMENT...]]",
            "run a command in a new container",
            super::FLAGS,
            (1, ANY),
            super::run,
        )
    },
    Command {
        stop_at_first: true,
        ..command(
            "create",
            "IMAGE [COMMAND [ARGUMENT...]]",
            "make a container without starting it",
            super::FLAGS,
            (1, ANY),
            super::create,
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
            super::exec,
        )
    },
    command("ps", "", "list containers", PS, (0, 0), super::ps),
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
        super::start,
    ),
    command(
        "attach",
        "CONTAINER",
        "watch a running container, and type",
        &[switch("no-stdin", None, "do not type"), KEYS, PROXY],
        (1, 1),
        super::attach,
    ),
    command("logs", "CONTAINER", "what a container has written", LOGS, (1, 1), super::logs),
    command("top", "CONTAINER", "the processes of a container", &[], (1, 1), super::top),
    command(
        "stop",
        "CONTAINER...",
        "end containers",
        &[TIME, value("signal", Some('s'), "SIGNAL", "what asks them to end")],
        (1, ANY),
        super::stop,
    ),
    command(
        "restart",
        "CONTAINER...",
        "end containers, and start them again",
        &[TIME],
        (1, ANY),
        super::restart,
    ),
    command(
        "kill",
        "CONTAINER...",
        "send a signal to containers",
        &[value("signal", Some('s'), "SIGNAL", "which (default KILL)")],
        (1, ANY),
        super::kill,
    ),
    command("pause", "CONTAINER...", "freeze containers", &[], (1, ANY), super::pause),
    command("unpause", "CONTAINER...", "thaw containers", &[], (1, ANY), super::unpause),
    command(
        "wait",
        "CONTAINER...",
        "wait until containers end, print their codes",
        &[],
        (1, ANY),
        super::wait,
    ),
    command("rename", "CONTAINER NAME", "give a container another name", &[], (2, 2), super::rename),
    command(
        "rm",
        "CONTAINER...",
        "remove containers",
        &[
            switch("force", Some('f'), "also running ones; no error when there is none"),
            switch("volumes", Some('v'), "and volumes that were made for them alone"),
        ],
        (1, ANY),
        super::rm,
    ),
    command(
        "volume",
        "create|ls|inspect|rm|prune [NAME...]",
        "folders that outlive containers",
        &[FORMAT, JSON, QUIET, switch("force", Some('f'), "no error when there is none")],
        (1, ANY),
        super::volumes::volume,
    ),
    command(
        "prune-containers",
        "",
        "",
        &[switch("force", Some('f'), "as Docker has it; there is no question")],
        (0, 0),
        super::prune,
    ),
    command("supervise", "", "", &[], (1, 2), super::supervise),
    command("map-ids", "", "", &[], (3, 3), super::rootless::map_ids),
];
