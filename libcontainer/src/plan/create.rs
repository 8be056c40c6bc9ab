//! The plan for a new container: the steps of its first process from the clone to the exec, in the order that they require.

use super::finish::{Finish, Surroundings};
use super::mounts::Mounts;
use super::namespaces::{self, IPC, MOUNT, NET, Namespaces, PID, TIME, USER, UTS};
use super::step::{Gate, Step};
use super::{CgroupEntry, ContainerFacts, Draft, IdMaps, Inputs, NamespaceFacts, Plan, ProcessPlan};
use super::{c_string, cgroup, check, devices, ids, paths, process, scheduling};
use crate::error::{Error, Result};
use oci_spec::runtime::{Linux, LinuxBuilder, Process};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// A container whose specification is checked.
struct Container<'a> {
    inputs: &'a Inputs<'a>,
    linux: &'a Linux,
    process: &'a Process,
    ns: Namespaces,
    maps: Option<IdMaps>,
    /// The maps given for a joined user namespace.
    joined_maps: Option<IdMaps>,
    mounts: Mounts<'a>,
    /// (file, value)
    sysctls: Vec<(CString, CString)>,
}

/// The plan for a container that waits for `start` at its end.
///
/// # Errors
/// `InvalidSpec` and `Unsupported`, naming the field.
pub(crate) fn create(inputs: &Inputs) -> Result<Plan> {
    let spec = inputs.spec;
    let none = nothing();
    let linux = spec.linux().as_ref().unwrap_or(&none);
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::invalid("process: process property must not be empty"))?;
    let ns = namespaces::read(linux.namespaces().as_deref().unwrap_or_default())?;
    check::create(inputs, &ns)?;
    let (maps, sysctls) = (maps(inputs, linux, &ns)?, check::sysctls(linux, &ns)?);
    let joined_maps = joined_maps(linux, &ns)?;
    let mounts = Mounts::read(inputs)?;
    let container = Container { inputs, linux, process, ns, maps, joined_maps, mounts, sysctls };

    let mut draft = Draft::new();
    let finish = container.finish(&mut draft.warnings)?;
    let cgroup =
        cgroup::plan(inputs, container.mounts.cgroup_is_writable(), container.ns.facts, &mut draft.warnings)?;
    let filter = inputs.filter.clone();
    draft.warnings.extend(filter.iter().flat_map(|filter| filter.warnings.clone()));

    let score = process::oom_score_adj(container.process)?;
    // In a new user namespace the process may not lower a score that a privileged caller has raised.
    let by_parent = container.makes(USER) && !inputs.host.is_rootless();
    let clone_flags = container.enter(score.clone().filter(|_| !by_parent), &mut draft)?;
    container.root(&cgroup, &finish, &mut draft)?;
    container.system(&finish, &mut draft)?;
    container.pivot(&mut draft)?;
    let gate = Some(Gate::Start);
    let (exec, mut parent) =
        finish.append(filter.map(Step::from), gate, inputs.options.preserve_fds, &mut draft);
    parent.oom_score_adj = score.filter(|_| by_parent);

    Ok(Plan {
        cgroup,
        facts: container.facts(),
        joined: container.ns.facts.joined,
        warnings: std::mem::take(&mut draft.warnings),
        process: ProcessPlan {
            clone_flags,
            clone_into_cgroup: container.cgroup_entry() == CgroupEntry::Clone,
            maps: container.maps,
            joined_maps: container.joined_maps,
            parent,
            ..draft.into_plan(exec)
        },
    })
}

impl Container<'_> {
    fn own(&self, flag: u64) -> bool {
        self.ns.facts.own(flag)
    }

    fn makes(&self, flag: u64) -> bool {
        self.ns.facts.new & flag != 0
    }

    fn terminal(&self) -> bool {
        self.process.terminal().unwrap_or(false)
    }

    fn cgroup_entry(&self) -> CgroupEntry {
        CgroupEntry::of(self.inputs.host, self.inputs.options.systemd_cgroup)
    }

    fn facts(&self) -> ContainerFacts {
        ContainerFacts {
            namespaces: self.ns.facts.new | self.ns.facts.joined,
            maps: self.maps.clone(),
            personality: self.linux.personality().clone(),
            memory_policy: self.linux.memory_policy().clone(),
            keyring: !self.inputs.options.no_new_keyring,
        }
    }

    fn finish(&self, warnings: &mut Vec<String>) -> Result<Finish> {
        let around = Surroundings {
            host: self.inputs.host,
            own_user: self.own(USER),
            maps: self.maps.as_ref(),
            personality: self.linux.personality().as_ref(),
            memory_policy: self.linux.memory_policy().as_ref(),
            // execCPUAffinity is for processes of `exec` only (runtime-spec, "process").
            affinity: Some(scheduling::every_cpu()),
        };
        scheduling::affinity(self.process)?;
        Finish::new(self.process, around, warnings)
    }

    /// The namespaces that are written to, which would change the host if they were the caller's.
    fn changed(&self) -> u64 {
        let named = |name: &Option<String>| name.as_ref().is_some_and(|n| !n.is_empty());
        let uts =
            if named(self.inputs.spec.hostname()) || named(self.inputs.spec.domainname()) { UTS } else { 0 };
        self.sysctls.iter().fold(uts, |flags, (file, _)| match file.to_bytes() {
            b"kernel/domainname" => flags | UTS,
            file if file.starts_with(b"net/") => flags | NET,
            file if file.starts_with(b"user/") => flags | USER,
            _ => flags | IPC,
        })
    }

    /// Enters the namespaces and the cgroup. Returns the flags for the parent's clone3.
    fn enter(&self, score: Option<CString>, draft: &mut Draft) -> Result<u64> {
        let tolerate = self.inputs.host.is_rootless();
        draft.child.extend(score.map(|value| Step::OomScoreAdj { value, tolerate }));
        // The files of an undumpable process in /proc belong to root. An unprivileged parent has to write its maps before, and an
        // unprivileged child its clocks; until then it is in a new user namespace, out of reach of the container.
        let dumpable_first = self.inputs.host.euid != 0 && self.makes(USER);
        if !dumpable_first {
            draft.push(Step::Undumpable);
        }
        let clone_flags = namespaces::append(&self.ns, self.changed(), draft);
        let maps = self.maps.is_some() || self.joined_maps.is_some();
        if maps || self.cgroup_entry() == CgroupEntry::Parent {
            draft.push(Step::Wait(Gate::Mapped));
        }
        // Before the change of user: /proc/self/timens_offsets belongs to the previous user.
        if self.makes(TIME) {
            draft.push(Step::TimeNamespace { offsets: check::time_offsets(self.linux)? });
        }
        // An unprivileged caller could not join an undumpable process: no hook could run in the container, and no exec before its start.
        // In new pid and user namespaces only processes that the caller sends there can trace it.
        if dumpable_first && !self.makes(PID) {
            draft.push(Step::Undumpable);
        }
        if self.own(USER) {
            let drop_groups =
                !self.inputs.host.in_user_namespace && self.maps.as_ref().is_some_and(|m| !m.deny_setgroups);
            draft.push(Step::BecomeRoot { drop_groups });
        }
        let flags = namespaces::after_all(self.ns.facts) & !TIME;
        if flags != 0 {
            draft.push(Step::Unshare { flags });
        }
        draft.push(Step::NewSession);
        if !self.inputs.options.no_new_keyring {
            draft.push(process::keyring(self.inputs.id, process::keyring_permissions(self.own(USER)))?);
        }
        if self.makes(NET) {
            draft.push(Step::LoopbackUp);
        }
        Ok(clone_flags)
    }

    /// Assembles the root file system, while the host's is still reachable.
    fn root(&self, cgroup: &cgroup::CgroupPlan, finish: &Finish, draft: &mut Draft) -> Result<()> {
        let facts: NamespaceFacts = self.ns.facts;
        if self.own(MOUNT) {
            self.mounts.append(self.inputs, facts, &cgroup.place, draft)?;
        } else {
            let path = self.mounts.root().as_os_str().as_bytes();
            draft.push(Step::OpenRoot { path: c_string("root.path", path)? });
        }
        if self.own(MOUNT) || !(self.own(USER) || self.inputs.host.in_user_namespace) {
            devices::append(self.inputs, &self.mounts, facts, draft)?;
        } else {
            draft.warnings.push("linux.namespaces: no devices are created without a mount namespace".into());
        }
        if self.terminal() {
            draft.push(finish.console(self.own(MOUNT)));
        }
        if finish.cwd().as_c_str() != c"/" {
            draft.push(Step::Directory { path: finish.cwd().clone(), mode: 0o755 });
        }
        Ok(())
    }

    /// Settings of the container as a whole, after the hooks, which may still change its root.
    fn system(&self, finish: &Finish, draft: &mut Draft) -> Result<()> {
        // The host's /dev/null, before a hook or another process can put something else into the root.
        if self.linux.masked_paths().as_ref().is_some_and(|p| !p.is_empty()) {
            draft.push(Step::OpenNull);
        }
        if check::has_create_hooks(self.inputs.spec) {
            draft.push(Step::Wait(Gate::Hooks));
        }
        if !self.sysctls.is_empty() || finish.has_labels() {
            draft.push(Step::PrivateProc);
        }
        if let Some(name) = self.inputs.spec.hostname().as_ref().filter(|n| !n.is_empty()) {
            draft.push(Step::Hostname(c_string("hostname", name.as_str())?));
        }
        if let Some(name) = self.inputs.spec.domainname().as_ref().filter(|n| !n.is_empty()) {
            draft.push(Step::Domainname(c_string("domainname", name.as_str())?));
        }
        let sysctls = self.sysctls.iter().cloned();
        draft.child.extend(sysctls.map(|(file, value)| Step::Sysctl { file, value }));
        paths::append_read_only(self.inputs, &self.mounts, self.ns.facts, draft)?;
        paths::append_masks(self.inputs, self.ns.facts, draft)
    }

    /// Makes the root `/`.
    fn pivot(&self, draft: &mut Draft) -> Result<()> {
        if !self.own(MOUNT) {
            draft.push(Step::Chroot);
        } else if self.inputs.options.no_pivot {
            draft.push(Step::MoveRoot);
        } else {
            draft.push(Step::PivotRoot);
        }
        if self.own(MOUNT) {
            if let Some(flags) = self.mounts.root_propagation() {
                draft.push(Step::RootPropagation { flags });
            }
            if self.inputs.spec.root().as_ref().and_then(|r| r.readonly()).unwrap_or(false) {
                draft.push(Step::RootReadOnly);
            }
        }
        if self.terminal() {
            draft.push(Step::Stdio);
        }
        Ok(())
    }
}

/// An empty `linux`, for a config.json without one.
fn nothing() -> Linux {
    let mut linux = LinuxBuilder::default().build().unwrap_or_default();
    linux.set_namespaces(None).set_masked_paths(None).set_readonly_paths(None).set_resources(None);
    linux
}

fn maps(inputs: &Inputs, linux: &Linux, ns: &Namespaces) -> Result<Option<IdMaps>> {
    if ns.facts.new & USER == 0 {
        return Ok(None);
    }
    ids::maps(inputs.host, linux.uid_mappings().as_ref(), linux.gid_mappings().as_ref()).map(Some)
}

/// containerd and CRI-O give the maps of a user namespace that they made along with its path; without maps nothing is compared.
fn joined_maps(linux: &Linux, ns: &Namespaces) -> Result<Option<IdMaps>> {
    let (uids, gids) = (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref());
    if ns.facts.joined & USER == 0 || (uids.is_none() && gids.is_none()) {
        return Ok(None);
    }
    Ok(Some(IdMaps {
        uids: ids::checked("linux.uidMappings", uids.unwrap_or_default())?,
        gids: ids::checked("linux.gidMappings", gids.unwrap_or_default())?,
        ..IdMaps::default()
    }))
}
