//! The error type of this crate: a kind to branch on, a message to show, and errno if a system call failed.
//!
//! A message reads from the outside in: `what was being done: on what: which call: why (ERRNO)`.
//! Every other module uses this one; it uses none of them.

use std::fmt;
use std::io;

/// The class of an error, coarse enough to decide what to do next.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The named image, blob, layer or container does not exist.
    NotFound,
    /// The name or ID is already in use.
    Exists,
    /// Input (a reference, manifest, layer or archive) violates its specification.
    Invalid,
    /// Content does not have the digest or size that its descriptor states.
    Mismatch,
    /// Input is valid but needs something that this crate does not support.
    Unsupported,
    /// Input exceeds one of the limits that keep malicious images from filling memory or disk.
    Limit,
    /// Access denied: a registry requires credentials or refused those given, or a request was not allowed to be sent.
    Denied,
    /// A registry could not be reached or returned an error.
    Network,
    /// The certificate of a registry is missing or not trusted.
    Untrusted,
    /// Something that is not a directory is in the place of a volume, and must not be mounted.
    NotAVolume,
    /// The object is in use.
    Busy,
    /// A system call failed: see [`Error::errno`].
    Os,
}

/// An error of this crate.
///
/// `Display` prints the whole message with its context on one line, so [`source`](std::error::Error::source) is `None`.
#[derive(thiserror::Error)]
#[error("{}", .0.message)]
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    errno: Option<i32>,
    message: String,
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error of `kind`. The message is one line, in lower case, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, errno: None, message: message.into() }))
    }

    /// The kind to branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The errno(3) of the system call that failed, if one did.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// Prepends `doing`, what was being done, to the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Mismatch, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl From<io::Error> for Error {
    /// Unwraps an [`Error`] that one of this crate's readers wrapped in an `io::Error`.
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(other) => other,
        };
        let kind = match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
                if error.raw_os_error().is_none() =>
            {
                ErrorKind::Invalid
            }
            _ => ErrorKind::Os,
        };
        let errno = error.raw_os_error();
        let message = errno.map_or_else(|| error.to_string(), errno_text);
        Self(Box::new(Inner { kind, errno, message }))
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// The system's message and the symbolic name, as in `No such file or directory (ENOENT)`.
fn errno_text(errno: i32) -> String {
    let sentence = io::Error::from_raw_os_error(errno).to_string();
    let sentence = sentence.split(" (os error").next().unwrap_or_default().to_owned();
    match NAMES.iter().find(|(number, _)| *number == errno) {
        Some((_, name)) => format!("{sentence} ({name})"),
        None => format!("{sentence} (errno {errno})"),
    }
}

/// The numbers of errno(3) that file systems and sockets return. Above 34, MIPS and SPARC have other numbers.
const NAMES: &[(i32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (9, "EBADF"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (26, "ETXTBSY"),
    (27, "EFBIG"),
    (28, "ENOSPC"),
    (30, "EROFS"),
    (31, "EMLINK"),
    (32, "EPIPE"),
    (34, "ERANGE"),
    (36, "ENAMETOOLONG"),
    (38, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (61, "ENODATA"),
    (75, "EOVERFLOW"),
    (95, "EOPNOTSUPP"),
    (98, "EADDRINUSE"),
    (101, "ENETUNREACH"),
    (104, "ECONNRESET"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (113, "EHOSTUNREACH"),
    (116, "ESTALE"),
    (122, "EDQUOT"),
];

/// Adds context to an error on its way up. The closure runs only if there is an error.
pub(crate) trait Doing<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for Result<T, E> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_reads_from_the_outside_in() {
        let error: Result<(), io::Error> = Err(io::Error::from_raw_os_error(2));
        let error = error.doing(|| "open \"/x\"").doing(|| "load the image").unwrap_err();
        assert_eq!(error.to_string(), "load the image: open \"/x\": No such file or directory (ENOENT)");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Os, Some(2)));
    }

    #[test]
    fn an_error_survives_a_trip_through_std_io() {
        let io: io::Error = Error::limit("too big").into();
        let back: Error = io.into();
        assert_eq!((back.kind(), back.to_string().as_str()), (ErrorKind::Limit, "too big"));
    }
}
