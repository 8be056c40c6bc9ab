//! The files of a shim in the bundle. With them `delete` can clean up after a shim that was killed at any moment.
//!
//! | file | written | contents |
//! |---|---|---|
//! | `address` | by `start`, before it answers | `unix://` and the socket; also read by containerd 1.6 |
//! | `knarr.json` | by Create, before anything is made | the state directory of libcontainer |
//! | `init.pid` | by Create, before it answers | the pid of the container's first process |
//!
//! Each is written atomically. This module does not know how containers are made.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const ADDRESS: &str = "address";
const RECORD: &str = "knarr.json";
const PID: &str = "init.pid";
/// The limit of the files' size.
const LIMIT: u64 = 64 << 10;

/// The contents of `knarr.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this format, 1.
    pub version: u32,
    /// The container's id in containerd.
    pub id: String,
    /// The state directory to open a `libcontainer::Runtime` with.
    pub state_root: PathBuf,
}

impl Record {
    /// The record of a container that is about to be made.
    pub fn new(id: impl Into<String>, state_root: impl Into<PathBuf>) -> Self {
        Self { version: 1, id: id.into(), state_root: state_root.into() }
    }

    /// Writes it to the bundle.
    pub fn write(&self, bundle: &Path) -> io::Result<()> {
        write_whole(bundle, RECORD, &serde_json::to_vec(self)?)
    }

    /// Reads it; `None` if Create has not written it yet.
    pub fn read(bundle: &Path) -> io::Result<Option<Self>> {
        let Some(text) = read_short(bundle, RECORD)? else { return Ok(None) };
        let record: Self = serde_json::from_slice(&text)?;
        if record.version != 1 {
            return Err(io::Error::other(format!("unknown version {}", record.version)));
        }
        Ok(Some(record))
    }
}

/// The directory of the states of the containers of `namespace`. By default `/run/containerd/knarr/NAMESPACE`, or for a shim in place of
/// containerd's own, `/run/containerd/runc/NAMESPACE` (decision 0306). `chosen` is [`crate::wire::options::Options::root`].
pub fn state_root(chosen: &str, namespace: &str, program: &str) -> PathBuf {
    let stands_in = program.rsplit('/').next().is_some_and(|name| name.starts_with("containerd-shim-runc-"));
    let root = match (chosen, stands_in) {
        ("", true) => "/run/containerd/runc",
        ("", false) => "/run/containerd/knarr",
        (chosen, _) => chosen,
    };
    Path::new(root).join(namespace)
}

/// Writes `init.pid`.
pub fn write_pid(bundle: &Path, pid: i32) -> io::Result<()> {
    write_whole(bundle, PID, pid.to_string().as_bytes())
}

/// Reads `init.pid`; `None` if Create has not written it yet, or if it is damaged.
pub fn read_pid(bundle: &Path) -> io::Result<Option<i32>> {
    let text = read_short(bundle, PID)?;
    Ok(text.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok()))
}

/// Writes `address`.
pub fn write_address(bundle: &Path, address: &str) -> io::Result<()> {
    write_whole(bundle, ADDRESS, address.as_bytes())
}

/// The path in `address`; `None` if `start` has not written it yet, or if it is not an absolute path.
pub fn read_socket(bundle: &Path) -> io::Result<Option<PathBuf>> {
    let text = read_short(bundle, ADDRESS)?;
    let path =
        text.and_then(|text| Some(PathBuf::from(std::str::from_utf8(&text).ok()?.strip_prefix("unix://")?)));
    Ok(path.filter(|path| path.is_absolute()))
}

fn write_whole(bundle: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let new = bundle.join(format!(".{name}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let written = file.write_all(contents).and_then(|()| fs::rename(&new, bundle.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn read_short(bundle: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(bundle.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::{Record, read_pid, read_socket, state_root, write_address, write_pid};
    use std::fs;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_state_directory_is_the_callers_or_depends_on_the_programs_name() {
        let root = |chosen, program| state_root(chosen, "k8s.io", program);
        assert_eq!(root("", "containerd-shim-knarr-v2"), Path::new("/run/containerd/knarr/k8s.io"));
        assert_eq!(root("", "/usr/bin/containerd-shim-runc-v2"), Path::new("/run/containerd/runc/k8s.io"));
        assert_eq!(root("/r", "/usr/bin/containerd-shim-runc-v2"), Path::new("/r/k8s.io"));
    }

    #[test]
    fn what_is_written_is_read_and_missing_files_are_none() {
        let dir = std::env::temp_dir().join(format!("knarr-bundle-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        assert_eq!(Record::read(&dir).unwrap(), None);
        assert_eq!((read_pid(&dir).unwrap(), read_socket(&dir).unwrap()), (None, None));
        let record = Record::new("c1", "/run/x/ns");
        record.write(&dir).unwrap();
        write_pid(&dir, 42).unwrap();
        write_address(&dir, "unix:///run/s/abc").unwrap();
        assert_eq!(Record::read(&dir).unwrap(), Some(record));
        assert_eq!(read_pid(&dir).unwrap(), Some(42));
        assert_eq!(read_socket(&dir).unwrap(), Some(PathBuf::from("/run/s/abc")));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "files, none of them temporary");
        fs::write(dir.join("knarr.json"), "{\"version\":2,\"id\":\"c1\",\"state_root\":\"/\"}").unwrap();
        assert!(Record::read(&dir).unwrap_err().to_string().contains("version 2"));
        write_address(&dir, "vsock://3").unwrap();
        assert_eq!(read_socket(&dir).unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
