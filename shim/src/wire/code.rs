//! Why a call was refused: gRPC's codes, and how libcontainer's errors become them.
//!
//! containerd decides by the code alone (NotFound of Kill means "already gone"), people read the message.

use libcontainer::ErrorKind;
use std::fmt;

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// The caller has given up.
    Canceled = 1,
    /// Something else.
    Unknown = 2,
    /// The request is wrong, whatever the state.
    InvalidArgument = 3,
    /// Not in time.
    DeadlineExceeded = 4,
    /// There is no such thing.
    NotFound = 5,
    /// There is such a thing already.
    AlreadyExists = 6,
    /// Not allowed.
    PermissionDenied = 7,
    /// Too much.
    ResourceExhausted = 8,
    /// Not in this state.
    FailedPrecondition = 9,
    /// Something else is being done; try again.
    Aborted = 10,
    /// Outside the range.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// A bug.
    Internal = 13,
    /// The server is not there. containerd takes it for a dead shim.
    Unavailable = 14,
}

impl Code {
    /// The code with this number; one that is not known is [`Code::Unknown`].
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// [`Code::Unimplemented`] for a method that the service does not have. containerd turns from `containerd.task.v3` to
    /// v2 by this code, so nothing else may use it.
    pub fn no_method(service: &str, method: &str) -> Self {
        Self::new(Code::Unimplemented, format!("service {service}: no method {method:?}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<libcontainer::Error> for Failure {
    /// `Unsupported` is not [`Code::Unimplemented`] and `Busy` is not [`Code::Unavailable`]: to containerd these two tell of the
    /// shim itself.
    fn from(error: libcontainer::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Exists => Code::AlreadyExists,
            ErrorKind::WrongState | ErrorKind::Unsupported => Code::FailedPrecondition,
            ErrorKind::InvalidSpec => Code::InvalidArgument,
            ErrorKind::Permission => Code::PermissionDenied,
            ErrorKind::Busy => Code::Aborted,
            _ => Code::Unknown,
        };
        Self::new(code, error.to_string())
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
