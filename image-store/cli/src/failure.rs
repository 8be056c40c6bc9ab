//! The errors of commands, and the exit codes that stand for them.

use std::io;

use image_store::{Error, ErrorKind};
use libcontainer::ProgramError;

/// Docker's exit code for an error of the engine, and for a wrong command line.
pub(crate) const ENGINE: u8 = 125;
/// Docker's exit code for a program that cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Docker's exit code for a program that does not exist.
const NO_PROGRAM: u8 = 127;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An error of the store, a registry or the system; or of the command itself, in the same form.
    #[error(transparent)]
    Store(#[from] Error),
    /// An error of the container runtime.
    #[error(transparent)]
    Runtime(#[from] libcontainer::Error),
}

/// The result of this crate's functions.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// An error of the command itself.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Store(Error::new(kind, message))
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Runtime(_) => ErrorKind::Os,
        }
    }

    /// The exit code for a container, or a further process in one, that could not be started.
    pub(crate) fn code(&self) -> u8 {
        let Self::Runtime(error) = self else { return ENGINE };
        match error.program_error() {
            Some(ProgramError::NotFound) => NO_PROGRAM,
            Some(_) => NOT_EXECUTABLE,
            None => ENGINE,
        }
    }
}

/// An error of the command line, or of what it asks for.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Invalid, message)
}

/// An error of a system call, with what was being done.
pub(crate) fn os(error: impl Into<Error>, doing: impl std::fmt::Display) -> Failure {
    Failure::Store(error.into().context(doing))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Store(errno.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_runtime_says_that_a_program_could_not_be_executed() {
        let error = invalid("exec: \"sh\": executable file not found in $PATH");
        assert_eq!(error.code(), ENGINE);
        let error = Failure::from(libcontainer::ContainerId::new("a/b").unwrap_err());
        assert_eq!((error.code(), error.kind()), (ENGINE, ErrorKind::Os));
    }
}
