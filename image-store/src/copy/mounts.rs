//! The mounts in a root file system that are copied with it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FsWord;

use crate::error::Result;
use crate::tree::{self, Node};

/// The types of file systems that show the kernel's state and not files: `f_type` of statfs(2).
const OF_THE_KERNEL: &[FsWord] = &[
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x7363_6673, // securityfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x6265_6570, // configfs
    0x6573_5543, // fusectl
    0x4249_4e4d, // binfmt_misc
    0x6165_676c, // pstore
    0xcafe_4a11, // bpf
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinux
];

/// The mounts that belong to a root file system: the one that it begins with, its volumes and what is mounted in these. All others,
/// such as /proc, are copied as empty directories.
#[derive(Clone, Debug)]
pub(super) struct Mounts {
    root: u64,
    volumes: BTreeSet<u64>,
}

impl Mounts {
    /// # Errors
    /// Those of reading /proc.
    pub(super) fn new(root: &OwnedFd, volumes: impl Iterator<Item = OwnedFd>) -> Result<Self> {
        let volumes = volumes.map(tree::mount_id).collect::<Result<_>>()?;
        Ok(Self { root: tree::mount_id(root)?, volumes })
    }

    /// Whether what is in a directory is hidden, because it is a mount point of another mount. Directories that are below one are not
    /// hidden: only those who name them get there.
    pub(super) fn hide(&mut self, directory: &Node) -> Result<bool> {
        let id = tree::mount_id(directory)?;
        if id == self.root || self.volumes.contains(&id) {
            return Ok(false);
        }
        // Without permission for its parent, it is taken for a mount point, such as one of another user's FUSE.
        let Ok(parent) = directory.parent_dir() else { return Ok(true) };
        let parent = tree::mount_id(parent)?;
        if parent == id {
            return Ok(false);
        }
        let is_in_volume =
            parent != self.root && self.volumes.contains(&parent) && !is_of_the_kernel(directory);
        if is_in_volume {
            self.volumes.insert(id);
        }
        Ok(!is_in_volume)
    }
}

fn is_of_the_kernel(file: impl AsFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|fs| OF_THE_KERNEL.contains(&fs.f_type))
}
