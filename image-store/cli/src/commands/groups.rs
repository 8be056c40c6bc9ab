//! Docker's groups of commands, such as `docker image ls`.

use crate::cli::Group;

/// Docker's groups of commands.
pub(crate) static GROUPS: &[Group] = &[
    Group {
        name: "container",
        help: "manage containers",
        words: &[
            ("attach", "attach"),
            ("commit", "commit"),
            ("cp", "cp"),
            ("create", "create"),
            ("diff", "diff"),
            ("exec", "exec"),
            ("export", "export"),
            ("inspect", "container inspect"),
            ("kill", "kill"),
            ("logs", "logs"),
            ("ls", "ps"),
            ("list", "ps"),
            ("ps", "ps"),
            ("pause", "pause"),
            ("prune", "container prune"),
            ("rename", "rename"),
            ("restart", "restart"),
            ("rm", "rm"),
            ("remove", "rm"),
            ("run", "run"),
            ("start", "start"),
            ("stop", "stop"),
            ("top", "top"),
            ("unpause", "unpause"),
            ("wait", "wait"),
        ],
    },
    Group {
        name: "image",
        help: "manage images",
        words: &[
            ("history", "history"),
            ("import", "import"),
            ("inspect", "image inspect"),
            ("load", "load"),
            ("ls", "images"),
            ("list", "images"),
            ("prune", "prune"),
            ("pull", "pull"),
            ("push", "push"),
            ("rm", "rmi"),
            ("remove", "rmi"),
            ("save", "save"),
            ("tag", "tag"),
        ],
    },
    Group {
        name: "volume",
        help: "manage volumes",
        words: &[
            ("create", "volume create"),
            ("inspect", "volume inspect"),
            ("ls", "volume ls"),
            ("list", "volume ls"),
            ("prune", "volume prune"),
            ("rm", "volume rm"),
            ("remove", "volume rm"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::TABLE;

    #[test]
    fn groups_name_existing_commands() {
        for group in GROUPS {
            for (word, name) in group.words {
                let known =
                    TABLE.commands.iter().any(|table| table.iter().any(|command| command.name == *name));
                assert!(known, "{} {word}", group.name);
            }
        }
    }
}
