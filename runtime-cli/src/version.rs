//! The version, for `--version` and `features`.

/// The version of the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of the build, if known.
pub(crate) const COMMIT: &str = match option_env!("KNARR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The newest supported version of the OCI runtime specification.
pub(crate) const SPEC: &str = libcontainer::Features::SPECIFICATION;

/// The name to use: `knarr`, or `runc` if it was called by that name (a link in place of runc), since callers match it.
pub(crate) fn program(called: &str) -> &'static str {
    match called.rsplit('/').next() {
        Some("runc") => "runc",
        _ => "knarr",
    }
}

/// The text of `--version`. Engines parse its first three lines.
pub(crate) fn text(program: &str) -> String {
    format!("{program} version {VERSION}\ncommit: {COMMIT}\nspec: {SPEC}\n")
}
