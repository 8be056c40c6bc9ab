//! The errors of calls: gRPC's codes, and how libcontainer's errors are mapped to them.
//!
//! containerd decides by the code alone (NotFound of Kill means "already gone"), people read the message.

use libcontainer::{ErrorKind, Stage};

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// Canceled by the caller.
    Canceled = 1,
    /// Any other error.
    Unknown = 2,
    /// The request is invalid in any state.
    InvalidArgument = 3,
    /// Not in time.
    DeadlineExceeded = 4,
    /// Not found.
    NotFound = 5,
    /// Already exists.
    AlreadyExists = 6,
    /// Not allowed.
    PermissionDenied = 7,
    /// A limit is exceeded.
    ResourceExhausted = 8,
    /// Not possible in this state.
    FailedPrecondition = 9,
    /// Another operation is in progress; try again.
    Aborted = 10,
    /// Out of range.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// A bug.
    Internal = 13,
    /// The server is not available. containerd takes this for a dead shim.
    Unavailable = 14,
}

impl Code {
    /// The code with this number, or [`Code::Unknown`].
    pub fn from_number(number: i32) -> Self {
        const ALL: [Code; 14] = [
            Code::Canceled,
            Code::Unknown,
            Code::InvalidArgument,
            Code::DeadlineExceeded,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
        ];
        ALL.into_iter().find(|code| *code as i32 == number).unwrap_or(Code::Unknown)
    }
}

/// The failure of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people, one line.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// [`Code::InvalidArgument`].
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// [`Code::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// [`Code::FailedPrecondition`].
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// [`Code::Unimplemented`] for a method that the service does not have. containerd falls back from `containerd.task.v3` to
    /// v2 because of this code, so nothing else may use it.
    pub fn no_method(service: &str, method: &str) -> Self {
        Self::new(Code::Unimplemented, format!("service {service}: no method {method:?}"))
    }
}

impl From<libcontainer::Error> for Failure {
    fn from(error: libcontainer::Error) -> Self {
        Self::new(code(error.kind(), error.stage()), error.to_string())
    }
}

/// `Unsupported` is not [`Code::Unimplemented`] and `Busy` is not [`Code::Unavailable`]: to containerd these two mean errors of the shim
/// itself. What a process lacks while it is made (its program, a source of a mount) is not a task that was not found.
fn code(kind: ErrorKind, stage: Option<Stage>) -> Code {
    match kind {
        ErrorKind::NotFound if stage.is_none_or(|stage| stage == Stage::Plan) => Code::NotFound,
        ErrorKind::Exists if stage.is_none_or(|stage| stage == Stage::Reserve) => Code::AlreadyExists,
        ErrorKind::WrongState | ErrorKind::Unsupported => Code::FailedPrecondition,
        ErrorKind::InvalidSpec => Code::InvalidArgument,
        ErrorKind::Permission => Code::PermissionDenied,
        ErrorKind::Busy => Code::Aborted,
        _ => Code::Unknown,
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let code = match error.kind() {
            Io::NotFound => Code::NotFound,
            Io::AlreadyExists => Code::AlreadyExists,
            Io::PermissionDenied => Code::PermissionDenied,
            Io::InvalidInput => Code::InvalidArgument,
            _ => Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_task_is_not_found() {
        use Stage::{Execute, Hook, Plan, Prepare, Reserve};
        for (kind, stage, expected) in [
            (ErrorKind::NotFound, None, Code::NotFound),
            (ErrorKind::NotFound, Some(Plan), Code::NotFound),
            (ErrorKind::NotFound, Some(Reserve), Code::Unknown),
            (ErrorKind::NotFound, Some(Prepare), Code::Unknown),
            (ErrorKind::NotFound, Some(Hook), Code::Unknown),
            (ErrorKind::NotFound, Some(Execute), Code::Unknown),
            (ErrorKind::Exists, Some(Reserve), Code::AlreadyExists),
            (ErrorKind::Exists, Some(Prepare), Code::Unknown),
            (ErrorKind::Permission, Some(Execute), Code::PermissionDenied),
            (ErrorKind::Busy, None, Code::Aborted),
            (ErrorKind::Internal, Some(Prepare), Code::Unknown),
        ] {
            assert_eq!(code(kind, stage), expected, "{kind:?} {stage:?}");
        }
    }
}
