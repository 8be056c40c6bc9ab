//! Errors of this crate's own.

use image_store::{Error, ErrorKind};

/// An error of the command line, or of what it asks for.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// An error of the container runtime.
pub(crate) fn from_runtime(error: &libcontainer::Error) -> Error {
    Error::new(ErrorKind::Os, error.to_string())
}
