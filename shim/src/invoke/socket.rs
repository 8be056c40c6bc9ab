//! The socket of a shim: one for each group of containers, found by a hash.
//!
//! Whoever binds it first becomes the group's shim; the others hear its address. It must not know what is spoken there.

use super::{Call, hung};
use crate::wire::frame::{Request, encode_request};
use crate::wire::task::{SERVICE_V3, ShutdownRequest};
use nix::errno::Errno;
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

/// Where sockets are, if the caller does not say.
const FOLDER: &str = "/run/containerd/s";
/// The longest path that Go's net package connects to.
const LONGEST: usize = 106;
/// How long a shim may take to say that it will shut down. Its server never waits for anybody, and containerd gives `delete` five seconds.
const PATIENCE: Duration = Duration::from_millis(2500);

/// What has become of the attempt to bind.
pub(super) enum Bound {
    /// This process is to hand the listener to a new shim.
    Here(OwnedFd),
    /// The group has a shim already.
    Elsewhere,
}

/// The socket's path. containerd's own shim makes the same: a shim that replaces it finds the groups of the other.
pub(super) fn path(
    folder: Option<&str>,
    address: &str,
    namespace: &str,
    group: &str,
) -> Result<PathBuf, String> {
    let folder = folder.unwrap_or(FOLDER);
    if !folder.starts_with('/') {
        return Err(format!("socket directory {folder:?}: not an absolute path"));
    }
    let mut hash = Sha256::new();
    for part in [address, "/", namespace, "/", group] {
        hash.update(part.as_bytes());
    }
    let mut path = format!("{}/", folder.trim_end_matches('/'));
    for byte in hash.finalize() {
        let _ = write!(path, "{byte:02x}");
    }
    if path.len() > LONGEST {
        let longest = LONGEST - (path.len() - folder.len());
        return Err(format!(
            "socket directory {folder:?}: {} bytes are too many for a socket's path (at most {longest})",
            folder.len()
        ));
    }
    Ok(PathBuf::from(path))
}

/// Binds `path`, 0600 in a folder of 0700, or finds that somebody serves there. A socket that nobody serves is replaced.
pub(super) fn bind(path: &Path) -> Result<Bound, String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let fail = |what: &str, error: io::Error| format!("{what} {path:?}: {error}");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| format!("make {folder:?}: {error}"))?;
    // Two callers that find a dead socket must not each take away the other's new one.
    let lock = lock(folder)?;
    let bound = match listen(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(Bound::Elsewhere);
            }
            fs::remove_file(path).map_err(|error| fail("remove the dead socket", error))?;
            listen(path)
        }
        bound => bound,
    };
    drop(lock);
    bound.map(|listener| Bound::Here(listener.into())).map_err(|error| fail("bind", error))
}

/// Sees to it that there is no shim without containers on `path`, no shim that hangs, and no dead socket. A `start` that was killed
/// before it answered leaves a shim that nobody knows; told to shut down, it does, and one that has containers does not. What is gone
/// already is no error.
pub(super) fn retire(path: &Path, call: &Call) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let _lock = match lock(folder) {
        Err(_) if !folder.exists() => return Ok(()),
        lock => lock?,
    };
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) if shut_down(&stream, &call.flags.id) => return Ok(()),
            Ok(stream) if begun.elapsed() >= PATIENCE => {
                hung::end(&stream, call)
                    .map_err(|error| format!("end the shim that hangs on {path:?}: {error}"))?;
                return remove(path);
            }
            // Nobody answers: a process of a dying shim's may hold the socket for a last moment.
            Ok(_) => thread::sleep(Duration::from_millis(2)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => return remove(path),
        }
    }
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("remove {path:?}: {error}")),
        _ => Ok(()),
    }
}

/// Tells a shim to shut down, if it has no containers; whether it has heard it.
fn shut_down(mut stream: &UnixStream, id: &str) -> bool {
    let payload = ShutdownRequest { id: id.to_owned(), now: false }.encode_to_vec();
    let request = Request {
        service: SERVICE_V3.to_owned(),
        method: "Shutdown".to_owned(),
        payload,
        ..Request::default()
    };
    stream.set_read_timeout(Some(PATIENCE)).is_ok()
        && stream.write_all(&encode_request(1, &request)).is_ok()
        && stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

fn lock(folder: &Path) -> Result<Flock<File>, String> {
    let fail = |error: &dyn std::fmt::Display| format!("lock {folder:?}: {error}");
    let file = File::open(folder).map_err(|error| fail(&error))?;
    let status = file.metadata().map_err(|error| fail(&error))?;
    // Whoever can put a socket there can speak for a shim.
    let own = nix::unistd::geteuid().as_raw();
    if !(status.uid() == own || status.uid() == 0) || status.mode() & 0o022 != 0 {
        return Err(format!(
            "socket directory {folder:?}: others may write to it (owner {}, mode {:o})",
            status.uid(),
            status.mode() & 0o7777
        ));
    }
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error): (_, Errno)| fail(&error))
}
