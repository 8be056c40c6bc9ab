//! The store on disk. The file system is the database: each thing is a file or folder named by its digest or name.
//!
//! ```text
//! blobs/sha256/<hex>          manifests, indexes, configs, layers as they came; never changed
//! layers/sha256/<hex>/fs      an unpacked layer by diffID, a lower directory for overlay; meta.json beside it
//! fixup/<hex>/fs              folders only: attributes of implied folders for one stack of layers
//! refs/<name>.json            an image: what it points to, and all it needs
//! containers/<id>/            upper, work, record.json
//! leases/<id>                 digests somebody is working with; held by flock, so that a crash lets go
//! ingest/<lease>/             what is not complete yet
//! trash/                      what is being removed
//! volumes/<name>/             a volume's files; volume-records/<name>.json beside it
//! ```
//!
//! Whatever has its final name is complete and on disk: content is synced before it is renamed, and a reference is
//! written after all it points to. So a power cut leaves at worst leftovers in `ingest`, which the next collection removes.

mod blobs;
mod compose;
mod container;
mod flush;
mod gc;
mod lease;
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

pub use compose::Composition;
pub use container::{ContainerRecord, Rootfs};
pub use gc::Collected;
pub use record::Record;
pub use transaction::{Progress, Quiet, Source, Step};
pub use verify::{Finding, Part};
pub use volume::Volume;

use crate::digest::Digest;
use crate::error::{Doing, Error, Result};
use crate::layer::apply::Ownership;
use crate::layer::{Limits, Marks};

const VERSION: u32 = 1;
const FOLDERS: &[&str] = &[
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
    /// Make content durable before it is named. Only throw-away stores go without.
    pub sync: bool,
    /// Keep layers as they came, for pushing and saving with the same digests and for `verify`.
    pub keep_blobs: bool,
    /// Bounds for layers.
    pub limits: Limits,
    /// Layers worked on at once.
    pub parallel: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sync: true, keep_blobs: true, limits: Limits::default(), parallel: cores.max(3) }
    }
}

/// A store. Any number of processes may have the same one open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    handle: File,
    marks: Marks,
    ownership: Ownership,
    options: StoreOptions,
}

/// The file `state`: what must not differ between those who use the store.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    marks: Marks,
}

/// The meta.json of an unpacked layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    /// Length of the uncompressed tar.
    pub diff_size: u64,
    /// Bytes of its files.
    pub bytes: u64,
    pub entries: u64,
    /// Percent-encoded paths: see [`crate::layer::apply::Applied::implied`].
    pub implied: Vec<String>,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a store of another version; system calls that fail.
    pub fn open(root: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let root = root.as_ref();
        let doing = || format!("open image store {root:?}");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for folder in FOLDERS.iter().map(|folder| root.join(folder)).filter(|folder| !folder.is_dir()) {
            builder.create(&folder).doing(|| format!("mkdir {folder:?}")).doing(doing)?;
        }
        let root = fs::canonicalize(root).doing(|| "realpath").doing(doing)?;
        let handle = File::open(&root).doing(doing)?;
        let state = load_state(&root, options.sync).doing(doing)?;
        let ownership = if may_chown() { Ownership::Keep } else { Ownership::Squash };
        Ok(Self { root, handle, marks: state.marks, ownership, options })
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Which overlay marks its layers have: [`Marks::User`] wants the mount option `userxattr`.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.marks
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of an unpacked layer; whether it is there is for the caller to see.
    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.path())
    }

    pub(crate) fn layer_meta(&self, diff_id: &Digest) -> Result<LayerMeta> {
        let path = self.layer_path(diff_id).join("meta.json");
        let bytes = fs::read(&path).doing(|| format!("read {path:?}"))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{path:?}: {e}")))
    }

    /// Writes a file so that it is there whole or not at all: temporary name, sync, rename, sync of the folder.
    pub(crate) fn write_atomically(&self, folder: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.path(folder);
        write_file(&folder, name, bytes, self.options.sync)
    }

    /// `gc.lock`: shared while something is being added to what must stay, exclusive while deciding what goes.
    pub(crate) fn lock(&self, operation: FlockOperation) -> Result<File> {
        let path = self.path("gc.lock");
        let mut options = File::options();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).doing(|| format!("open {path:?}"))?;
        rustix::fs::flock(&file, operation).doing(|| format!("flock {path:?}"))?;
        Ok(file)
    }

    /// A name in `trash` that nobody else uses.
    pub(crate) fn trash_name(&self) -> Result<PathBuf> {
        Ok(self.path("trash").join(unique()?))
    }

    pub(crate) fn sync_folder(&self, path: &Path) -> Result<()> {
        if !self.options.sync {
            return Ok(());
        }
        let folder = File::open(path).doing(|| format!("open {path:?}"))?;
        folder.sync_all().doing(|| format!("fsync {path:?}"))
    }
}

fn write_file(folder: &Path, name: &str, bytes: &[u8], sync: bool) -> Result<()> {
    let temporary = folder.join(format!(".{}", unique()?));
    let target = folder.join(name);
    let write = || -> Result<()> {
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, &target)?;
        if sync {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().doing(|| format!("write {target:?}")).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Whether a text may be the ID of a container or the name of a volume, and so that of a file: up to 128 letters, digits, `_`,
/// `.` and `-`, the first a letter or digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.len() <= 128 && text.bytes().all(plain)
}

/// Process number and random bits.
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
        let message = format!("{path:?}: version {}, this program knows {VERSION}", state.version);
        return Err(Error::unsupported(message));
    }
    Ok(state)
}

/// Tries which kind of mark may be set here: a user namespace may not set `trusted.` attributes.
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
            "setxattr {} on {probe:?}: a file system with extended attributes is needed",
            Marks::User.opaque()
        )
    })
}

/// Root, or root of a user namespace with more than one ID.
fn may_chown() -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    // The map of the first namespace, or of one that newuidmap made, spans more than the caller alone.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum::<u64>() > 1
}
