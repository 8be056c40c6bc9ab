//! Steps that assemble the root file system: trees attached by descriptor to places found by descriptor, never by path.

use super::{Child, Done, On, failed};
use crate::launch::copy_up;
use crate::launch::frame::{Call, Frame};
use crate::plan::step::{
    FsOption, MountAttr, NewFs, ProcGuard, Propagation, Slot, Source, Target, TargetKind,
};
use crate::rootfs::resolve::{self, Make};
use crate::sys::mount::SetAttr;
use crate::sys::{Errno, SysResult, fs, mount, sock};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const DIRECTORY: Make = Make::Directory { mode: 0o755 };

impl Child<'_> {
    pub(super) fn host_propagation(&mut self, flags: u64) -> Done {
        // A change that does not go down the tree leaves shared mounts below it; unbindable ones can not be cloned.
        self.host_shared = flags != libc::MS_SLAVE | libc::MS_REC && flags != libc::MS_PRIVATE | libc::MS_REC;
        super::fs_mount_propagation(flags)
    }

    /// The tree at `path` is mounted over itself, so that it is a mount of its own, as pivot_root asks.
    pub(super) fn root(&mut self, path: &CStr, source: Option<Slot>, propagation: u64) -> Done {
        let place = fs::openat_following(fs::CWD, path, libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
        if self.host_shared {
            make_containing_mount_private(place.as_fd())?;
        }
        let tree = match source {
            Some(slot) => self.fds.take(slot).ok_or(Errno(libc::EBADF)).on(Call::Slot)?,
            None => mount::open_tree(fs::CWD, path, mount::OPEN_TREE_CLONE | mount::AT_RECURSIVE)
                .on(Call::OpenTree)?,
        };
        if propagation != 0 {
            set_propagation(
                tree.as_fd(),
                Propagation { flag: propagation & !libc::MS_REC, recursive: propagation & libc::MS_REC != 0 },
            )?;
        }
        mount::move_mount(tree.as_fd(), place.as_fd()).on(Call::MoveMount)?;
        self.fds.set(Slot::ROOT, tree);
        Ok(())
    }

    pub(super) fn open_root(&mut self, path: &CStr) -> Done {
        let root = fs::openat_following(fs::CWD, path, libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
        self.fds.set(Slot::ROOT, root);
        Ok(())
    }

    pub(super) fn private_proc(&mut self) -> Done {
        let proc = match new_proc() {
            // Without the right over this pid namespace, or with a masked /proc around us, none can be made. What the caller has at
            // /proc is its own, not yet the container's; nothing that is mounted over a part of it is used (RESOLVE_NO_XDEV).
            Err(e) if e.errno.0 == libc::EPERM => callers_proc()?,
            other => other?,
        };
        self.fds.set(Slot::PROC, proc);
        Ok(())
    }

    /// The host's /dev/null, or nothing at all: a device node that only claims to be it would be bound over every mask
    /// (CVE-2025-31133).
    pub(super) fn open_null(&mut self) -> Done {
        let null =
            fs::openat_following(fs::CWD, c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW).on(Call::Open)?;
        let stat = fs::fstat(null.as_fd()).on(Call::Fstat)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != fs::device(1, 3) {
            return failed(Call::Verify, libc::ENODEV);
        }
        self.fds.set(Slot::NULL, null);
        Ok(())
    }

    fn target(&self, target: &Target, source_is_directory: bool) -> Done<OwnedFd> {
        let place = self.place(target, source_is_directory)?;
        if target.proc == ProcGuard::NotOnProcfs && on_procfs(place.as_fd())? {
            return failed(Call::Verify, libc::EXDEV);
        }
        Ok(place)
    }

    fn place(&self, target: &Target, source_is_directory: bool) -> Done<OwnedFd> {
        let root = self.fd(Slot::ROOT)?;
        let make = match target.kind {
            TargetKind::LikeSource if !source_is_directory => Make::File { mode: 0o644 },
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

    pub(super) fn bind(
        &mut self,
        source: &Source,
        recursive: bool,
        attr: &MountAttr,
        target: &Target,
    ) -> Done {
        let tree = self.source(source, recursive)?;
        if target.proc == ProcGuard::SourceIsProcfs && !on_procfs(tree.as_fd())? {
            return failed(Call::Verify, libc::EPERM);
        }
        let stat = fs::fstat(tree.as_fd()).on(Call::Fstat)?;
        let target = self.target(target, stat.st_mode & libc::S_IFMT == libc::S_IFDIR)?;
        set_attributes(tree.as_fd(), attr)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).on(Call::MoveMount)?;
        propagate(tree.as_fd(), attr)
    }

    fn source(&mut self, source: &Source, recursive: bool) -> Done<OwnedFd> {
        let flags = mount::OPEN_TREE_CLONE | if recursive { mount::AT_RECURSIVE } else { 0 };
        match source {
            Source::Path(path) => mount::open_tree(fs::CWD, path, flags).on(Call::OpenTree),
            Source::Tree(slot) => self.fds.take(*slot).ok_or(Errno(libc::EBADF)).on(Call::Slot),
            Source::PathOrTree { path, tree } => match mount::open_tree(fs::CWD, path, flags) {
                Err(Errno(libc::EACCES)) => self.fds.take(*tree).ok_or(Errno(libc::EBADF)).on(Call::Slot),
                other => other.on(Call::OpenTree),
            },
            Source::Inside(path) => {
                let inside = resolve::open(self.fd(Slot::ROOT)?, path, libc::O_PATH).on(Call::Open)?;
                mount::open_tree(inside.as_raw_fd(), c"", flags).on(Call::OpenTree)
            }
            Source::InsideMapped { path, userns, recursive } => {
                let inside = resolve::open(self.fd(Slot::ROOT)?, path, libc::O_PATH).on(Call::Open)?;
                let tree = mount::open_tree(inside.as_raw_fd(), c"", flags).on(Call::OpenTree)?;
                match mount::map_ids(tree.as_fd(), *recursive, self.fd(*userns)?) {
                    // The privilege has to be over the user namespace of the file system, which is the host's.
                    Err(Errno(libc::EPERM)) => self.map_by_parent(tree.as_fd(), *userns, *recursive)?,
                    other => other.on(Call::MountSetattr)?,
                }
                Ok(tree)
            }
        }
    }

    fn map_by_parent(&self, tree: BorrowedFd<'_>, userns: Slot, recursive: bool) -> Done {
        let frame = Frame::MapIds { userns: userns.0, recursive };
        sock::send_fd(self.fd(Slot::SYNC)?, &frame.encode(), tree).on(Call::Send)?;
        self.answer()
    }

    pub(super) fn mount(&mut self, new: &NewFs) -> Done {
        let mode = if new.inherit_mode { self.mode_of(&new.target)? } else { None };
        let target = self.target(&new.target, true)?;
        let made = if new.classic { failed(Call::Fsopen, libc::ENOSYS) } else { make_fs(new, mode) };
        let tree = match made {
            Ok(tree) => tree,
            Err(e) => match (&new.or_bind, e.errno.0) {
                (Some(path), libc::EPERM | libc::EBUSY) => bind_instead(path, &new.attr)?,
                (_, libc::ENOSYS) if e.call == Call::Fsopen => {
                    return self.mount_by_name(new, mode, target.as_fd());
                }
                _ => return Err(e),
            },
        };
        if new.copy_up {
            copy_up::copy(target.as_fd(), tree.as_fd())?;
        }
        set_tree_attributes(tree.as_fd(), &new.attr)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).on(Call::MoveMount)?;
        self.finish(new, tree.as_fd())
    }

    /// mount(2), for kernels and outer filters without the new calls, and for options that only it takes. The target is named by its
    /// descriptor, so no path is walked.
    fn mount_by_name(&self, new: &NewFs, mode: Option<u32>, target: BorrowedFd<'_>) -> Done {
        let name = fd_path(target).on(Call::Mount)?;
        let mut data = resolve::StackPath::new(b"").on(Call::Mount)?;
        if let Some(mode) = mode {
            data.append(b"mode=").on(Call::Mount)?;
            data.append(octal(mode).get(..4).unwrap_or_default()).on(Call::Mount)?;
            data.append(if new.data.is_empty() { b"" } else { b"," }).on(Call::Mount)?;
        }
        data.append(new.data.to_bytes()).on(Call::Mount)?;
        let (name, data) = (name.as_cstr().on(Call::Mount)?, data.as_cstr().on(Call::Mount)?);
        mount::mount(&new.source, name, &new.fstype, mount_flags(new.attr.set) | new.flags, data)
            .on(Call::Mount)?;
        let mounted = resolve::open(self.fd(Slot::ROOT)?, &new.target.path, libc::O_PATH).on(Call::Open)?;
        if new.copy_up {
            copy_up::copy(target, mounted.as_fd())?;
        }
        set_tree_attributes(mounted.as_fd(), &new.attr)?;
        self.finish(new, mounted.as_fd())
    }

    /// What is done to a file system at its place.
    fn finish(&self, new: &NewFs, mounted: BorrowedFd<'_>) -> Done {
        if let Some(label) = &new.label {
            let name = fd_path(mounted).on(Call::Mount)?;
            fs::setxattr(name.as_cstr().on(Call::Mount)?, c"security.selinux", label.to_bytes())
                .on(Call::Write)?;
        }
        propagate(mounted, &new.attr)
    }

    /// The mode of what is at the target; `None` when nothing is.
    fn mode_of(&self, target: &Target) -> Done<Option<u32>> {
        match resolve::open(self.fd(Slot::ROOT)?, &target.path, libc::O_PATH) {
            Ok(fd) => Ok(Some(fs::fstat(fd.as_fd()).on(Call::Fstat)?.st_mode & 0o7777)),
            Err(Errno(libc::ENOENT)) => Ok(None),
            Err(e) => Err(e).on(Call::Open),
        }
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

    pub(super) fn node(
        &mut self,
        name: &CStr,
        mode: u32,
        (major, minor): (u32, u32),
        (uid, gid): (u32, u32),
        shown: &CStr,
    ) -> Done {
        let dir = self.fd(Slot::DIR)?;
        let device = fs::device(major, minor);
        match fs::mknodat(dir, name, mode, device) {
            Ok(()) => {}
            Err(Errno(libc::EEXIST)) => {
                let there = fs::openat2(dir, name, libc::O_PATH | libc::O_NOFOLLOW, fs::RESOLVE_BENEATH)
                    .on(Call::Open)?;
                let stat = fs::fstat(there.as_fd()).on(Call::Fstat)?;
                let same = stat.st_mode & libc::S_IFMT == mode & libc::S_IFMT && stat.st_rdev == device;
                return if same { Ok(()) } else { failed(Call::Verify, libc::EEXIST) };
            }
            // No privilege, or a device cgroup around us that forbids it: the host's own node, if it is the same device.
            Err(Errno(libc::EPERM)) => return self.node_of_host(name, shown, device),
            Err(e) => return Err(e).on(Call::Mknod),
        }
        if (uid, gid) != (0, 0) {
            fs::fchownat(dir, name, uid, gid).on(Call::Create)?;
        }
        Ok(())
    }

    fn node_of_host(&self, name: &CStr, shown: &CStr, device: u64) -> Done {
        let dir = self.fd(Slot::DIR)?;
        let node = fs::openat_following(fs::CWD, shown, libc::O_PATH | libc::O_NOFOLLOW).on(Call::Mknod)?;
        if fs::fstat(node.as_fd()).on(Call::Fstat)?.st_rdev != device {
            return failed(Call::Verify, libc::ENODEV);
        }
        fs::mknodat(dir, name, libc::S_IFREG, 0).on(Call::Create)?;
        let place =
            fs::openat2(dir, name, libc::O_PATH | libc::O_NOFOLLOW, fs::RESOLVE_BENEATH).on(Call::Open)?;
        self.attach_file(node.as_fd(), place.as_fd())
    }

    pub(super) fn link(&mut self, name: &CStr, to: &CStr, replace: bool) -> Done {
        let dir = self.fd(Slot::DIR)?;
        if replace {
            let mut there = [0u8; 64];
            // The right link in a read-only root needs no change.
            if fs::readlinkat(dir, name, &mut there).is_ok_and(|n| there.get(..n) == Some(to.to_bytes())) {
                return Ok(());
            }
            match fs::unlinkat(dir, name, 0) {
                Ok(()) | Err(Errno(libc::ENOENT)) => {}
                Err(e) => return Err(e).on(Call::Symlink),
            }
        }
        match fs::symlinkat(to, dir, name) {
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
        let sys = fs::openat2(self.fd(Slot::PROC)?, c"sys", libc::O_PATH | libc::O_DIRECTORY, strict)
            .on(Call::Open)?;
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
        let old = fs::openat_following(fs::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
        fs::fchdir(self.fd(Slot::ROOT)?).on(Call::Chdir)?;
        mount::pivot_root_here().on(Call::PivotRoot)?;
        // The old root lies over the new one now. It is entered by its descriptor, for "." still is the new root; made a slave, so
        // that the host does not lose its mounts.
        fs::fchdir(old.as_fd()).on(Call::Chdir)?;
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
                Err(Errno(libc::EPERM)) => {
                    mount::mount(c"tmpfs", path, c"tmpfs", libc::MS_RDONLY, c"").on(Call::Mount)?
                }
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
fn make_fs(new: &NewFs, mode: Option<u32>) -> Done<OwnedFd> {
    let context = mount::fsopen(&new.fstype).on(Call::Fsopen)?;
    if !new.source.is_empty() {
        fs_option(context.as_fd(), c"source", &new.source)?;
    }
    if let Some(mode) = mode {
        let digits = octal(mode);
        let digits =
            CStr::from_bytes_until_nul(&digits).map_err(|_| Errno(libc::EINVAL)).on(Call::Fsconfig)?;
        fs_option(context.as_fd(), c"mode", digits)?;
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

/// Without the privilege for a file system of its own the container sees the host's, no more open than it asked for.
fn bind_instead(path: &CStr, attr: &MountAttr) -> Done<OwnedFd> {
    let tree =
        mount::open_tree(fs::CWD, path, mount::OPEN_TREE_CLONE | mount::AT_RECURSIVE).on(Call::OpenTree)?;
    let change = SetAttr { set: attr.set & !mount::MOUNT_ATTR_ATIME, ..SetAttr::default() };
    if change.set != 0 {
        mount::mount_setattr(tree.as_fd(), true, &change).on(Call::MountSetattr)?;
    }
    Ok(tree)
}

fn new_proc() -> Done<OwnedFd> {
    let context = mount::fsopen(c"proc").on(Call::Fsopen)?;
    mount::fsconfig_create(context.as_fd()).on(Call::FsconfigCreate)?;
    let attributes = mount::MOUNT_ATTR_NOSUID | mount::MOUNT_ATTR_NODEV | mount::MOUNT_ATTR_NOEXEC;
    mount::fsmount(context.as_fd(), attributes).on(Call::Fsmount)
}

/// /proc, if it is the root of a procfs.
fn callers_proc() -> Done<OwnedFd> {
    const PROC_ROOT_INO: u64 = 1;
    let proc = fs::openat_following(fs::CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
    if !on_procfs(proc.as_fd())? || fs::fstat(proc.as_fd()).on(Call::Fstat)?.st_ino != PROC_ROOT_INO {
        return failed(Call::Verify, libc::EXDEV);
    }
    Ok(proc)
}

fn on_procfs(fd: BorrowedFd<'_>) -> Done<bool> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    Ok(fs::fstatfs(fd).on(Call::Fstat)?.f_type == PROC_SUPER_MAGIC)
}

/// Four octal digits and a NUL.
fn octal(mode: u32) -> [u8; 5] {
    let digit = |shift: u32| b'0'.saturating_add(((mode >> shift) & 7) as u8);
    [digit(9), digit(6), digit(3), digit(0), 0]
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
    let mut flags =
        TABLE.iter().filter(|(attr, _)| attributes & attr != 0).fold(0, |all, (_, flag)| all | flag);
    if attributes & mount::MOUNT_ATTR_STRICTATIME != 0 {
        flags |= libc::MS_STRICTATIME;
    }
    flags
}

fn set_attributes(tree: BorrowedFd<'_>, attr: &MountAttr) -> Done {
    if attr.set | attr.clear != 0 {
        let change = SetAttr { set: attr.set, clear: attr.clear, ..SetAttr::default() };
        match mount::mount_setattr(tree, false, &change) {
            Err(Errno(libc::EPERM)) if attr.implied != 0 => {
                let change = SetAttr { clear: attr.clear & !attr.implied, ..change };
                mount::mount_setattr(tree, false, &change).on(Call::MountSetattr)?;
            }
            other => other.on(Call::MountSetattr)?,
        }
    }
    set_tree_attributes(tree, attr)
}

fn set_tree_attributes(tree: BorrowedFd<'_>, attr: &MountAttr) -> Done {
    if attr.rec_set | attr.rec_clear == 0 {
        return Ok(());
    }
    let change = SetAttr { set: attr.rec_set, clear: attr.rec_clear, ..SetAttr::default() };
    mount::mount_setattr(tree, true, &change).on(Call::MountSetattr)
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
        let up = fs::openat_following(current.as_raw_fd(), c"..", libc::O_PATH | libc::O_DIRECTORY)
            .on(Call::Open)?;
        let (a, b) = (
            fs::statx(current, libc::STATX_BASIC_STATS).on(Call::Fstat)?,
            fs::statx(up.as_fd(), libc::STATX_BASIC_STATS).on(Call::Fstat)?,
        );
        let at_top =
            (a.stx_ino, a.stx_dev_major, a.stx_dev_minor) == (b.stx_ino, b.stx_dev_major, b.stx_dev_minor);
        if at_top || fs::mount_id(up.as_fd()).on(Call::Fstat)? != id {
            return set_propagation(current, Propagation { flag: libc::MS_PRIVATE, recursive: false });
        }
        here = Some(up);
    }
    failed(Call::Verify, libc::ELOOP)
}
