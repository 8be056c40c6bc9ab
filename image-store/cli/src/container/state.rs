//! The state of a container.

use image_store::store::ContainerRecord;
use libcontainer::Status;

use super::find::running;
use super::record::Run;

/// A container's state by Docker's name.
pub(crate) fn state(container: &ContainerRecord, run: Option<&Run>) -> &'static str {
    match running(&container.id) {
        Some((_, Status::Paused)) => "paused",
        Some((_, Status::Creating | Status::Created)) => "created",
        Some(_) => "running",
        None if run.is_some_and(|run| run.started.is_some()) => "exited",
        None => "created",
    }
}
