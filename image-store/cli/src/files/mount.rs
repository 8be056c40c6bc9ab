//! `mount`: a root file system on a directory of the host.

use std::fs::File;

use rustix::mount::{MoveMountFlags, move_mount};

use super::root;
use crate::cli::Args;
use crate::failure::{Result, os};
use crate::output::line;
use crate::places;

/// `mount CONTAINER|IMAGE DIRECTORY`
pub(crate) fn mount(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let root = root::mounted(&store, &args.positional[0], true)?;
    let target = &args.positional[1];
    let directory = File::open(target).map_err(|e| os(e, format!("mount on {target:?}")))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&root, c"", &directory, c"", flags)
        .map_err(|errno| os(errno, format!("mount on {target:?}: move_mount")))?;
    line(target);
    Ok(0)
}
