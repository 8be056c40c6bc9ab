//! The place of a container, and what all work on containers has in common.

use super::streams::Ends;
use crate::wire::code::Failure;
use libcontainer::{Container, ContainerId, Runtime, Stdio};
use std::path::Path;

/// The place of a container: its id, its bundle and the state directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) id: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) bundle: &'a Path,
    /// libcontainer's state directory.
    pub(crate) root: &'a Path,
}

impl Place<'_> {
    pub(crate) fn runtime(&self) -> Result<Runtime, Failure> {
        Ok(Runtime::open(self.root)?)
    }

    pub(crate) fn load(&self) -> Result<Container, Failure> {
        Ok(self.runtime()?.load(&ContainerId::new(self.id)?)?)
    }
}

/// Makes the failure of an operation. Docker looks for this text, and people search for it.
pub(crate) fn runtime_failed(verb: &str) -> impl Fn(libcontainer::Error) -> Failure {
    let verb = verb.to_owned();
    move |error| {
        let failure = Failure::from(error);
        Failure::new(failure.code, format!("OCI runtime {verb} failed: {}", failure.message))
    }
}

/// The streams of a process, as libcontainer takes them.
pub(crate) fn stdio(ends: Ends) -> Stdio {
    match ends {
        Ends::Terminal => Stdio::Terminal,
        Ends::Fds { stdin, stdout, stderr } => Stdio::Fds { stdin, stdout, stderr },
    }
}
