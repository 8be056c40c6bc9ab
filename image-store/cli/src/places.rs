//! Where things lie: the store of images and containers, the state of running containers, the sockets of their supervisors.

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
        return Ok("/var/lib/knarr/images".into());
    }
    let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    let data =
        data.ok_or_else(|| Failure::new(ErrorKind::Invalid, "no image store: use --root or set HOME"))?;
    Ok(data.join("knarr/images"))
}

/// The directory of the store that this process works with.
static STORE: OnceLock<PathBuf> = OnceLock::new();

/// The file of the store that names the state directory.
const STATE: &str = "state-directory";

/// Determines which store this process works with.
pub(crate) fn choose(args: &Args) -> Result<()> {
    let _ = STORE.set(root(args)?);
    Ok(())
}

/// The directory for the state of running containers: `/run/knarr-image`, or one of this user's own.
pub(crate) fn state_root() -> Result<PathBuf> {
    let uid = caller::uid();
    if uid == 0 {
        return usable("/run/knarr-image".into());
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let chosen =
        runtime.map_or_else(|| format!("/tmp/knarr-image-{uid}").into(), |path| path.join("knarr-image"));
    match STORE.get() {
        Some(store) => agreed(store, chosen),
        None => usable(chosen),
    }
}

/// The state directory that the store names, as long as it exists, so that containers are found from every session of the user;
/// else `chosen`, which the store names from now on.
fn agreed(store: &Path, chosen: PathBuf) -> Result<PathBuf> {
    let path = store.join(STATE);
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
    let root = usable(std::path::absolute(&chosen).map_err(failed)?)?;
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

/// The directory of a container: its layers, its log, its locks.
pub(crate) fn container(store: &Store, id: &str) -> PathBuf {
    store.root().join("containers").join(id)
}

/// The socket of a container's supervisor. Its path may have at most 107 bytes.
pub(crate) fn socket(id: &str) -> Result<PathBuf> {
    let directory = state_root()?.join("attach");
    std::fs::create_dir_all(&directory).map_err(|e| os(e, format!("mkdir {directory:?}")))?;
    Ok(directory.join(&id[..id.len().min(16)]))
}

#[cfg(test)]
mod tests {
    use super::*;

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
