//! `delete`: cleans up after a shim that is gone, with nothing but the bundle.
//!
//! containerd calls it when the shim was killed, at any moment, and when it finds a bundle without a shim; it gives it five seconds. Each
//! part is done whatever became of the others, and what is gone already is done, so a second call finishes a first.

use super::{Call, socket};
use crate::bundle::{self, Record};
use crate::rootfs;
use crate::wire::task::DeleteResponse;
use crate::wire::types::Timestamp;
use libcontainer::{ContainerId, Delete, ErrorKind, Runtime};
use prost::Message;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// 128 and SIGKILL: what became of the container's first process, or will.
const KILLED: u32 = 137;
/// How long a `create` that has outlived its shim may take to notice.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn delete(call: &Call) -> Result<Vec<u8>, String> {
    let bundle = call.bundle()?;
    let mut errors = Vec::new();
    let pid = bundle::read_pid(&bundle).ok().flatten();
    let record = Record::read(&bundle).unwrap_or_else(|error| {
        errors.push(format!("read \"knarr.json\" in {bundle:?}: {error}"));
        None
    });
    // Without a record nothing was made, or the record was damaged: then the usual place is worth a look.
    let root = record.map_or_else(
        || bundle::state_root("", &call.flags.namespace, &call.program),
        |record| record.state_root,
    );
    errors.extend(container(&root, &call.flags.id).err());
    if let Ok(Some(path)) = bundle::read_socket(&bundle) {
        errors.extend(socket::retire(&path, call).err());
    }
    // Last: a worker of a dead shim's has the socket until it is gone, and may have been killed in the middle of mount(2).
    errors.extend(
        rootfs::unmount(&bundle).err().map(|error| format!("unmount \"rootfs\" in {bundle:?}: {error}")),
    );
    if !errors.is_empty() {
        return Err(format!("delete {}: {}", call.flags.id, errors.join("; ")));
    }
    let response = DeleteResponse {
        pid: pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        exit_status: KILLED,
        exited_at: Some(Timestamp::now()),
    };
    Ok(response.encode_to_vec())
}

/// Kills and removes the container, whatever state it is in.
fn container(root: &Path, id: &str) -> Result<(), String> {
    let text = |error: libcontainer::Error| error.to_string();
    let id = ContainerId::new(id).map_err(text)?;
    let runtime = Runtime::open(root).map_err(text)?;
    let begun = Instant::now();
    loop {
        let result = match runtime.load(&id) {
            Ok(container) => container.delete(Delete::Force),
            Err(error) if error.kind() == ErrorKind::NotFound => runtime.remove_remains(&id),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // A create of the dead shim's is still at it, with the lock.
            Err(error) if error.kind() == ErrorKind::Busy && begun.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
