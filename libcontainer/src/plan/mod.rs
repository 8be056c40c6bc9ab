//! The plan: what the parent and the child will do to create a container or to run a process in one, as data.
//!
//! `create` and `exec` are pure: they read no file, make no system call and look at no clock. What they need to know of the host
//! is in `Host`, and what they need of the bundle in `Inputs`.

pub(crate) mod describe;
pub(crate) mod step;

use crate::host::Host;
use oci_spec::runtime::Spec;
use std::ffi::CString;
use std::path::PathBuf;
use step::{Exec, Slot, Step};

/// What a plan for a new container is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) id: &'a str,
    pub(crate) spec: &'a Spec,
    pub(crate) host: &'a Host,
    /// The absolute path of the bundle; relative paths of the spec are below it.
    pub(crate) bundle: &'a std::path::Path,
    pub(crate) options: &'a PlanOptions,
    /// The caller's umask, its keyring use and the like are in `options`.
    pub(crate) detached_stdio: bool,
}

/// The caller's wishes that change the plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlanOptions {
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) preserve_fds: u32,
    pub(crate) systemd_cgroup: bool,
}

/// Everything that will be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Flags for the first clone3 (CLONE_NEW*).
    pub(crate) clone_flags: u64,
    /// What the parent opens before the clone.
    pub(crate) opens: Vec<Open>,
    pub(crate) child: Vec<Step>,
    pub(crate) exec: Exec,
    pub(crate) maps: Option<IdMaps>,
    pub(crate) parent: ParentSettings,
    /// How many descriptor slots the child's table has.
    pub(crate) slots: u16,
    /// Things the caller should hear of, although they are no errors.
    pub(crate) warnings: Vec<String>,
}

/// A descriptor that the parent opens before the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Open {
    /// A namespace file; verified to be one of `kind`.
    Namespace { slot: Slot, path: PathBuf, flag: u64 },
    /// A detached clone of the tree at `path`, id-mapped when `idmap` is set (recursively when `idmap_recursive`).
    Tree { slot: Slot, path: PathBuf, recursive: bool, idmap: Option<IdMaps>, idmap_recursive: bool },
}

/// The id maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct IdMaps {
    pub(crate) uids: Vec<IdMap>,
    pub(crate) gids: Vec<IdMap>,
    /// Write `deny` to setgroups first (an unprivileged caller without newgidmap).
    pub(crate) deny_setgroups: bool,
    /// Use newuidmap and newgidmap.
    pub(crate) with_helpers: bool,
}

/// One range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// What the parent sets on the child's process from outside, by pid, before the child passes its first gate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ParentSettings {
    /// (resource, soft, hard)
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) scheduler: Option<Scheduler>,
    /// ioprio_set(2): class << 13 | priority.
    pub(crate) io_priority: Option<i32>,
    /// CPUs as (first, last) ranges: before the cgroup is joined (exec only), and at last.
    pub(crate) affinity_initial: Vec<(u32, u32)>,
    pub(crate) affinity_final: Vec<(u32, u32)>,
    /// (host name, name inside)
    pub(crate) net_devices: Vec<(String, String)>,
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

/// A string for the kernel; the field is named when it has a NUL inside.
pub(crate) fn c_string(field: &str, value: impl Into<Vec<u8>>) -> crate::Result<CString> {
    CString::new(value).map_err(|_| crate::Error::invalid(format!("{field}: contains a NUL byte")))
}

/// A plan in the making: the rooms append to it in execution order.
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

    /// A descriptor slot of its own for something the parent opens.
    pub(crate) fn slot(&mut self) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        slot
    }
}

/// Which namespaces the container gets (CLONE_NEW* bits): made new, or joined by path. Those in neither are the caller's.
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
