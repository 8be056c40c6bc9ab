//! A cgroup in each v1 hierarchy, and in the v2 tree of a hybrid host, which has no controllers but is where `cgroup2` paths point.
//!
//! Why cgroups-rs is not used: docs/decisions/0020-cgroup-v1-by-hand.md.

use super::dir::{Dir, os};
use super::made::Made;
use super::moved::instead;
use super::v2::{frozen, lacks_permission, make, used};
use super::{Cgroup, Location, Member, SubPaths, apply, join, processes as all_processes, signal_each};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::V1Hierarchy;
use crate::plan::cgroup::{CgroupPlan, Place};
use crate::plan::devfilter::Policy;
use crate::plan::limits::Limits;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

pub(super) fn create(
    plan: &CgroupPlan,
    hierarchies: &[V1Hierarchy],
    unified: Option<&Path>,
) -> Result<Cgroup> {
    let mounts: Vec<(Member, Dir)> = members(plan, hierarchies, unified)
        .into_iter()
        .map(|member| Dir::mount(&member.location.mount).map(|root| (member, root)))
        .collect::<Result<_>>()?;
    if plan.devices.is_some() && !mounts.iter().any(|(m, _)| m.has("devices")) {
        return Err(Error::unsupported("devices cannot be restricted: no devices cgroup is mounted"));
    }
    let mut made: Vec<Made<'_>> = Vec::with_capacity(mounts.len());
    let mut dirs: Vec<(&Member, Dir)> = Vec::with_capacity(mounts.len());
    let mut skipped = false;
    for (member, root) in &mounts {
        let mut step = Made::new(root);
        let result = make_member(&mut step, member);
        made.push(step);
        match result {
            Ok(dir) => dirs.push((member, dir)),
            // As runc does: these two only help others to find the container.
            Err(_) if member.is_optional() => {}
            Err(e) if plan.tolerant && matches!(plan.place, Place::Own(_)) && lacks_permission(&e) => {
                skipped = true;
            }
            Err(e) => return Err(e.wrap("create cgroup")),
        }
    }
    if let Some(policy) = &plan.devices {
        restrict(&dirs, policy)?;
    }
    apply::write(&plan.limits, &|controller| find(&dirs, controller))?;
    if skipped && dirs.iter().all(|(m, _)| m.is_optional()) {
        return Ok(Cgroup::None);
    }
    made.iter_mut().for_each(|m| m.keep = true);
    Ok(Cgroup::V1(dirs.into_iter().map(|(member, _)| member.clone()).collect()))
}

pub(super) fn members(plan: &CgroupPlan, hierarchies: &[V1Hierarchy], unified: Option<&Path>) -> Vec<Member> {
    let location = |mount: &Path, own: &Path| Location {
        mount: mount.to_owned(),
        path: match &plan.place {
            Place::Root(path) => path.clone(),
            Place::Own(path) => own.strip_prefix("/").unwrap_or(own).join(path),
        },
    };
    let wanted =
        |h: &&V1Hierarchy| h.controllers.iter().any(|c| c == "name=systemd" || !c.starts_with("name="));
    let v1 = hierarchies
        .iter()
        .filter(wanted)
        .map(|h| Member { controllers: h.controllers.clone(), location: location(&h.mount, &h.own) });
    let v2 =
        unified.map(|mount| Member { controllers: Vec::new(), location: location(mount, Path::new("")) });
    v1.chain(v2).collect()
}

impl Member {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    fn is_optional(&self) -> bool {
        self.controllers.iter().all(|c| c.starts_with("name=") || c == "misc")
    }
}

pub(super) fn find<'a>(dirs: &'a [(&Member, Dir)], controller: &str) -> Option<&'a Dir> {
    dirs.iter().find(|(member, _)| member.has(controller)).map(|(_, dir)| dir)
}

fn make_member(made: &mut Made<'_>, member: &Member) -> Result<Dir> {
    let path = &member.location.path;
    let dir = make(made, path)?;
    if made.paths.last() != Some(path) {
        let found = all_processes(&dir)?.len();
        if found > 0 {
            return Err(used(&dir, found));
        }
        if member.has("freezer") && is_frozen_dir(&dir)? {
            return Err(frozen(&dir));
        }
    }
    if member.has("cpuset") {
        inherit_cpuset(made.root, path)?;
    }
    Ok(dir)
}

/// A new v1 cpuset has no CPUs and no memory nodes and accepts no process: they are copied from the parent, level by level, where they
/// are missing.
fn inherit_cpuset(root: &Dir, path: &Path) -> Result<()> {
    let mut levels: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
    levels.reverse();
    // The mount may be a container's view, whose root has values too.
    let open = |path: &Path| root.below(path).context("open").with_context(|| format!("cpuset {path:?}"));
    let mut above = open(Path::new(""))?;
    for level in levels {
        let dir = open(level)?;
        for name in ["cpus", "mems"] {
            // Android mounts the hierarchy with `noprefix`.
            let file = format!("cpuset.{name}");
            let file = if dir.read(&file) == Err(Errno::ENOENT) { name } else { &file };
            let copy = || {
                if dir.read(file)?.trim().is_empty() {
                    dir.write(file, above.read(file)?.trim())?;
                }
                Ok(())
            };
            copy().map_err(|e: Errno| {
                os("copy", e).wrap(format!("{file} of cgroup {:?} from its parent", dir.path()))
            })?;
        }
        above = dir;
    }
    Ok(())
}

fn restrict(dirs: &[(&Member, Dir)], policy: &Policy) -> Result<()> {
    let Some(dir) = find(dirs, "devices") else {
        return Ok(());
    };
    for (file, line) in policy.v1_lines() {
        let what = || format!("write {line:?} to {file} of cgroup {:?}", dir.path());
        dir.write(file, &line).context("write").with_context(what)?;
    }
    Ok(())
}

pub(super) fn open_all(members: &[Member]) -> Result<Vec<(&Member, Dir)>> {
    members.iter().map(|member| Ok((member, member.location.open()?))).collect()
}

/// Those with counters.
pub(super) fn open_counted(members: &[Member]) -> Result<Vec<(&Member, Dir)>> {
    const COUNTED: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb", "rdma"];
    let counted = |member: &&Member| COUNTED.iter().any(|controller| member.has(controller));
    members.iter().filter(counted).map(|member| Ok((member, member.location.open()?))).collect()
}

/// The hierarchy of a controller, else any.
fn open_for(members: &[Member], controller: &str) -> Result<Dir> {
    let member = members.iter().find(|m| m.has(controller)).or(members.first());
    let none = || Error::new(ErrorKind::NotFound, "the container has no cgroup");
    member.ok_or_else(none)?.location.open()
}

pub(super) fn attach(
    members: &[Member],
    pid: i32,
    sub: &SubPaths,
    init: Option<BorrowedFd<'_>>,
) -> Result<()> {
    for (controller, _) in &sub.0 {
        if let Some(name) = controller.as_ref().filter(|name| !members.iter().any(|m| m.has(name))) {
            return Err(Error::invalid(format!("unknown controller {name} in SubCgroupPaths")));
        }
    }
    for member in members {
        let path = sub
            .0
            .iter()
            .find(|(c, _)| c.as_ref().is_none_or(|name| member.has(name)))
            .map(|(_, path)| path.as_path());
        let location = member.location.below(path.unwrap_or(Path::new("")))?;
        let joined = location.open().and_then(|dir| join(&dir, pid));
        match joined.or_else(|e| instead(e, init, |init| location_of(member, init), pid)) {
            Err(_) if member.is_optional() => {}
            result => result?,
        }
    }
    Ok(())
}

/// The cgroup of a process in the hierarchy of this member.
fn location_of(member: &Member, process: BorrowedFd<'_>) -> Result<Location> {
    super::moved::location_of(&member.location.mount, process, |line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').filter(|c| !c.is_empty()).eq(&member.controllers).then_some(path)
    })
}

pub(super) fn apply(members: &[Member], limits: &Limits) -> Result<()> {
    let dirs = open_all(members)?;
    apply::write(limits, &|controller| find(&dirs, controller))
}

fn freezer(members: &[Member]) -> Result<Dir> {
    match members.iter().find(|m| m.has("freezer")) {
        Some(member) => member.location.open(),
        None => Err(Error::unsupported("cannot toggle freezer: no freezer cgroup is mounted")),
    }
}

/// The v1 freezer loses races against forks: this tries again and again, with a thaw now and then to let it start over.
pub(super) fn freeze(members: &[Member]) -> Result<()> {
    let dir = freezer(members)?;
    let what = || format!("freezer.state of cgroup {:?}", dir.path());
    for round in 0..1000 {
        if round % 50 == 49 {
            let _ = dir.write("freezer.state", "THAWED");
            std::thread::sleep(Duration::from_millis(10));
        }
        dir.write("freezer.state", "FROZEN").context("write").with_context(what)?;
        match round {
            ..100 if round % 25 == 24 => std::thread::sleep(Duration::from_micros(10)),
            ..100 => {}
            // A task freezes when it is scheduled, which takes time on a busy host.
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
        if dir.read("freezer.state").context("read").with_context(what)?.trim() == "FROZEN" {
            return Ok(());
        }
    }
    let _ = dir.write("freezer.state", "THAWED");
    Err(Error::new(ErrorKind::Busy, format!("{}: unable to freeze", what())))
}

pub(super) fn thaw(members: &[Member]) -> Result<()> {
    let dir = freezer(members)?;
    dir.write("freezer.state", "THAWED")
        .context("write")
        .with_context(|| format!("freezer.state of cgroup {:?}", dir.path()))
}

pub(super) fn is_frozen(members: &[Member]) -> Result<bool> {
    match members.iter().find(|m| m.has("freezer")) {
        Some(member) => is_frozen_dir(&member.location.open()?),
        None => Ok(false),
    }
}

/// Whether it is frozen itself, not only by a cgroup above.
fn is_frozen_dir(dir: &Dir) -> Result<bool> {
    let what = || format!("freezer.state of cgroup {:?}", dir.path());
    for _ in 0..1000 {
        let state = match dir.read("freezer.state") {
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(false),
            result => result.context("read").with_context(what)?,
        };
        match state.trim() {
            "THAWED" => return Ok(false),
            "FROZEN" => {
                return Ok(dir.read("freezer.self_freezing").map_or(true, |text| text.trim() == "1"));
            }
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(true)
}

pub(super) fn processes(members: &[Member]) -> Result<Vec<i32>> {
    all_processes(&open_for(members, "devices")?)
}

/// v1 has no cgroup.kill. Frozen processes cannot fork away from the signal; they get it when they thaw.
pub(super) fn kill(members: &[Member], signal: i32) -> Result<()> {
    let paused = is_frozen(members)?;
    let frozen = !paused && freeze(members).is_ok();
    let result = processes(members).and_then(|pids| signal_each(&pids, signal));
    if signal == libc::SIGKILL {
        thaw_below(members)?;
    } else if frozen {
        thaw(members)?;
    }
    result
}

/// A process that a nested cgroup has frozen does not even die of SIGKILL (on v2 it does).
pub(super) fn thaw_below(members: &[Member]) -> Result<()> {
    let Ok(dir) = freezer(members) else { return Ok(()) };
    let mut thaw = |dir: &Dir| match dir.write("freezer.state", "THAWED") {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        other => other,
    };
    dir.walk(&mut thaw, &mut |_, _| Ok(()))
        .context("write")
        .with_context(|| format!("freezer.state below cgroup {:?}", dir.path()))
}

pub(super) fn oom_kills(members: &[Member]) -> Option<u64> {
    let member = members.iter().find(|m| m.has("memory"))?;
    member.location.open().ok()?.read_key("memory.oom_control", "oom_kill").ok()?
}
