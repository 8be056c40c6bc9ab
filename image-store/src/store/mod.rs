//! The store on disk. The file system is the database: each object is a file or directory named by its digest or name.
//!
//! ```text
//! blobs/sha256/<hex>          manifests, indexes, configs, compressed layers; never changed
//! layers/sha256/<hex>/fs      an unpacked layer by diffID, a lower directory for overlay; beside it meta.json, and gzip.json or
//!                             zstd.json with the digest of what it was compressed to
//! fixup/<hex>/fs              the fix-up layer of a list of layers: attributes of implied directories
//! refs/<name>.json            an image: the manifest and config it refers to, and all it needs
//! containers/<id>/            the writable layer of a container: upper, work, record.json
//! leases/<id>                 digests that a process is working with; locked by flock(2), so that a crash releases them
//! ingest/<lease>/             incomplete files
//! trash/                      files that are being removed
//! volumes/<name>/             the files of a volume; its record is volume-records/<name>.json
//! ```
//!
//! A file with its final name is complete and on disk: contents are synced before they are renamed, and an image's record is
//! written after everything it refers to. A power cut leaves at worst incomplete files in `ingest`, which the next
//! garbage collection removes.

mod blobs;
mod compose;
mod container;
mod flush;
mod gc;
mod lease;
mod outbox;
mod record;
mod stream;
mod transaction;
mod verify;
mod volume;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, XattrFlags};
use serde::{Deserialize, Serialize};

pub(crate) use blobs::read_document;
pub use compose::{Composition, Going};
pub use container::{ContainerRecord, Containers, Rootfs};
pub use gc::Collected;
pub(crate) use outbox::Outbox;
pub use record::Record;
pub use transaction::{Progress, Quiet, Source, Step};
pub use verify::{Finding, Part};
pub use volume::Volume;

use crate::digest::Digest;
use crate::error::{Doing, Error, Result};
use crate::layer::apply::Ownership;
use crate::layer::{Limits, Marks};

const VERSION: u32 = 1;
const DIRS: &[&str] = &[
    "blobs/sha256",
    "blobs/sha512",
    "layers/sha256",
    "layers/sha512",
    "fixup",
    "refs",
    "containers",
    "leases",
    "locks",
    "ingest",
    "trash",
    "volumes",
    "volume-records",
];

/// How a store behaves.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Sync contents to disk before they get their final name. Switch off only for temporary stores. Default: true.
    pub sync: bool,
    /// Keep the compressed blobs of layers, for pushing, saving and verifying. Default: true.
    pub keep_blobs: bool,
    /// Limits of layers.
    pub limits: Limits,
    /// Number of layers that are unpacked in parallel. Default: the number of processors, at least 3.
    pub parallel: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sync: true, keep_blobs: true, limits: Limits::default(), parallel: cores.max(3) }
    }
}

/// An image store. Several processes may have the same store open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    handle: File,
    marks: Marks,
    ownership: Ownership,
    options: StoreOptions,
}

/// The file `state`: settings of the whole store.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    marks: Marks,
}

/// meta.json of an unpacked layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    /// Size of the uncompressed tar archive in bytes.
    pub diff_size: u64,
    /// Size of its files in bytes.
    pub bytes: u64,
    pub entries: u64,
    /// Percent-encoded paths: see [`crate::layer::apply::Applied::implied`].
    pub implied: Vec<String>,
}

impl Store {
    /// Opens the store in the directory `root`, which is created if missing.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a store of another version; failed system calls.
    pub fn open(root: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let root = root.as_ref();
        let doing = || format!("open image store {root:?}");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for dir in DIRS.iter().map(|dir| root.join(dir)).filter(|dir| !dir.is_dir()) {
            builder.create(&dir).doing(|| format!("mkdir {dir:?}")).doing(doing)?;
        }
        let root = fs::canonicalize(root).doing(|| "realpath").doing(doing)?;
        let handle = File::open(&root).doing(doing)?;
        let state = load_state(&root, options.sync).doing(doing)?;
        let ownership = if may_chown() { Ownership::Keep } else { Ownership::Squash };
        Ok(Self { root, handle, marks: state.marks, ownership, options })
    }

    /// The directory of the store, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The overlay marks in its layers: [`Marks::User`] requires the mount option `userxattr`.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.marks
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The directory of an unpacked layer, which may not exist.
    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.path())
    }

    pub(crate) fn layer_meta(&self, diff_id: &Digest) -> Result<LayerMeta> {
        let path = self.layer_path(diff_id).join("meta.json");
        let bytes = fs::read(&path).doing(|| format!("read {path:?}"))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{path:?}: {e}")))
    }

    /// Writes a file atomically: under a temporary name, sync, rename, sync of the directory.
    pub(crate) fn write_atomically(&self, dir: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let dir = self.path(dir);
        write_file(&dir, name, bytes, self.options.sync)
    }

    /// Locks `gc.lock`: shared while adding references, exclusively while collecting garbage.
    pub(crate) fn lock(&self, operation: FlockOperation) -> Result<File> {
        let path = self.path("gc.lock");
        let mut options = File::options();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).doing(|| format!("open {path:?}"))?;
        rustix::fs::flock(&file, operation).doing(|| format!("flock {path:?}"))?;
        Ok(file)
    }

    /// A unique path in `trash`.
    pub(crate) fn trash_name(&self) -> Result<PathBuf> {
        Ok(self.path("trash").join(unique()?))
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<()> {
        if !self.options.sync {
            return Ok(());
        }
        let dir = File::open(path).doing(|| format!("open {path:?}"))?;
        dir.sync_all().doing(|| format!("fsync {path:?}"))
    }
}

fn write_file(dir: &Path, name: &str, bytes: &[u8], sync: bool) -> Result<()> {
    let temporary = dir.join(format!(".{}", unique()?));
    let target = dir.join(name);
    let write = || -> Result<()> {
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, &target)?;
        if sync {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().doing(|| format!("write {target:?}")).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Whether `text` is valid as the ID of a container and the name of a volume, and safe as a file name: up to 128 letters,
/// digits, `_`, `.` and `-`, starting with a letter or digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.len() <= 128 && text.bytes().all(plain)
}

/// A unique name: process ID and random bits.
pub(crate) fn unique() -> Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).doing(|| "getrandom")?;
    Ok(format!("{}-{:016x}", std::process::id(), u64::from_ne_bytes(random)))
}

fn load_state(root: &Path, sync: bool) -> Result<State> {
    let path = root.join("state");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let state = State { version: VERSION, marks: probe_marks(root)? };
            let bytes = serde_json::to_vec(&state).map_err(|e| Error::invalid(e.to_string()))?;
            write_file(root, "state", &bytes, sync)?;
            return Ok(state);
        }
        Err(error) => return Err(error).doing(|| format!("read {path:?}")),
    };
    let state: State =
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{path:?}: {e}")))?;
    if state.version != VERSION {
        let message =
            format!("{path:?}: version {} is not supported (this program supports {VERSION})", state.version);
        return Err(Error::unsupported(message));
    }
    Ok(state)
}

/// Tries which kind of marks can be set: `trusted.` attributes need privileges in the initial user namespace.
fn probe_marks(root: &Path) -> Result<Marks> {
    let probe = root.join(format!(".{}", unique()?));
    fs::create_dir(&probe).doing(|| format!("mkdir {probe:?}"))?;
    let set = |marks: Marks| rustix::fs::setxattr(&probe, marks.opaque(), b"y", XattrFlags::empty());
    let marks = match set(Marks::Trusted) {
        Ok(()) => Ok(Marks::Trusted),
        Err(_) => set(Marks::User).map(|()| Marks::User),
    };
    let _ = fs::remove_dir(&probe);
    marks.doing(|| {
        format!(
            "setxattr {} on {probe:?}: the file system must support extended attributes",
            Marks::User.opaque()
        )
    })
}

/// Whether this is root, in the initial user namespace or in one with more than one ID.
fn may_chown() -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    // The map of a namespace that an ordinary user creates without newuidmap(1) has one ID.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum::<u64>() > 1
}
