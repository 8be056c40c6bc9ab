//! Log lines, to the fifo `log` in the bundle, which containerd copies to its own log.
//!
//! A line that does not fit is lost, since the server never waits for a reader. This module does not know what it logs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

#[derive(Debug)]
pub(crate) struct Log {
    /// Open at both ends, so that a restart of containerd neither ends nor blocks the server.
    fifo: Option<File>,
    debug: bool,
}

impl Log {
    /// Opens the fifo in the working directory, which is the bundle.
    pub(crate) fn open(debug: bool) -> Self {
        let is_fifo = std::fs::symlink_metadata("log").is_ok_and(|about| about.file_type().is_fifo());
        let options = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("log");
        Log { fifo: options.ok().filter(|_| is_fifo), debug }
    }

    pub(crate) fn warn(&self, message: &str) {
        self.line("warning", message);
    }

    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.line("debug", message);
        }
    }

    fn line(&self, level: &str, message: &str) {
        if let Some(mut fifo) = self.fifo.as_ref() {
            let _ = fifo.write_all(format!("level={level} msg={message:?} runtime=knarr\n").as_bytes());
        }
    }
}
