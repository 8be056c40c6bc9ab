//! `diff`: what a container changed.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use image_store::ErrorKind;
use image_store::layer::diff::{Difference, differences};
use serde_json::{Value, json};

use crate::cli::Args;
use crate::container::find;
use crate::failure::{Failure, Result, os};
use crate::output::{line, pretty, print};
use crate::places;

/// `diff CONTAINER`
pub(crate) fn diff(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let id = find::id_of(&store, &args.positional[0])?;
    let rootfs = store.container_rootfs(&store.container(&id)?)?;
    let open = |path: &std::path::PathBuf| File::open(path).map_err(|e| os(e, format!("open {path:?}")));
    let lower = rootfs.lower.iter().map(|path| open(path).map(OwnedFd::from)).collect::<Result<Vec<_>>>()?;
    let upper = rootfs
        .upper
        .as_ref()
        .ok_or_else(|| Failure::new(ErrorKind::Invalid, "diff: the container has no writable layer"))?;
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
