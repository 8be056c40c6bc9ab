//! Containers as the store knows them: writable layers.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use image_store::layer::diff::{Difference, differences};
use image_store::{Error, ErrorKind, Result};
use rustix::mount::{MoveMountFlags, move_mount};
use serde_json::{Value, json};

use crate::args::Args;
use crate::output::{line, pretty, print};

/// Sixty-four hexadecimal digits, as Docker has them.
pub(crate) fn random_id() -> Result<String> {
    let mut random = [0; 32];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::from(errno).context("getrandom"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `diff CONTAINER`
pub(super) fn diff(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let id = super::container_id(&store, &args.positional[0])?;
    let rootfs = store.container_rootfs(&store.container(&id)?)?;
    let open = |path: &std::path::PathBuf| {
        File::open(path).map_err(|e| Error::from(e).context(format!("open {path:?}")))
    };
    let lower = rootfs.lower.iter().map(|path| open(path).map(OwnedFd::from)).collect::<Result<Vec<_>>>()?;
    let upper =
        rootfs.upper.as_ref().ok_or_else(|| Error::new(ErrorKind::Invalid, "there is no writable layer"))?;
    let found = differences(open(upper)?.as_fd(), &lower)?;
    let letter = |difference: &Difference| match difference {
        Difference::Added => "A",
        Difference::Changed => "C",
        Difference::Deleted => "D",
    };
    if args.has("json") {
        let list = found
            .iter()
            .map(|(d, path)| json!({ "Kind": letter(d), "Path": String::from_utf8_lossy(path) }))
            .collect();
        print(&format!("{}\n", pretty(&Value::Array(list))?));
        return Ok(0);
    }
    found.iter().for_each(|(d, path)| line(&format!("{} {}", letter(d), String::from_utf8_lossy(path))));
    Ok(0)
}

/// `mount CONTAINER|IMAGE FOLDER`
pub(super) fn mount(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let root = super::archives::mounted(&store, &args.positional[0], true)?;
    let target = &args.positional[1];
    let failed = |error: Error| error.context(format!("mount on {target:?}"));
    let folder = File::open(target).map_err(|e| failed(e.into()))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&root, c"", &folder, c"", flags)
        .map_err(|errno| failed(Error::from(errno).context("move_mount")))?;
    line(target);
    Ok(0)
}
