//! The places that a new process is reported to: sockets for its terminal and its pidfd, and a pid file.

use crate::context::Context;
use crate::failure::Failure;
use crate::sockets::FdReceiver;
use goflags::Parsed;
use libcontainer::Container;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The places that a new process is reported to.
#[derive(Debug, Default)]
pub(crate) struct Receivers {
    console: Option<FdReceiver>,
    pidfd: Option<FdReceiver>,
    pid_file: Option<String>,
}

impl Receivers {
    /// Connects to the sockets that the flags name. A terminal needs a receiver exactly when this command does not serve it.
    pub(crate) fn connect(
        context: &Context,
        parsed: &Parsed,
        terminal: bool,
        detach: bool,
    ) -> Result<Self, Failure> {
        let program = context.program;
        let console = parsed.text("console-socket");
        if detach && terminal && console.is_empty() {
            return Err(Failure::new(format!(
                "cannot allocate tty if {program} will detach without setting console socket"
            )));
        }
        let theirs = detach && terminal;
        if !theirs && !console.is_empty() {
            return Err(Failure::new(format!(
                "cannot use console socket if {program} will not detach or allocate tty"
            )));
        }
        let connect = |name: &str| match parsed.text(name) {
            "" => Ok(None),
            path => {
                FdReceiver::connect(Path::new(path)).map(Some).map_err(|e| e.prefixed(&format!("--{name}")))
            }
        };
        let pid_file = parsed.text("pid-file");
        Ok(Receivers {
            console: connect("console-socket")?,
            pidfd: connect("pidfd-socket")?,
            pid_file: (!pid_file.is_empty()).then(|| pid_file.to_owned()),
        })
    }

    /// Reports a new container.
    pub(crate) fn announce(&self, container: &mut Container) -> Result<(), Failure> {
        if self.console.is_some() {
            self.send_console(container.take_terminal())?;
        }
        if let Some(pidfd) = container.pidfd() {
            self.send_pidfd(pidfd)?;
        }
        self.write_pid(container.pid())
    }

    pub(crate) fn send_console(&self, terminal: Option<OwnedFd>) -> Result<(), Failure> {
        let (Some(receiver), Some(terminal)) = (&self.console, terminal) else {
            return Ok(());
        };
        receiver.send("/dev/ptmx", terminal.as_fd())
    }

    pub(crate) fn send_pidfd(&self, pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
        self.pidfd.as_ref().map_or(Ok(()), |receiver| receiver.send("pidfd", pidfd))
    }

    pub(crate) fn write_pid(&self, pid: i32) -> Result<(), Failure> {
        self.pid_file.as_ref().map_or(Ok(()), |path| write_pid_file(Path::new(path), pid))
    }
}

/// Writes a new file and renames it, so that a reader sees the whole pid or no file.
fn write_pid_file(path: &Path, pid: i32) -> Result<(), Failure> {
    let context =
        |call: &str, e: std::io::Error| Failure::os(format_args!("write pid file {path:?}"), call, e);
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
        return Err(Failure::new(format!("write pid file {path:?}: not a file name")));
    };
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o644).open(&draft).map_err(|e| context("open", e))?;
    let result = file
        .write_all(pid.to_string().as_bytes())
        .map_err(|e| context("write", e))
        .and_then(|()| std::fs::rename(&draft, path).map_err(|e| context("rename", e)));
    if result.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_holds_only_the_pid_and_no_draft_is_left() {
        let dir = std::env::temp_dir().join(format!("knarr-pid-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("pid");
        for pid in [123_456, 7] {
            write_pid_file(&path, pid).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), pid.to_string());
        }
        assert!(write_pid_file(&dir.join("none/pid"), 1).is_err());
        assert!(write_pid_file(&dir.join(".."), 1).is_err());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
