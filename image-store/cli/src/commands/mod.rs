//! The commands, one table for all.

mod archives;
mod changes;
mod containers;
mod copying;
pub(crate) mod filter;
mod groups;
mod images;
mod listing;
mod login;
pub(crate) mod prune;
mod transfer;

pub(crate) use containers::random_id;
pub(crate) use transfer::{find_named, pull_for_run, warn_of_platform};

use std::path::PathBuf;

use image_store::platform::Platform;
use image_store::{Error, ErrorKind, Result, Store, StoreOptions};

use crate::args::{Args, Command, Flag, Table, filter, switch, value};

/// Flags of every command.
static GLOBAL: &[Flag] = &[
    value(
        "root",
        None,
        "FOLDER",
        "the store (default: $KNARR_IMAGE_ROOT, /var/lib/knarr/images, or below $XDG_DATA_HOME)",
    ),
    value(
        "keep-blobs",
        None,
        "BOOL",
        "false: keep layers unpacked only, which can then not be pushed or saved (default: $KNARR_IMAGE_KEEP_BLOBS, true)",
    ),
    switch("help", None, "show this"),
];

pub(crate) const FORMAT: Flag =
    value("format", None, "TEMPLATE", "print with a Go template, such as '{{.ID}}' or 'json'");
pub(crate) const INSPECT_FORMAT: Flag =
    value("format", Some('f'), "TEMPLATE", "print with a Go template, such as '{{.Id}}' or 'json'");
const REMOTE: Flag = switch("remote", None, "of images at a registry, without getting them");
pub(crate) const FORCE_PRUNE: Flag = switch("force", Some('f'), "do not ask");
pub(crate) const JSON: Flag = switch("json", None, "print JSON");
pub(crate) const QUIET: Flag = switch("quiet", Some('q'), "print only what scripts need");
pub(crate) const NO_TRUNC: Flag = switch("no-trunc", None, "print long values whole");
pub(crate) const PLATFORM: Flag =
    value("platform", None, "OS/ARCH[/VARIANT]", "the image for this platform (default: this machine's)");
const CHANGE: Flag = value(
    "change",
    Some('c'),
    "INSTRUCTION",
    "change the config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, ...",
);
const MESSAGE: Flag = value("message", Some('m'), "TEXT", "a remark for the history");
pub(crate) const CREDS: Flag = value("creds", None, "USER:PASSWORD", "authenticate with these");
pub(crate) const AUTHFILE: Flag =
    value("authfile", None, "FILE", "credentials file (default: those of podman and Docker)");
pub(crate) const INSECURE: Flag =
    value("tls-verify", None, "BOOL", "false: accept any certificate, and plain http");
pub(crate) const CERTS: Flag = value(
    "cert-dir",
    None,
    "FOLDER",
    "a folder with *.crt to trust, our *.cert and *.key, or with such folders HOST:PORT",
);

pub(crate) const fn command(
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    flags: &'static [Flag],
    positional: (usize, usize),
    run: fn(&Args) -> Result<u8>,
) -> Command {
    Command { name, usage, help, flags, positional, stop_at_first: false, run }
}

const ANY: usize = usize::MAX;

/// All that can be called.
pub(crate) static TABLE: Table =
    Table { commands: &[IMAGES, crate::run::COMMANDS], groups: groups::GROUPS, global: GLOBAL };

/// Those that touch no store.
pub(crate) const WITHOUT_STORE: &[&str] =
    &["completion", "man", "version", "search", "tags", "login", "logout", "map-ids"];

/// Commands on images.
static IMAGES: &[Command] = &[
    command(
        "pull",
        "NAME[:TAG|@DIGEST]",
        "get an image from a registry",
        &[
            switch("all-tags", Some('a'), "all images of the repository"),
            QUIET,
            PLATFORM,
            CREDS,
            AUTHFILE,
            INSECURE,
            CERTS,
            value("mirror", None, "REGISTRY=LOCATION", "ask there first"),
        ],
        (1, 1),
        transfer::pull,
    ),
    command(
        "push",
        "IMAGE [NAME[:TAG]]",
        "send an image to a registry",
        &[
            switch("all-tags", Some('a'), "all images of this name, with their tags"),
            QUIET,
            CREDS,
            AUTHFILE,
            INSECURE,
            CERTS,
            value("chunk", None, "BYTES", "send blobs in pieces of this size"),
        ],
        (1, 2),
        transfer::push,
    ),
    command(
        "images",
        "[NAME]",
        "list images",
        &[
            switch("all", Some('a'), "also those without a name (as is the default)"),
            switch("digests", None, "show digests"),
            filter(Some('f'), listing::KEYS),
            FORMAT,
            JSON,
            QUIET,
            NO_TRUNC,
        ],
        (0, 1),
        listing::images,
    ),
    command("tag", "IMAGE NAME[:TAG]", "give an image another name", &[], (2, 2), images::tag),
    command(
        "rmi",
        "IMAGE...",
        "take images' names away, and what only they needed",
        &[switch("force", Some('f'), "also when a container uses it"), QUIET],
        (1, ANY),
        images::rmi,
    ),
    command(
        "history",
        "IMAGE",
        "how an image was made",
        &[FORMAT, JSON, QUIET, NO_TRUNC],
        (1, 1),
        listing::history,
    ),
    command(
        "inspect",
        "IMAGE|CONTAINER...",
        "show details of images and containers as JSON",
        &[
            INSPECT_FORMAT,
            value("type", None, "image|container", "look for such alone (default: containers, then images)"),
            REMOTE,
            PLATFORM,
            CREDS,
            AUTHFILE,
            INSECURE,
            CERTS,
        ],
        (1, ANY),
        |args| images::inspect(args, args.get("type")),
    ),
    command(
        "image inspect",
        "IMAGE...",
        "show details of images as JSON",
        &[INSPECT_FORMAT, REMOTE, PLATFORM, CREDS, AUTHFILE, INSECURE, CERTS],
        (1, ANY),
        |args| images::inspect(args, Some("image")),
    ),
    command(
        "container inspect",
        "CONTAINER...",
        "show details of containers as JSON",
        &[INSPECT_FORMAT],
        (1, ANY),
        |args| images::inspect(args, Some("container")),
    ),
    command(
        "search",
        "TERM",
        "search Docker Hub, or HOST/TERM a registry",
        &[
            value("limit", None, "COUNT", "at most so many (default 25)"),
            filter(Some('f'), &["stars=COUNT", "is-official=true|false"]),
            FORMAT,
            JSON,
            NO_TRUNC,
            CREDS,
            AUTHFILE,
            INSECURE,
            CERTS,
        ],
        (1, 1),
        transfer::search,
    ),
    command(
        "login",
        "[REGISTRY]",
        "try credentials at a registry, and keep them",
        &[
            value("username", Some('u'), "USER", "who you are there (default: is asked)"),
            value(
                "password",
                Some('p'),
                "PASSWORD",
                "seen by all who list processes: better use --password-stdin",
            ),
            switch("password-stdin", None, "read it from standard input"),
            switch("get-login", None, "print who is logged in"),
            AUTHFILE,
            INSECURE,
            CERTS,
        ],
        (0, 1),
        login::login,
    ),
    command("logout", "[REGISTRY]", "forget credentials", &[AUTHFILE], (0, 1), login::logout),
    command(
        "tags",
        "NAME",
        "list a repository's tags at its registry",
        &[CREDS, AUTHFILE, INSECURE, CERTS],
        (1, 1),
        transfer::tags,
    ),
    command(
        "save",
        "IMAGE...",
        "write images to an archive",
        &[
            value("output", Some('o'), "FILE", "write there instead of standard output"),
            value("format", None, "FORMAT", "docker-archive (default), oci-archive, oci-dir"),
        ],
        (1, ANY),
        archives::save,
    ),
    command(
        "load",
        "",
        "get images from an archive or OCI layout",
        &[value("input", Some('i'), "FILE", "read from there instead of standard input"), QUIET, PLATFORM],
        (0, 0),
        archives::load,
    ),
    command(
        "import",
        "FILE|- [NAME[:TAG]]",
        "make an image of a flat root file system",
        &[CHANGE, MESSAGE, PLATFORM],
        (1, 2),
        archives::import,
    ),
    command(
        "export",
        "CONTAINER|IMAGE",
        "write a root file system as a flat tar",
        &[value("output", Some('o'), "FILE", "write there instead of standard output")],
        (1, 1),
        archives::export,
    ),
    command(
        "commit",
        "CONTAINER [NAME[:TAG]]",
        "make an image of a container",
        &[value("author", Some('a'), "TEXT", "who made it"), CHANGE, MESSAGE, QUIET],
        (1, 2),
        archives::commit,
    ),
    command("diff", "CONTAINER", "what a container changed", &[JSON], (1, 1), containers::diff),
    command(
        "cp",
        "CONTAINER:PATH PATH|- | PATH|- CONTAINER:PATH",
        "copy files out of a container or into it; -: as a tar",
        &[switch("archive", Some('a'), "keep owners"), QUIET],
        (2, 2),
        copying::cp,
    ),
    command(
        "mount",
        "CONTAINER|IMAGE FOLDER",
        "mount a root file system; an image's is read-only",
        &[],
        (2, 2),
        containers::mount,
    ),
    command(
        "prune",
        "",
        "remove images without a name, and what nobody needs",
        &[
            switch("all", Some('a'), "also images with a name that no container uses"),
            FORCE_PRUNE,
            filter(None, images::PRUNE_KEYS),
        ],
        (0, 0),
        images::prune,
    ),
    command(
        "verify",
        "",
        "check that everything is as it came",
        &[switch("repair", None, "unpack damaged layers again, take damaged blobs away"), JSON],
        (0, 0),
        images::verify,
    ),
    command(
        "completion",
        "bash|zsh|fish",
        "print completion for a shell",
        &[],
        (1, 1),
        crate::complete::completion,
    ),
    command(
        "man",
        "[COMMAND...]",
        "print a manual page",
        &[switch("list", None, "list the manual pages")],
        (0, 2),
        crate::complete::man,
    ),
    command("version", "", "print the version", &[], (0, 0), |_| {
        crate::output::print(&crate::args::version());
        Ok(0)
    }),
    command("empty-trash", "", "", &[], (0, 0), images::empty_trash),
];

/// The store that the flags and the environment name.
pub(crate) fn store(args: &Args) -> Result<Store> {
    let mut options = StoreOptions::default();
    let setting = std::env::var("KNARR_IMAGE_KEEP_BLOBS").ok();
    options.keep_blobs = match args.get("keep-blobs").or(setting.as_deref()) {
        None | Some("true" | "1" | "") => true,
        Some("false" | "0") => false,
        Some(other) => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("--keep-blobs {other:?}: is neither true nor false"),
            ));
        }
    };
    Store::open(root(args)?, options)
}

fn root(args: &Args) -> Result<PathBuf> {
    if let Some(root) = args.get("root") {
        return Ok(root.into());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(root) = variable("KNARR_IMAGE_ROOT") {
        return Ok(root);
    }
    if crate::run::rootless::real_uid() == 0 {
        return Ok("/var/lib/knarr/images".into());
    }
    let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    let data = data.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "where is the store? neither --root nor HOME is given")
    })?;
    Ok(data.join("knarr/images"))
}

fn platform(args: &Args) -> Result<Platform> {
    args.get("platform").map_or_else(|| Ok(Platform::host()), Platform::parse)
}

/// A container as `inspect` shows it.
fn describe(store: &Store, container: &image_store::store::ContainerRecord) -> Result<serde_json::Value> {
    crate::run::describe(store, container)
}

/// This program again.
fn own_program() -> std::process::Command {
    crate::run::rootless::own_program()
}

/// Deleting gigabytes takes longer than anybody wants to wait: a process of its own does it. When that can not be
/// started, the next prune does it.
pub(crate) fn empty_trash_later(store: &Store) {
    use std::os::unix::process::CommandExt as _;
    let mut command = own_program();
    command.args(["--root".as_ref(), store.root().as_os_str(), "empty-trash".as_ref()]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    // Not stopped by a Ctrl-C that is meant for the next command.
    command.process_group(0);
    let _ = command.spawn();
}

/// The container a person means: by ID, the beginning of one, or name.
fn container_id(store: &Store, text: &str) -> Result<String> {
    crate::run::id_of(store, text)
}

/// Whether a container runs.
fn is_live(id: &str) -> bool {
    crate::run::live_root(id).is_some()
}

/// The mounted root file system of a container; of a running one, the one it runs on.
fn container_root(store: &Store, id: &str) -> Result<std::os::fd::OwnedFd> {
    if let Some(root) = crate::run::live_root(id) {
        return Ok(root);
    }
    store.container_rootfs(&store.container(id)?)?.mount()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Parsed;

    /// Every way to call a command, with the command.
    fn calls() -> Vec<(String, &'static Command)> {
        let all = TABLE.commands.iter().flat_map(|table| table.iter());
        let calls: Vec<_> = all
            .flat_map(|command| TABLE.spellings(command).into_iter().map(move |called| (called, command)))
            .collect();
        assert!(calls.len() > 20 && calls.iter().any(|(called, _)| called == "image rm"));
        calls
    }

    fn parse(called: &str, arguments: &[&str]) -> Result<Parsed, String> {
        let words = called.split(' ').chain(arguments.iter().copied());
        TABLE.parse(&words.map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn one_argument_too_many_or_too_few_is_refused_by_every_command() {
        for (called, command) in calls() {
            let (least, most) = command.positional;
            if most < ANY {
                let why = parse(&called, &vec!["x"; most + 1]).unwrap_err();
                let wanted = if most == 0 { " takes no arguments" } else { ": too many arguments" };
                assert!(why.starts_with(&format!("{called}{wanted}")), "{called}: {why}");
                assert!(matches!(parse(&called, &vec!["x"; most]), Ok(Parsed::Run(..))), "{called}");
            }
            if least > 0 {
                let why = parse(&called, &vec!["x"; least - 1]).unwrap_err();
                assert!(
                    why.starts_with(&format!("{called}: ")) && why.contains(" is required"),
                    "{called}: {why}"
                );
                assert!(matches!(parse(&called, &vec!["x"; least]), Ok(Parsed::Run(..))), "{called}");
            }
        }
    }

    #[test]
    fn usage_says_how_many_arguments_there_are() {
        for (_, command) in calls().iter().filter(|(_, command)| !command.help.is_empty()) {
            // Each of its alternatives, as of `cp`.
            for usage in command.usage.split(" | ") {
                let words = usage.split_whitespace();
                let needed = words.clone().filter(|word| !word.starts_with('[')).count();
                let most = if usage.contains("...") { ANY } else { words.count() };
                // Two words at most are one command's name.
                let most = if command.name == "man" { 2 } else { most };
                assert_eq!((needed, most), command.positional, "{}: {usage}", command.name);
            }
        }
    }

    #[test]
    fn every_filter_needs_a_key_that_its_command_knows() {
        let mut filtered = Vec::new();
        for (called, command) in calls() {
            let Some(filter) = command.flags.iter().find(|flag| flag.long == "filter") else { continue };
            let operands = vec!["x"; command.positional.0];
            for (given, wanted) in
                [("knarr=x", "invalid filter 'knarr'"), ("knarr", "invalid filter 'knarr'")]
            {
                let arguments: Vec<_> =
                    ["--filter", given].into_iter().chain(operands.iter().copied()).collect();
                let why = parse(&called, &arguments).unwrap_err();
                assert!(why.contains(wanted), "{called}: {why}");
            }
            for key in filter.keys {
                let given = format!("--filter={key}");
                let arguments: Vec<_> = [&*given].into_iter().chain(operands.iter().copied()).collect();
                assert!(matches!(parse(&called, &arguments), Ok(Parsed::Run(..))), "{called} {given}");
            }
            filtered.push(called);
        }
        assert!(filtered.iter().any(|called| called == "image prune"), "{filtered:?}");
    }
}
