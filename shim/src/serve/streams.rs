//! The streams of a process: opens those that containerd named, and makes the pipes in between.
//!
//! A fifo is opened at both ends: a writer can only be opened if there is a reader, and while containerd restarts that reader keeps the
//! data and saves the container from a SIGPIPE. This module does not know how a process is made.

use super::logger::Logger;
use crate::wire::code::Failure;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The streams that containerd asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// The process's ends of its streams.
#[derive(Debug)]
pub(crate) enum Ends {
    /// A terminal, which is made with the process.
    Terminal,
    Fds {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
}

impl Ends {
    /// Their descriptors.
    pub(crate) fn fds(&self) -> Vec<RawFd> {
        match self {
            Ends::Terminal => Vec::new(),
            Ends::Fds { stdin, stdout, stderr } => [stdin, stdout, stderr].map(AsRawFd::as_raw_fd).to_vec(),
        }
    }
}

/// A logger to be run, and its ends of the streams.
#[derive(Debug)]
pub(crate) struct LoggerEnds {
    pub(crate) logger: Logger,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl LoggerEnds {
    /// Their descriptors.
    pub(crate) fn fds(&self) -> [RawFd; 2] {
        [self.stdout.as_raw_fd(), self.stderr.as_raw_fd()]
    }
}

/// Standard input, on this side.
#[derive(Debug)]
pub(crate) struct Inlet {
    /// containerd's fifo.
    pub(crate) from: OwnedFd,
    /// A writer of it: while it is open, the fifo does not end. `CloseIO` closes it.
    pub(crate) hold: OwnedFd,
    /// The process's pipe, or `None` for its terminal.
    pub(crate) to: Option<OwnedFd>,
}

/// Standard output or error, on this side.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// The process's pipe, or `None` for its terminal.
    pub(crate) from: Option<OwnedFd>,
    /// containerd's fifo, a file or a logger's pipe.
    pub(crate) to: OwnedFd,
    /// A reader of the fifo, which keeps what containerd has not read yet.
    pub(crate) hold: Option<OwnedFd>,
}

/// All streams of a process.
#[derive(Debug)]
pub(crate) struct Plumbing {
    pub(crate) ends: Ends,
    pub(crate) logger: Option<LoggerEnds>,
    pub(crate) inlet: Option<Inlet>,
    pub(crate) outlets: Vec<Outlet>,
}

impl Streams {
    /// Opens the streams and makes the pipes. These belong to `uid` and `gid`, so that the process can open /dev/stdout.
    pub(crate) fn open(&self, uid: u32, gid: u32) -> Result<Plumbing, Failure> {
        let owner = (uid != 0 || gid != 0).then_some((uid, gid));
        let mut plumbing = Plumbing { ends: Ends::Terminal, logger: None, inlet: None, outlets: Vec::new() };
        if let Some(logger) = Logger::parse(&self.stdout)? {
            self.open_logger(logger, owner, &mut plumbing)?;
        } else if self.terminal {
            plumbing.outlets.extend(outlet(&self.stdout)?.map(|(to, hold)| Outlet { from: None, to, hold }));
        } else {
            let (stdout, out) = output(&self.stdout, owner)?;
            let (stderr, err) = output(&self.stderr, owner)?;
            plumbing.outlets.extend(out.into_iter().chain(err));
            plumbing.ends = Ends::Fds { stdin: null()?, stdout, stderr };
        }
        if let Some((from, hold)) = inlet(&self.stdin)? {
            let to = match &mut plumbing.ends {
                Ends::Terminal => None,
                Ends::Fds { stdin, .. } => {
                    let (reader, writer) = pipe(owner)?;
                    *stdin = reader;
                    unblock(&writer)?;
                    Some(writer)
                }
            };
            plumbing.inlet = Some(Inlet { from, hold, to });
        }
        Ok(plumbing)
    }

    fn open_logger(
        &self,
        logger: Logger,
        owner: Option<(u32, u32)>,
        plumbing: &mut Plumbing,
    ) -> Result<(), Failure> {
        let (stdout, out) = pipe(owner)?;
        let (stderr, err) = pipe(owner)?;
        if self.terminal {
            unblock(&out)?;
            plumbing.outlets.push(Outlet { from: None, to: out, hold: None });
        } else {
            plumbing.ends = Ends::Fds { stdin: null()?, stdout: out, stderr: err };
        }
        plumbing.logger = Some(LoggerEnds { logger, stdout, stderr });
        Ok(())
    }
}

/// Opens one output: the process's end and this side.
fn output(uri: &str, owner: Option<(u32, u32)>) -> Result<(OwnedFd, Option<Outlet>), Failure> {
    match outlet(uri)? {
        None => Ok((null()?, None)),
        Some((to, hold)) => {
            let (reader, writer) = pipe(owner)?;
            unblock(&reader)?;
            Ok((writer, Some(Outlet { from: Some(reader), to, hold })))
        }
    }
}

/// Opens a writer, and for a fifo also a reader.
fn outlet(uri: &str) -> Result<Option<(OwnedFd, Option<OwnedFd>)>, Failure> {
    if let Some(path) = uri.strip_prefix("file://") {
        return log_file(Path::new(path)).map(|file| Some((file, None)));
    }
    let Some(path) = path_of(uri)? else { return Ok(None) };
    if is_fifo(path)? {
        let hold = open(path, OpenOptions::new().read(true))?;
        let to = open(path, OpenOptions::new().write(true))?;
        return Ok(Some((to, Some(hold))));
    }
    open(path, OpenOptions::new().append(true)).map(|file| Some((file, None)))
}

fn inlet(uri: &str) -> Result<Option<(OwnedFd, OwnedFd)>, Failure> {
    let Some(path) = path_of(uri)? else { return Ok(None) };
    if !is_fifo(path)? {
        return Err(Failure::invalid_argument(format!("stdin {path:?}: not a FIFO")));
    }
    let from = open(path, OpenOptions::new().read(true))?;
    let hold = open(path, OpenOptions::new().write(true))?;
    Ok(Some((from, hold)))
}

/// The path of a plain name or of `fifo://`; `None` if it is empty.
fn path_of(uri: &str) -> Result<Option<&Path>, Failure> {
    let path = uri.strip_prefix("fifo://").unwrap_or(uri);
    if path.is_empty() {
        return Ok(None);
    }
    if !path.starts_with('/') {
        return Err(Failure::invalid_argument(format!(
            "stream {uri:?}: must be an absolute path or a fifo, file or binary URI"
        )));
    }
    Ok(Some(Path::new(path)))
}

fn is_fifo(path: &Path) -> Result<bool, Failure> {
    match std::fs::metadata(path) {
        Ok(about) => Ok(about.file_type().is_fifo()),
        Err(e) => Err(named("stat", path, e)),
    }
}

/// Opens a file without waiting for the other end of a fifo.
fn open(path: &Path, options: &mut OpenOptions) -> Result<OwnedFd, Failure> {
    let file = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    file.map(OwnedFd::from).map_err(|e| named("open", path, e))
}

fn log_file(path: &Path) -> Result<OwnedFd, Failure> {
    if !path.is_absolute() {
        return Err(Failure::invalid_argument(format!("log file {path:?}: must be an absolute path")));
    }
    if let Some(dir) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.map_err(|e| named("mkdir", dir, e))?;
    }
    open(path, OpenOptions::new().append(true).create(true).mode(0o644))
}

fn named(call: &str, path: &Path, error: std::io::Error) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = format!("open the stream {path:?}: {call}: {}", failure.message);
    failure
}

fn null() -> Result<OwnedFd, Failure> {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).map_err(|e| named("open", Path::new("/dev/null"), e))
}

/// Makes a pipe. Both ends belong to the owner, since both lead to the same inode.
fn pipe(owner: Option<(u32, u32)>) -> Result<(OwnedFd, OwnedFd), Failure> {
    let made = pipe2(OFlag::O_CLOEXEC).and_then(|(reader, writer)| {
        if let Some((uid, gid)) = owner {
            fchown(&reader, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok((reader, writer))
    });
    made.map_err(|e| Failure::from(std::io::Error::from(e)))
}

/// Makes a descriptor non-blocking. Only for this side: the process expects its end to block.
pub(crate) fn unblock(fd: impl AsFd) -> Result<(), Failure> {
    let result = fcntl(&fd, FcntlArg::F_GETFL)
        .map(OFlag::from_bits_retain)
        .and_then(|flags| fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)));
    result.map(drop).map_err(|e| Failure::from(std::io::Error::from(e)))
}
