//! The error of a command: one line and an exit status. It knows libcontainer's errors, but no command.

use libcontainer::{Error, ErrorKind};
use nix::errno::Errno;
use std::io;

/// The exit status of a command, or its error.
pub(crate) type Outcome = Result<u8, Failure>;

/// An error, which ends the command.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) status: u8,
    /// Printed to stderr instead of the message: a line that belongs to the container rather than to the command.
    pub(crate) line: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), status: 1, line: None }
    }

    /// A system call failed: the operation, the call and the reason.
    pub(crate) fn os(doing: impl std::fmt::Display, call: &str, error: impl Into<io::Error>) -> Self {
        Failure::new(format!("{doing}: {call}: {}", why(&error.into())))
    }

    /// With a prefix that callers of runc look for.
    pub(crate) fn prefixed(self, prefix: &str) -> Self {
        Failure { message: format!("{prefix}: {}", self.message), ..self }
    }

    /// A process could not be started. The text is runc's: by it, callers distinguish this from a bad config.json.
    pub(crate) fn starting(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSpec | ErrorKind::Exists | ErrorKind::Unsupported | ErrorKind::WrongState => {
                Failure::new(error.to_string())
            }
            _ => Failure::new(format!("unable to start container process: {error}")),
        }
    }

    /// As `starting`, for a command that shares its stderr with the container. If a program cannot be executed, runc's init process
    /// prints that there and exits with 255.
    pub(crate) fn running(error: &Error) -> Self {
        let failure = Failure::starting(error);
        match (error.refused_program(), error.errno()) {
            (Some(program), Some(errno)) => {
                let line = format!("exec {program}: {}", lower(Errno::from_raw(errno).desc()));
                Failure { status: 255, line: Some(line), ..failure }
            }
            _ => failure,
        }
    }
}

impl From<goflags::Usage> for Failure {
    fn from(error: goflags::Usage) -> Self {
        Failure::new(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.to_string())
    }
}

/// `no such file or directory (ENOENT)`. The text is that of Go programs, which callers match.
pub(crate) fn why(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else {
        return error.to_string();
    };
    let errno = Errno::from_raw(number);
    format!("{} ({errno:?})", lower(errno.desc()))
}

fn lower(text: &str) -> String {
    let first = text.chars().next().map(|c| c.to_ascii_lowercase());
    format!("{}{}", first.into_iter().collect::<String>(), text.get(1..).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_operation_the_call_and_the_reason() {
        let failure = Failure::os("open log file \"/x\"", "open", Errno::ENOENT).prefixed("knarr");
        assert_eq!(failure.message, "knarr: open log file \"/x\": open: no such file or directory (ENOENT)");
        assert_eq!((failure.status, why(&io::Error::other("odd"))), (1, "odd".to_owned()));
    }
}
