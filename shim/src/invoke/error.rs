//! The errors of the program.

use crate::wire::code::Failure;
use nix::errno::Errno;
use std::fmt::Display;
use std::io;

/// An error that ends the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In the command line.
    #[error(transparent)]
    Usage(#[from] goflags::Usage),
    /// A value is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// An operation on a file failed.
    #[error("{doing}: {source}")]
    Io {
        /// The operation.
        doing: String,
        /// Its error.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{doing}: {errno}")]
    Call {
        /// The operation and the call.
        doing: String,
        /// Its error.
        errno: Errno,
    },
    /// In the runtime options.
    #[error(transparent)]
    Options(#[from] Failure),
    /// Of libcontainer.
    #[error(transparent)]
    Runtime(#[from] libcontainer::Error),
    /// A part of an operation failed.
    #[error("{doing}: {source}")]
    Part {
        /// The operation.
        doing: String,
        /// The error of the part.
        source: Box<Error>,
    },
    /// `delete` does what it can, and reports all errors.
    #[error("delete {id}: {}", joined(.errors))]
    Delete {
        /// The container.
        id: String,
        /// The errors of the parts.
        errors: Vec<Error>,
    },
}

impl Error {
    /// An operation on a file failed.
    pub(crate) fn io(doing: impl Display, source: io::Error) -> Self {
        Error::Io { doing: doing.to_string(), source }
    }

    /// A system call failed.
    pub(crate) fn call(doing: impl Display, errno: Errno) -> Self {
        Error::Call { doing: doing.to_string(), errno }
    }

    /// The same error, as a part of an operation.
    pub(super) fn during(self, doing: impl Display) -> Self {
        Error::Part { doing: doing.to_string(), source: Box::new(self) }
    }
}

fn joined(errors: &[Error]) -> String {
    errors.iter().map(Error::to_string).collect::<Vec<_>>().join("; ")
}
