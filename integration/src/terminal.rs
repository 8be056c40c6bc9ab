//! Terminals: the console socket that receives a container's pty, and a pty for a runtime in the foreground.
//!
//! It knows nothing of what runs behind the terminal.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::outcome::{Outcome, Stop, eq, fail};
use crate::process::{self, Running, limit};

/// A listening socket for `--console-socket` or `--pidfd-socket`.
#[derive(Debug)]
pub struct FdSocket {
    listener: UnixListener,
    /// Its path.
    pub path: PathBuf,
}

impl FdSocket {
    /// Listens at a new path. The path must be shorter than 108 bytes.
    pub fn listen(path: &Path) -> Result<Self, Stop> {
        let listener = UnixListener::bind(path)?;
        Ok(FdSocket { listener, path: path.to_owned() })
    }

    /// Accepts one connection and takes the descriptor that comes with its first message.
    #[track_caller]
    pub fn receive(&self) -> Result<(OwnedFd, String), Stop> {
        readable(self.listener.as_fd(), "a connection to the socket")?;
        let (stream, _) = self.listener.accept()?;
        readable(stream.as_fd(), "a message on the socket")?;
        let mut name = [0_u8; 4096];
        let mut space = nix::cmsg_space!([i32; 4]);
        let mut parts = [IoSliceMut::new(&mut name)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
        let fds: Vec<i32> = message
            .cmsgs()?
            .flat_map(|c| if let ControlMessageOwned::ScmRights(fds) = c { fds } else { Vec::new() })
            .collect();
        let bytes = message.bytes;
        eq(fds.len(), 1, "descriptors in the message")?;
        Ok((crate::sys::received_fd(fds[0]), String::from_utf8_lossy(&name[..bytes]).into_owned()))
    }
}

/// The master side of a terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    seen: String,
}

impl Terminal {
    /// Takes a received master.
    pub fn new(master: OwnedFd) -> Self {
        Terminal { master: File::from(master), seen: String::new() }
    }

    /// A new pty: the master, and the slave for a program to run on.
    pub fn open(rows: u16, columns: u16) -> Result<(Self, OwnedFd), Stop> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        Ok((Terminal::new(master), slave))
    }

    /// Types text.
    pub fn type_in(&mut self, text: &str) -> Outcome {
        self.master.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Changes the window's size; the kernel signals the processes on the other side.
    pub fn resize(&self, rows: u16, columns: u16) -> Outcome {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let mut stty = Command::new("stty");
        stty.args(["rows", &rows, "cols", &columns]).stdin(Stdio::from(self.master.try_clone()?));
        eq(stty.status()?.success(), true, "stty on the master")
    }

    /// What `stty -a` says of the terminal.
    pub fn settings(&self) -> Result<String, Stop> {
        let output = Command::new("stty").arg("-a").stdin(Stdio::from(self.master.try_clone()?)).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Reads until `part` was seen since the last call; gives everything up to there.
    #[track_caller]
    pub fn read_until(&mut self, part: &str) -> Result<String, Stop> {
        let end = Instant::now() + limit(30);
        loop {
            if let Some(at) = self.seen.find(part) {
                let rest = self.seen.split_off(at + part.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            if Instant::now() > end || !self.read_some()? {
                return fail(format!("no {part:?} on the terminal:\n{:?}", self.seen));
            }
        }
    }

    /// Reads until the other side is closed by all.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Result<String, Stop> {
        let end = Instant::now() + limit(30);
        while self.read_some()? {
            if Instant::now() > end {
                return fail(format!("the terminal is never closed:\n{:?}", self.seen));
            }
        }
        Ok(std::mem::take(&mut self.seen))
    }

    /// False at the end: reading a master whose slaves are closed fails with EIO.
    fn read_some(&mut self) -> Result<bool, Stop> {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(50_u8))? == 0 {
            process::reap();
            return Ok(true);
        }
        let mut buffer = [0_u8; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) | Err(_) => Ok(false),
            Ok(count) => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
                Ok(true)
            }
        }
    }
}

/// Starts a program as the leader of a session on the terminal `slave`, as a shell in a window would be.
pub fn start_on(slave: OwnedFd, command: &Command) -> Result<Running, Stop> {
    let mut session = Command::new("setsid");
    session.arg("--ctty").arg("--wait").arg(command.get_program()).args(command.get_args());
    session.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    process::start_as_is(session, None)
}

#[track_caller]
fn readable(fd: std::os::fd::BorrowedFd<'_>, what: &str) -> Outcome {
    let end = Instant::now() + limit(30);
    while Instant::now() < end {
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(50_u8))? > 0 {
            return Ok(());
        }
        process::reap();
    }
    fail(format!("waited too long for {what}"))
}
