//! The cgroup of a container: creates, limits, joins, pauses, kills, measures and removes it; on v2, on v1, and on hosts with both.
//!
//! `plan::cgroup` decides what to write where. Of a cgroup, only its places are stored with the container.

mod apply;
mod dir;
mod made;
mod moved;
mod oom;
mod probe;
mod stats;
mod v1;
mod v2;

pub use oom::OomWatch;
pub use stats::{IoEntry, MemoryEvents, Pressure, Rdma, Stall, Stats, Usage};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::CgroupHost;
use crate::plan::cgroup::CgroupPlan;
use crate::plan::devfilter::Policy;
use crate::plan::limits::{Limits, Write};
use crate::signal::Signal;
pub(crate) use dir::Dir;
pub(crate) use moved::cannot_join;
use moved::instead;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take for a change that happens asynchronously (frozen, empty).
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a container's processes are accounted. Stored with the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cgroup {
    /// One directory of the v2 tree.
    V2(Location),
    /// A directory in each v1 hierarchy, and in the v2 tree of a hybrid host.
    V1(Vec<Member>),
    /// None: a rootless caller may not create one.
    None,
}

/// A cgroup: the mount of its hierarchy, and the path below that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) mount: PathBuf,
    pub(crate) path: PathBuf,
}

/// A directory in one hierarchy; without controllers it is in the v2 tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) controllers: Vec<String>,
    #[serde(flatten)]
    pub(crate) location: Location,
}

/// The paths of a container's cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupPaths {
    /// Its directory in the v2 tree.
    V2(PathBuf),
    /// Its directory in each v1 hierarchy, by controller (`memory`, `name=systemd`).
    V1(BTreeMap<String, PathBuf>),
    /// It has none: a rootless caller may not create one.
    None,
}

impl CgroupPaths {
    /// The resource usage of these cgroups, without reading a container's state: a few reads of the kernel's own files.
    ///
    /// # Errors
    /// `NotFound` when the cgroup no longer exists.
    pub fn stats(&self) -> Result<Stats> {
        self.clone().into_cgroup().stats().context("read the cgroup's counters")
    }

    /// With each directory as its own mount: the path below is empty.
    fn into_cgroup(self) -> Cgroup {
        let location = |mount| Location { mount, path: PathBuf::new() };
        match self {
            CgroupPaths::V2(path) => Cgroup::V2(location(path)),
            CgroupPaths::V1(paths) => Cgroup::V1(
                paths
                    .into_iter()
                    .map(|(controller, path)| Member {
                        controllers: vec![controller],
                        location: location(path),
                    })
                    .collect(),
            ),
            CgroupPaths::None => Cgroup::None,
        }
    }
}

/// `exec --cgroup [controller[,controller]:]path`: where below the container's cgroup a process goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SubPaths(Vec<(Option<String>, PathBuf)>);

impl Cgroup {
    /// Creates the cgroup that was `planned`, gives it to its owner and sets the limits; restricts devices on v1. If it fails, what it
    /// created is removed.
    pub(crate) fn create(plan: &CgroupPlan, planned: &Cgroup, host: &CgroupHost) -> Result<Cgroup> {
        let made = match (planned, host) {
            (Cgroup::V2(location), _) => v2::create(plan, location).map(|()| planned.clone()),
            (_, CgroupHost::V1 { hierarchies, unified }) => {
                return v1::create(plan, hierarchies, unified.as_deref());
            }
            _ => Err(Error::unsupported("no cgroup file system is mounted").with_kind(ErrorKind::NotFound)),
        };
        match made {
            Err(e) if plan.may_lack && v2::lacks_permission(&e) => Ok(Cgroup::None),
            other => other.context("create cgroup"),
        }
    }

    /// What `create` will create, to be recorded before: a crash in between must not leave an unknown cgroup.
    pub(crate) fn planned(plan: &CgroupPlan, host: &CgroupHost) -> Result<Cgroup> {
        Ok(match host {
            CgroupHost::V2 { mount } => Cgroup::V2(Location { mount: mount.clone(), path: v2::path(plan)? }),
            CgroupHost::V1 { hierarchies, unified } => {
                Cgroup::V1(v1::members(plan, hierarchies, unified.as_deref()))
            }
            CgroupHost::None => Cgroup::None,
        })
    }

    /// Its directory in the v2 tree, open; `None` on v1, where there are several.
    pub(crate) fn open(&self) -> Result<Option<Dir>> {
        match self {
            Cgroup::V2(location) => location.open().map(Some),
            Cgroup::V1(_) | Cgroup::None => Ok(None),
        }
    }

    /// The same; also `None` when it no longer exists: a container that has the host's cgroups may have moved and removed it.
    pub(crate) fn open_present(&self) -> Result<Option<Dir>> {
        gone_as(self.open(), None)
    }

    /// A descriptor for CLONE_INTO_CGROUP, for a process that is to run in a cgroup below the container's.
    pub(crate) fn clone_fd_sub(&self, sub: &SubPaths) -> Result<Option<OwnedFd>> {
        match self {
            Cgroup::V2(location) => {
                let dir = location.below(sub.path_v2()?)?.open().context("adding pid to a cgroup")?;
                Ok(Some(dir.into_fd()))
            }
            Cgroup::V1(_) | Cgroup::None => Ok(None),
        }
    }

    /// The same for the cgroup that `init` is in now, for when the container's own cannot be joined: see `cannot_join`.
    pub(crate) fn clone_fd_of(&self, init: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
        match self {
            Cgroup::V2(location) => {
                v2::location_of(&location.mount, init)?.open().map(|dir| Some(dir.into_fd()))
            }
            Cgroup::V1(_) | Cgroup::None => Ok(None),
        }
    }

    /// Moves a process into the cgroup, or into one below it; if the cgroup itself cannot be joined, to where `init` is.
    pub(crate) fn attach_sub(&self, pid: i32, sub: &SubPaths, init: Option<BorrowedFd<'_>>) -> Result<()> {
        let init = init.filter(|_| sub.is_empty());
        let joined = match self {
            Cgroup::V2(location) => location
                .below(sub.path_v2()?)?
                .open()
                .and_then(|dir| join(&dir, pid))
                .or_else(|e| instead(e, init, |init| v2::location_of(&location.mount, init), pid)),
            Cgroup::V1(members) => v1::attach(members, pid, sub, init),
            Cgroup::None => Ok(()),
        };
        joined.with_context(|| format!("adding pid {pid} to its cgroups"))
    }

    /// Sets limits. After a failure some may be set: apply the old ones again.
    pub(crate) fn apply(&self, limits: &Limits) -> Result<()> {
        match self {
            Cgroup::V2(location) => v2::apply(location, limits),
            Cgroup::V1(members) => v1::apply(members, limits),
            Cgroup::None if limits.writes.is_empty() => Ok(()),
            Cgroup::None => Err(Error::unsupported("the container has no cgroup to set limits on")),
        }
    }

    /// The current values of the files that these limits would change, as far as they can be restored.
    pub(crate) fn values(&self, limits: &Limits) -> Result<Vec<Write>> {
        Ok(match self {
            Cgroup::V2(location) => {
                let dir = location.open()?;
                apply::values(limits, &|_| Some(&dir))
            }
            Cgroup::V1(members) => {
                let dirs = v1::open_all(members)?;
                apply::values(limits, &|controller| v1::find(&dirs, controller))
            }
            Cgroup::None => Vec::new(),
        })
    }

    /// Restores what `values` has read, as far as the kernel accepts it.
    pub(crate) fn put_back(&self, values: &[Write]) {
        match self {
            Cgroup::V2(location) => {
                if let Ok(dir) = location.open() {
                    apply::put_back(values, &|_| Some(&dir));
                }
            }
            Cgroup::V1(members) => {
                if let Ok(dirs) = v1::open_all(members) {
                    apply::put_back(values, &|controller| v1::find(&dirs, controller));
                }
            }
            Cgroup::None => {}
        }
    }

    /// Freezes all processes of the container, and waits until they are frozen.
    pub(crate) fn freeze(&self) -> Result<()> {
        match self {
            Cgroup::V2(location) => v2::freeze(&location.open()?),
            Cgroup::V1(members) => v1::freeze(members),
            Cgroup::None => Err(no_freezer()),
        }
        .context("freeze")
    }

    /// The directory of the freezer; `None` without one.
    pub(crate) fn freezer(&self) -> Option<PathBuf> {
        match self {
            Cgroup::V2(location) => Some(location.full()),
            Cgroup::V1(members) => members.iter().find(|m| m.has("freezer")).map(|m| m.location.full()),
            Cgroup::None => None,
        }
    }

    /// The hierarchies it is in, by the names of /proc/PID/cgroup, when those are not all of the host's: in the root of one that
    /// has nothing to do with the container, CRIU would save all cgroups, and a restore would create those that no longer exist.
    pub(crate) fn hierarchies(&self) -> Vec<String> {
        match self {
            Cgroup::V2(_) => vec![String::new()],
            Cgroup::V1(_) | Cgroup::None => Vec::new(),
        }
    }

    /// Thaws them.
    pub(crate) fn thaw(&self) -> Result<()> {
        match self {
            Cgroup::V2(location) => v2::thaw(&location.open()?),
            Cgroup::V1(members) => v1::thaw(members),
            Cgroup::None => Err(no_freezer()),
        }
        .context("thaw")
    }

    /// Whether they are frozen. A cgroup that no longer exists is not.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match self {
            Cgroup::V2(location) => gone_as(location.open().and_then(|dir| v2::is_frozen(&dir)), false),
            Cgroup::V1(members) => gone_as(v1::is_frozen(members), false),
            Cgroup::None => Ok(false),
        }
    }

    /// Sends a signal to every process of the container, including nested cgroups. SIGKILL ends frozen ones as well.
    pub(crate) fn kill(&self, signal: Signal) -> Result<()> {
        let number = signal.number();
        let done = match self {
            Cgroup::V2(location) => location.open().and_then(|dir| v2::kill(&dir, number)),
            Cgroup::V1(members) => v1::kill(members, number),
            Cgroup::None => {
                Err(Error::unsupported("the container has no cgroup: its processes can't be identified"))
            }
        };
        gone_as(done, ()).context("signal all processes")
    }

    /// Lets killed processes end, which frozen ones do by themselves on v2 only.
    pub(crate) fn let_die(&self) -> Result<()> {
        match self {
            Cgroup::V1(members) => gone_as(v1::thaw_below(members), ()).context("thaw"),
            Cgroup::V2(_) | Cgroup::None => Ok(()),
        }
    }

    /// All processes of the container, including nested cgroups.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        let list = match self {
            Cgroup::V2(location) => location.open().and_then(|dir| processes(&dir)),
            Cgroup::V1(members) => v1::processes(members),
            Cgroup::None => Ok(Vec::new()),
        };
        gone_as(list, Vec::new()).context("list processes")
    }

    /// Where it is on this host.
    pub(crate) fn paths(&self) -> CgroupPaths {
        let of = |member: &Member| {
            let path = member.location.full();
            member
                .controllers
                .iter()
                .map(move |controller| (controller.clone(), path.clone()))
                .collect::<Vec<_>>()
        };
        match self {
            Cgroup::V2(location) => CgroupPaths::V2(location.full()),
            Cgroup::V1(members) => CgroupPaths::V1(members.iter().flat_map(of).collect()),
            Cgroup::None => CgroupPaths::None,
        }
    }

    /// Its resource usage.
    pub(crate) fn stats(&self) -> Result<Stats> {
        match self {
            Cgroup::V2(location) => location.open().map(|dir| stats::v2(&dir)),
            Cgroup::V1(members) => v1::open_counted(members).map(|dirs| stats::v1(&dirs)),
            Cgroup::None => Ok(Stats::default()),
        }
    }

    /// Removes a v2 cgroup that has neither processes nor cgroups below it; returns whether it did.
    pub(crate) fn remove_empty(&self) -> bool {
        match self {
            Cgroup::V2(location) => {
                Dir::mount(&location.mount).is_ok_and(|root| root.rmdir(&location.path).is_ok())
            }
            Cgroup::V1(_) | Cgroup::None => false,
        }
    }

    /// Removes the cgroup with all cgroups below it. It waits for processes that are about to end, but kills none. It is not an error if
    /// the cgroup no longer exists.
    pub(crate) fn remove(&self) -> Result<()> {
        match self {
            Cgroup::V2(location) => location.remove(Instant::now() + PATIENCE),
            Cgroup::V1(members) => {
                let end = Instant::now() + PATIENCE;
                let errors = members.iter().filter_map(|m| m.location.remove(end).err()).collect();
                Error::join(errors).map_or(Ok(()), Err)
            }
            Cgroup::None => Ok(()),
        }
    }

    /// Whether the kernel has killed one of its processes because of its memory limit.
    pub(crate) fn oom_killed(&self) -> bool {
        let count = match self {
            Cgroup::V2(location) => {
                location.open().ok().and_then(|dir| dir.read_key("memory.events", "oom_kill").ok()?)
            }
            Cgroup::V1(members) => v1::oom_kills(members),
            Cgroup::None => None,
        };
        count.is_some_and(|n| n > 0)
    }
}

fn no_freezer() -> Error {
    Error::unsupported("cannot toggle freezer: cgroups not configured for container")
}

/// `value` for a cgroup that vanished during the call.
fn gone_as<T>(result: Result<T>, value: T) -> Result<T> {
    match result {
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(value),
        other => other,
    }
}

impl Dir {
    /// Restricts devices on v2, where that is a program: it may be loaded while the container's process is being prepared.
    pub(crate) fn restrict_devices(&self, policy: &Policy) -> Result<()> {
        v2::filter_devices(self, policy)
    }

    /// Whether the processes of a v2 cgroup are frozen. A cgroup that no longer exists is not.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        v2::is_frozen(self)
    }
}

impl Location {
    fn open(&self) -> Result<Dir> {
        let root = Dir::mount(&self.mount)?;
        if self.path.as_os_str().is_empty() {
            return Ok(root);
        }
        root.below(&self.path).context("open").with_context(|| format!("cgroup {:?}", self.full()))
    }

    /// Its path on the host.
    pub(crate) fn full(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    fn below(&self, sub: &Path) -> Result<Location> {
        let mut clean = PathBuf::new();
        for component in sub.components() {
            let inside = match component {
                Component::Normal(name) => {
                    clean.push(name);
                    true
                }
                Component::ParentDir => clean.pop(),
                _ => true,
            };
            if !inside {
                return Err(Error::invalid(format!("bad sub cgroup path: {}", sub.display())));
            }
        }
        let path = if clean.as_os_str().is_empty() { self.path.clone() } else { self.path.join(clean) };
        Ok(Location { mount: self.mount.clone(), path })
    }

    /// Waits until `end` for processes in it that are about to end.
    fn remove(&self, end: Instant) -> Result<()> {
        let what = || format!("remove cgroup path {:?}", self.full());
        let root = match Dir::mount(&self.mount) {
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        };
        match root.rmdir(&self.path) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // EROFS and the like don't tell whether the directory exists.
            Err(_) => {}
        }
        let dir = match root.below(&self.path) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.context("open").with_context(what)?,
        };
        let mut leave = |parent: &Dir, name: &CStr| remove_child(parent, name, end);
        dir.walk(&mut |_| Ok(()), &mut leave).context("rmdir").with_context(what)?;
        remove_when_empty(&root, &self.path, &dir, end).context("rmdir").with_context(what)
    }
}

fn remove_child(parent: &Dir, name: &CStr, end: Instant) -> std::result::Result<(), Errno> {
    use std::os::unix::ffi::OsStrExt;
    let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    match parent.rmdir(name) {
        Err(Errno::EBUSY) => remove_when_empty(parent, name, &parent.below(name)?, end),
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// rmdir, once the last process has left `dir`, which is at `path` below `root`. v1 has no event for that.
fn remove_when_empty(root: &Dir, path: &Path, dir: &Dir, end: Instant) -> std::result::Result<(), Errno> {
    let mut pause = Duration::from_millis(1);
    loop {
        match root.rmdir(path) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < end => {}
            Err(e) => return Err(e),
        }
        // ENOENT on v1.
        let _ = dir.wait_event("populated", 0, end.saturating_duration_since(Instant::now()));
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// cgroup.procs. EINVAL: the task is not yet complete (TASK_NEW); retry.
fn join(dir: &Dir, pid: i32) -> Result<()> {
    let text = pid.to_string();
    let mut result = dir.write("cgroup.procs", &text);
    for _ in 0..5 {
        if result != Err(Errno::EINVAL) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        result = dir.write("cgroup.procs", &text);
    }
    let result =
        result.context("write").with_context(|| format!("move process {pid} to cgroup {:?}", dir.path()));
    result.map_err(|e| match e.errno() {
        Some(libc::EBUSY) => e.hint(
            "a v2 cgroup whose controllers are enabled for the cgroups below it cannot contain processes",
        ),
        Some(libc::EOPNOTSUPP) => e.hint("the cgroup is threaded, or in an invalid domain: see cgroup.type"),
        _ => e,
    })
}

fn processes(dir: &Dir) -> Result<Vec<i32>> {
    let mut list = Vec::new();
    let mut enter = |dir: &Dir| {
        list.extend(dir.own_processes()?);
        Ok(())
    };
    dir.walk(&mut enter, &mut |_, _| Ok(()))
        .context("read")
        .with_context(|| format!("cgroup.procs of {:?}", dir.path()))?;
    Ok(list)
}

/// Signals all; it is not an error if some have ended.
fn signal_each(pids: &[i32], signal: i32) -> Result<()> {
    let mut errors = Vec::new();
    for pid in pids {
        match crate::sys::process::kill(*pid, signal) {
            Ok(()) | Err(crate::sys::Errno(libc::ESRCH)) => {}
            Err(e) => errors.push(Error::os("kill", e.into()).wrap(format!("process {pid}"))),
        }
    }
    Error::join(errors).map_or(Ok(()), Err)
}

impl SubPaths {
    /// Parses the arguments of `--cgroup`.
    pub(crate) fn parse(args: &[String]) -> Result<SubPaths> {
        let mut paths: Vec<(Option<String>, PathBuf)> = Vec::new();
        for arg in args {
            let Some((controllers, path)) = arg.split_once(':') else {
                if args.len() != 1 {
                    return Err(Error::invalid(format!(
                        "invalid --cgroup argument: {arg} (missing <controller>: prefix)"
                    )));
                }
                return Ok(SubPaths(vec![(None, PathBuf::from(arg))]));
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return Err(Error::invalid(format!(
                        "invalid --cgroup argument: {arg} (empty <controller> prefix)"
                    )));
                }
                if paths.iter().any(|(c, _)| c.as_deref() == Some(controller)) {
                    return Err(Error::invalid(format!(
                        "invalid --cgroup argument(s): controller {controller} specified multiple times"
                    )));
                }
                paths.push((Some(controller.to_owned()), PathBuf::from(path)));
            }
        }
        Ok(SubPaths(paths))
    }

    /// No cgroup below is requested.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn path_v2(&self) -> Result<&Path> {
        match self.0.as_slice() {
            [] => Ok(Path::new("")),
            [(None, path)] => Ok(path),
            _ => Err(Error::invalid("--cgroup: cgroup v2 takes one path, without controllers")),
        }
    }
}

#[cfg(test)]
mod tests;
