//! The flags that `checkpoint` and `restore` have in common.

use super::Failure;
use goflags::{Flag, Parsed};
use std::path::PathBuf;

/// In the current directory, as with runc.
const IMAGES: &str = "checkpoint";

pub(super) const IMAGE_PATH: Flag =
    Flag::text(&["image-path"], "directory for CRIU's images (default: ./checkpoint)");
pub(super) const WORK_PATH: Flag =
    Flag::text(&["work-path"], "directory for CRIU's work files and logs (default: the image directory)");
pub(super) const EXTERNAL_SOCKETS: Flag = Flag::bool(&["ext-unix-sk"], "allow external unix sockets");
pub(super) const SHELL_JOB: Flag = Flag::bool(&["shell-job"], "allow a terminal that belongs to the host");
pub(super) const CGROUPS_MODE: Flag =
    Flag::text(&["manage-cgroups-mode"], "soft, full, strict or ignore (default: soft)");
pub(super) const EMPTY_NAMESPACE: Flag = Flag::texts(
    &["empty-ns"],
    "create this namespace without restoring its contents (always done for network)",
);

/// The path of a flag; `None` if it was not given or is empty.
pub(super) fn path(parsed: &Parsed, flag: &str) -> Option<PathBuf> {
    Some(PathBuf::from(parsed.text(flag))).filter(|path| !path.as_os_str().is_empty())
}

/// `--image-path`.
pub(super) fn image_path(parsed: &Parsed) -> PathBuf {
    path(parsed, "image-path").unwrap_or_else(|| IMAGES.into())
}

/// `--empty-ns`: network namespaces are always empty.
pub(super) fn check_empty_namespaces(parsed: &Parsed) -> Result<(), Failure> {
    match parsed.all("empty-ns").find(|name| *name != "network") {
        Some(other) => Err(Failure::new(format!("--empty-ns: namespace {other:?} is not supported"))),
        None => Ok(()),
    }
}
