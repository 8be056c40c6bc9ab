//! The user that runs the program, by the ID on the host: inside a user namespace it is root.

use std::process::Command;
use std::sync::OnceLock;

use rustix::process::geteuid;

/// Carries the ID to the processes that this program starts inside the user namespace.
const VARIABLE: &str = "KNARR_IMAGE_ROOTLESS_UID";

static REAL: OnceLock<u32> = OnceLock::new();

/// The user's ID on the host.
pub(crate) fn uid() -> u32 {
    *REAL.get_or_init(|| geteuid().as_raw())
}

/// Takes over the ID from the process that started this one.
pub(crate) fn inherit(in_namespace: bool) {
    let given = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    let _ = REAL.set(given.filter(|_| in_namespace).unwrap_or(0));
}

/// A command that runs this program again, inside the same user namespace.
pub(crate) fn own_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    if uid() != 0 {
        command.env(VARIABLE, uid().to_string());
    }
    command
}
