//! The plan for a further process in a running container: it enters the namespaces of the first process, then continues as any
//! process does.

use super::finish::{Finish, Surroundings};
use super::namespaces::{MOUNT, PID, USER};
use super::seccomp::Filter;
use super::step::{Gate, Step};
use super::{CgroupEntry, ContainerFacts, Draft, ExecPlan, Open, ProcessPlan, process, scheduling};
use crate::error::Result;
use crate::host::Host;
use oci_spec::runtime::{Capability, Process};

/// The inputs of a plan for a further process.
pub(crate) struct ExecInputs<'a> {
    pub(crate) id: &'a str,
    pub(crate) host: &'a Host,
    /// The process to run.
    pub(crate) process: &'a Process,
    /// The container's own process, which gives what the other leaves out.
    pub(crate) base: &'a Process,
    pub(crate) container: &'a ContainerFacts,
    /// The container's filter, compiled by `create`.
    pub(crate) seccomp: Option<Filter>,
    pub(crate) preserve_fds: u32,
    pub(crate) open_files: Option<(u64, u64)>,
}

/// The plan for a process in the container whose first process is behind `Slot::TARGET`.
///
/// # Errors
/// `InvalidSpec` and `Unsupported`, naming the field.
pub(crate) fn exec(inputs: ExecInputs) -> Result<ExecPlan> {
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
    let mut finish = Finish::new(process, around, &mut draft.warnings)?;
    if let Some(limit) = inputs.open_files {
        finish.default_open_files(limit);
    }
    let entry = match CgroupEntry::of(inputs.host, false) {
        // The initial CPUs apply before the cgroup is joined, so there has to be one.
        CgroupEntry::Clone if !affinity_initial.is_empty() => CgroupEntry::Parent,
        entry => entry,
    };

    let tolerate = inputs.host.is_rootless();
    let score = process::oom_score_adj(process)?;
    draft.child.extend(score.map(|value| Step::OomScoreAdj { value, tolerate }));
    // Before the container's processes can look into this one (CVE-2016-9962): see docs/decisions/0002.
    draft.push(Step::Undumpable);
    // Before the container is joined, which may show anything as /proc. `self` is this process in every procfs whose pid
    // namespace it is in.
    if finish.has_labels() {
        draft.push(Step::PrivateProc);
    }
    let clone_into_pids = own(PID) && may_clone_into_pids(&inputs, own(USER));
    let joined = if clone_into_pids { container.namespaces & !PID } else { container.namespaces };
    if joined != 0 {
        draft.push(Step::JoinTarget { flags: joined });
    }
    if own(PID) && !clone_into_pids {
        draft.push(Step::Fork { flags: 0 });
    }
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
    let warnings = std::mem::take(&mut draft.warnings);
    let clone_into_cgroup = entry == CgroupEntry::Clone;
    let process = ProcessPlan { clone_into_pids, clone_into_cgroup, parent, ..draft.into_plan(exec) };
    Ok(ExecPlan { process, warnings })
}

/// Whether the process may be cloned into the container's pid namespace. For a moment it has all that its caller has, and processes
/// inside must not be able to trace it: for that they need CAP_SYS_PTRACE in the caller's user namespace, if the caller has it
/// (docs/decisions/0002). Only the host's root may enter without joining a user namespace first.
fn may_clone_into_pids(inputs: &ExecInputs, own_user: bool) -> bool {
    let held = inputs.base.capabilities().as_ref().map(|sets| sets.bounding().clone().unwrap_or_default());
    let traced = held.is_none_or(|set| set.contains(&Capability::SysPtrace));
    !inputs.host.is_rootless() && inputs.host.traces && (own_user || !traced)
}

/// The process, completed from the container's own. runc takes less: here restrictions of the container (no_new_privileges, limits)
/// stay even if a caller's process.json leaves them out. Capabilities are taken as a whole or not at all: a set that was left out is
/// empty (like CVE-2022-29162).
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the process of such a caller is cloned into the pid namespace of such a container.
    fn born_inside(caller: &str, namespaces: u64, capabilities: &str) -> bool {
        let host: Host = serde_json::from_str(&format!(
            r#"{{"kernel":[6,18],"egid":0,"cgroup":"None","apparmor":false,"selinux":false,"last_cap":40,"bounding":0,{caller}}}"#
        ))
        .unwrap();
        let base: Process = serde_json::from_str(&format!(
            r#"{{"args":["/x"],"cwd":"/","user":{{"uid":0,"gid":0}}{capabilities}}}"#
        ))
        .unwrap();
        let container = ContainerFacts { namespaces, ..ContainerFacts::default() };
        let (process, container) = (&base, &container);
        let inputs = ExecInputs {
            id: "c",
            host: &host,
            process,
            base: &base,
            container,
            seccomp: None,
            preserve_fds: 0,
            open_files: None,
        };
        let plan = exec(inputs).unwrap().process;
        let forks = plan.child.iter().any(|step| matches!(step, Step::Fork { .. }));
        assert_eq!(forks, namespaces & PID != 0 && !plan.clone_into_pids, "one way or the other");
        plan.clone_into_pids
    }

    #[test]
    fn the_callers_limit_of_open_files_gives_way_to_one_of_the_processs_own() {
        let host: Host = serde_json::from_str(
            r#"{"kernel":[6,18],"euid":0,"egid":0,"in_user_namespace":false,"cgroup":"None","apparmor":false,"selinux":false,
            "last_cap":40,"bounding":0}"#,
        )
        .unwrap();
        let own = r#","rlimits":[{"type":"RLIMIT_NOFILE","soft":7,"hard":8}]"#;
        for (rlimits, namespaces, expected) in
            [("", 0, vec![(1, 2)]), (own, 0, vec![(7, 8)]), ("", USER, vec![(1, 2)]), (own, USER, vec![])]
        {
            let text = format!(r#"{{"args":["/x"],"cwd":"/","user":{{"uid":0,"gid":0}}{rlimits}}}"#);
            let base: Process = serde_json::from_str(&text).unwrap();
            let container = ContainerFacts { namespaces, ..ContainerFacts::default() };
            let plan = exec(ExecInputs {
                id: "c",
                host: &host,
                process: &base,
                base: &base,
                container: &container,
                seccomp: None,
                preserve_fds: 0,
                open_files: Some((1, 2)),
            });
            let limit = |step: &Step| match step {
                Step::Rlimit(limit) if limit.resource == libc::RLIMIT_NOFILE => {
                    Some((limit.soft, limit.hard))
                }
                _ => None,
            };
            let plan = plan.unwrap().process;
            assert_eq!(
                plan.child.iter().filter_map(limit).collect::<Vec<_>>(),
                expected,
                "{rlimits} {namespaces:x}"
            );
        }
    }

    #[test]
    fn only_who_can_not_be_looked_into_is_born_in_the_pid_namespace() {
        const ROOT: &str = r#""euid":0,"in_user_namespace":false,"traces":true"#;
        const WEAK: &str = r#""euid":0,"in_user_namespace":false,"traces":false"#;
        const ROOTLESS: &str = r#""euid":1000,"in_user_namespace":false,"traces":true"#;
        const NESTED: &str = r#""euid":0,"in_user_namespace":true,"traces":true"#;
        const FEW: &str = r#","capabilities":{"bounding":["CAP_KILL"]}"#;
        const TRACER: &str = r#","capabilities":{"bounding":["CAP_KILL","CAP_SYS_PTRACE"]}"#;
        for (caller, namespaces, capabilities, inside) in [
            (ROOT, PID | MOUNT, FEW, true),
            (ROOT, MOUNT, FEW, false),
            (ROOT, PID | MOUNT, TRACER, false),
            (ROOT, PID | MOUNT, "", false),
            (ROOT, PID | MOUNT | USER, TRACER, true),
            (WEAK, PID | MOUNT, FEW, false),
            (ROOTLESS, PID | MOUNT | USER, FEW, false),
            (NESTED, PID | MOUNT, FEW, false),
        ] {
            assert_eq!(
                born_inside(caller, namespaces, capabilities),
                inside,
                "{caller} {namespaces:#x} {capabilities}"
            );
        }
    }
}
