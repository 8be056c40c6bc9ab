//! Where things lie: the store of images and containers, the state of running containers, the sockets of their supervisors.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

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
    let data = data.ok_or_else(|| {
        Failure::new(ErrorKind::Invalid, "no directory for the image store: use --root or set HOME")
    })?;
    Ok(data.join("knarr/images"))
}

/// The directory for the state of running containers: `/run/knarr-image`, or one of this user's own.
pub(crate) fn state_root() -> Result<PathBuf> {
    let uid = caller::uid();
    let root = if uid == 0 {
        PathBuf::from("/run/knarr-image")
    } else {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
        runtime.map_or_else(|| format!("/tmp/knarr-image-{uid}").into(), |path| path.join("knarr-image"))
    };
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
