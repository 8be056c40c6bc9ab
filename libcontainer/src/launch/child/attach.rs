//! The two ways to attach a tree. By descriptor: it is cloned detached, gets its attributes, and is moved to its place. By name, for
//! kernels before 5.12 and outer seccomp filters that refuse one of the calls: mount(2) binds it to its place, and the mount found there
//! gets them. The way is not changed halfway, since mount(2) cannot attach a detached tree.

use super::{Child, Done, Failed, On, failed};
use crate::launch::frame::Call;
use crate::plan::step::{MountAttr, Propagation, Slot};
use crate::rootfs::resolve;
use crate::sys::mount::{self, SetAttr};
use crate::sys::{Errno, SysResult, fs, is_absent, path};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A tree on its way.
pub(super) enum Tree {
    /// By descriptor, from the first clone on; or the parent's.
    Detached(OwnedFd),
    /// By name: still where it comes from.
    Source { place: OwnedFd, recursive: bool },
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Tree::Detached(fd) | Tree::Source { place: fd, .. } => fd.as_fd(),
        }
    }
}

impl Child<'_> {
    /// True when `failed` tells that a mount call by descriptor is not there, for the first time: from here on it goes by name.
    pub(super) fn go_by_name(&mut self, failed: &Failed) -> bool {
        !self.by_name && lacks_call(failed) && !std::mem::replace(&mut self.by_name, true)
    }

    /// The tree at a path of the host.
    pub(super) fn tree_at(&self, path: &CStr, recursive: bool) -> SysResult<Tree> {
        if self.by_name {
            let place = fs::openat_following(fs::CWD, path, libc::O_PATH)?;
            return Ok(Tree::Source { place, recursive });
        }
        mount::open_tree(fs::CWD, path, clone_flags(recursive)).map(Tree::Detached)
    }

    /// The tree that lies where `place` is open at.
    pub(super) fn tree_of(&self, place: BorrowedFd<'_>, recursive: bool) -> SysResult<Tree> {
        if self.by_name {
            return Ok(Tree::Source { place: fs::dup_above(place, 3)?, recursive });
        }
        mount::open_tree(place.as_raw_fd(), c"", clone_flags(recursive)).map(Tree::Detached)
    }

    /// The tree that the parent has opened.
    pub(super) fn tree_from_parent(&mut self, slot: Slot) -> Done<Tree> {
        let absent = if self.by_name { libc::ENOSYS } else { libc::EBADF };
        self.fds.take(slot).map(Tree::Detached).ok_or(Errno(absent)).on(Call::Slot)
    }

    /// Brings the tree to `place`, with these attributes. By name, `find` opens the place once more, to find the new mount there.
    pub(super) fn attach(
        &self,
        tree: Tree,
        place: BorrowedFd<'_>,
        attr: &MountAttr,
        find: impl FnOnce() -> Done<OwnedFd>,
    ) -> Done<OwnedFd> {
        let mounted = match tree {
            Tree::Detached(tree) if !self.by_name => {
                self.set_attributes(tree.as_fd(), attr)?;
                mount::move_mount(tree.as_fd(), place).on(Call::MoveMount)?;
                return Ok(tree);
            }
            Tree::Detached(tree) => {
                mount::move_mount(tree.as_fd(), place).on(Call::MoveMount)?;
                // The parent could not do it either: the tree is still a peer of the host's.
                self.set_propagation(tree.as_fd(), Propagation { flag: libc::MS_SLAVE, recursive: true })?;
                tree
            }
            Tree::Source { place: source, recursive } => {
                mount::bind(source.as_fd(), place, recursive).on(Call::Mount)?;
                new_mount(find()?, place, Some(source.as_fd()))?
            }
        };
        self.set_attributes(mounted.as_fd(), attr)?;
        Ok(mounted)
    }

    /// Binds one open file over another.
    pub(super) fn attach_file(&self, file: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Done {
        if self.by_name {
            return mount::bind(file, target, false).on(Call::Mount);
        }
        let tree = mount::open_tree(file.as_raw_fd(), c"", mount::OPEN_TREE_CLONE).on(Call::OpenTree)?;
        mount::move_mount(tree.as_fd(), target).on(Call::MoveMount)
    }

    /// The mount that has come to `path` in the root, over `place`.
    pub(super) fn mounted_at(&self, path: &CStr, place: BorrowedFd<'_>) -> Done<OwnedFd> {
        new_mount(self.find(path)?, place, None)
    }

    pub(super) fn find(&self, path: &CStr) -> Done<OwnedFd> {
        // What was mounted on the root itself is not below it.
        if let Some(root) = self.root_at.filter(|_| path == c"/") {
            return fs::openat_following(fs::CWD, root, libc::O_PATH | libc::O_DIRECTORY).on(Call::Open);
        }
        resolve::open(self.fd(Slot::ROOT)?, path, libc::O_PATH).on(Call::Open)
    }

    pub(super) fn set_attributes(&self, tree: BorrowedFd<'_>, attr: &MountAttr) -> Done {
        if attr.set | attr.clear != 0 {
            let change = SetAttr { set: attr.set, clear: attr.clear, ..SetAttr::default() };
            match self.set(tree, false, &change) {
                Err(Errno(libc::EPERM)) if attr.implied != 0 => {
                    let change = SetAttr { clear: attr.clear & !attr.implied, ..change };
                    self.set(tree, false, &change).on(Call::MountSetattr)?;
                }
                other => other.on(Call::MountSetattr)?,
            }
        }
        self.set_tree_attributes(tree, attr)
    }

    pub(super) fn set_tree_attributes(&self, tree: BorrowedFd<'_>, attr: &MountAttr) -> Done {
        if attr.rec_set | attr.rec_clear == 0 {
            return Ok(());
        }
        let change = SetAttr { set: attr.rec_set, clear: attr.rec_clear, ..SetAttr::default() };
        self.set(tree, true, &change).on(Call::MountSetattr)
    }

    pub(super) fn propagate(&self, tree: BorrowedFd<'_>, attr: &MountAttr) -> Done {
        attr.propagation.iter().filter(|p| p.flag != 0).try_for_each(|p| self.set_propagation(tree, *p))
    }

    pub(super) fn set_propagation(&self, tree: BorrowedFd<'_>, change: Propagation) -> Done {
        let attr = SetAttr { propagation: change.flag, ..SetAttr::default() };
        self.set(tree, change.recursive, &attr).on(Call::MountSetattr)
    }

    pub(super) fn set(&self, tree: BorrowedFd<'_>, recursive: bool, change: &SetAttr) -> SysResult<()> {
        if self.by_name {
            return mount::set_by_name(tree, path::of_fd(tree)?.as_cstr()?, recursive, change);
        }
        mount::mount_setattr(tree, recursive, change)
    }
}

/// Whether it failed because a mount call by descriptor is not there, or is refused by a filter.
pub(super) fn lacks_call(failed: &Failed) -> bool {
    let call = match failed.call {
        Call::Fsconfig | Call::FsconfigCreate => libc::SYS_fsconfig,
        Call::Fsmount => libc::SYS_fsmount,
        Call::Fsopen => libc::SYS_fsopen,
        Call::MountSetattr => libc::SYS_mount_setattr,
        Call::MoveMount => libc::SYS_move_mount,
        Call::OpenTree => libc::SYS_open_tree,
        _ => return false,
    };
    is_absent(call, failed.errno)
}

fn clone_flags(recursive: bool) -> u32 {
    mount::OPEN_TREE_CLONE | if recursive { mount::AT_RECURSIVE } else { 0 }
}

/// `found`, if it is another mount than the one that `place` lies on, and of `source`: the root is malicious, and a process that
/// changes it between the mount and the lookup must not get another mount changed instead.
pub(super) fn new_mount(
    found: OwnedFd,
    place: BorrowedFd<'_>,
    source: Option<BorrowedFd<'_>>,
) -> Done<OwnedFd> {
    let other = fs::mount_id(found.as_fd()).on(Call::Fstat)? != fs::mount_id(place).on(Call::Fstat)?;
    let same = match source {
        Some(source) => {
            let (a, b) = (fs::fstat(found.as_fd()).on(Call::Fstat)?, fs::fstat(source).on(Call::Fstat)?);
            (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        }
        None => true,
    };
    if other && same { Ok(found) } else { failed(Call::Verify, libc::EXDEV) }
}
