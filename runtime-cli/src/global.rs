//! The global flags, which stand before the command, and `--help`, which every command has.

use goflags::Flag;

const KNOWN: &[Flag] = &[
    Flag::bool(&["debug"], "enable debug logging"),
    Flag::text(&["log"], "log to this file instead of stderr"),
    Flag::text(&["log-format"], "'text' or 'json'").default("text"),
    Flag::text(&["root"], "directory for container state, preferably on a tmpfs").default("$root"),
    Flag::text(&["criu"], "ignored").hidden(),
    Flag::bool(
        &["systemd-cgroup"],
        "use the systemd cgroup driver (not supported yet): cgroupsPath is \"slice:prefix:name\"",
    ),
    Flag::text(&["rootless"], "ignore errors of unwritable cgroups: 'true', 'false' or 'auto'")
        .default("auto"),
];

/// `--help` of every command.
pub(crate) const HELP: &[Flag] = &[Flag::bool(&["help", "h"], "show help")];

const VERSION: &[Flag] = &[Flag::bool(&["version", "v"], "print the version")];

/// The global flags, in the order of the help. `$root` in a default is the directory that [`crate::root::default`] chooses.
pub(crate) const FLAGS: &[&[Flag]] = &[KNOWN, HELP, VERSION];
