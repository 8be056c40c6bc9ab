//! Where things are: the store of images and containers, the directories of containers, the state of running containers, the sockets
//! of their supervisors.
//!
//! The names of all files and directories of knarr-image's own are here and nowhere else. (The layout of the store is the library's, see
//! `image_store::store`.) They must not change: after an upgrade the supervisors of running containers are still of the old version.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image_store::{ErrorKind, Store, StoreOptions};

use crate::caller;
use crate::cli::Args;
use crate::failure::{Failure, Result, os};

/// The default store, of root and below another user's `$XDG_DATA_HOME`.
pub(crate) const STORE: &str = "/var/lib/knarr/images";
pub(crate) const STORE_IN_DATA: &str = "knarr/images";

/// The default directory for state, of root, below another user's `$XDG_RUNTIME_DIR`, and without that, followed by the user's ID.
pub(crate) const STATE: &str = "/run/knarr-image";
pub(crate) const STATE_IN_RUNTIME: &str = "knarr-image";
pub(crate) const STATE_IN_TMP: &str = "/tmp/knarr-image-";

/// Opens the store that the flags or the environment name.
pub(crate) fn store(args: &Args) -> Result<Store> {
    let mut options = StoreOptions::default();
    let setting = std::env::var("KNARR_IMAGE_KEEP_BLOBS").ok();
    options.keep_blobs = match args.get("keep-blobs").or(setting.as_deref()) {
        None | Some("true" | "1" | "") => true,
        Some("false" | "0") => false,
        Some(other) => {
            return Err(Failure::new(
                ErrorKind::Invalid,
                format!("--keep-blobs {other:?}: must be true or false"),
            ));
        }
    };
    Ok(Store::open(root(args)?, options)?)
}

fn root(args: &Args) -> Result<PathBuf> {
    if let Some(root) = args.get("root") {
        return Ok(root.into());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(root) = variable("KNARR_IMAGE_ROOT") {
        return Ok(root);
    }
    if caller::uid() == 0 {
        return Ok(STORE.into());
    }
    let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    let data = data.ok_or_else(|| {
        Failure::new(ErrorKind::Invalid, "no directory for the image store: use --root or set HOME")
    })?;
    Ok(data.join(STORE_IN_DATA))
}

/// The directory of the store that this process works with.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// The file of the store that names the state directory.
const STATE_FILE: &str = "state-directory";

/// Determines which store this process works with.
pub(crate) fn choose(args: &Args) -> Result<()> {
    let _ = CHOSEN.set(root(args)?);
    Ok(())
}

/// The directory for the state of running containers: [`STATE`], or one of this user's own.
fn state_root() -> Result<PathBuf> {
    let uid = caller::uid();
    if uid == 0 {
        return usable(STATE.into());
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let default =
        runtime.map_or_else(|| format!("{STATE_IN_TMP}{uid}").into(), |path| path.join(STATE_IN_RUNTIME));
    match CHOSEN.get() {
        Some(store) => agreed(store, default),
        None => usable(default),
    }
}

/// The state directory that the store names, as long as it exists, so that containers are found from every session of the user;
/// else `default`, which the store names from now on.
fn agreed(store: &Path, default: PathBuf) -> Result<PathBuf> {
    let path = store.join(STATE_FILE);
    let failed = |e: std::io::Error| os(e, format!("agree on a state directory in {path:?}"));
    DirBuilder::new().recursive(true).mode(0o700).create(store).map_err(failed)?;
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
    let mut named = Vec::new();
    file.read_to_end(&mut named).map_err(failed)?;
    let named = PathBuf::from(OsStr::from_bytes(&named));
    if named.is_dir()
        && let Ok(root) = usable(named)
    {
        return Ok(root);
    }
    let root = usable(std::path::absolute(&default).map_err(failed)?)?;
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    file.write_all(root.as_os_str().as_bytes()).map_err(failed)?;
    Ok(root)
}

/// Creates a state directory if it is missing. It must be out of reach of other users.
fn usable(root: PathBuf) -> Result<PathBuf> {
    let failed = |e: std::io::Error| os(e, format!("state directory {root:?}"));
    DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(failed)?;
    let meta = fs::symlink_metadata(&root).map_err(failed)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(Failure::new(
            ErrorKind::Denied,
            format!("state directory {root:?}: must be owned by this user and not writable by others"),
        ));
    }
    Ok(root)
}

/// libcontainer's state directory.
pub(crate) fn runtime_state() -> Result<PathBuf> {
    Ok(state_root()?.join("state"))
}

/// The directory of files named after the supervisors of this user, whose user namespace can be joined.
pub(crate) fn supervisors() -> Result<PathBuf> {
    Ok(state_root()?.join("parents"))
}

/// The socket of a container's supervisor. Its path may have at most 107 bytes.
pub(crate) fn socket(id: &str) -> Result<PathBuf> {
    let directory = state_root()?.join("attach");
    std::fs::create_dir_all(&directory).map_err(|e| os(e, format!("mkdir {directory:?}")))?;
    Ok(directory.join(&id[..id.len().min(16)]))
}

/// The file of a container that a command locks while it has paused it.
pub(crate) fn pause(id: &str) -> Result<PathBuf> {
    Ok(state_root()?.join("pauses").join(id))
}

/// The file that is locked while names are given.
pub(crate) fn names_lock(store: &Store) -> PathBuf {
    store.root().join("locks").join("names")
}

/// The directory of a container.
pub(crate) fn container(store: &Store, id: &str) -> ContainerDir {
    ContainerDir(store.root().join("containers").join(id))
}

/// The files of a container that its directory has for those in /etc.
pub(crate) const ETC_FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// The directory of a container, in which the store keeps its layers and record.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDir(pub(crate) PathBuf);

impl ContainerDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Locked by the supervisor, from before the container is created until its end is recorded.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Locked while the record changes.
    pub(crate) fn changing(&self) -> PathBuf {
        self.0.join("changing")
    }

    /// Exists when the container was stopped, and must not be restarted.
    pub(crate) fn stopping(&self) -> PathBuf {
        self.0.join("stopping")
    }

    /// The output.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The mount point of the root file system, in the supervisor's mount namespace.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// The writable layer.
    pub(crate) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    /// Overlay's work directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The file that is mounted on a file in /etc, one of [`ETC_FILES`].
    pub(crate) fn etc(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::GLOBAL;

    #[test]
    fn the_help_of_root_names_the_default_stores() {
        let root = GLOBAL.iter().find(|flag| flag.long == "root").unwrap();
        let defaults = format!("{STORE} for root, $XDG_DATA_HOME/{STORE_IN_DATA} for others");
        assert!(root.help.contains(&defaults), "{}", root.help);
    }

    #[test]
    fn a_store_keeps_its_state_directory_until_that_is_gone() {
        let place = std::env::temp_dir().join(format!("knarr-state-{}", std::process::id()));
        let (store, first, second) = (place.join("store"), place.join("first"), place.join("second"));
        assert_eq!(agreed(&store, first.clone()).unwrap(), first);
        assert_eq!(agreed(&store, second.clone()).unwrap(), first);
        assert!(!second.exists());
        fs::remove_dir(&first).unwrap();
        assert_eq!(agreed(&store, second.clone()).unwrap(), second);
        // Others could reach it.
        fs::create_dir(&first).unwrap();
        fs::set_permissions(&second, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(agreed(&store, first.clone()).unwrap(), first);
        assert!(agreed(&store, second.clone()).is_ok_and(|named| named == first));
        fs::remove_dir_all(&place).unwrap();
    }
}
