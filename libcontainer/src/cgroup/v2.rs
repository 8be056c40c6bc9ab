//! A directory of the v2 tree: creates it, gives it to its owner, filters devices, freezes, kills.
//!
//! The hot path is a container without limits: mkdir, open, one program loaded and attached. It reads and writes nothing else.

use super::dir::{Dir, os};
use super::made::Made;
use super::{Location, PATIENCE, apply, processes, signal_each};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::cgroup::{CgroupPlan, Place};
use crate::plan::devfilter::Policy;
use crate::plan::devprogram;
use crate::plan::limits::Limits;
use crate::sys::bpf;
use crate::sys::fs::read_text;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Creates the directory that was planned.
pub(super) fn create(plan: &CgroupPlan, Location { mount, path }: &Location) -> Result<()> {
    let root = Dir::mount(mount)?;
    let mut made = Made::new(&root);
    let dir = make(&mut made, path).map_err(|e| explain(e, plan))?;
    let fresh = made.paths.last() == Some(path);
    if !fresh {
        refuse_used(&dir)?;
    }
    let needed = plan.limits.controllers();
    made.enable(path, &dir, &needed)?;
    made.fit(path, &dir, &needed)?;
    if let Some(uid) = plan.owner {
        hand_over(&dir, uid)?;
    }
    apply::write(&plan.limits, &|_| Some(&dir))?;
    made.keep = true;
    Ok(())
}

/// Where the plan's cgroup is, relative to the mount.
pub(super) fn path(plan: &CgroupPlan) -> Result<PathBuf> {
    match &plan.place {
        Place::Root(path) => Ok(path.clone()),
        // The caller's own cgroup has a process (the caller), so it can't delegate controllers to a cgroup below it.
        Place::Own(path) => {
            Ok(own(std::process::id().cast_signed())?.parent().unwrap_or(Path::new("")).join(path))
        }
    }
}

/// Creates the directory, and its parents if they are missing, and opens it.
pub(super) fn make(made: &mut Made<'_>, path: &Path) -> Result<Dir> {
    let root = made.root;
    let failed = |e: Errno| os("mkdir", e).wrap(format!("cgroup {:?}", root.path().join(path)));
    match root.mkdir(path) {
        Ok(()) => made.paths.push(path.to_owned()),
        // Another user's cgroup of the same name is as inaccessible as one that can't be created.
        Err(Errno::EEXIST) => {
            let dir = root.below(path).map_err(failed)?;
            return dir.may_join().map(|()| dir).map_err(|e| {
                os("open", e).wrap(format!("cgroup.procs of cgroup {:?}", root.path().join(path)))
            });
        }
        Err(Errno::ENOENT) => {
            let parents: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
            for parent in parents.into_iter().rev() {
                match root.mkdir(parent) {
                    Ok(()) => made.paths.push(parent.to_owned()),
                    Err(Errno::EEXIST) => {}
                    Err(e) => return Err(failed(e)),
                }
            }
        }
        Err(e) => return Err(failed(e)),
    }
    root.below(path).context("open").with_context(|| format!("cgroup {:?}", root.path().join(path)))
}

/// Whether the caller lacks permission for a cgroup, rather than having asked for something invalid.
pub(super) fn lacks_permission(e: &Error) -> bool {
    matches!(e.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ENOENT))
        || e.kind() == ErrorKind::NotFound
}

fn explain(e: Error, plan: &CgroupPlan) -> Error {
    let limited = matches!(plan.place, Place::Own(_)) && !plan.may_lack && lacks_permission(&e);
    if limited {
        e.wrap("rootless needs no limits + no cgrouppath when no permission is granted for cgroups")
    } else {
        e
    }
}

fn refuse_used(dir: &Dir) -> Result<()> {
    let found = processes(dir)?.len();
    if found > 0 {
        return Err(used(dir, found));
    }
    if is_frozen(dir)? { Err(frozen(dir)) } else { Ok(()) }
}

pub(super) fn used(dir: &Dir, found: usize) -> Error {
    let text = format!("container's cgroup is not empty: {found} process(es) found in {:?}", dir.path());
    Error::new(ErrorKind::Busy, text)
}

pub(super) fn frozen(dir: &Dir) -> Error {
    Error::new(ErrorKind::Busy, format!("container's cgroup unexpectedly frozen: {:?}", dir.path()))
}

/// The cgroup of a process in the v2 tree, below the root of our cgroup namespace.
fn own(pid: i32) -> Result<PathBuf> {
    let file = format!("/proc/{pid}/cgroup");
    let text = File::open(&file).and_then(read_text).context("read").with_context(|| format!("{file:?}"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path =
        path.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{file:?}: not in a v2 cgroup")))?;
    // For a cgroup outside our namespace's root the path begins with `..`.
    Ok(Path::new(path).components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect())
}

pub(super) fn location_of(mount: &Path, process: BorrowedFd<'_>) -> Result<Location> {
    super::moved::location_of(mount, process, |line| line.strip_prefix("0::"))
}

/// Gives the cgroup to the container's root, which may then create cgroups below it, but not change its limits: cgroups(7), "Cgroup
/// delegation".
fn hand_over(dir: &Dir, uid: u32) -> Result<()> {
    let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
    let list = list.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for name in std::iter::once("").chain(list.lines()) {
        match dir.chown(name, uid) {
            // The list names files of controllers that are not enabled here.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => {
                return Err(os("fchownat", e)
                    .wrap(format!("change the owner of cgroup {:?} to user {uid}: {name:?}", dir.path())));
            }
        }
    }
    Ok(())
}

/// Enforces the policy. An earlier program is replaced atomically, so that never everything is allowed.
pub(super) fn filter_devices(dir: &Dir, policy: &Policy) -> Result<()> {
    devprogram::program(policy)
        .and_then(|instructions| replace_program(dir, &instructions))
        .with_context(|| format!("restrict devices of cgroup {:?}", dir.path()))
}

fn replace_program(dir: &Dir, instructions: &[u64]) -> Result<()> {
    let program = bpf::load_device_program(instructions).context("bpf(BPF_PROG_LOAD)")?;
    let old = bpf::device_programs(dir.fd()).context("bpf(BPF_PROG_QUERY)")?;
    if let [one] = old.as_slice() {
        // Linux 5.6; older kernels refuse the flag with EINVAL.
        if bpf::attach_device_program(dir.fd(), program.as_fd(), Some(one.as_fd())).is_ok() {
            return Ok(());
        }
    }
    bpf::attach_device_program(dir.fd(), program.as_fd(), None).context("bpf(BPF_PROG_ATTACH)")?;
    for one in &old {
        bpf::detach_device_program(dir.fd(), one.as_fd()).context("bpf(BPF_PROG_DETACH)")?;
    }
    Ok(())
}

pub(super) fn apply(location: &Location, limits: &Limits) -> Result<()> {
    let root = Dir::mount(&location.mount)?;
    let dir = location.open()?;
    let mut kept = Made::new(&root);
    kept.keep = true;
    kept.enable(&location.path, &dir, &limits.controllers())?;
    apply::check(limits, &dir)?;
    apply::write(limits, &|_| Some(&dir))
}

pub(super) fn freeze(dir: &Dir) -> Result<()> {
    let what = || format!("cgroup {:?}", dir.path());
    dir.write("cgroup.freeze", "1").context("write cgroup.freeze").with_context(what)?;
    if dir.wait_event("frozen", 1, PATIENCE).context("wait").with_context(what)? {
        return Ok(());
    }
    let _ = dir.write("cgroup.freeze", "0");
    Err(Error::new(ErrorKind::Busy, format!("cgroup {:?}: not frozen after {PATIENCE:?}", dir.path())))
}

pub(super) fn thaw(dir: &Dir) -> Result<()> {
    dir.write("cgroup.freeze", "0")
        .context("write cgroup.freeze")
        .with_context(|| format!("cgroup {:?}", dir.path()))
}

pub(super) fn is_frozen(dir: &Dir) -> Result<bool> {
    match dir.read("cgroup.freeze") {
        Ok(text) => Ok(text.trim() == "1"),
        // The root, and kernels before 5.2.
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
        Err(e) => Err(os("read", e).wrap(format!("cgroup.freeze of {:?}", dir.path()))),
    }
}

pub(super) fn kill(dir: &Dir, signal: i32) -> Result<()> {
    if signal == libc::SIGKILL {
        match dir.write("cgroup.kill", "1") {
            // Linux 5.14; threaded cgroups have none.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => {}
            result => {
                return result
                    .context("write cgroup.kill")
                    .with_context(|| format!("cgroup {:?}", dir.path()));
            }
        }
    }
    let paused = is_frozen(dir)?;
    // A frozen process can't escape the signal by forking. If it can't be frozen, the signal is sent all the same.
    let freeze = if paused { Ok(()) } else { freeze(dir) };
    let result = processes(dir).and_then(|pids| signal_each(&pids, signal));
    if !paused && freeze.is_ok() {
        thaw(dir)?;
    }
    result
}
