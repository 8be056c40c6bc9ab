//! Deletes what commands have moved to the trash.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use image_store::Store;

use crate::caller;

/// Empties the trash in a background process, since deleting gigabytes takes a while. If it cannot be started, the next prune
/// empties the trash.
pub(crate) fn empty_later(store: &Store) {
    let mut command = caller::own_program();
    command.args(["--root".as_ref(), store.root().as_os_str(), "empty-trash".as_ref()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Not interrupted by a Ctrl-C that is meant for the next command.
    command.process_group(0);
    let _ = command.spawn();
}
