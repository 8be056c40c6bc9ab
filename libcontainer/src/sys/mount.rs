//! The mount calls by descriptor (kernel 5.2, mount_setattr 5.12), and mount(2) for what has no other form and for kernels or
//! outer seccomp filters that refuse the new calls with ENOSYS. It is given paths as /proc/self/fd/N, so it resolves no path either.

use super::{Errno, SysResult, fs, owned, path, ret};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub(crate) const OPEN_TREE_CLONE: u32 = 1;
pub(crate) const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;

pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 0x4;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub(crate) const MOUNT_ATTR_ATIME: u64 = 0x70;
pub(crate) const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub(crate) const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
pub(crate) const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
pub(crate) const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// struct mount_attr of linux/mount.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SetAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

pub(crate) fn fsopen(fstype: &CStr) -> SysResult<OwnedFd> {
    // SAFETY: `fstype` is NUL-terminated and outlives the call. 1 is FSOPEN_CLOEXEC.
    ret(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), 1) }).map(owned)
}

pub(crate) fn fsconfig_flag(fs: BorrowedFd<'_>, key: &CStr) -> SysResult<()> {
    // SAFETY: `key` is NUL-terminated and outlives the call; a flag has no value.
    ret(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            FSCONFIG_SET_FLAG,
            key.as_ptr(),
            std::ptr::null::<u8>(),
            0,
        )
    })
    .map(drop)
}

pub(crate) fn fsconfig_text(fs: BorrowedFd<'_>, key: &CStr, value: &CStr) -> SysResult<()> {
    // SAFETY: both strings are NUL-terminated and outlive the call.
    ret(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            FSCONFIG_SET_STRING,
            key.as_ptr(),
            value.as_ptr(),
            0,
        )
    })
    .map(drop)
}

pub(crate) fn fsconfig_create(fs: BorrowedFd<'_>) -> SysResult<()> {
    let none = std::ptr::null::<u8>();
    // SAFETY: the command takes neither key nor value.
    ret(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) })
        .map(drop)
}

/// fsmount(2): a detached mount of the file system.
pub(crate) fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> SysResult<OwnedFd> {
    // SAFETY: no pointers. 1 is FSMOUNT_CLOEXEC.
    ret(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 1, attributes) }).map(owned)
}

/// open_tree(2); an empty `path` means `dir` itself.
pub(crate) fn open_tree(dir: RawFd, path: &CStr, flags: u32) -> SysResult<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC as u32 | AT_EMPTY_PATH;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    ret(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) }).map(owned)
}

/// move_mount(2) of a detached tree onto the place that `to` is open at.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, to: BorrowedFd<'_>) -> SysResult<()> {
    const F_EMPTY_T_EMPTY: u32 = 0x4 | 0x40;
    // SAFETY: both paths are empty C strings.
    ret(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            to.as_raw_fd(),
            c"".as_ptr(),
            F_EMPTY_T_EMPTY,
        )
    })
    .map(drop)
}

/// mount_setattr(2) on the mount that `mount` is the root of, or on its whole tree.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &SetAttr) -> SysResult<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string; `attr` is valid for the size passed.
    ret(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<SetAttr>(),
        )
    })
    .map(drop)
}

/// Maps the ids of the mount, or of its whole tree, by this user namespace (kernel 5.12).
pub(crate) fn map_ids(mount: BorrowedFd<'_>, recursive: bool, userns: BorrowedFd<'_>) -> SysResult<()> {
    let userns_fd = u64::from(userns.as_raw_fd().unsigned_abs());
    mount_setattr(mount, recursive, &SetAttr { set: MOUNT_ATTR_IDMAP, userns_fd, ..SetAttr::default() })
}

/// mount(2).
pub(crate) fn mount(source: &CStr, target: &CStr, fstype: &CStr, flags: u64, data: &CStr) -> SysResult<()> {
    // SAFETY: all strings are NUL-terminated and outlive the call; `data` is a string for every file system that takes options.
    ret(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr().cast())
    }
    .into())
    .map(drop)
}

/// mount(2) of a clone of the tree that `source` is open at, over `place`.
pub(crate) fn bind(source: BorrowedFd<'_>, place: BorrowedFd<'_>, recursive: bool) -> SysResult<()> {
    let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
    mount(path::of_fd(source)?.as_cstr()?, path::of_fd(place)?.as_cstr()?, c"", flags, c"")
}

/// Does by mount(2) what mount_setattr(2) does, on `name`, which is the root of the attached mount that `fd` is open at. It cannot set
/// attributes of a whole tree (ENOSYS), and none that mount(2) has no flag for (EINVAL).
pub(crate) fn set_by_name(fd: BorrowedFd<'_>, name: &CStr, recursive: bool, attr: &SetAttr) -> SysResult<()> {
    if attr.set | attr.clear != 0 {
        if recursive {
            return Err(Errno(libc::ENOSYS));
        }
        flags_of(attr.clear)?;
        let attributes = attributes_of(fs::mount_flags(fd)?) & !attr.clear | attr.set;
        let relative = if attributes & MOUNT_ATTR_ATIME == 0 { libc::MS_RELATIME } else { 0 };
        mount(c"", name, c"", libc::MS_REMOUNT | libc::MS_BIND | relative | flags_of(attributes)?, c"")?;
    }
    if attr.propagation != 0 {
        mount(c"", name, c"", attr.propagation | if recursive { libc::MS_REC } else { 0 }, c"")?;
    }
    Ok(())
}

/// MOUNT_ATTR_*, the flag that mount(2) takes for it, and the one that statfs(2) returns (ST_NOSYMFOLLOW: kernel 5.10). The options
/// that set them are in `plan::options::ATTRIBUTES`; each attribute there needs a line here.
const BY_NAME: [(u64, u64, u64); 7] = [
    (MOUNT_ATTR_RDONLY, libc::MS_RDONLY, 1),
    (MOUNT_ATTR_NOSUID, libc::MS_NOSUID, 2),
    (MOUNT_ATTR_NODEV, libc::MS_NODEV, 4),
    (MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC, 8),
    (MOUNT_ATTR_NOATIME, libc::MS_NOATIME, 1024),
    (MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME, 2048),
    (MOUNT_ATTR_NOSYMFOLLOW, libc::MS_NOSYMFOLLOW, 8192),
];

/// Attributes as mount(2)'s flags; EINVAL, as from mount_setattr(2), for one that mount(2) has no flag for.
pub(crate) fn flags_of(attributes: u64) -> SysResult<u64> {
    if attributes & !BY_NAME.iter().fold(MOUNT_ATTR_ATIME, |known, (attribute, ..)| known | attribute) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let strict = if attributes & MOUNT_ATTR_STRICTATIME != 0 { libc::MS_STRICTATIME } else { 0 };
    let set = BY_NAME.iter().filter(|(attribute, ..)| attributes & attribute != 0);
    Ok(set.fold(strict, |all, (_, flag, _)| all | flag))
}

/// The attributes in statfs(2)'s flags.
fn attributes_of(st: u64) -> u64 {
    const ST_RELATIME: u64 = 4096;
    let set = BY_NAME.iter().filter(|(.., flag)| st & flag != 0);
    let all = set.fold(0, |all, (attribute, ..)| all | attribute);
    if all & MOUNT_ATTR_NOATIME == 0 && st & ST_RELATIME == 0 { all | MOUNT_ATTR_STRICTATIME } else { all }
}

/// umount2(2) with MNT_DETACH, never following a symlink at the end.
pub(crate) fn umount_detach(target: &CStr) -> SysResult<()> {
    // SAFETY: `target` is NUL-terminated and outlives the call.
    ret(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }.into()).map(drop)
}

/// pivot_root(".", "."): the current directory becomes the root, with the old root mounted over it.
pub(crate) fn pivot_root_here() -> SysResult<()> {
    // SAFETY: both are C strings.
    ret(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}
