//! The streams of a process: opens what containerd named, and makes the pipes in between.
//!
//! A fifo is opened at both ends: the writer needs a reader to be opened at all, and while containerd restarts the one here keeps
//! the data and spares the container a SIGPIPE. It must not know how a process is made.

use super::logger::Logger;
use crate::wire::code::Failure;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// What containerd has asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// What the process gets.
#[derive(Debug)]
pub(crate) enum Ends {
    /// Its terminal is made with it.
    Terminal,
    Fds {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
}

impl Ends {
    /// Their numbers.
    pub(crate) fn fds(&self) -> Vec<RawFd> {
        match self {
            Ends::Terminal => Vec::new(),
            Ends::Fds { stdin, stdout, stderr } => [stdin, stdout, stderr].map(AsRawFd::as_raw_fd).to_vec(),
        }
    }
}

/// A logger that is to be run, and its ends.
#[derive(Debug)]
pub(crate) struct LoggerEnds {
    pub(crate) logger: Logger,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl LoggerEnds {
    /// Their numbers.
    pub(crate) fn fds(&self) -> [RawFd; 2] {
        [self.stdout.as_raw_fd(), self.stderr.as_raw_fd()]
    }
}

/// Standard input, on this side.
#[derive(Debug)]
pub(crate) struct Inlet {
    /// containerd's fifo.
    pub(crate) from: OwnedFd,
    /// A writer of it: as long as it is open, its end is not seen. `CloseIO` closes it.
    pub(crate) hold: OwnedFd,
    /// The process's pipe; `None` is its terminal.
    pub(crate) to: Option<OwnedFd>,
}

/// Standard output or error, on this side.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// The process's pipe; `None` is its terminal.
    pub(crate) from: Option<OwnedFd>,
    /// containerd's fifo, a file or a logger's pipe.
    pub(crate) to: OwnedFd,
    /// A reader of the fifo, which keeps what containerd has not read yet.
    pub(crate) hold: Option<OwnedFd>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Plumbing {
    pub(crate) ends: Ends,
    pub(crate) logger: Option<LoggerEnds>,
    pub(crate) inlet: Option<Inlet>,
    pub(crate) outlets: Vec<Outlet>,
}

impl Streams {
    /// Opens and makes all that is needed. The pipes belong to `uid` and `gid`, so that the process can open /dev/stdout anew.
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

/// What the process gets as one output, and this side of it.
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

/// A writer of what is named, and of a fifo a reader too.
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
        return Err(Failure::invalid_argument(format!("stdin {path:?} is no fifo")));
    }
    let from = open(path, OpenOptions::new().read(true))?;
    let hold = open(path, OpenOptions::new().write(true))?;
    Ok(Some((from, hold)))
}

/// The path of a plain name or of `fifo://`; `None` when nothing is named.
fn path_of(uri: &str) -> Result<Option<&Path>, Failure> {
    let path = uri.strip_prefix("fifo://").unwrap_or(uri);
    if path.is_empty() {
        return Ok(None);
    }
    if !path.starts_with('/') {
        return Err(Failure::invalid_argument(format!(
            "stream {uri:?}: not an absolute path, and no scheme that is known (fifo, file, binary)"
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

/// Never waits for the other end of a fifo.
fn open(path: &Path, options: &mut OpenOptions) -> Result<OwnedFd, Failure> {
    let file = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    file.map(OwnedFd::from).map_err(|e| named("open", path, e))
}

fn log_file(path: &Path) -> Result<OwnedFd, Failure> {
    if !path.is_absolute() {
        return Err(Failure::invalid_argument(format!("log file {path:?}: the path must be absolute")));
    }
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(|e| named("mkdir", folder, e))?;
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

/// Both ends belong to the owner: /proc/self/fd leads to the one pipe, whatever the end.
fn pipe(owner: Option<(u32, u32)>) -> Result<(OwnedFd, OwnedFd), Failure> {
    let made = pipe2(OFlag::O_CLOEXEC).and_then(|(reader, writer)| {
        if let Some((uid, gid)) = owner {
            fchown(&reader, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok((reader, writer))
    });
    made.map_err(|e| Failure::from(std::io::Error::from(e)))
}

/// For this side's end only; the process's end stays as it expects it.
pub(crate) fn unblock(fd: impl AsFd) -> Result<(), Failure> {
    let result = fcntl(&fd, FcntlArg::F_GETFL)
        .map(OFlag::from_bits_retain)
        .and_then(|flags| fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)));
    result.map(drop).map_err(|e| Failure::from(std::io::Error::from(e)))
}
