//! All commands in one table: names, flags, help, and the functions that run them.

mod containers;
mod groups;
mod run_flags;

use crate::cli::Operands::{Containers, Files, Images};
use crate::cli::flags::{
    AUTHFILE, CERTS, CHANGE, COMPRESSION, CREDS, FORCE_PRUNE, FORMAT, GLOBAL, INSECURE, INSPECT_FORMAT, JSON,
    MESSAGE, NO_TRUNC, PLATFORM, QUIET, REMOTE,
};
use crate::cli::{ANY, Command, Table, command, filter, switch, value};
use crate::files::{cp, diff, export, mount};
use crate::images::{archives, history, list, login, names, prune, pull, push, search, verify};
use crate::{complete, inspect, man};

/// The table of all commands.
pub(crate) static TABLE: Table =
    Table { commands: &[COMMANDS, containers::COMMANDS], groups: groups::GROUPS, global: GLOBAL };

/// The commands on images, registries and the store, on the files of images and containers, and on knarr-image itself.
static COMMANDS: &[Command] = &[
    command(
        "pull",
        "NAME[:TAG|@DIGEST]",
        Files,
        "pull an image from a registry",
        &[
            switch("all-tags", Some('a'), "pull all tags of the repository"),
            QUIET,
            PLATFORM,
            CREDS,
            AUTHFILE,
            INSECURE,
            CERTS,
            value("mirror", None, "REGISTRY=LOCATION", "try this mirror first"),
        ],
        (1, 1),
        pull::pull,
    ),
    command(
        "push",
        "IMAGE [NAME[:TAG]]",
        Images,
        "push an image to a registry",
        &[
            switch("all-tags", Some('a'), "push all tags of the image"),
            QUIET,
            CREDS,
            AUTHFILE,
            INSECURE,
            CERTS,
            value("chunk", None, "BYTES", "upload blobs in chunks of this size"),
            COMPRESSION,
        ],
        (1, 2),
        push::push,
    ),
    command(
        "images",
        "[NAME]",
        Files,
        "list images",
        &[
            switch("all", Some('a'), "include untagged images (the default)"),
            switch("digests", None, "show digests"),
            filter(Some('f'), list::KEYS),
            FORMAT,
            JSON,
            QUIET,
            NO_TRUNC,
        ],
        (0, 1),
        list::images,
    ),
    command("tag", "IMAGE NAME[:TAG]", Images, "add a tag to an image", &[], (2, 2), names::tag),
    command(
        "rmi",
        "IMAGE...",
        Images,
        "remove images and unused layers",
        &[switch("force", Some('f'), "remove even if a container uses the image"), QUIET],
        (1, ANY),
        names::rmi,
    ),
    command(
        "history",
        "IMAGE",
        Images,
        "show the history of an image",
        &[FORMAT, JSON, QUIET, NO_TRUNC],
        (1, 1),
        history::history,
    ),
    command(
        "inspect",
        "IMAGE|CONTAINER...",
        Images,
        "show details of images and containers as JSON",
        &[
            INSPECT_FORMAT,
            value(
                "type",
                None,
                "image|container",
                "only look for this type (default: containers, then images)",
            ),
            REMOTE,
            PLATFORM,
            CREDS,
            AUTHFILE,
            INSECURE,
            CERTS,
        ],
        (1, ANY),
        |args| inspect::inspect(args, args.get("type")),
    ),
    command(
        "image inspect",
        "IMAGE...",
        Images,
        "show details of images as JSON",
        &[INSPECT_FORMAT, REMOTE, PLATFORM, CREDS, AUTHFILE, INSECURE, CERTS],
        (1, ANY),
        |args| inspect::inspect(args, Some("image")),
    ),
    command(
        "container inspect",
        "CONTAINER...",
        Containers,
        "show details of containers as JSON",
        &[INSPECT_FORMAT],
        (1, ANY),
        |args| inspect::inspect(args, Some("container")),
    ),
    Command {
        store: false,
        ..command(
            "search",
            "TERM",
            Files,
            "search Docker Hub, or another registry with HOST/TERM",
            &[
                value("limit", None, "COUNT", "maximum number of results (default: 25)"),
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
            search::search,
        )
    },
    Command {
        store: false,
        ..command(
            "login",
            "[REGISTRY]",
            Files,
            "log in to a registry",
            &[
                value("username", Some('u'), "USER", "user name (default: prompt)"),
                value(
                    "password",
                    Some('p'),
                    "PASSWORD",
                    "password; other users can see it: prefer --password-stdin",
                ),
                switch("password-stdin", None, "read the password from standard input"),
                switch("get-login", None, "print the name of the user who is logged in"),
                AUTHFILE,
                INSECURE,
                CERTS,
            ],
            (0, 1),
            login::login,
        )
    },
    Command {
        store: false,
        ..command("logout", "[REGISTRY]", Files, "log out of a registry", &[AUTHFILE], (0, 1), login::logout)
    },
    Command {
        store: false,
        ..command(
            "tags",
            "NAME",
            Files,
            "list the tags of a repository in its registry",
            &[CREDS, AUTHFILE, INSECURE, CERTS],
            (1, 1),
            search::tags,
        )
    },
    command(
        "save",
        "IMAGE...",
        Images,
        "save images to an archive",
        &[
            value("output", Some('o'), "FILE", "write to this file instead of standard output"),
            value("format", None, "FORMAT", "docker-archive (default), oci-archive or oci-dir"),
            COMPRESSION,
        ],
        (1, ANY),
        archives::save,
    ),
    command(
        "load",
        "",
        Files,
        "load images from an archive or OCI layout",
        &[
            value("input", Some('i'), "FILE", "read from this file or directory instead of standard input"),
            QUIET,
            PLATFORM,
        ],
        (0, 0),
        archives::load,
    ),
    command(
        "import",
        "FILE|- [NAME[:TAG]]",
        Files,
        "create an image from a root file system archive",
        &[
            CHANGE,
            MESSAGE,
            value("platform", None, "OS/ARCH[/VARIANT]", "platform of the image (default: the host's)"),
        ],
        (1, 2),
        archives::import,
    ),
    command(
        "export",
        "CONTAINER|IMAGE",
        Containers,
        "export a root file system as a tar archive",
        &[value("output", Some('o'), "FILE", "write to this file instead of standard output")],
        (1, 1),
        export::export,
    ),
    command(
        "commit",
        "CONTAINER [NAME[:TAG]]",
        Containers,
        "create an image from a container",
        &[
            value("author", Some('a'), "TEXT", "author of the image"),
            CHANGE,
            MESSAGE,
            switch("pause", Some('p'), "pause the container meanwhile (default true)"),
            QUIET,
        ],
        (1, 2),
        export::commit,
    ),
    command(
        "diff",
        "CONTAINER",
        Containers,
        "show the files that a container changed",
        &[JSON],
        (1, 1),
        diff::diff,
    ),
    command(
        "cp",
        "CONTAINER:PATH PATH|- | PATH|- CONTAINER:PATH",
        Containers,
        "copy files between a container and the host; - is a tar archive",
        &[
            switch("archive", Some('a'), "preserve owners, and copy devices, too"),
            switch("follow-link", Some('L'), "copy what the source leads to if it is a symbolic link"),
            QUIET,
        ],
        (2, 2),
        cp::cp,
    ),
    command(
        "mount",
        "CONTAINER|IMAGE DIRECTORY",
        Images,
        "mount a root file system (read-only for an image)",
        &[],
        (2, 2),
        mount::mount,
    ),
    command(
        "prune",
        "",
        Files,
        "remove untagged images and unused data",
        &[
            switch("all", Some('a'), "also remove tagged images that no container uses"),
            FORCE_PRUNE,
            filter(None, prune::PRUNE_KEYS),
        ],
        (0, 0),
        prune::prune,
    ),
    command(
        "verify",
        "",
        Files,
        "check the store for damage",
        &[switch("repair", None, "unpack damaged layers again and remove damaged blobs"), JSON],
        (0, 0),
        verify::verify,
    ),
    Command {
        store: false,
        ..command(
            "completion",
            "bash|zsh|fish",
            Files,
            "print a completion script for a shell",
            &[],
            (1, 1),
            complete::completion,
        )
    },
    Command {
        store: false,
        ..command(
            "man",
            "[COMMAND...]",
            Files,
            "print a manual page",
            &[switch("list", None, "list all manual pages")],
            (0, 2),
            man::man,
        )
    },
    Command {
        store: false,
        ..command("version", "", Files, "print the version", &[], (0, 0), |_| {
            crate::output::print(&crate::cli::version());
            Ok(0)
        })
    },
    command("empty-trash", "", Files, "", &[], (0, 0), prune::empty_trash),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Parsed;

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
                let wanted = if most == 0 { ": takes no arguments" } else { ": too many arguments" };
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
