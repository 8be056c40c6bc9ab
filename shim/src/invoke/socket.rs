//! The socket of a shim: one for each group of containers, named by a hash.
//!
//! The first process to bind it starts the group's shim; the others get its address. This module does not know the protocol.

use super::{Call, Error, hung};
use crate::wire::frame::{Request, encode_request};
use crate::wire::method::Method;
use crate::wire::task::{SERVICE_V3, ShutdownRequest};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use prost::Message;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The default directory of sockets.
const DIRECTORY: &str = "/run/containerd/s";
/// The longest path that Go's net package can connect to.
const MAX_PATH: usize = 106;
/// How long a shim may take to acknowledge a shutdown. Its server never waits, and containerd gives `delete` five seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(2500);

/// The result of binding the socket.
pub(super) enum Bound {
    /// Bound: this process must pass the listener to a new shim.
    Here(OwnedFd),
    /// The group has a shim already.
    Elsewhere,
}

/// The socket's path. It is that of containerd's own shim, so that a shim that replaces it finds its groups.
pub(super) fn path(dir: Option<&str>, address: &str, namespace: &str, group: &str) -> Result<PathBuf, Error> {
    let dir = dir.unwrap_or(DIRECTORY);
    if !dir.starts_with('/') {
        return Err(Error::Invalid(format!("socket directory {dir:?}: must be an absolute path")));
    }
    let mut hash = Sha256::new();
    for part in [address, "/", namespace, "/", group] {
        hash.update(part.as_bytes());
    }
    let mut path = format!("{}/", dir.trim_end_matches('/'));
    for byte in hash.finalize() {
        let _ = write!(path, "{byte:02x}");
    }
    if path.len() > MAX_PATH {
        let longest = MAX_PATH - (path.len() - dir.len());
        return Err(Error::Invalid(format!(
            "socket directory {dir:?}: socket path too long: {} bytes (at most {longest})",
            dir.len()
        )));
    }
    Ok(PathBuf::from(path))
}

/// Binds `path`, with mode 0600 in a directory of mode 0700, or finds that a server listens there. A socket without a server is replaced.
pub(super) fn bind(path: &Path) -> Result<Bound, Error> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let fail = |what: &str, error: io::Error| Error::io(format_args!("{what} {path:?}"), error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Error::io(format_args!("create {dir:?}"), error))?;
    // Locked, so that of two callers that find a dead socket none removes the new one of the other.
    let lock = lock(dir)?;
    let bound = match listen(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(Bound::Elsewhere);
            }
            fs::remove_file(path).map_err(|error| fail("remove the stale socket", error))?;
            listen(path)
        }
        bound => bound,
    };
    drop(lock);
    bound.map(|listener| Bound::Here(listener.into())).map_err(|error| fail("bind", error))
}

/// Ends a shim without containers on `path`, kills a hung one and removes a dead socket. A `start` that was killed before it answered
/// leaves a shim that containerd does not know: it ends when it is asked to shut down, while a shim with containers does not. If there is
/// nothing to do, that is not an error.
pub(super) fn retire(path: &Path, call: &Call) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let _lock = match lock(dir) {
        Err(_) if !dir.exists() => return Ok(()),
        lock => lock?,
    };
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) if shut_down(&stream, &call.flags.id) => return Ok(()),
            Ok(stream) if begun.elapsed() >= SHUTDOWN_TIMEOUT => {
                hung::kill(&stream, call)
                    .map_err(|error| error.during(format_args!("kill the hung shim on {path:?}")))?;
                return remove(path);
            }
            // No answer: a worker of a dying shim may keep the socket open for a moment.
            Ok(_) => thread::sleep(Duration::from_millis(2)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => return remove(path),
        }
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format_args!("remove {path:?}"), error))
        }
        _ => Ok(()),
    }
}

/// Asks a shim to shut down, which it does if it has no containers. Returns whether it has answered.
fn shut_down(mut stream: &UnixStream, id: &str) -> bool {
    let payload = ShutdownRequest { id: id.to_owned(), now: false }.encode_to_vec();
    let request = Request {
        service: SERVICE_V3.to_owned(),
        method: Method::Shutdown.name().to_owned(),
        payload,
        ..Request::default()
    };
    stream.set_read_timeout(Some(SHUTDOWN_TIMEOUT)).is_ok()
        && stream.write_all(&encode_request(1, &request)).is_ok()
        && stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

fn lock(dir: &Path) -> Result<Flock<File>, Error> {
    let fail = |error: io::Error| Error::io(format_args!("lock {dir:?}"), error);
    let file = File::open(dir).map_err(fail)?;
    let status = file.metadata().map_err(fail)?;
    // Anyone who can create a socket there can impersonate a shim.
    let own = nix::unistd::geteuid().as_raw();
    if !(status.uid() == own || status.uid() == 0) || status.mode() & 0o022 != 0 {
        return Err(Error::Invalid(format!(
            "socket directory {dir:?}: writable by other users (owner {}, mode {:o})",
            status.uid(),
            status.mode() & 0o7777
        )));
    }
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| Error::call(format_args!("lock {dir:?}: flock"), error))
}
