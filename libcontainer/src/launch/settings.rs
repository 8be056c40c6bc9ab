//! What the parent sets on the child from outside, by pid. The child is unreaped and waits at a gate, so its pid names it.

use crate::error::{Context, Error, Result};
use crate::plan::ParentSettings;
use crate::sys::{Errno, fs, process};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Before the child joins its cgroups.
pub(super) fn before_join(settings: &ParentSettings, pid: i32) -> Result<()> {
    if settings.affinity_initial.is_empty() {
        return Ok(());
    }
    process::set_affinity(pid, &mask(&settings.affinity_initial)).context("sched_setaffinity: process.execCPUAffinity.initial")
}

/// At the last gate.
pub(super) fn apply(settings: &ParentSettings, pid: i32) -> Result<()> {
    if let Some(adj) = settings.oom_score_adj {
        set_oom_score_adj(pid, adj)?;
    }
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
        process::set_scheduler(pid, &attr).context("sched_setattr: process.scheduler")?;
    }
    if let Some(value) = settings.io_priority {
        process::set_io_priority(pid, value).context("ioprio_set: process.ioPriority")?;
    }
    let cpus = if settings.affinity_final.is_empty() { &[(0, 8191)] } else { settings.affinity_final.as_slice() };
    match process::set_affinity(pid, &mask(cpus)) {
        // Only a wish unless CPUs are named: the caller's affinity must not be inherited.
        Err(_) if settings.affinity_final.is_empty() => {}
        other => other.context("sched_setaffinity: process.execCPUAffinity.final")?,
    }
    for (resource, soft, hard) in &settings.rlimits {
        process::prlimit(pid, *resource, *soft, *hard)
            .with_context(|| format!("prlimit: process.rlimits: {}", crate::plan::process::rlimit_name(*resource)))
            .map_err(|e| e.hint("raising a hard limit needs CAP_SYS_RESOURCE"))?;
    }
    Ok(())
}

fn set_oom_score_adj(pid: i32, adj: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, adj.to_string())
        .with_context(|| format!("write {adj} to {path:?}"))
        .map_err(|e| e.hint("lowering oom_score_adj needs CAP_SYS_RESOURCE"))
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

/// A namespace to join; the file must be one, and of the right kind (NS_GET_NSTYPE is checked by setns(2) itself).
pub(super) fn open_namespace(path: &Path, flag: u64) -> Result<OwnedFd> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::invalid(format!("linux.namespaces: {path:?} contains a NUL byte")))?;
    // O_NONBLOCK: a FIFO in its place must not hang us.
    let fd = fs::openat_following(fs::CWD, &name, libc::O_RDONLY | libc::O_NONBLOCK)
        .with_context(|| format!("linux.namespaces: open {path:?}"))?;
    let magic = fs::fstatfs(fd.as_fd()).with_context(|| format!("linux.namespaces: fstatfs {path:?}"))?.f_type;
    if magic != NSFS_MAGIC {
        return Err(Error::invalid(format!("linux.namespaces: {path:?} is not a namespace file")));
    }
    let kind = crate::sys::process::namespace_kind(fd.as_fd()).unwrap_or(flag);
    if kind != flag {
        return Err(Error::os(format!("linux.namespaces: {path:?} is a namespace of another kind"), Errno(libc::EINVAL).into()));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    #[test]
    fn cpu_ranges_become_bits() {
        assert_eq!(super::mask(&[(0, 1), (4, 4)]), [0b10011]);
        assert_eq!(super::mask(&[(63, 64)]), [1 << 63, 1]);
    }
}
