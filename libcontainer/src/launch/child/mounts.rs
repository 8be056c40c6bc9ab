//! Steps that assemble the root file system: trees attached by descriptor to places found by descriptor, never by path.

use super::{Child, Done, On, failed};
use crate::launch::copy_up;
use crate::launch::frame::Call;
use crate::plan::step::{FsOption, MountAttr, NewFs, Propagation, Slot, Source, Target, TargetKind};
use crate::rootfs::resolve::{self, Make};
use crate::sys::mount::SetAttr;
use crate::sys::{Errno, SysResult, fs, mount};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const DIRECTORY: Make = Make::Directory { mode: 0o755 };

impl Child<'_> {
    pub(super) fn host_propagation(&mut self, flags: u64) -> Done {
        self.host_shared = flags & libc::MS_SHARED != 0;
        super::fs_mount_propagation(flags)
    }

    /// The tree at `path` is mounted over itself, so that it is a mount of its own, as pivot_root asks.
    pub(super) fn root(&mut self, path: &CStr, source: Option<Slot>, propagation: u64) -> Done {
        let tree = match source {
            Some(slot) => self.fds.take(slot).ok_or(Errno(libc::EBADF)).on(Call::Slot)?,
            None => mount::open_tree(fs::CWD, path, mount::OPEN_TREE_CLONE | mount::AT_RECURSIVE).on(Call::OpenTree)?,
        };
        let place = fs::openat_following(fs::CWD, path, libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
        if self.host_shared {
            make_containing_mount_private(place.as_fd())?;
        }
        if propagation != 0 {
            set_propagation(tree.as_fd(), Propagation { flag: propagation & !libc::MS_REC, recursive: propagation & libc::MS_REC != 0 })?;
        }
        mount::move_mount(tree.as_fd(), place.as_fd()).on(Call::MoveMount)?;
        self.fds.set(Slot::ROOT, tree);
        Ok(())
    }

    pub(super) fn private_proc(&mut self) -> Done {
        let context = mount::fsopen(c"proc").on(Call::Fsopen)?;
        mount::fsconfig_create(context.as_fd()).on(Call::FsconfigCreate)?;
        let attributes = mount::MOUNT_ATTR_NOSUID | mount::MOUNT_ATTR_NODEV | mount::MOUNT_ATTR_NOEXEC;
        let proc = mount::fsmount(context.as_fd(), attributes).on(Call::Fsmount)?;
        self.fds.set(Slot::PROC, proc);
        Ok(())
    }

    /// The host's /dev/null, or nothing at all: a device node that only claims to be it would be bound over every mask
    /// (CVE-2025-31133).
    pub(super) fn open_null(&mut self) -> Done {
        let null = fs::openat_following(fs::CWD, c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW).on(Call::Open)?;
        let stat = fs::fstat(null.as_fd()).on(Call::Fstat)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != fs::device(1, 3) {
            return failed(Call::Verify, libc::ENODEV);
        }
        self.fds.set(Slot::NULL, null);
        Ok(())
    }

    fn target(&self, target: &Target, source_is_directory: bool) -> Done<OwnedFd> {
        let root = self.fd(Slot::ROOT)?;
        let make = match target.kind {
            TargetKind::LikeSource if !source_is_directory => Make::File { mode: 0o755 },
            TargetKind::Directory | TargetKind::LikeSource => DIRECTORY,
        };
        if target.no_symlinks {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            return match resolve::open_without_symlinks(root, &target.path, flags) {
                Err(Errno(libc::ENOENT)) => {
                    resolve::create(root, &target.path, make).on(Call::Create)?;
                    resolve::open_without_symlinks(root, &target.path, flags)
                }
                other => other,
            }
            .on(Call::Open);
        }
        resolve::create(root, &target.path, make).on(Call::Create)
    }

    pub(super) fn bind(&mut self, source: &Source, recursive: bool, attr: &MountAttr, target: &Target) -> Done {
        let flags = mount::OPEN_TREE_CLONE | if recursive { mount::AT_RECURSIVE } else { 0 };
        let tree = match source {
            Source::Path(path) => mount::open_tree(fs::CWD, path, flags).on(Call::OpenTree)?,
            Source::Tree(slot) => self.fds.take(*slot).ok_or(Errno(libc::EBADF)).on(Call::Slot)?,
            Source::Inside(path) => {
                let inside = resolve::open(self.fd(Slot::ROOT)?, path, libc::O_PATH).on(Call::Open)?;
                mount::open_tree(inside.as_raw_fd(), c"", flags).on(Call::OpenTree)?
            }
        };
        let stat = fs::fstat(tree.as_fd()).on(Call::Fstat)?;
        let target = self.target(target, stat.st_mode & libc::S_IFMT == libc::S_IFDIR)?;
        set_attributes(tree.as_fd(), attr)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).on(Call::MoveMount)?;
        propagate(tree.as_fd(), attr)
    }

    pub(super) fn mount(&mut self, new: &NewFs) -> Done {
        let target = self.target(&new.target, true)?;
        let tree = match make_fs(new) {
            Ok(tree) => tree,
            Err(e) => match (&new.or_bind, e.errno.0) {
                (Some(path), libc::EPERM | libc::EBUSY) => {
                    let flags = mount::OPEN_TREE_CLONE | mount::AT_RECURSIVE;
                    let tree = mount::open_tree(fs::CWD, path, flags).on(Call::OpenTree)?;
                    set_attributes(tree.as_fd(), &new.attr)?;
                    tree
                }
                (_, libc::ENOSYS) if e.call == Call::Fsopen => return mount_by_name(new, target.as_fd()),
                _ => return Err(e),
            },
        };
        if new.copy_up {
            copy_up::copy(target.as_fd(), tree.as_fd())?;
        }
        mount::move_mount(tree.as_fd(), target.as_fd()).on(Call::MoveMount)?;
        propagate(tree.as_fd(), &new.attr)
    }

    pub(super) fn remount(&mut self, target: &Target, attr: &MountAttr) -> Done {
        let mounted = resolve::open(self.fd(Slot::ROOT)?, &target.path, libc::O_PATH).on(Call::Open)?;
        set_attributes(mounted.as_fd(), attr)?;
        propagate(mounted.as_fd(), attr)
    }

    pub(super) fn open_dir(&mut self, path: &CStr) -> Done {
        let dir = resolve::create(self.fd(Slot::ROOT)?, path, DIRECTORY).on(Call::Create)?;
        self.fds.set(Slot::DIR, dir);
        Ok(())
    }

    pub(super) fn node(&mut self, name: &CStr, mode: u32, (major, minor): (u32, u32), (uid, gid): (u32, u32)) -> Done {
        let dir = self.fd(Slot::DIR)?;
        let device = fs::device(major, minor);
        match fs::mknodat(dir, name, mode, device) {
            Ok(()) => {}
            Err(Errno(libc::EEXIST)) => {
                let there = fs::openat2(dir, name, libc::O_PATH | libc::O_NOFOLLOW, fs::RESOLVE_BENEATH).on(Call::Open)?;
                let stat = fs::fstat(there.as_fd()).on(Call::Fstat)?;
                let same = stat.st_mode & libc::S_IFMT == mode & libc::S_IFMT && stat.st_rdev == device;
                return if same { Ok(()) } else { failed(Call::Verify, libc::EEXIST) };
            }
            Err(e) => return Err(e).on(Call::Mknod),
        }
        if (uid, gid) != (0, 0) {
            fs::fchownat(dir, name, uid, gid).on(Call::Create)?;
        }
        Ok(())
    }

    pub(super) fn link(&mut self, name: &CStr, to: &CStr) -> Done {
        match fs::symlinkat(to, self.fd(Slot::DIR)?, name) {
            Ok(()) | Err(Errno(libc::EEXIST)) => Ok(()),
            Err(e) => Err(e).on(Call::Symlink),
        }
    }

    pub(super) fn directory(&mut self, path: &CStr, mode: u32) -> Done {
        resolve::create(self.fd(Slot::ROOT)?, path, Make::Directory { mode }).on(Call::Create).map(drop)
    }

    /// procfs is a mount of our own that nothing can be mounted over, and no symlink is followed (CVE-2025-52881).
    pub(super) fn sysctl(&mut self, file: &CStr, value: &CStr) -> Done {
        let strict = fs::RESOLVE_BENEATH | fs::RESOLVE_NO_XDEV | fs::RESOLVE_NO_SYMLINKS;
        let sys = fs::openat2(self.fd(Slot::PROC)?, c"sys", libc::O_PATH | libc::O_DIRECTORY, strict).on(Call::Open)?;
        let file = fs::openat2(sys.as_fd(), file, libc::O_WRONLY, strict).on(Call::Open)?;
        fs::write(file.as_fd(), value.to_bytes()).on(Call::Write).map(drop)
    }

    pub(super) fn read_only_path(&mut self, path: &CStr) -> Done {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let flags = mount::OPEN_TREE_CLONE | mount::AT_RECURSIVE;
        let tree = mount::open_tree(place.as_raw_fd(), c"", flags).on(Call::OpenTree)?;
        let attr = MountAttr { set: mount::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        set_attributes(tree.as_fd(), &attr)?;
        mount::move_mount(tree.as_fd(), place.as_fd()).on(Call::MoveMount)
    }

    pub(super) fn mask(&mut self, path: &CStr) -> Done {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let stat = fs::fstat(place.as_fd()).on(Call::Fstat)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
            return self.attach_file(self.fd(Slot::NULL)?, place.as_fd());
        }
        if let Some(empty) = self.fds.get(Slot::EMPTY) {
            return self.attach_file(empty, place.as_fd());
        }
        // One empty file system serves all masks; it must be attached before it can be cloned (until kernel 6.15).
        let context = mount::fsopen(c"tmpfs").on(Call::Fsopen)?;
        fs_option(context.as_fd(), c"nr_blocks", c"1")?;
        fs_option(context.as_fd(), c"nr_inodes", c"1")?;
        mount::fsconfig_create(context.as_fd()).on(Call::FsconfigCreate)?;
        let empty = mount::fsmount(context.as_fd(), mount::MOUNT_ATTR_RDONLY).on(Call::Fsmount)?;
        mount::move_mount(empty.as_fd(), place.as_fd()).on(Call::MoveMount)?;
        self.fds.set(Slot::EMPTY, empty);
        Ok(())
    }

    /// What is at `path` in the root; `None` when nothing is.
    fn existing(&self, path: &CStr) -> Done<Option<OwnedFd>> {
        match resolve::open(self.fd(Slot::ROOT)?, path, libc::O_PATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            Err(e) => Err(e).on(Call::Open),
        }
    }

    pub(super) fn pivot_root(&mut self) -> Done {
        fs::fchdir(self.fd(Slot::ROOT)?).on(Call::Chdir)?;
        mount::pivot_root_here().on(Call::PivotRoot)?;
        // The old root lies over the new one now, and "." is its root. Made a slave, so that the host does not lose its mounts.
        if self.host_shared {
            mount::mount(c"", c".", c"", libc::MS_SLAVE | libc::MS_REC, c"").on(Call::Mount)?;
        }
        mount::umount_detach(c".").on(Call::Umount)?;
        fs::chdir(c"/").on(Call::Chdir)
    }

    /// For roots on an initramfs, which pivot_root refuses. The host's procfs and sysfs stay mounted below the new root, so they
    /// are taken away first: a new user namespace could otherwise mount fresh, unmasked ones.
    pub(super) fn move_root(&mut self) -> Done {
        for path in [c"/proc", c"/sys"] {
            match mount::umount_detach(path) {
                Ok(()) | Err(Errno(libc::EINVAL | libc::ENOENT)) => {}
                // In a user namespace they are locked: an empty directory over them hides them as well.
                Err(Errno(libc::EPERM)) => mount::mount(c"tmpfs", path, c"tmpfs", libc::MS_RDONLY, c"").on(Call::Mount)?,
                Err(e) => return Err(e).on(Call::Umount),
            }
        }
        fs::fchdir(self.fd(Slot::ROOT)?).on(Call::Chdir)?;
        mount::mount(c".", c"/", c"", libc::MS_MOVE, c"").on(Call::Mount)?;
        self.chroot()
    }

    pub(super) fn chroot(&mut self) -> Done {
        if let Some(root) = self.fds.get(Slot::ROOT) {
            fs::fchdir(root).on(Call::Chdir)?;
        }
        fs::chroot(c".").on(Call::Chroot)?;
        fs::chdir(c"/").on(Call::Chdir)
    }

    pub(super) fn root_read_only(&mut self) -> Done {
        let root = fs::openat_following(fs::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
        set_attributes(root.as_fd(), &MountAttr { set: mount::MOUNT_ATTR_RDONLY, ..MountAttr::default() })
    }
}

/// A new file system, configured and mounted nowhere yet.
fn make_fs(new: &NewFs) -> Done<OwnedFd> {
    let context = mount::fsopen(&new.fstype).on(Call::Fsopen)?;
    if !new.source.is_empty() {
        fs_option(context.as_fd(), c"source", &new.source)?;
    }
    for option in &new.options {
        match option {
            FsOption::Flag(key) => mount::fsconfig_flag(context.as_fd(), key).on(Call::Fsconfig)?,
            FsOption::Text(key, value) => fs_option(context.as_fd(), key, value)?,
        }
    }
    mount::fsconfig_create(context.as_fd()).on(Call::FsconfigCreate)?;
    mount::fsmount(context.as_fd(), new.attr.set).on(Call::Fsmount)
}

fn fs_option(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Done {
    mount::fsconfig_text(context, key, value).on(Call::Fsconfig)
}

/// mount(2), for kernels and outer filters without the new calls. The target is named by its descriptor, so no path is walked.
fn mount_by_name(new: &NewFs, target: BorrowedFd<'_>) -> Done {
    let name = fd_path(target).on(Call::Mount)?;
    mount::mount(&new.source, name.as_cstr().on(Call::Mount)?, &new.fstype, mount_flags(new.attr.set), &new.data).on(Call::Mount)
}

/// `/proc/self/fd/N`: the host's own procfs, before the pivot.
fn fd_path(fd: BorrowedFd<'_>) -> SysResult<resolve::StackPath> {
    let mut digits = [0u8; 12];
    let mut at = digits.len();
    let mut number = fd.as_raw_fd().unsigned_abs();
    loop {
        at = at.saturating_sub(1);
        if let Some(place) = digits.get_mut(at) {
            *place = b'0'.saturating_add((number % 10) as u8);
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let mut path = resolve::StackPath::new(b"/proc/self/fd/")?;
    path.append(digits.get(at..).unwrap_or_default())?;
    Ok(path)
}

/// Attribute bits as mount(2) flags.
fn mount_flags(attributes: u64) -> u64 {
    const TABLE: [(u64, u64); 7] = [
        (mount::MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
        (mount::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
        (mount::MOUNT_ATTR_NODEV, libc::MS_NODEV),
        (mount::MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        (mount::MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME),
        (mount::MOUNT_ATTR_NOSYMFOLLOW, 256),
        (mount::MOUNT_ATTR_NOATIME, libc::MS_NOATIME),
    ];
    let mut flags = TABLE.iter().filter(|(attr, _)| attributes & attr != 0).fold(0, |all, (_, flag)| all | flag);
    if attributes & mount::MOUNT_ATTR_STRICTATIME != 0 {
        flags |= libc::MS_STRICTATIME;
    }
    flags
}

fn set_attributes(tree: BorrowedFd<'_>, attr: &MountAttr) -> Done {
    for (recursive, set, clear) in [(false, attr.set, attr.clear), (true, attr.rec_set, attr.rec_clear)] {
        if set | clear != 0 {
            let change = SetAttr { set, clear, ..SetAttr::default() };
            match mount::mount_setattr(tree, recursive, &change) {
                // Flags that the user namespace may not clear stay: less is given than asked, never more.
                Err(Errno(libc::EPERM)) if clear != 0 => {
                    mount::mount_setattr(tree, recursive, &SetAttr { set, ..SetAttr::default() }).on(Call::MountSetattr)?;
                }
                other => other.on(Call::MountSetattr)?,
            }
        }
    }
    Ok(())
}

fn propagate(tree: BorrowedFd<'_>, attr: &MountAttr) -> Done {
    attr.propagation.iter().filter(|p| p.flag != 0).try_for_each(|p| set_propagation(tree, *p))
}

fn set_propagation(tree: BorrowedFd<'_>, change: Propagation) -> Done {
    let attr = SetAttr { propagation: change.flag, ..SetAttr::default() };
    mount::mount_setattr(tree, change.recursive, &attr).on(Call::MountSetattr)
}

/// pivot_root wants the mount that the root lies on not to be shared. Walks up to that mount's own root and makes it private.
fn make_containing_mount_private(place: BorrowedFd<'_>) -> Done {
    let id = fs::mount_id(place).on(Call::Fstat)?;
    let mut here: Option<OwnedFd> = None;
    for _ in 0..4096 {
        let current = here.as_ref().map_or(place, |fd| fd.as_fd());
        let up = fs::openat_following(current.as_raw_fd(), c"..", libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
        let (a, b) = (fs::statx(current, libc::STATX_BASIC_STATS).on(Call::Fstat)?, fs::statx(up.as_fd(), libc::STATX_BASIC_STATS).on(Call::Fstat)?);
        let at_top = (a.stx_ino, a.stx_dev_major, a.stx_dev_minor) == (b.stx_ino, b.stx_dev_major, b.stx_dev_minor);
        if at_top || fs::mount_id(up.as_fd()).on(Call::Fstat)? != id {
            return set_propagation(current, Propagation { flag: libc::MS_PRIVATE, recursive: false });
        }
        here = Some(up);
    }
    failed(Call::Verify, libc::ELOOP)
}
