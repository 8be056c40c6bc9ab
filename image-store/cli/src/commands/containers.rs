//! The commands on containers and volumes.

use crate::cli::Operands::{Containers, Files, Images, Volumes};
use crate::cli::flags::{FORCE_PRUNE, FORMAT, INSPECT_FORMAT, JSON, NO_TRUNC, QUIET};
use crate::cli::{ANY, Command, Flag, command, filter, switch, value};
use crate::engine::commands::{
    attach, exec, logs, pause, ps, rename, rm, run, start, stop, top, volume, wait,
};
use crate::engine::supervisor;
use crate::rootless;

use super::run_flags;

const KEYS: Flag = value("detach-keys", None, "KEYS", "key sequence for detaching (default: ctrl-p,ctrl-q)");
const PROXY: Flag = value("sig-proxy", None, "BOOL", "forward signals to the container (default: true)");
const TIME: Flag = value("time", Some('t'), "SECONDS", "seconds to wait before SIGKILL (default: 10)");

static EXEC: &[Flag] = &[
    switch("interactive", Some('i'), "keep standard input open"),
    switch("tty", Some('t'), "allocate a terminal"),
    switch("detach", Some('d'), "run in the background"),
    value("env", Some('e'), "NAME[=VALUE]", "set an environment variable; without a value, pass it through"),
    value("env-file", None, "FILE", "read environment variables from a file, one per line"),
    value("workdir", Some('w'), "DIRECTORY", "working directory"),
    value("user", Some('u'), "USER[:GROUP]", "user and group to run as"),
    switch("privileged", None, "give the process all capabilities"),
    KEYS,
];

static PS: &[Flag] = &[
    switch("all", Some('a'), "include containers that are not running"),
    filter(Some('f'), ps::KEYS),
    value("last", Some('n'), "COUNT", "show this many of the most recent containers, in any state"),
    switch("latest", Some('l'), "show the most recent container, in any state"),
    switch("size", Some('s'), "show the size of each container's changes"),
    FORMAT,
    JSON,
    QUIET,
    NO_TRUNC,
];

static LOGS: &[Flag] = &[
    switch("follow", Some('f'), "follow the output until the container exits"),
    value("tail", Some('n'), "COUNT", "number of lines to show from the end"),
    switch("timestamps", Some('t'), "show timestamps"),
    value("since", None, "TIME", "show output since this time, or from this long ago, such as 10m"),
    value("until", None, "TIME", "show output before this time, or until this long ago"),
];

/// The commands on containers and volumes.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        stop_at_first: true,
        ..command(
            "run",
            "IMAGE [COMMAND [ARGUMENT...]]",
            Images,
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
            Images,
            "create a container without starting it",
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
            Containers,
            "run a command in a running container",
            EXEC,
            (2, ANY),
            exec::exec,
        )
    },
    command("ps", "", Files, "list containers", PS, (0, 0), ps::ps),
    command(
        "start",
        "CONTAINER...",
        Containers,
        "start stopped containers",
        &[
            switch("attach", Some('a'), "attach to the container's output"),
            switch("interactive", Some('i'), "attach to the container's output and input"),
            KEYS,
            PROXY,
        ],
        (1, ANY),
        start::start,
    ),
    command(
        "attach",
        "CONTAINER",
        Containers,
        "attach to a running container",
        &[switch("no-stdin", None, "do not attach standard input"), KEYS, PROXY],
        (1, 1),
        attach::attach,
    ),
    command("logs", "CONTAINER", Containers, "show the output of a container", LOGS, (1, 1), logs::logs),
    command("top", "CONTAINER", Containers, "list the processes of a container", &[], (1, 1), top::top),
    command(
        "stop",
        "CONTAINER...",
        Containers,
        "stop containers",
        &[
            TIME,
            value(
                "signal",
                Some('s'),
                "SIGNAL",
                "signal to send first (default: the container's stop signal)",
            ),
        ],
        (1, ANY),
        stop::stop,
    ),
    command("restart", "CONTAINER...", Containers, "restart containers", &[TIME], (1, ANY), stop::restart),
    command(
        "kill",
        "CONTAINER...",
        Containers,
        "send a signal to containers",
        &[value("signal", Some('s'), "SIGNAL", "signal to send (default: KILL)")],
        (1, ANY),
        stop::kill,
    ),
    command("pause", "CONTAINER...", Containers, "pause containers", &[], (1, ANY), pause::pause),
    command("unpause", "CONTAINER...", Containers, "resume paused containers", &[], (1, ANY), pause::unpause),
    command(
        "wait",
        "CONTAINER...",
        Containers,
        "wait for containers to exit and print their exit codes",
        &[],
        (1, ANY),
        wait::wait,
    ),
    command("rename", "CONTAINER NAME", Containers, "rename a container", &[], (2, 2), rename::rename),
    command(
        "rm",
        "CONTAINER...",
        Containers,
        "remove containers",
        &[
            switch("force", Some('f'), "remove running containers too; ignore missing ones"),
            switch("volumes", Some('v'), "also remove their anonymous volumes"),
        ],
        (1, ANY),
        rm::rm,
    ),
    command(
        "container prune",
        "",
        Files,
        "remove all stopped containers",
        &[FORCE_PRUNE, filter(None, rm::PRUNE_KEYS)],
        (0, 0),
        rm::prune,
    ),
    command(
        "volume create",
        "[VOLUME]",
        Files,
        "create a volume (default: with a random name)",
        &[],
        (0, 1),
        volume::create,
    ),
    command(
        "volume inspect",
        "VOLUME...",
        Volumes,
        "show details of volumes as JSON",
        &[INSPECT_FORMAT],
        (1, ANY),
        volume::inspect,
    ),
    command(
        "volume ls",
        "",
        Files,
        "list volumes",
        &[filter(Some('f'), volume::KEYS), FORMAT, JSON, QUIET],
        (0, 0),
        volume::list,
    ),
    command(
        "volume prune",
        "",
        Files,
        "remove anonymous volumes that no container uses",
        &[
            switch("all", Some('a'), "also remove unused named volumes"),
            FORCE_PRUNE,
            filter(None, volume::PRUNE_KEYS),
        ],
        (0, 0),
        volume::prune,
    ),
    command(
        "volume rm",
        "VOLUME...",
        Volumes,
        "remove volumes",
        &[switch("force", Some('f'), "ignore missing volumes")],
        (1, ANY),
        volume::rm,
    ),
    command("supervise", "", Files, "", &[], (1, 2), supervisor::supervise),
    Command { store: false, ..command("map-ids", "", Files, "", &[], (3, 3), rootless::map_ids) },
];
