//! The directory of the containers' states: `--root`, or a default that depends on the user.

use crate::failure::Failure;
use goflags::Parsed;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// The directory when `--root` is not given.
pub(crate) fn default() -> String {
    user_runtime_dir().map_or_else(|| "/run/knarr".to_owned(), |dir| format!("{dir}/knarr"))
}

/// `--rootless`: whether to go without cgroups that cannot be made; `None` for auto.
pub(crate) fn rootless(global: &Parsed) -> Result<Option<bool>, Failure> {
    match global.text("rootless").to_ascii_lowercase().as_str() {
        "" | "auto" => Ok(None),
        "true" | "1" | "t" => Ok(Some(true)),
        "false" | "0" | "f" => Ok(Some(false)),
        other => Err(Failure::new(format!("--rootless {other:?}: must be true, false or auto"))),
    }
}

/// The directory to use. The default of a user is made if it does not exist.
pub(crate) fn choose(global: &Parsed) -> Result<PathBuf, Failure> {
    if global.is_set("root") {
        return absolute(global.text("root"));
    }
    let root = PathBuf::from(default());
    if user_runtime_dir().is_some() {
        // The sticky bit keeps it from being cleaned up (XDG base directory specification).
        let failure = |call: &str, e: std::io::Error| {
            Failure::os(
                format_args!("create {root:?}: $XDG_RUNTIME_DIR must be writable; otherwise use --root"),
                call,
                e,
            )
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(|e| failure("mkdir", e))?;
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o1700))
            .map_err(|e| failure("chmod", e))?;
    }
    Ok(root)
}

/// Makes a path absolute and free of `.` and `..`. It must not be the root of the file system, since deleting a container removes a
/// directory below it.
fn absolute(path: &str) -> Result<PathBuf, Failure> {
    let from = if path.is_empty() { "." } else { path };
    let absolute =
        std::path::absolute(from).map_err(|e| Failure::os(format_args!("--root {path:?}"), "getcwd", e))?;
    let mut clean = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => _ = clean.pop(),
            other => clean.push(other),
        }
    }
    if clean == Path::new("/") {
        return Err(Failure::new("Option --root argument should not be set to /"));
    }
    Ok(clean)
}

/// $XDG_RUNTIME_DIR, unless the caller is root on the host.
fn user_runtime_dir() -> Option<String> {
    let dir = std::env::var("XDG_RUNTIME_DIR").ok().filter(|dir| !dir.is_empty())?;
    if !nix::unistd::geteuid().is_root() {
        return Some(dir);
    }
    // The initial user namespace maps all ids one to one.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let root = std::env::var("USER").is_ok_and(|user| user == "root");
    (!initial && !root).then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_absolute_and_clean_and_not_the_root_of_the_file_system() {
        for (path, clean) in [("/a/b", "/a/b"), ("/a/../b/./c/", "/b/c"), ("/../../x", "/x")] {
            assert_eq!(absolute(path).unwrap(), Path::new(clean), "{path}");
        }
        for bad in ["/", "/..", "//", "/a/..", "/./"] {
            assert_eq!(
                absolute(bad).unwrap_err().message,
                "Option --root argument should not be set to /",
                "{bad}"
            );
        }
        assert!(absolute("rel").unwrap().is_absolute());
    }
}
