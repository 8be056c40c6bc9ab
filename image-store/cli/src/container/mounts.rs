//! The root file system of a container in a mount namespace of this process's own, with or without the container's volumes.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use image_store::Store;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree,
};

use super::record::Mounted;
use crate::failure::{Failure, Result, invalid, os};

/// Attaches a detached mount at `target` in a new mount namespace.
pub(crate) fn attach(root: &OwnedFd, target: &Path) -> Result<()> {
    let failed = |what: &str, errno: Errno| os(errno, format!("{what} {target:?}"));
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|errno| os(std::io::Error::from(errno), "unshare the mount namespace"))?;
    let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", propagation)
        .map_err(|errno| failed("make mounts private for", errno))?;
    match std::fs::create_dir(target) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(os(error, format!("mkdir {target:?}")));
        }
        _ => {}
    }
    move_mount(root, c"", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| failed("move_mount to", errno))
}

/// Mounts volumes in an attached root file system, at the places where the runtime mounts them. What is missing there is created, as
/// the runtime does.
pub(crate) fn add_volumes(store: &Store, root: &OwnedFd, volumes: &[Mounted]) -> Result<()> {
    let mut volumes: Vec<&Mounted> = volumes.iter().collect();
    // Outer directories before inner ones.
    volumes.sort_by_key(|volume| volume.target.split('/').count());
    for volume in volumes {
        volume.check(store)?;
        let doing = |error: Failure| match error {
            Failure::Store(error) => Failure::Store(error.context(format!("volume at {:?}", volume.target))),
            other => other,
        };
        add(root, volume).map_err(doing)?;
    }
    Ok(())
}

fn add(root: &OwnedFd, volume: &Mounted) -> Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(rustix::fs::CWD, &volume.source, flags)
        .map_err(|errno| os(errno, format!("open_tree {:?}", volume.source)))?;
    let is_dir = is_dir(&tree).map_err(|errno| os(errno, format!("stat {:?}", volume.source)))?;
    let target = make_target(root, &volume.target, is_dir)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, c"", &target, c"", flags).map_err(|errno| os(errno, "move_mount"))?;
    if volume.read_only {
        // The mount itself now, not what it covers.
        let mounted = resolve(root, &volume.target).map_err(|errno| os(errno, "open"))?;
        make_read_only(&mounted)?;
    }
    Ok(())
}

/// In a user namespace, the other flags must stay as they are.
fn make_read_only(mounted: &OwnedFd) -> Result<()> {
    let has = rustix::fs::fstatvfs(mounted).map_err(|errno| os(errno, "statvfs"))?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (own, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        flags.set(flag, has.contains(own));
    }
    let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
    rustix::mount::mount_remount(path, flags, c"").map_err(|errno| os(errno, "remount read-only"))
}

fn is_dir(file: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::Directory)
}

fn resolve(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens a mount point, which is created if it is missing: a directory or a file.
fn make_target(root: &OwnedFd, path: &str, is_dir: bool) -> Result<OwnedFd> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut at = String::new();
    let failed = |errno: Errno, what: &str, at: &str| match errno {
        // It is there, and was not found.
        Errno::EXIST => invalid(format!(
            "{at:?}: is a symbolic link that leads nowhere: start the container once, which creates the mount point"
        )),
        errno => os(errno, format!("{what} {at:?}")),
    };
    let mut parent = resolve(root, "/").map_err(|errno| failed(errno, "open", "/"))?;
    for (number, part) in parts.iter().enumerate() {
        at = format!("{at}/{part}");
        parent = match resolve(root, &at) {
            Err(Errno::NOENT) => {
                if is_dir || number + 1 < parts.len() {
                    rustix::fs::mkdirat(&parent, *part, Mode::from_raw_mode(0o755))
                        .map_err(|errno| failed(errno, "mkdir", &at))?;
                } else {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    rustix::fs::openat(&parent, *part, flags, Mode::from_raw_mode(0o644))
                        .map_err(|errno| failed(errno, "create", &at))?;
                }
                resolve(root, &at)
            }
            other => other,
        }
        .map_err(|errno| failed(errno, "open", &at))?;
    }
    if self::is_dir(&parent).map_err(|errno| failed(errno, "stat", path))? != is_dir {
        return Err(invalid("a file cannot be mounted on a directory, nor a directory on a file"));
    }
    Ok(parent)
}
