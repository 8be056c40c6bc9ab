//! Steps that change who the process is: ids, capabilities, keyring, label, working directory.

use super::{Child, Done, Failed, On, failed};
use crate::launch::frame::Call;
use crate::plan::step::{CapSets, Ids, Slot};
use crate::rootfs::resolve;
use crate::sys::openat2;
use crate::sys::{Errno, fs, process};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// The score of the process itself, while the host's procfs is what /proc shows.
pub(super) fn oom_score_adj(value: &CStr, tolerate: bool) -> Done {
    let written = fs::openat_following(fs::CWD, c"/proc/self/oom_score_adj", libc::O_WRONLY)
        .and_then(|file| fs::write(file.as_fd(), value.to_bytes()));
    match written {
        Err(Errno(libc::EACCES | libc::EPERM)) if tolerate => Ok(()),
        other => other.on(Call::Write).map(drop),
    }
}

pub(super) fn become_root(drop_groups: bool) -> Done {
    if drop_groups {
        process::setgroups(&[]).on(Call::Setgroups)?;
    }
    process::setresgid(0).on(Call::Setresgid)?;
    process::setresuid(0).on(Call::Setresuid)
}

/// Joins or makes a session keyring. Kernels without keys (ENOSYS) leave the caller's in place; so do outer filters that refuse
/// the call and an exhausted quota, since keys are a convenience that most containers never use.
pub(super) fn keyring(name: &CStr, permit: u32) -> Done {
    let serial = match process::join_session_keyring(name) {
        Ok(serial) => serial,
        Err(Errno(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EDQUOT)) => return Ok(()),
        Err(e) => return Err(e).on(Call::Keyring),
    };
    if permit == 0 {
        return Ok(());
    }
    let mut text = [0u8; 256];
    let length = process::keyring_describe(serial, &mut text).on(Call::Keyring)?;
    // `type;uid;gid;perm;description`, perm in hexadecimal.
    let mut fields = text.get(..length).unwrap_or_default().split(|b| *b == b';');
    let mask = fields.nth(3).and_then(|f| u32::from_str_radix(std::str::from_utf8(f).ok()?, 16).ok());
    match mask {
        Some(mask) => process::keyring_permissions(serial, mask | permit).on(Call::Keyring),
        None => Ok(()),
    }
}

pub(super) fn drop_bounding(keep: u64) -> Done {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match process::drop_bounding(capability) {
            // Past the last one that the kernel knows.
            Err(Errno(libc::EINVAL)) => break,
            other => other.on(Call::Bounding)?,
        }
    }
    process::keep_capabilities(true).on(Call::Capset)
}

pub(super) fn capabilities(sets: &CapSets) -> Done {
    process::keep_capabilities(false).on(Call::Capset)?;
    process::capset(sets.effective, sets.permitted, sets.inheritable).on(Call::Capset)?;
    process::ambient_clear().on(Call::Ambient)?;
    for capability in 0..64u32 {
        if sets.ambient & (1 << capability) != 0 {
            process::ambient_raise(capability).map_err(|errno| Failed {
                call: Call::Ambient,
                errno,
                arg: capability.cast_signed(),
            })?;
        }
    }
    Ok(())
}

/// Changes to `path`; the kernel must then name a directory inside the root, or a leaked descriptor was followed out of it.
pub(super) fn cwd(path: &CStr) -> Done {
    fs::chdir(path).on(Call::Chdir)?;
    let mut text = [0u8; 4096];
    match fs::getcwd(&mut text) {
        Ok(_) if text.first() == Some(&b'/') => Ok(()),
        Ok(_) => failed(Call::Verify, libc::EXDEV),
        Err(e) => Err(e).on(Call::Getcwd),
    }
}

/// The container's /dev/null, open for both directions; `None` if it has none, or may not open it.
fn container_null() -> Done<Option<OwnedFd>> {
    let root = fs::openat_following(fs::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
    let open = |flags| resolve::open(root.as_fd(), c"/dev/null", flags | libc::O_NOFOLLOW);
    let is_null = |fd: &OwnedFd| fs::is_null(fd.as_fd()).unwrap_or(false);
    // Opening another device or a FIFO may block, or do something: the first look is without.
    if !open(libc::O_PATH).is_ok_and(|found| is_null(&found)) {
        return Ok(None);
    }
    let null = open(libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY).ok();
    // Another process of the container may have replaced it since.
    let null = null.filter(is_null);
    Ok(null.filter(|null| fs::set_nonblocking(null.as_fd(), false).is_ok()))
}

/// The owner of each stream, but not of a null device.
fn owners() -> Done<[Option<u32>; 3]> {
    let mut owners = [None; 3];
    for (owner, stream) in owners.iter_mut().zip(fs::streams()) {
        let stat = fs::fstat(stream).on(Call::Fstat)?;
        *owner = (!fs::is_null_device(&stat)).then_some(stat.st_uid);
    }
    Ok(owners)
}

impl Child<'_> {
    /// Replaces the streams that are a null device by the container's /dev/null, through which it can change nothing but its own. What
    /// else stands in its place, in a malicious root, is not opened, and the streams stay what they are.
    pub(super) fn own_null(&mut self) -> Done {
        let owners = *self.stream_owners.insert(owners()?);
        if owners.iter().all(Option::is_some) {
            return Ok(());
        }
        let Some(null) = container_null()? else { return Ok(()) };
        for (number, _) in (0..).zip(owners).filter(|(_, owner)| owner.is_none()) {
            fs::dup_to(null.as_fd(), number).on(Call::Dup)?;
        }
        Ok(())
    }

    /// Pipes and files given as streams become the user's, so that /dev/stdout can be opened; /dev/null stays root's.
    fn own_stdio(&self, uid: u32) -> Done {
        let owners = self.stream_owners.map_or_else(owners, Ok)?;
        for (fd, _) in
            fs::streams().into_iter().zip(owners).filter(|(_, owner)| owner.is_some_and(|o| o != uid))
        {
            match fs::fchownat(fd, c"", uid, u32::MAX) {
                Ok(()) | Err(Errno(libc::EINVAL | libc::EPERM | libc::EROFS)) => {}
                Err(e) => return Err(e).on(Call::Chown),
            }
        }
        Ok(())
    }

    /// Groups, gid, uid; before that, while the file can still be read, the home of the new user.
    pub(super) fn ids(&mut self, ids: &Ids) -> Done {
        if let Some(uid) = self.exec.home_of {
            let root =
                fs::openat_following(fs::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
            self.exec.envp.set_spare(self.home.look_up(root.as_fd(), uid));
        }
        self.own_stdio(ids.uid)?;
        if let Some(groups) = &ids.groups {
            match process::setgroups(groups) {
                Err(Errno(libc::EPERM)) if ids.groups_may_be_denied => {}
                other => other.on(Call::Setgroups)?,
            }
        }
        process::setresgid(ids.gid).on(Call::Setresgid)?;
        process::setresuid(ids.uid).on(Call::Setresuid)
    }

    /// Writes a label to the first of `files` that is there. procfs is our own mount, so no other file can stand in its place.
    pub(super) fn label(&mut self, files: &[CString], value: &CStr) -> Done {
        let proc = self.fd(Slot::PROC)?;
        let mut last = Errno(libc::ENOENT);
        for file in files {
            // "self" and "thread-self" are plain symlinks of procfs; nothing may be mounted on the way.
            match openat2::open(proc, file, libc::O_WRONLY, fs::RESOLVE_BENEATH | fs::RESOLVE_NO_XDEV) {
                Ok(fd) => return fs::write(fd.as_fd(), value.to_bytes()).on(Call::Write).map(drop),
                Err(e) if e.0 == libc::ENOENT => last = e,
                Err(e) => return Err(e).on(Call::Open),
            }
        }
        Err(last).on(Call::Open)
    }
}
