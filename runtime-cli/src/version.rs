//! What `--version` and `features` say of this program.

/// The version of the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, when the build said so.
pub(crate) const COMMIT: &str = match option_env!("KNARR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The newest version of the OCI runtime specification that is understood.
pub(crate) const SPEC: &str = libcontainer::Features::SPECIFICATION;

/// The name to go by: the command's own, or `runc` when it was called so (a link in place of runc), since callers match on it.
pub(crate) fn program(called: &str) -> &'static str {
    match called.rsplit('/').next() {
        Some("runc") => "runc",
        _ => "knarr",
    }
}

/// The text of `--version`; the first three lines are in the form that engines parse.
pub(crate) fn text(program: &str) -> String {
    format!("{program} version {VERSION}\ncommit: {COMMIT}\nspec: {SPEC}\n")
}
