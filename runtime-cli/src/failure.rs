//! Why a command did not do its work: one line and an exit status. It knows libcontainer's errors, and no command.

use libcontainer::{Error, ErrorKind};
use nix::errno::Errno;
use std::io;

/// What a command ends with instead of an exit status of its own.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) status: u8,
    /// What stderr gets instead of the message: a line that is the container's rather than the command's.
    pub(crate) line: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), status: 1, line: None }
    }

    /// A system call that did not work: what was being done, the call, why.
    pub(crate) fn os(doing: impl std::fmt::Display, call: &str, error: impl Into<io::Error>) -> Self {
        Failure::new(format!("{doing}: {call}: {}", why(&error.into())))
    }

    /// With a prefix that callers of runc look for.
    pub(crate) fn prefixed(self, prefix: &str) -> Self {
        Failure { message: format!("{prefix}: {}", self.message), ..self }
    }

    /// What kept a process from being started, in runc's words: callers tell it by them from a bad config.json.
    pub(crate) fn starting(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSpec | ErrorKind::Exists | ErrorKind::Unsupported | ErrorKind::WrongState => {
                Failure::new(error.to_string())
            }
            _ => Failure::new(format!("unable to start container process: {error}")),
        }
    }

    /// As `starting`, for a command whose stderr is the container's too: of a program that can not be executed runc's dying init
    /// says so there, with status 255.
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

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.to_string())
    }
}

/// `no such file or directory (ENOENT)`: in the words of Go programs, which callers match on.
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
    fn a_failure_says_what_was_done_which_call_and_why() {
        let failure = Failure::os("open log file \"/x\"", "open", Errno::ENOENT).prefixed("knarr");
        assert_eq!(failure.message, "knarr: open log file \"/x\": open: no such file or directory (ENOENT)");
        assert_eq!((failure.status, why(&io::Error::other("odd"))), (1, "odd".to_owned()));
    }
}
