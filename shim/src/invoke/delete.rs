//! `delete`: cleans up after a shim that is gone, using the bundle only.
//!
//! containerd calls it when the shim was killed at any moment, and when it finds a bundle without a shim, and waits five seconds. Each part
//! is done even if others fail, and a part that is done already is not an error, so a second call finishes the first.

use super::{Call, Error, socket};
use crate::bundle::{self, Record};
use crate::rootfs;
use crate::wire::task::DeleteResponse;
use crate::wire::types::Timestamp;
use libcontainer::{ContainerId, Delete, ErrorKind, Object, Runtime};
use prost::Message;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// 128 plus SIGKILL, the exit status of the container's first process.
const KILLED: u32 = 137;
/// How long a `create` may take to end after its shim.
const CREATE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn delete(call: &Call) -> Result<Vec<u8>, Error> {
    let bundle = call.bundle()?;
    let mut errors = Vec::new();
    let pid = bundle::read_pid(&bundle).ok().flatten();
    let record = Record::read(&bundle).unwrap_or_else(|error| {
        errors.push(Error::io(format_args!("read \"knarr.json\" in {bundle:?}"), error));
        None
    });
    // Without a record nothing was made, or the record was damaged: then the container may be in the usual place.
    let root = record.map_or_else(
        || bundle::state_root("", &call.flags.namespace, &call.program),
        |record| record.state_root,
    );
    errors.extend(container(&root, &call.flags.id).err());
    if let Ok(Some(path)) = bundle::read_socket(&bundle) {
        errors.extend(socket::retire(&path, call).err());
    }
    // Last: a worker of a dead shim keeps the socket open until it ends, and may be killed in the middle of mount(2).
    errors.extend(
        rootfs::unmount(&bundle)
            .err()
            .map(|error| Error::io(format_args!("unmount \"rootfs\" in {bundle:?}"), error)),
    );
    if !errors.is_empty() {
        return Err(Error::Delete { id: call.flags.id.clone(), errors });
    }
    let response = DeleteResponse {
        pid: pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        exit_status: KILLED,
        exited_at: Some(Timestamp::now()),
    };
    Ok(response.encode_to_vec())
}

/// Kills and removes the container, whatever state it is in.
fn container(root: &Path, id: &str) -> Result<(), Error> {
    let id = ContainerId::new(id)?;
    let runtime = Runtime::open(root)?;
    let begun = Instant::now();
    loop {
        let result = match runtime.load(&id) {
            Ok(container) => container.delete(Delete::Force).map(drop).map_err(|e| e.error),
            Err(error) if error.object() == Some(Object::Container) => runtime.remove_remains(&id),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return Ok(()),
            Err(error) if error.object() == Some(Object::Container) => return Ok(()),
            // A create of the dead shim is still running and has the lock.
            Err(error) if error.kind() == ErrorKind::Busy && begun.elapsed() < CREATE_TIMEOUT => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
