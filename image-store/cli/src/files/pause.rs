//! Pauses a container while its files are read.

use std::time::Duration;

use image_store::store::Going;
use libcontainer::{Container, Status};

use crate::container::find::{exits_within, running};
use crate::container::locks::PauseLock;
use crate::failure::Result;

/// How often to look whether another command has finished.
const TICK: Duration = Duration::from_millis(10);

/// A container that is paused until this is dropped. Signals must not end this process meanwhile; if it is killed, the lock tells the
/// next command to resume the container.
pub(super) struct Paused {
    container: Container,
    lock: Option<PauseLock>,
}

impl Paused {
    /// Pauses a container; `None` if it is not running, is paused already, or cannot be paused, which a warning tells then. Waits
    /// while another command has paused it, as long as `going` succeeds.
    pub(super) fn begin(id: &str, going: &Going<'_>) -> Result<Option<Self>> {
        let mut lock = loop {
            // Resumes it if the other command was killed.
            if running(id).is_none() {
                return Ok(None);
            }
            if let Some(lock) = PauseLock::take(id)? {
                break lock;
            }
            going()?;
            std::thread::sleep(TICK);
        };
        let Some((container, Status::Running)) = running(id) else { return Ok(None) };
        lock.begin()?;
        match container.pause() {
            Ok(()) => Ok(Some(Self { container, lock: Some(lock) })),
            Err(error) => {
                if !exits_within(&container, 0) {
                    eprintln!(
                        "knarr-image: warning: container {id} is not paused while its files are read: {error}"
                    );
                }
                lock.end();
                Ok(None)
            }
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        match self.container.resume() {
            Err(error) if !exits_within(&self.container, 0) => {
                eprintln!("knarr-image: warning: {error}: resume the container with unpause");
            }
            _ => self.lock.take().into_iter().for_each(PauseLock::end),
        }
    }
}
