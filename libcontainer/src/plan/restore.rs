//! The plans around a restore by CRIU: a dry run of the container's creation, and CRIU itself.
//!
//! Pure. CRIU mounts by path and makes no mount points; the dry run makes them, by the steps of `create`, in a mount namespace that
//! ends with it.

use super::step::{Exec, Gate, Slot, Source, Step};
use super::{Draft, Open, ParentSettings, ProcessPlan};
use crate::sys::cstr::CStrArray;
use std::ffi::{CStr, CString};

/// The steps of `create` until its root is complete; then the process waits to be killed.
pub(crate) fn dry_run(create: &ProcessPlan) -> ProcessPlan {
    let mut plan = create.clone();
    let end = plan.child.iter().position(|step| step.traits().after_root).unwrap_or(plan.child.len());
    plan.child.truncate(end);
    plan.child.push(Step::Wait(Gate::Start));
    plan.parent = ParentSettings::default();
    plan
}

/// A program of the host that is passed further descriptors.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    /// The number of descriptors that it is passed, in the slots from the first free one.
    pub(crate) descriptors: u16,
}

/// The plan for CRIU. With the plan of a container to restore it runs in that container's cgroup and in a new mount namespace, in which
/// the root is a mount, as CRIU requires.
pub(crate) fn criu(program: Program, restored: Option<&ProcessPlan>) -> ProcessPlan {
    let mut draft = Draft::new();
    let handed: Vec<Slot> = (0..program.descriptors).map(|_| draft.slot()).collect();
    if let Some(create) = restored {
        if !create.clone_into_cgroup {
            draft.push(Step::Wait(Gate::Mapped));
        }
        // A slave, so that mounts made here never appear on the host.
        draft.push(Step::HostPropagation { flags: libc::MS_SLAVE | libc::MS_REC });
        root(create, &mut draft);
    }
    draft.child.extend(handed.into_iter().map(|slot| Step::PassDescriptor { slot }));
    draft.push(Step::Exec);
    let exec = Exec {
        candidates: vec![program.path],
        argv: CStrArray::new(program.argv, 0),
        envp: CStrArray::new(program.envp, 0),
        home_of: None,
    };
    ProcessPlan {
        clone_flags: if restored.is_some() { super::namespaces::MOUNT } else { 0 },
        clone_into_cgroup: restored.is_some_and(|create| create.clone_into_cgroup),
        ..draft.into_plan(exec)
    }
}

/// The plan for a process that brings up `lo` in another process's network namespace, and then waits to be killed.
pub(crate) fn loopback() -> ProcessPlan {
    let path = c"".to_owned();
    let mut plan = criu(Program { path, argv: Vec::new(), envp: Vec::new(), descriptors: 0 }, None);
    plan.child = vec![
        Step::Undumpable,
        Step::JoinTarget { flags: super::namespaces::NET },
        Step::LoopbackUp,
        Step::Wait(Gate::Start),
    ];
    plan
}

fn root(create: &ProcessPlan, draft: &mut Draft) {
    for step in &create.child {
        let Step::Root { path, source, propagation } = step else { continue };
        let overlay = create.opens.iter().find_map(|open| match open {
            Open::Overlay { slot, overlay } if Some(*slot) == *source => Some(overlay.clone()),
            _ => None,
        });
        let source = overlay.map(|overlay| {
            let slot = draft.slot();
            draft.opens.push(Open::Overlay { slot, overlay });
            slot
        });
        draft.push(Step::Root { path: path.clone(), source, propagation: *propagation });
    }
}

/// The places where the plan attaches trees of the host: CRIU by itself neither saves nor restores these mounts.
pub(crate) fn bind_mounts(plan: &ProcessPlan) -> impl Iterator<Item = (&CStr, &Source)> {
    plan.child.iter().filter_map(|step| match step {
        Step::Bind { source, target, .. } => Some((target.path.as_c_str(), source)),
        _ => None,
    })
}

/// The device nodes of the plan. Where none could be made, the host's are bound instead.
pub(crate) fn nodes(plan: &ProcessPlan) -> impl Iterator<Item = &CStr> {
    plan.child.iter().filter_map(|step| match step {
        Step::Node { shown, .. } => Some(shown.as_c_str()),
        _ => None,
    })
}
