//! How a client's connection to a container ended, and the exit code for that.

use image_store::ErrorKind;

use crate::failure::{Failure, Result};

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process exited with this status.
    Ended(i32),
    /// The client detached; the process is still running.
    Detached,
    /// The process could not be started: exit code and reason.
    Failed(u8, String),
    /// The supervisor is gone.
    Lost,
}

/// Prints an error, and returns its exit code.
pub(crate) fn failed(code: u8, why: &str) -> u8 {
    eprintln!("knarr-image: {why}");
    code
}

/// The error for a supervisor that is gone.
pub(crate) fn lost(id: &str) -> Failure {
    Failure::new(ErrorKind::Os, format!("container {id}: its supervisor exited unexpectedly"))
}

/// The exit code for an outcome.
pub(crate) fn conclude(id: &str, outcome: Outcome) -> Result<u8> {
    match outcome {
        Outcome::Ended(code) => Ok(u8::try_from(code).unwrap_or(255)),
        Outcome::Detached => Ok(0),
        Outcome::Failed(code, why) => Ok(failed(code, &why)),
        Outcome::Lost => Err(lost(id)),
    }
}
