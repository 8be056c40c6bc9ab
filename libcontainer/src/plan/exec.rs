//! The plan for one more process in a running container: into the namespaces of its first process, then as any process.

use super::finish::{Finish, Surroundings};
use super::namespaces::{MOUNT, USER};
use super::seccomp::Filter;
use super::step::{Gate, Step};
use super::{CgroupEntry, ContainerFacts, Draft, Open, Plan, process, scheduling};
use crate::error::Result;
use crate::host::Host;
use oci_spec::runtime::Process;

/// What a plan for a further process is made from.
pub(crate) struct ExecInputs<'a> {
    pub(crate) id: &'a str,
    pub(crate) host: &'a Host,
    /// The process to run.
    pub(crate) process: &'a Process,
    /// The container's own process: what the other leaves out, it has from here.
    pub(crate) base: &'a Process,
    pub(crate) container: &'a ContainerFacts,
    /// The container's filter, compiled by `create`.
    pub(crate) seccomp: Option<Filter>,
    pub(crate) preserve_fds: u32,
}

/// The plan for a process in the container whose first process is behind `Slot::TARGET`.
///
/// # Errors
/// `InvalidSpec` and `Unsupported`, naming the field.
pub(crate) fn exec(inputs: ExecInputs) -> Result<Plan> {
    let process = &complete(inputs.process, inputs.base);
    let container = inputs.container;
    let own = |flag: u64| container.namespaces & flag != 0;
    let (affinity_initial, affinity) = scheduling::affinity(process)?;
    let mut draft = Draft::new();
    let around = Surroundings {
        host: inputs.host,
        own_user: own(USER),
        maps: container.maps.as_ref(),
        personality: container.personality.as_ref(),
        memory_policy: container.memory_policy.as_ref(),
        affinity,
    };
    let finish = Finish::new(process, around, &mut draft.warnings)?;
    let entry = match CgroupEntry::of(inputs.host, false) {
        // The first CPUs are for the time before the cgroup is joined: there has to be one.
        CgroupEntry::Clone if !affinity_initial.is_empty() => CgroupEntry::Parent,
        entry => entry,
    };

    draft.child.extend(process::oom_score_adj(process, inputs.host.is_rootless())?);
    // Before the container's processes can look into this one (CVE-2016-9962): see docs/decisions/0002.
    draft.push(Step::Undumpable);
    // Before the container is joined: what it shows as /proc is its own affair. `self` is this process in every procfs whose pid
    // namespace it is in.
    if finish.has_labels() {
        draft.push(Step::PrivateProc);
    }
    let clone_into_pids = draft.join_target(container.namespaces, inputs.host);
    if entry == CgroupEntry::Parent {
        draft.push(Step::Wait(Gate::Mapped));
    }
    let terminal = process.terminal().unwrap_or(false);
    // The terminal comes from the devpts in the root.
    if !own(MOUNT) || terminal {
        draft.opens.push(Open::TargetRoot);
    }
    if !own(MOUNT) {
        draft.push(Step::Chroot);
    }
    if own(MOUNT) && terminal {
        draft.push(Step::OpenRoot { path: c"/".to_owned() });
    }
    if own(USER) {
        draft.push(Step::BecomeRoot { drop_groups: false });
    }
    draft.push(Step::NewSession);
    if container.keyring {
        draft.push(process::keyring(inputs.id, 0)?);
    }
    if terminal {
        draft.child.extend([finish.console(false), Step::Stdio]);
    }
    let gate = finish.settings.any_late().then_some(Gate::Settings);
    let (exec, mut parent) =
        finish.append(inputs.seccomp.map(Step::from), gate, inputs.preserve_fds, &mut draft);
    parent.affinity_initial = affinity_initial;
    Ok(Plan {
        clone_flags: 0,
        clone_into_pids,
        clone_into_cgroup: entry == CgroupEntry::Clone,
        opens: draft.opens,
        child: draft.child,
        exec,
        maps: None,
        joined_maps: None,
        parent,
        cgroup: None,
        slots: draft.next_slot,
        warnings: draft.warnings,
        facts: container.clone(),
    })
}

/// The process with what it leaves out taken from the container's own, as runc does. Capabilities are taken whole or not at all: a set
/// that was left out is empty (CVE-2022-29162's class).
fn complete(process: &Process, base: &Process) -> Process {
    let mut whole = process.clone();
    if whole.capabilities().is_none() {
        whole.set_capabilities(base.capabilities().clone());
    }
    if whole.no_new_privileges().is_none() {
        whole.set_no_new_privileges(base.no_new_privileges());
    }
    let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if empty(whole.apparmor_profile()) {
        whole.set_apparmor_profile(base.apparmor_profile().clone());
    }
    if empty(whole.selinux_label()) {
        whole.set_selinux_label(base.selinux_label().clone());
    }
    if whole.rlimits().as_ref().is_none_or(Vec::is_empty) {
        whole.set_rlimits(base.rlimits().clone());
    }
    if whole.io_priority().is_none() {
        whole.set_io_priority(*base.io_priority());
    }
    if whole.scheduler().is_none() {
        whole.set_scheduler(base.scheduler().clone());
    }
    if whole.exec_cpu_affinity().is_none() {
        whole.set_exec_cpu_affinity(base.exec_cpu_affinity().clone());
    }
    if whole.oom_score_adj().is_none() {
        whole.set_oom_score_adj(base.oom_score_adj());
    }
    if whole.user().umask().is_none() {
        whole.user_mut().set_umask(base.user().umask());
    }
    whole
}
