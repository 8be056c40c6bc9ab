//! The plan for a new container: the steps of its first process, from the clone to the exec, in the order in which they must be.

use super::finish::{Finish, Surroundings};
use super::namespaces::{self, CGROUP, MOUNT, NET, Namespaces, TIME, USER};
use super::step::{Filter, Gate, Step};
use super::{CgroupEntry, ContainerFacts, Draft, IdMaps, Inputs, NamespaceFacts, Plan, c_string, check, ids, process};
use crate::error::{Error, Result};
use oci_spec::runtime::{Linux, Process};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// The plan for a container that waits for `start` at its end.
///
/// # Errors
/// `InvalidSpec` and `Unsupported`, naming the field.
pub(crate) fn create(inputs: &Inputs) -> Result<Plan> {
    let spec = inputs.spec;
    let no_linux = Linux::builder_without_defaults();
    let linux = spec.linux().as_ref().unwrap_or(&no_linux);
    let process = spec.process().as_ref().ok_or_else(|| Error::invalid("process: process property must not be empty"))?;
    let ns = namespaces::read(linux.namespaces().as_deref().unwrap_or_default())?;
    check::create(inputs, &ns)?;

    let mut draft = Draft::new();
    let maps = maps(inputs, linux, &ns)?;
    let around = Surroundings {
        host: inputs.host,
        own_user: ns.facts.own(USER),
        maps: maps.as_ref(),
        personality: linux.personality().as_ref(),
        memory_policy: linux.memory_policy().as_ref(),
        affinity: process::every_cpu(),
    };
    let finish = Finish::new(process, around, &mut draft.warnings)?;
    let sysctls = check::sysctls(linux, &ns)?;
    let cgroup = super::cgroup::plan(inputs)?;
    let seccomp = linux.seccomp().as_ref().map(super::seccomp::compile).transpose()?.map(Filter::into_step);

    let clone_flags = enter(inputs, linux, process, &ns, maps.as_ref(), &sysctls, &mut draft)?;
    root(inputs, process, ns.facts, &cgroup, &finish, &mut draft)?;
    system(inputs, linux, sysctls, &finish, &mut draft)?;
    pivot(inputs, ns.facts, process, &mut draft)?;
    let (exec, mut parent) = finish.append(seccomp, Some(Gate::Start), inputs.options.preserve_fds, &mut draft);
    parent.net_devices = net_devices(linux);

    Ok(Plan {
        clone_flags,
        clone_into_cgroup: CgroupEntry::of(inputs.host, inputs.options.systemd_cgroup) == CgroupEntry::Clone,
        opens: draft.opens,
        child: draft.child,
        exec,
        facts: ContainerFacts {
            namespaces: ns.facts.new | ns.facts.joined,
            maps: maps.clone(),
            personality: linux.personality().clone(),
            memory_policy: linux.memory_policy().clone(),
            keyring: !inputs.options.no_new_keyring,
        },
        maps,
        parent,
        cgroup,
        slots: draft.next_slot,
        warnings: draft.warnings,
    })
}
