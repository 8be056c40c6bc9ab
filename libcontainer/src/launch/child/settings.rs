//! Steps that put the process in its place: namespaces joined by path, CPUs, oom score, working directory, a root without mounts.

use super::{Child, Done, On, failed};
use crate::launch::frame::Call;
use crate::plan::step::Slot;
use crate::sys::{Errno, fs, process};
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Through the host's /proc, before anything of the container is joined.
pub(super) fn oom_score_adj(value: &CStr, tolerate: bool) -> Done {
    let file = fs::openat_following(fs::CWD, c"/proc/self/oom_score_adj", libc::O_WRONLY).on(Call::Open);
    let written = file.and_then(|file| fs::write(file.as_fd(), value.to_bytes()).on(Call::Write));
    match written {
        Err(e) if tolerate && matches!(e.errno.0, libc::EACCES | libc::EPERM) => Ok(()),
        other => other.map(drop),
    }
}

pub(super) fn affinity(mask: &[u64], required: bool) -> Done {
    match process::set_affinity(0, mask) {
        Err(_) if !required => Ok(()),
        other => other.on(Call::Affinity),
    }
}

impl Child<'_> {
    pub(super) fn join(&mut self, ns: Slot, flag: u64) -> Done {
        if self.joined & flag != 0 {
            return Ok(());
        }
        process::setns(self.fd(ns)?, flag).on(Call::Setns)
    }

    pub(super) fn try_join(&mut self, ns: Slot, flag: u64) -> Done {
        match process::setns(self.fd(ns)?, flag) {
            Err(Errno(libc::EPERM)) => Ok(()),
            other => {
                self.joined |= flag;
                other.on(Call::Setns)
            }
        }
    }

    pub(super) fn open_root(&mut self, path: &CStr) -> Done {
        let root = fs::openat_following(fs::CWD, path, libc::O_PATH | libc::O_DIRECTORY).on(Call::Open)?;
        self.fds.set(Slot::ROOT, root);
        Ok(())
    }

    pub(super) fn try_cwd(&mut self, path: &CStr) -> Done {
        match self.cwd(path) {
            Err(e) if e.call == Call::Chdir && e.errno.0 == libc::EACCES => Ok(()),
            other => other,
        }
    }

    /// Changes to `path`; the kernel must then name a directory inside the root, or a leaked descriptor was followed out of it.
    pub(super) fn cwd(&mut self, path: &CStr) -> Done {
        if self.in_cwd {
            return Ok(());
        }
        fs::chdir(path).on(Call::Chdir)?;
        let mut text = [0u8; 4096];
        match fs::getcwd(&mut text) {
            Ok(_) if text.first() == Some(&b'/') => {
                self.in_cwd = true;
                Ok(())
            }
            Ok(_) => failed(Call::Verify, libc::EXDEV),
            Err(e) => Err(e).on(Call::Getcwd),
        }
    }
}
