//! Log lines for people: to the fifo `log` in the bundle, which containerd copies to its own log.
//!
//! A line that does not fit is lost: a server never waits for a reader. It must not know what it is told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

#[derive(Debug)]
pub(crate) struct Log {
    /// Open at both ends, so that a containerd that restarts neither ends the server nor makes it wait.
    fifo: Option<File>,
    debug: bool,
}

impl Log {
    /// The fifo in the working directory, which is the bundle.
    pub(crate) fn open(debug: bool) -> Self {
        let is_fifo = std::fs::symlink_metadata("log").is_ok_and(|about| about.file_type().is_fifo());
        let options = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("log");
        Log { fifo: options.ok().filter(|_| is_fifo), debug }
    }

    pub(crate) fn warn(&mut self, message: &str) {
        self.line("warning", message);
    }

    pub(crate) fn debug(&mut self, message: &str) {
        if self.debug {
            self.line("debug", message);
        }
    }

    fn line(&mut self, level: &str, message: &str) {
        if let Some(fifo) = &mut self.fifo {
            let _ = fifo.write_all(format!("level={level} msg={message:?} runtime=knarr\n").as_bytes());
        }
    }
}
