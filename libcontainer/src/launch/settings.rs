//! What the parent sets on the child from outside, by pid. The child waits at a gate and is not reaped, so its pid can't be reused.

use crate::error::{Context, Error, Result};
use crate::plan::ParentSettings;
use crate::plan::namespaces::{self, IPC, NET, USER, UTS};
use crate::signal;
use crate::sys::{fs, pidfd, process};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Before the child joins its cgroups.
pub(super) fn before_join(settings: &ParentSettings, pid: i32) -> Result<()> {
    if let Some(score) = &settings.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        std::fs::write(&path, score.to_bytes())
            .with_context(|| format!("process.oomScoreAdj: write {score:?} to {path:?}"))?;
    }
    if settings.affinity_initial.is_empty() {
        return Ok(());
    }
    process::set_affinity(pid, &mask(&settings.affinity_initial))
        .context("sched_setaffinity: process.execCPUAffinity.initial")
}

/// At the last gate.
pub(super) fn apply(settings: &ParentSettings, pid: i32) -> Result<()> {
    if let Some(s) = &settings.scheduler {
        let attr = process::SchedAttr {
            size: 48,
            policy: s.policy,
            flags: s.flags,
            nice: s.nice,
            priority: s.priority,
            runtime: s.runtime,
            deadline: s.deadline,
            period: s.period,
        };
        process::set_scheduler(pid, &attr).context("sched_setattr: process.scheduler").map_err(|e| match e.errno() {
            Some(libc::EPERM) => e.hint(
                "SCHED_DEADLINE needs all CPUs in the affinity: process scheduler can't be used together with AllowedCPUs",
            ),
            _ => e,
        })?;
    }
    if let Some(value) = settings.io_priority {
        process::set_io_priority(pid, value).context("ioprio_set: process.ioPriority")?;
    }
    for limit in &settings.rlimits {
        process::prlimit(pid, limit.resource, limit.soft, limit.hard)
            .with_context(|| {
                format!("prlimit: process.rlimits: set {} to {}:{}", limit.name, limit.soft, limit.hard)
            })
            .map_err(|e| e.hint("raising a hard limit needs CAP_SYS_RESOURCE"))?;
    }
    Ok(())
}

/// Ranges of CPUs as sched_setaffinity's bits.
fn mask(cpus: &[(u32, u32)]) -> Vec<u64> {
    let last = cpus.iter().map(|(_, last)| *last).max().unwrap_or(0);
    let mut words = vec![0u64; last as usize / 64 + 1];
    for cpu in cpus.iter().flat_map(|(first, last)| *first..=*last) {
        if let Some(word) = words.get_mut(cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
    words
}

/// Opens a namespace to join, and checks that it is one and of the kind that was asked for. `foreign`: and that it isn't the caller's own.
pub(crate) fn open_namespace(path: &Path, flag: u64, foreign: bool) -> Result<OwnedFd> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::invalid(format!("linux.namespaces: {path:?} contains a NUL byte")))?;
    // O_NONBLOCK: a FIFO in its place must not hang us.
    let fd = fs::openat_following(fs::CWD, &name, libc::O_RDONLY | libc::O_NONBLOCK)
        .with_context(|| format!("linux.namespaces: open {path:?}"))?;
    let magic =
        fs::fstatfs(fd.as_fd()).with_context(|| format!("linux.namespaces: fstatfs {path:?}"))?.f_type;
    if magic != NSFS_MAGIC {
        return Err(Error::invalid(format!("linux.namespaces: {path:?} is not a namespace file")));
    }
    if process::namespace_kind(fd.as_fd()).with_context(|| format!("ioctl(NS_GET_NSTYPE) of {path:?}"))?
        != flag
    {
        return Err(Error::invalid(format!("linux.namespaces: {path:?} is a namespace of another kind")));
    }
    if foreign && is_own(&fd, flag)? {
        return Err(Error::invalid(format!(
            "linux.namespaces: {path:?} is the host's own namespace, whose hostname and sysctls must not change"
        )));
    }
    Ok(fd)
}

/// Whether it is the caller's namespace.
fn is_own(ns: &OwnedFd, flag: u64) -> Result<bool> {
    let name = match flag {
        NET | IPC | UTS | USER => namespaces::name_of(flag),
        _ => return Ok(false),
    };
    let own = std::fs::metadata(format!("/proc/self/ns/{name}"))
        .with_context(|| format!("stat /proc/self/ns/{name}"))?;
    let stat = fs::fstat(ns.as_fd()).context("fstat of a namespace")?;
    Ok((own.dev(), own.ino()) == (stat.st_dev, stat.st_ino))
}

/// The root directory of a process, as seen from its own mount namespace.
pub(crate) fn open_root_of(process: BorrowedFd<'_>) -> Result<OwnedFd> {
    let pid = signal::pid_of(process)?;
    let path = format!("/proc/{pid}/root");
    let root = File::open(&path).with_context(|| format!("open {path:?}"))?;
    // The pid was still the process's if it hasn't been reaped by now.
    pidfd::send_signal(process, 0).context("pidfd_send_signal: the container's process")?;
    Ok(root.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn cpu_ranges_become_bits() {
        assert_eq!(super::mask(&[(0, 1), (4, 4)]), [0b10011]);
        assert_eq!(super::mask(&[(63, 64)]), [1 << 63, 1]);
    }
}
