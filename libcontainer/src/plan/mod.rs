//! The plan: what the parent and the child will do to create a container or to run a process in one, as data.
//!
//! `create` and `exec` are pure: they read no files, make no system calls and read no clock. The facts about the host are in `Host`,
//! those about the bundle in `Inputs`.

pub(crate) mod caps;
pub(crate) mod cgroup;
pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod describe;
pub(crate) mod devfilter;
pub(crate) mod devices;
pub(crate) mod devprogram;
pub(crate) mod exec;
pub(crate) mod finish;
#[cfg(test)]
mod golden;
pub(crate) mod ids;
pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod options;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod restore;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod step;

impl From<seccomp::Filter> for Step {
    fn from(filter: seccomp::Filter) -> Step {
        Step::Seccomp { bpf: filter.bpf, flags: filter.flags, listener: filter.listener }
    }
}

impl Plan {
    /// The flags of seccomp(2) for the filter; `None` without a filter.
    pub fn seccomp_flags(&self) -> Option<u64> {
        self.process.child.iter().find_map(|step| match step {
            Step::Seccomp { flags, .. } => Some(*flags),
            _ => None,
        })
    }
}

pub(crate) use create::create;
pub(crate) use exec::{ExecInputs, exec};

use crate::host::{CgroupHost, Host};
use crate::rootfs::overlay::Overlay;
use crate::sys::cstr::CStrArray;
use oci_spec::runtime::{LinuxMemoryPolicy, LinuxPersonality, Spec};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::path::PathBuf;
use step::{Exec, Rlimit, Slot, Step};

/// The inputs of a plan for a new container.
pub(crate) struct Inputs<'a> {
    pub(crate) id: &'a str,
    pub(crate) spec: &'a Spec,
    pub(crate) host: &'a Host,
    /// The absolute path of the bundle, which relative paths of the specification are below.
    pub(crate) bundle: &'a std::path::Path,
    pub(crate) options: &'a PlanOptions,
    /// The root, instead of the directory at `root.path`.
    pub(crate) overlay: Option<&'a Overlay>,
    /// `linux.seccomp`, compiled, perhaps from a cache.
    pub(crate) filter: Option<seccomp::Filter>,
}

/// The options of the caller that change the plan.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PlanOptions {
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) preserve_fds: u32,
    pub(crate) systemd_cgroup: bool,
    /// Tolerate that cgroups cannot be made; `None`: if the caller is not the host's root.
    pub(crate) rootless_cgroups: Option<bool>,
}

/// Everything that will be done to create a container, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its first process.
    pub(crate) process: ProcessPlan,
    /// The cgroup to make.
    pub(crate) cgroup: cgroup::CgroupPlan,
    /// What a later `exec` needs to know; stored with the container.
    pub(crate) facts: ContainerFacts,
    /// The namespaces that are joined by path (CLONE_NEW*).
    pub(crate) joined: u64,
    /// What the caller should know of, although none of it is an error.
    pub(crate) warnings: Vec<String>,
}

/// Everything that will be done to run a process in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecPlan {
    pub(crate) process: ProcessPlan,
    /// As those of `Plan`.
    pub(crate) warnings: Vec<String>,
}

/// What a launch carries out: the parent's part and the child's steps of one process, of a container or beside one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessPlan {
    /// Flags for the first clone3 (CLONE_NEW*).
    pub(crate) clone_flags: u64,
    /// The clone makes the child in the pid namespace of the process behind `Slot::TARGET`, which holds only children of those that
    /// have joined it.
    pub(crate) clone_into_pids: bool,
    /// The clone puts the child into its cgroup (CLONE_INTO_CGROUP). Else the parent writes its pid, after the last fork and before
    /// it opens `Gate::Mapped`.
    pub(crate) clone_into_cgroup: bool,
    /// What the parent opens before the clone.
    pub(crate) opens: Vec<Open>,
    pub(crate) child: Vec<Step>,
    pub(crate) exec: Exec,
    pub(crate) maps: Option<IdMaps>,
    /// The maps that the joined user namespace must have; compared at `Gate::Mapped`.
    pub(crate) joined_maps: Option<IdMaps>,
    pub(crate) parent: ParentSettings,
    /// The number of descriptor slots in the child's table.
    pub(crate) slots: u16,
}

/// The facts about a container that `exec` needs, besides its process description and its seccomp filter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ContainerFacts {
    /// The namespaces that are not its creator's (CLONE_NEW*).
    pub(crate) namespaces: u64,
    /// The maps of its user namespace, if it was made for it.
    pub(crate) maps: Option<IdMaps>,
    pub(crate) personality: Option<LinuxPersonality>,
    pub(crate) memory_policy: Option<LinuxMemoryPolicy>,
    /// It has its own session keyring, `_ses.ID`.
    pub(crate) keyring: bool,
}

/// A descriptor that the parent opens before the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Open {
    /// A namespace file, verified to be of the kind `flag` (NS_GET_NSTYPE). With `foreign` it must not be the caller's own, since a
    /// hostname or sysctl is set in it, which would change the host.
    Namespace { slot: Slot, path: PathBuf, flag: u64, foreign: bool },
    /// The root directory of the process behind `Slot::TARGET` (/proc/PID/root), into `Slot::ROOT`.
    TargetRoot,
    /// A detached clone of the tree at `path`, with the id map of the user namespace in `idmap` (recursively when `idmap_recursive`).
    Tree { slot: Slot, path: PathBuf, recursive: bool, idmap: Option<Slot>, idmap_recursive: bool },
    /// A copy-on-write root.
    Overlay { slot: Slot, overlay: Overlay },
    /// A user namespace with these maps and no process in it, for id-mapped mounts.
    UserNamespace { slot: Slot, maps: IdMaps },
}

/// The id maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct IdMaps {
    pub(crate) uids: Vec<IdMap>,
    pub(crate) gids: Vec<IdMap>,
    /// Write `deny` to setgroups first (an unprivileged caller without newgidmap).
    pub(crate) deny_setgroups: bool,
    /// Use newuidmap and newgidmap.
    pub(crate) with_helpers: bool,
}

/// One range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMap {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// The settings that the parent makes on the child's process from outside, by pid: a process in a new user namespace lacks the rights.
/// Limits, scheduling and priority are set while the child waits at `Gate::Start` or `Gate::Settings`, so that they don't hinder its
/// preparations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ParentSettings {
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) scheduler: Option<Scheduler>,
    /// ioprio_set(2): class << 13 | priority.
    pub(crate) io_priority: Option<i32>,
    /// CPUs as (first, last) ranges, set right before the cgroup is joined (exec only).
    pub(crate) affinity_initial: Vec<(u32, u32)>,
    /// For a process that is cloned into a new user namespace.
    pub(crate) oom_score_adj: Option<CString>,
}

impl ParentSettings {
    /// Whether something is set at `Gate::Start` or `Gate::Settings`.
    pub(crate) fn any_late(&self) -> bool {
        !self.rlimits.is_empty() || self.scheduler.is_some() || self.io_priority.is_some()
    }
}

/// sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Scheduler {
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// A string for the kernel; the error for a NUL byte inside names the field.
pub(crate) fn c_string(field: &str, value: impl Into<Vec<u8>>) -> crate::Result<CString> {
    CString::new(value).map_err(|_| crate::Error::invalid(format!("{field}: contains a NUL byte")))
}

/// The plan for a hook in a container that has not left the host's tree: it joins these namespaces of its process and executes the
/// hook's program in the directory that will be the root.
pub(crate) fn hook(
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    namespaces: u64,
    root: CString,
) -> ProcessPlan {
    let mut draft = Draft::new();
    draft.push(Step::Undumpable);
    draft.push(Step::JoinTarget { flags: namespaces });
    if namespaces & namespaces::PID != 0 {
        draft.push(Step::Fork { flags: 0 });
    }
    if namespaces & namespaces::USER != 0 {
        draft.push(Step::BecomeRoot { drop_groups: false });
    }
    draft.child.extend([Step::Cwd(root), Step::Umask(0o022), Step::CloseFrom(3), Step::Exec]);
    let exec = Exec {
        candidates: vec![path],
        argv: CStrArray::new(argv, 0),
        envp: CStrArray::new(envp, 0),
        home_of: None,
    };
    ProcessPlan { clone_into_cgroup: true, ..draft.into_plan(exec) }
}

/// How a child gets into its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupEntry {
    /// By clone3 (Linux 5.7, cgroup v2).
    Clone,
    /// The parent moves it: v1 hierarchies, and systemd, which needs a process first.
    Parent,
    /// The host has no cgroups.
    None,
}

impl CgroupEntry {
    fn of(host: &Host, systemd: bool) -> CgroupEntry {
        match host.cgroup {
            CgroupHost::None => CgroupEntry::None,
            CgroupHost::V2 { .. } if host.kernel >= (5, 7) && !systemd => CgroupEntry::Clone,
            _ => CgroupEntry::Parent,
        }
    }
}

/// An unfinished plan: the modules append to it in execution order.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) child: Vec<Step>,
    pub(crate) opens: Vec<Open>,
    pub(crate) next_slot: u16,
    pub(crate) warnings: Vec<String>,
}

impl Draft {
    pub(crate) fn new() -> Self {
        Draft { next_slot: Slot::FIRST_FREE, ..Draft::default() }
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.child.push(step);
    }

    /// Reserves a descriptor slot for something that the parent opens.
    pub(crate) fn slot(&mut self) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        slot
    }

    /// The plan for a process in the caller's own namespaces and cgroup, for which the parent has nothing to set.
    pub(crate) fn into_plan(self, exec: Exec) -> ProcessPlan {
        ProcessPlan {
            clone_flags: 0,
            clone_into_pids: false,
            clone_into_cgroup: false,
            opens: self.opens,
            child: self.child,
            exec,
            maps: None,
            joined_maps: None,
            parent: ParentSettings::default(),
            slots: self.next_slot,
        }
    }
}

/// The namespaces of the container (CLONE_NEW* bits): new ones, and those joined by path. All others are the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NamespaceFacts {
    pub(crate) new: u64,
    pub(crate) joined: u64,
}

impl NamespaceFacts {
    /// The namespace is not the caller's.
    pub(crate) fn own(self, flag: u64) -> bool {
        (self.new | self.joined) & flag != 0
    }
}
