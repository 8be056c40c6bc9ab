//! Where a container's cgroup is, what is written there, and who owns it.
//!
//! Pure. `limits` turns limits into writes, `devfilter` decides which devices are allowed; the module `cgroup` carries it out.

use super::devfilter::{self, Policy};
use super::limits::{self, Limits};
use super::{Inputs, NamespaceFacts};
use crate::error::{Error, Result};
use crate::host::CgroupHost;
use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};
use std::path::{Component, Path, PathBuf};

/// A cgroup to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupPlan {
    pub(crate) place: Place,
    pub(crate) limits: Limits,
    /// `None`: devices are not restricted (a caller who may not, or `a *:* rwm`).
    pub(crate) devices: Option<Policy>,
    /// The uid of the container's root on the host, which gets the cgroup's files: runtime-spec, "cgroup ownership".
    pub(crate) owner: Option<u32>,
    /// The caller may lack permission for cgroups: on v1, hierarchies that it cannot write to are left out, unless a place was given.
    pub(crate) tolerant: bool,
    /// Continue without a cgroup when permission is denied: the caller is tolerant, and neither a place nor limits were given.
    pub(crate) may_lack: bool,
}

/// A place in every hierarchy: plain names joined by slashes, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Below the mount of each hierarchy.
    Root(PathBuf),
    /// Beside the caller's own cgroup on v2, below it on v1: where runc puts a container whose path is relative or not given.
    Own(PathBuf),
}

/// Plans the cgroup of a specification in terms of the host's cgroups. `writable_mount`: the container can write to its mount of it.
pub(crate) fn plan(
    inputs: &Inputs<'_>,
    writable_mount: bool,
    namespaces: NamespaceFacts,
    warnings: &mut Vec<String>,
) -> Result<CgroupPlan> {
    if inputs.options.systemd_cgroup {
        return Err(Error::unsupported("--systemd-cgroup: the systemd cgroup driver is not supported yet"));
    }
    let linux = inputs.spec.linux().as_ref();
    let path = linux.and_then(|l| l.cgroups_path().as_deref()).filter(|p| !p.as_os_str().is_empty());
    let place = place(path, inputs.id)?;
    let none = LinuxResources::default();
    let resources = linux.and_then(|l| l.resources().as_ref()).unwrap_or(&none);
    let mut limits = limits(resources, &inputs.host.cgroup)?;
    warnings.append(&mut limits.warnings);
    let rules = resources.devices().as_deref().unwrap_or_default();
    let nodes = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
    let policy = devfilter::policy(rules, nodes)?;
    let rootless = inputs.host.is_rootless();
    let tolerant = inputs.options.rootless_cgroups.unwrap_or(rootless);
    Ok(CgroupPlan {
        // A user namespace can neither load device programs nor write devices.allow, and mknod is denied there anyway.
        devices: (!rootless && !policy.allows_all()).then_some(policy),
        owner: owner(inputs, writable_mount, namespaces),
        tolerant,
        may_lack: tolerant && path.is_none() && limits.writes.is_empty(),
        place,
        limits,
    })
}

/// The writes for these resources on this host.
pub(crate) fn limits(resources: &LinuxResources, host: &CgroupHost) -> Result<Limits> {
    match host {
        CgroupHost::V1 { .. } => limits::v1(resources),
        CgroupHost::V2 { .. } | CgroupHost::None => limits::v2(resources),
    }
}

/// `..` ends at the root of the place, as a path cleaned below `/` does; cgroup file systems have no symlinks.
fn place(path: Option<&Path>, id: &str) -> Result<Place> {
    let Some(path) = path else {
        return Ok(Place::Own(PathBuf::from(id)));
    };
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean.as_os_str().is_empty() {
        return Err(Error::invalid(format!("linux.cgroupsPath: {path:?} is the root of the hierarchy")));
    }
    let text = path.to_string_lossy();
    if !text.contains('/') && text.matches(':').count() == 2 {
        return Err(Error::unsupported(format!(
            "linux.cgroupsPath: {text:?} is a path for the systemd cgroup driver, which is not supported yet"
        )));
    }
    if clean.as_os_str().len() > 3000 || clean.as_os_str().to_string_lossy().contains(['\0', '\n']) {
        return Err(Error::invalid(
            "linux.cgroupsPath: must not be longer than 3000 bytes or contain a NUL byte or a newline",
        ));
    }
    Ok(if path.is_absolute() { Place::Root(clean) } else { Place::Own(clean) })
}

/// The cgroup belongs to the container if that has new cgroup and user namespaces and can write to its cgroup mount, on v2: only there
/// is it safe to delegate one.
fn owner(inputs: &Inputs<'_>, writable_mount: bool, namespaces: NamespaceFacts) -> Option<u32> {
    let new = |flag: libc::c_int| namespaces.new & u64::from(flag.cast_unsigned()) != 0;
    let own = new(libc::CLONE_NEWCGROUP) && new(libc::CLONE_NEWUSER);
    if !own || !matches!(inputs.host.cgroup, CgroupHost::V2 { .. }) || !writable_mount {
        return None;
    }
    let uid = inputs.spec.process().as_ref().map_or(0, |p| p.user().uid());
    let maps = inputs.spec.linux().as_ref()?.uid_mappings().as_deref().unwrap_or_default();
    let map = maps.iter().find(|m| uid >= m.container_id() && uid - m.container_id() < m.size())?;
    map.host_id().checked_add(uid - map.container_id())
}

/// The resources after an update, as runc does it: a limit that is not mentioned stays, but those of cpusets, pids, burst, idle and
/// `unified` are not written again. Devices are never updated.
pub(crate) fn merge(old: &LinuxResources, new: &LinuxResources) -> LinuxResources {
    let mut merged = LinuxResources::default();
    merged.set_memory(merge_memory(old, new));
    merged.set_cpu(merge_cpu(old, new));
    merged.set_pids(*new.pids());
    merged.set_block_io(merge_io(old.block_io().as_ref(), new.block_io().as_ref()));
    merged.set_hugepage_limits(old.hugepage_limits().clone());
    merged.set_network(old.network().clone());
    merged.set_rdma(old.rdma().clone());
    merged.set_unified(new.unified().clone());
    merged
}

fn merge_memory(old: &LinuxResources, new: &LinuxResources) -> Option<oci_spec::runtime::LinuxMemory> {
    let (Some(old), Some(new)) = (old.memory(), new.memory()) else {
        return new.memory().or(*old.memory());
    };
    let mut memory = *old;
    // Removing the memory limit removes that of swap, which requires one.
    let lifted = new.limit() == Some(-1) && new.swap().is_none();
    memory
        .set_limit(new.limit().or(old.limit()))
        .set_reservation(new.reservation().or(old.reservation()))
        .set_swap(if lifted { Some(0) } else { new.swap().or(old.swap()) })
        .set_check_before_update(new.check_before_update());
    Some(memory)
}

fn merge_cpu(old: &LinuxResources, new: &LinuxResources) -> Option<oci_spec::runtime::LinuxCpu> {
    let none = oci_spec::runtime::LinuxCpu::default();
    let (Some(old), Some(new)) = (old.cpu(), new.cpu()) else {
        return Some(new.cpu().clone().unwrap_or_else(|| {
            let mut cpu = old.cpu().clone().unwrap_or(none);
            cpu.set_cpus(None).set_mems(None).set_burst(None).set_idle(None);
            cpu
        }));
    };
    let mut cpu = old.clone();
    let given = |n: Option<u64>| n.filter(|n| *n != 0);
    let (period, quota) = (given(new.period()), new.quota().filter(|n| *n != 0));
    if period.is_none() && quota.is_none() || period.is_some() && quota.is_some() {
        cpu.set_period(period).set_quota(quota);
    } else if period.is_some() {
        cpu.set_period(period);
    } else {
        cpu.set_quota(quota);
    }
    // The weight of an idle cgroup cannot be written.
    let shares = if new.idle().is_some() { new.shares().or(Some(0)) } else { new.shares().or(old.shares()) };
    cpu.set_shares(shares)
        .set_burst(new.burst())
        .set_idle(new.idle())
        .set_realtime_period(new.realtime_period().or(old.realtime_period()))
        .set_realtime_runtime(new.realtime_runtime().or(old.realtime_runtime()))
        .set_cpus(new.cpus().clone())
        .set_mems(new.mems().clone());
    Some(cpu)
}

fn merge_io(old: Option<&LinuxBlockIo>, new: Option<&LinuxBlockIo>) -> Option<LinuxBlockIo> {
    let (Some(old), Some(new)) = (old, new) else {
        return new.or(old).cloned();
    };
    let mut io = old.clone();
    let mut weights = old.weight_device().clone().unwrap_or_default();
    for entry in new.weight_device().iter().flatten() {
        weights.retain(|w| (w.major(), w.minor()) != (entry.major(), entry.minor()));
        weights.push(*entry);
    }
    let rates = |old: &Option<Vec<LinuxThrottleDevice>>, new: &Option<Vec<LinuxThrottleDevice>>| {
        let mut list = old.clone().unwrap_or_default();
        for entry in new.iter().flatten() {
            list.retain(|t| (t.major(), t.minor()) != (entry.major(), entry.minor()));
            list.push(*entry);
        }
        Some(list)
    };
    io.set_weight(new.weight().or(old.weight()))
        .set_leaf_weight(new.leaf_weight().or(old.leaf_weight()))
        .set_weight_device(Some(weights))
        .set_throttle_read_bps_device(rates(old.throttle_read_bps_device(), new.throttle_read_bps_device()))
        .set_throttle_write_bps_device(rates(
            old.throttle_write_bps_device(),
            new.throttle_write_bps_device(),
        ))
        .set_throttle_read_iops_device(rates(
            old.throttle_read_iops_device(),
            new.throttle_read_iops_device(),
        ))
        .set_throttle_write_iops_device(rates(
            old.throttle_write_iops_device(),
            new.throttle_write_iops_device(),
        ));
    Some(io)
}

#[cfg(test)]
mod tests;
