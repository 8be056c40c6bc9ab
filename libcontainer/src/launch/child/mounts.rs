//! Steps that assemble the root file system: trees attached by descriptor to places found by descriptor, never by path.

use super::attach::{Tree, lacks_call};
use super::{Child, Done, Failed, On, failed};
use crate::launch::copy_up;
use crate::launch::frame::{Call, Frame};
use crate::plan::step::{
    FsOption, MountAttr, NewFs, ProcGuard, Propagation, Slot, Source, Target, TargetKind,
};
use crate::rootfs::resolve::{self, Make};
use crate::sys::mount::SetAttr;
use crate::sys::openat2;
use crate::sys::path::{self, StackPath};
use crate::sys::{Errno, fs, mount, sock};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const DIRECTORY: Make = Make::Directory { mode: 0o755 };

impl<'a> Child<'a> {
    pub(super) fn host_propagation(&mut self, flags: u64) -> Done {
        // A change that is not recursive leaves shared mounts below; unbindable ones cannot be cloned.
        self.host_shared = flags != libc::MS_SLAVE | libc::MS_REC && flags != libc::MS_PRIVATE | libc::MS_REC;
        super::fs_mount_propagation(flags)
    }

    /// The tree at `path` is mounted over itself, so that it is a mount of its own, as pivot_root asks.
    pub(super) fn root(&mut self, path: &'a CStr, source: Option<Slot>, propagation: u64) -> Done {
        let open = || fs::openat_following(fs::CWD, path, libc::O_PATH | libc::O_DIRECTORY).on(Call::Open);
        let place = open()?;
        if self.host_shared {
            self.unshare_containing_mount(place.as_fd())?;
        }
        let tree = match source {
            Some(slot) => self.tree_from_parent(slot)?,
            None => self.tree_at(path, true).on(Call::OpenTree)?,
        };
        let change =
            Propagation { flag: propagation & !libc::MS_REC, recursive: propagation & libc::MS_REC != 0 };
        if propagation != 0 && !self.by_name {
            self.set_propagation(tree.as_fd(), change)?;
        }
        let root = self.attach(tree, place.as_fd(), &MountAttr::default(), open)?;
        if propagation != 0 && self.by_name {
            self.set_propagation(root.as_fd(), change)?;
        }
        self.fds.set(Slot::ROOT, root);
        self.root_at = Some(path);
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
            // Nor can one on a kernel without the calls.
            Err(e) if matches!(e.errno.0, libc::EPERM | libc::ENOSYS) => callers_proc()?,
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
        let place = self.target(target, stat.st_mode & libc::S_IFMT == libc::S_IFDIR)?;
        let mounted = self.attach(tree, place.as_fd(), attr, || self.find(&target.path))?;
        self.propagate(mounted.as_fd(), attr)?;
        self.becomes_root(target, mounted);
        Ok(())
    }

    /// What was mounted on `/` is the root from here on.
    fn becomes_root(&mut self, target: &Target, mounted: OwnedFd) {
        if target.path.as_c_str() == c"/" {
            self.fds.set(Slot::ROOT, mounted);
        }
    }

    fn source(&mut self, source: &Source, recursive: bool) -> Done<Tree> {
        match source {
            Source::Path(path) => self.tree_at(path, recursive).on(Call::OpenTree),
            Source::Tree(slot) => self.tree_from_parent(*slot),
            Source::PathOrTree { path, tree } => match self.tree_at(path, recursive) {
                Err(Errno(libc::EACCES)) => self.tree_from_parent(*tree),
                other => other.on(Call::OpenTree),
            },
            Source::Inside(path) => self.tree_of(self.find(path)?.as_fd(), recursive).on(Call::OpenTree),
            Source::InsideMapped { path, userns, recursive: map_tree } => {
                let tree = self.tree_of(self.find(path)?.as_fd(), recursive).on(Call::OpenTree)?;
                match mount::map_ids(tree.as_fd(), *map_tree, self.fd(*userns)?) {
                    // The privilege has to be over the user namespace of the file system, which is the host's.
                    Err(Errno(libc::EPERM)) => self.map_by_parent(tree.as_fd(), *userns, *map_tree)?,
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
        if new.classic || self.by_name {
            return self.mount_by_name(new, mode, target.as_fd());
        }
        let tree = match make_fs(new, mode) {
            Err(e) if refused(&e) && new.or_bind.is_some() && !lacks_call(&e) => {
                return self.bind_instead(new, target.as_fd());
            }
            other => other?,
        };
        if let Some(take) = new.copy_up {
            copy_up::copy(target.as_fd(), tree.as_fd(), take)?;
        }
        self.set_tree_attributes(tree.as_fd(), &new.attr)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).on(Call::MoveMount)?;
        self.finish(new, tree.as_fd())?;
        self.becomes_root(&new.target, tree);
        Ok(())
    }

    /// mount(2), for kernels and outer filters without the new calls, and for options that only it takes.
    fn mount_by_name(&mut self, new: &NewFs, mode: Option<u32>, target: BorrowedFd<'_>) -> Done {
        let mounted = match self.new_at(new, mode, target) {
            Err(e) if e.errno.0 == libc::EBUSY => self.new_at_covered(new, mode, target),
            other => other,
        };
        let mounted = match mounted {
            Err(e) if refused(&e) && new.or_bind.is_some() => return self.bind_instead(new, target),
            other => other?,
        };
        if let Some(take) = new.copy_up {
            copy_up::copy(target, mounted.as_fd(), take)?;
        }
        self.set_tree_attributes(mounted.as_fd(), &new.attr)?;
        self.finish(new, mounted.as_fd())?;
        self.becomes_root(&new.target, mounted);
        Ok(())
    }

    fn new_at(&self, new: &NewFs, mode: Option<u32>, place: BorrowedFd<'_>) -> Done<OwnedFd> {
        let mut data = StackPath::new(b"").on(Call::Mount)?;
        if let Some(mode) = mode {
            data.append(b"mode=").on(Call::Mount)?;
            data.append(octal(mode).get(..4).unwrap_or_default()).on(Call::Mount)?;
            data.append(if new.data.is_empty() { b"" } else { b"," }).on(Call::Mount)?;
        }
        data.append(new.data.to_bytes()).on(Call::Mount)?;
        let name = path::of_fd(place).on(Call::Mount)?;
        let (name, data) = (name.as_cstr().on(Call::Mount)?, data.as_cstr().on(Call::Mount)?);
        let flags = mount::flags_of(new.attr.set).on(Call::Mount)? | new.flags;
        mount::mount(&new.source, name, &new.fstype, flags, data).on(Call::Mount)?;
        self.mounted_at(&new.target.path, place)
    }

    /// mount(2), unlike move_mount(2), refuses a file system on itself: the host's cgroups below a bind of /sys. Not so with one between.
    fn new_at_covered(&self, new: &NewFs, mode: Option<u32>, place: BorrowedFd<'_>) -> Done<OwnedFd> {
        empty_at(place)?;
        let cover = self.mounted_at(&new.target.path, place)?;
        self.new_at(new, mode, cover.as_fd())
    }

    /// Without the privilege for a file system of its own the container sees the host's, no more open than it asked for. (By name, the
    /// mounts below keep the host's attributes.)
    fn bind_instead(&self, new: &NewFs, target: BorrowedFd<'_>) -> Done {
        let path = new.or_bind.as_deref().unwrap_or_default();
        let change = MountAttr { set: new.attr.set & !mount::MOUNT_ATTR_ATIME, ..MountAttr::default() };
        let whole = MountAttr { rec_set: change.set, ..MountAttr::default() };
        let tree = self.tree_at(path, true).on(Call::OpenTree)?;
        let attr = if self.by_name { change } else { whole };
        let mounted = self.attach(tree, target, &attr, || self.find(&new.target.path))?;
        self.finish(new, mounted.as_fd())
    }

    /// What is done to a file system at its place.
    fn finish(&self, new: &NewFs, mounted: BorrowedFd<'_>) -> Done {
        if let Some(label) = &new.label {
            let name = path::of_fd(mounted).on(Call::Mount)?;
            fs::setxattr(name.as_cstr().on(Call::Mount)?, c"security.selinux", label.to_bytes())
                .on(Call::Write)?;
        }
        self.propagate(mounted, &new.attr)
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
        let mounted = self.find(&target.path)?;
        self.set_attributes(mounted.as_fd(), attr)?;
        self.propagate(mounted.as_fd(), attr)
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
                let there = openat2::open(dir, name, libc::O_PATH | libc::O_NOFOLLOW, fs::RESOLVE_BENEATH)
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
            openat2::open(dir, name, libc::O_PATH | libc::O_NOFOLLOW, fs::RESOLVE_BENEATH).on(Call::Open)?;
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
        let sys = openat2::open(self.fd(Slot::PROC)?, c"sys", libc::O_PATH | libc::O_DIRECTORY, strict)
            .on(Call::Open)?;
        let file = openat2::open(sys.as_fd(), file, libc::O_WRONLY, strict).on(Call::Open)?;
        fs::write(file.as_fd(), value.to_bytes()).on(Call::Write).map(drop)
    }

    pub(super) fn read_only_path(&mut self, path: &CStr) -> Done {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let tree = self.tree_of(place.as_fd(), true).on(Call::OpenTree)?;
        let attr = MountAttr { set: mount::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        self.attach(tree, place.as_fd(), &attr, || self.find(path)).map(drop)
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
        if self.by_name {
            return empty_at(place.as_fd());
        }
        // One empty file system serves all masks; it must be attached before it can be cloned (until kernel 6.15).
        let empty = first_accepted([c"1", c"2"], |inodes| {
            let context = mount::fsopen(c"tmpfs").on(Call::Fsopen)?;
            fs_option(context.as_fd(), c"nr_blocks", c"1")?;
            fs_option(context.as_fd(), c"nr_inodes", inodes)?;
            mount::fsconfig_create(context.as_fd()).on(Call::FsconfigCreate)?;
            mount::fsmount(context.as_fd(), mount::MOUNT_ATTR_RDONLY).on(Call::Fsmount)
        })?;
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
        let change = SetAttr { set: mount::MOUNT_ATTR_RDONLY, ..SetAttr::default() };
        if self.by_name {
            // What /proc names is the container's by now.
            return mount::set_by_name(root.as_fd(), c"/", false, &change).on(Call::Mount);
        }
        mount::mount_setattr(root.as_fd(), false, &change).on(Call::MountSetattr)
    }

    /// pivot_root(2) fails if the mount that contains the root is shared. Walks up to the root of that mount and makes it a slave, which
    /// the container's root, a clone of it, may have to be as well.
    fn unshare_containing_mount(&self, place: BorrowedFd<'_>) -> Done {
        let id = fs::mount_id(place).on(Call::Fstat)?;
        let mut here: Option<OwnedFd> = None;
        for _ in 0..4096 {
            let current = here.as_ref().map_or(place, |fd| fd.as_fd());
            let up = fs::openat_following(current.as_raw_fd(), c"..", libc::O_PATH | libc::O_DIRECTORY)
                .on(Call::Open)?;
            let (a, b) = (fs::fstat(current).on(Call::Fstat)?, fs::fstat(up.as_fd()).on(Call::Fstat)?);
            let at_top = (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
            if at_top || fs::mount_id(up.as_fd()).on(Call::Fstat)? != id {
                return self.set_propagation(current, Propagation { flag: libc::MS_SLAVE, recursive: false });
            }
            here = Some(up);
        }
        failed(Call::Verify, libc::ELOOP)
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

/// An empty, read-only file system.
fn empty_at(place: BorrowedFd<'_>) -> Done {
    let name = path::of_fd(place).on(Call::Mount)?;
    let name = name.as_cstr().on(Call::Mount)?;
    first_accepted([c"nr_blocks=1,nr_inodes=1", c"nr_blocks=1,nr_inodes=2"], |data| {
        mount::mount(c"tmpfs", name, c"tmpfs", libc::MS_RDONLY, data).on(Call::Mount)
    })
}

/// Makes an empty tmpfs with the first of two options. Some kernels (Ubuntu's 5.4) refuse one inode, which the root takes up; whether that
/// shows when the option is set or when the file system is made, it takes a new one to try another.
fn first_accepted<T>([few, more]: [&CStr; 2], make: impl Fn(&CStr) -> Done<T>) -> Done<T> {
    match make(few) {
        Err(e) if e.errno.0 == libc::EINVAL => make(more),
        other => other,
    }
}

/// The kernel refuses the file system itself.
fn refused(e: &Failed) -> bool {
    matches!(e.errno.0, libc::EPERM | libc::EBUSY)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_system_is_made_with_two_inodes_where_one_is_refused() {
        let with = |refused: Option<(Call, i32)>| {
            first_accepted([c"1", c"2"], |inodes| match refused {
                Some((call, errno)) if inodes == c"1" => failed(call, errno),
                _ => Ok(inodes.to_owned()),
            })
        };
        assert_eq!(with(None).unwrap().as_c_str(), c"1");
        for call in [Call::Fsconfig, Call::FsconfigCreate, Call::Mount] {
            assert_eq!(with(Some((call, libc::EINVAL))).unwrap().as_c_str(), c"2", "{call:?}");
        }
        // Other failures have other causes.
        assert_eq!(with(Some((Call::Fsopen, libc::EPERM))).unwrap_err().errno.0, libc::EPERM);
        let never = first_accepted([c"1", c"2"], |_| failed::<()>(Call::Fsconfig, libc::EINVAL));
        assert_eq!(never.unwrap_err().errno.0, libc::EINVAL);
    }
}
