//! Carries out the plan of a process: opens what it needs, makes the child, and serves it.
//!
//! `spawn` makes the child, `child` is what runs in it, `parent` answers its messages (`frame`) as `phase` says, and `failure` gives
//! its errors a text. It knows plans and cgroups, not the specification and not the state directory.

mod child;
mod copy_up;
mod failure;
mod fds;
mod frame;
pub(crate) mod hooks;
mod idmap;
mod parent;
mod phase;
pub(crate) mod settings;
mod spawn;
pub(crate) mod streams;

pub(crate) use parent::{Launched, follow_start};

use crate::cgroup::{Cgroup, Dir, SubPaths, cannot_join};
use crate::error::{Context, Internal, Result};
use crate::fault;
use crate::plan::step::{Slot, Source, Step};
use crate::plan::{Open, ParentSettings, ProcessPlan};
use crate::process::Stdio;
use crate::sys::pidfd;
use fds::FdTable;
use parent::Join;
use spawn::spawn;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is launched.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) plan: ProcessPlan,
    pub(crate) stdio: Stdio,
    pub(crate) cgroup: &'a Cgroup,
    /// The same, open, on v2.
    pub(crate) cgroup_dir: Option<&'a Dir>,
    /// Sub-cgroups to join instead of the cgroup itself (exec).
    pub(crate) sub_cgroups: SubPaths,
    /// The socket that `start` will connect to.
    pub(crate) start: Option<OwnedFd>,
    /// The process whose namespaces are joined.
    pub(crate) target: Option<BorrowedFd<'a>>,
    /// Descriptors above 2 for the first free slots.
    pub(crate) handed: Vec<OwnedFd>,
    /// Return as soon as the process exists, if it needs nothing from its parent before its last gate.
    pub(crate) return_early: bool,
}

impl<'a> Job<'a> {
    /// A process with these streams in this cgroup, and nothing else.
    pub(crate) fn new(plan: ProcessPlan, stdio: Stdio, cgroup: &'a Cgroup) -> Self {
        Job {
            plan,
            stdio,
            cgroup,
            cgroup_dir: None,
            sub_cgroups: SubPaths::default(),
            start: None,
            target: None,
            handed: Vec::new(),
            return_early: false,
        }
    }

    /// All of it is one clone, before which nothing is opened and after which the parent has nothing to do.
    pub(crate) fn is_unattended(&self) -> bool {
        runs_unattended(&self.plan) && self.plan.opens.is_empty() && self.sub_cgroups.is_empty()
    }
}

/// What the caller does during a launch.
pub(crate) trait Watch {
    /// The process exists; it can't execute its program before its last gate.
    fn cloned(&mut self) -> Result<()> {
        Ok(())
    }
    /// The root is assembled and the old root still reachable: the gate `Hooks`.
    fn hooks(&mut self, pid: i32, process: BorrowedFd<'_>) -> Result<()>;
    /// The filter is installed; the listener must reach its agent before the child continues.
    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()>;
}

/// Makes the child and serves it up to its last gate, or to its exec when its plan has no such gate.
pub(crate) fn launch(job: Job<'_>, watch: &mut dyn Watch) -> Result<Launched> {
    let runs_unattended = runs_unattended(&job.plan);
    let Job { mut plan, cgroup, sub_cgroups, target, .. } = job;
    let mut fds = FdTable::new(plan.slots);
    prepare(&plan, target, &mut fds)?;
    let mut place = |slot, fd| fds.set_above_stdio(slot, fd).context("fcntl(F_DUPFD_CLOEXEC)");
    if let Some(start) = job.start {
        place(Slot::START, start)?;
    }
    for (number, fd) in (Slot::FIRST_FREE..).zip(job.handed) {
        place(Slot(number), fd)?;
    }
    place(Slot::CREATOR, pidfd::open(std::process::id().cast_signed()).context("pidfd_open")?)?;
    if let Some(target) = target {
        place(Slot::TARGET, target.try_clone_to_owned().context("fcntl(F_DUPFD_CLOEXEC)")?)?;
    }
    let streams = streams::prepare(job.stdio)?;
    let sub = !sub_cgroups.is_empty();
    let below = if plan.clone_into_cgroup && sub { cgroup.clone_fd_sub(&sub_cgroups)? } else { None };
    // The cgroup of a container may have been removed, or take no processes: its first process is in another one.
    let moved = |target: BorrowedFd<'_>| cgroup.clone_fd_of(target);
    let target_alone = target.filter(|_| plan.clone_into_cgroup && !sub);
    let own = job.cgroup_dir.filter(|_| plan.clone_into_cgroup && !sub).map(Dir::fd);
    let other = target_alone.filter(|_| own.is_none()).map(moved).transpose()?.flatten();
    let into = own.or(below.as_ref().or(other.as_ref()).map(AsFd::as_fd));
    let mut spawned = spawn(&mut plan, &mut fds, &streams, into, target);
    if let (Err(e), Some(target), Some(_)) = (&spawned, target_alone, own)
        && cannot_join(e.errno())
    {
        let other = moved(target)?;
        spawned = spawn(&mut plan, &mut fds, &streams, other.as_ref().map(AsFd::as_fd), Some(target));
    }
    let spawned = spawned.map_err(|e| match e.errno() {
        // It delegates controllers, so that only cgroups below it may hold processes. Callers of runc match this text.
        Some(libc::EBUSY) if into.is_some() => e.wrap("adding pid of the new process to cgroups"),
        _ => e,
    })?;
    drop(streams);
    fds.retain(|slot| plan.child.iter().any(|step| maps_inside(step, slot)));
    let mut child = Launched::new(plan, spawned, fds);
    fault::point();
    let served = watch.cloned().and_then(|()| {
        if job.return_early && runs_unattended {
            return Ok(());
        }
        child.serve(into.is_none().then_some(Join { cgroup, below: &sub_cgroups, init: target }), watch)
    });
    if served.is_err() {
        child.find_sibling();
    }
    served.map(|()| child)
}

/// The child needs nothing from its parent but to be let through its last gate.
fn runs_unattended(plan: &ProcessPlan) -> bool {
    !plan.child.iter().any(|step| step.traits().asks_parent) && plan.parent == ParentSettings::default()
}

fn maps_inside(step: &Step, slot: Slot) -> bool {
    matches!(step, Step::Bind { source: Source::InsideMapped { userns, .. }, .. } if *userns == slot)
}

/// Opens what the plan names.
fn prepare(plan: &ProcessPlan, target: Option<BorrowedFd<'_>>, fds: &mut FdTable) -> Result<()> {
    for open in &plan.opens {
        let (slot, fd) = match open {
            Open::Namespace { slot, path, flag, foreign } => {
                (*slot, settings::open_namespace(path, *flag, *foreign)?)
            }
            Open::TargetRoot => {
                let target = target.ok_or(Internal::NoTarget)?;
                (Slot::ROOT, settings::open_root_of(target)?)
            }
            Open::Tree { slot, path, recursive, idmap, idmap_recursive } => {
                let map = idmap.and_then(|slot| fds.get(slot));
                match idmap::open_tree(path, *recursive, map, *idmap_recursive)? {
                    Some(tree) => (*slot, tree),
                    None => continue,
                }
            }
            Open::Overlay { slot, overlay } => (*slot, overlay.mount()?),
            Open::UserNamespace { slot, maps } => (*slot, idmap::user_namespace(maps)?),
        };
        fds.set_above_stdio(slot, fd).context("fcntl(F_DUPFD_CLOEXEC)")?;
    }
    Ok(())
}
