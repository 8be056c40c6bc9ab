//! `linux.resources` as writes to cgroup files, for v1 and for v2: the conversions between the two, and the order.
//!
//! Pure. The kernel documents the values in Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/*.rst. Zero means "not set" wherever
//! it does with runc, since engines rely on that.

use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::borrow::Cow;

/// One value for one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// The controller that the file belongs to, or `cgroup` for files of the core.
    pub(crate) controller: Cow<'static, str>,
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: String,
    pub(crate) rule: Rule,
}

/// How the result of a write is handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It must succeed.
    Must,
    /// After EINVAL it is tried again once the writes after it are done, since the kernel checks values against each other.
    Retry,
    /// The kernel may lack the file, which does no harm.
    Optional,
    /// Both: `Retry` and `Optional`.
    RetryOptional,
    /// When the kernel lacks the file, write this value to this one.
    Or(Cow<'static, str>, String),
    /// The kernel clamps the value silently: read it back and compare.
    ReadBack,
    /// A cpu.max with a new period: the quota stays as it is.
    KeepQuota,
}

/// Limits, in bytes, that are refused if the cgroup already uses more (`checkBeforeUpdate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryCheck {
    pub(crate) memory: Option<u64>,
    pub(crate) memory_and_swap: Option<u64>,
}

/// All writes of one set of resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    pub(crate) writes: Vec<Write>,
    pub(crate) check: Option<MemoryCheck>,
    pub(crate) warnings: Vec<String>,
}

impl Limits {
    fn push(&mut self, controller: &'static str, file: &'static str, value: impl ToString, rule: Rule) {
        self.writes.push(Write {
            controller: controller.into(),
            file: file.into(),
            value: value.to_string(),
            rule,
        });
    }

    fn must(&mut self, controller: &'static str, file: &'static str, value: impl ToString) {
        self.push(controller, file, value, Rule::Must);
    }

    fn ignored(&mut self, present: bool, field: &str, why: &str) {
        if present {
            self.warnings.push(format!("linux.resources.{field} is ignored: {why}"));
        }
    }

    /// The controllers that the writes need, each once.
    pub(crate) fn controllers(&self) -> Vec<&str> {
        let mut list: Vec<&str> = Vec::new();
        for write in self.writes.iter().filter(|w| w.controller != "cgroup") {
            if !list.contains(&&*write.controller) {
                list.push(&write.controller);
            }
        }
        list
    }
}

/// The writes for a v2 cgroup.
pub(crate) fn v2(resources: &LinuxResources) -> Result<Limits> {
    let mut limits = Limits::default();
    pids(&mut limits, resources);
    if let Some(memory) = resources.memory() {
        memory_v2(&mut limits, memory)?;
    }
    if let Some(io) = resources.block_io() {
        io_v2(&mut limits, io)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_v2(&mut limits, cpu);
        cpuset(&mut limits, cpu);
    }
    hugetlb(&mut limits, resources, "max")?;
    rdma(&mut limits, resources);
    let network = resources.network().as_ref();
    limits.ignored(
        network.is_some_and(|n| {
            n.class_id().unwrap_or(0) != 0 || n.priorities().as_ref().is_some_and(|p| !p.is_empty())
        }),
        "network",
        "not supported on cgroup v2",
    );
    unified(&mut limits, resources)?;
    Ok(limits)
}

/// The writes for a set of v1 cgroups.
pub(crate) fn v1(resources: &LinuxResources) -> Result<Limits> {
    if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(Error::invalid(
            "linux.resources.unified: invalid configuration: cannot use unified on cgroup v1",
        ));
    }
    let mut limits = Limits::default();
    if let Some(cpu) = resources.cpu() {
        cpuset(&mut limits, cpu);
    }
    if let Some(memory) = resources.memory() {
        memory_v1(&mut limits, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_v1(&mut limits, cpu);
    }
    pids(&mut limits, resources);
    if let Some(io) = resources.block_io() {
        io_v1(&mut limits, io)?;
    }
    hugetlb(&mut limits, resources, "limit_in_bytes")?;
    if let Some(network) = resources.network() {
        if let Some(id) = network.class_id().filter(|id| *id != 0) {
            limits.must("net_cls", "net_cls.classid", id);
        }
        for priority in network.priorities().iter().flatten() {
            limits.must(
                "net_prio",
                "net_prio.ifpriomap",
                format!("{} {}", priority.name(), priority.priority()),
            );
        }
    }
    rdma(&mut limits, resources);
    Ok(limits)
}

/// 0 would forbid the container's first process; it is taken as the lowest limit that works. -1 is no limit.
fn pids(limits: &mut Limits, resources: &LinuxResources) {
    if let Some(pids) = resources.pids() {
        let value = match pids.limit() {
            n if n < 0 => "max".to_owned(),
            0 => "1".to_owned(),
            n => n.to_string(),
        };
        limits.must("pids", "pids.max", value);
    }
}

fn cpuset(limits: &mut Limits, cpu: &LinuxCpu) {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = value.as_ref().filter(|list| !list.is_empty()) {
            limits.must("cpuset", file, list);
        }
    }
}

fn hugetlb(limits: &mut Limits, resources: &LinuxResources, suffix: &str) -> Result<()> {
    for (i, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let size = limit.page_size();
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::invalid(format!(
                "linux.resources.hugepageLimits[{i}].pageSize: invalid page size {size:?}: must be a size such as 2MB"
            )));
        }
        if limit.limit() < 0 {
            return Err(Error::invalid(format!(
                "linux.resources.hugepageLimits[{i}].limit: {} is negative",
                limit.limit()
            )));
        }
        // Reservations are accounted separately since Linux 5.7.
        for (part, rule) in [("", Rule::Must), ("rsvd.", Rule::Optional)] {
            limits.writes.push(Write {
                controller: "hugetlb".into(),
                file: format!("hugetlb.{size}.{part}{suffix}").into(),
                value: limit.limit().to_string(),
                rule,
            });
        }
    }
    Ok(())
}

fn rdma(limits: &mut Limits, resources: &LinuxResources) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| name.as_str());
    for (name, limit) in devices {
        let mut value = name.clone();
        if let Some(n) = limit.hca_handles() {
            value.push_str(&format!(" hca_handle={n}"));
        }
        if let Some(n) = limit.hca_objects() {
            value.push_str(&format!(" hca_object={n}"));
        }
        limits.must("rdma", "rdma.max", value);
    }
}

fn unified(limits: &mut Limits, resources: &LinuxResources) -> Result<()> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort_by_key(|(file, _)| file.as_str());
    for (file, value) in files {
        if file.contains('/') || file.contains('\0') {
            return Err(Error::invalid(format!(
                "unified resource {file:?} must be a file name (no slashes)"
            )));
        }
        let Some((controller, parameter)) =
            file.split_once('.').filter(|(c, p)| !c.is_empty() && !p.is_empty())
        else {
            return Err(Error::invalid(format!(
                "unified resource {file:?} must be in the form CONTROLLER.PARAMETER"
            )));
        };
        // These would move or end processes instead of limiting them.
        if controller == "cgroup" && matches!(parameter, "procs" | "threads" | "kill" | "freeze" | "type") {
            return Err(Error::invalid(format!("unified resource {file:?} is not a limit")));
        }
        // Files with a line for each device take one line in each write.
        for line in value.lines().filter(|line| !line.is_empty()) {
            limits.writes.push(Write {
                controller: controller.to_owned().into(),
                file: file.clone().into(),
                value: line.to_owned(),
                rule: Rule::Must,
            });
        }
    }
    Ok(())
}

/// Not set, no limit, or so many bytes.
fn bytes(field: &str, value: Option<i64>) -> Result<Option<i64>> {
    match value {
        None | Some(0) => Ok(None),
        Some(n) if n >= -1 => Ok(Some(n)),
        Some(n) => Err(Error::invalid(format!(
            "linux.resources.memory.{field}: {n} is negative (-1 means no limit)"
        ))),
    }
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory_v2(limits: &mut Limits, memory: &LinuxMemory) -> Result<()> {
    let limit = bytes("limit", memory.limit())?;
    let reservation = bytes("reservation", memory.reservation())?;
    let swap_asked = bytes("swap", memory.swap())?;
    let swap = swap_v2(swap_asked, limit)?;
    if memory.check_before_update().unwrap_or(false) && (limit.is_some() || swap_asked.is_some()) {
        let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        limits.check = Some(MemoryCheck { memory: positive(limit), memory_and_swap: positive(swap_asked) });
    }
    if let Some(swap) = swap {
        // Without swap accounting there is neither a limit nor swap to be limited.
        let rule = if swap <= 0 { Rule::Optional } else { Rule::Must };
        limits.push("memory", "memory.swap.max", max_or(swap), rule);
    }
    if let Some(limit) = limit {
        limits.must("memory", "memory.max", max_or(limit));
    }
    if let Some(reservation) = reservation {
        limits.must("memory", "memory.low", max_or(reservation));
    }
    kernel_memory(limits, memory);
    limits.ignored(
        memory.swappiness().is_some_and(|n| n != u64::MAX),
        "memory.swappiness",
        "not supported on cgroup v2",
    );
    limits.ignored(
        memory.disable_oom_killer().unwrap_or(false),
        "memory.disableOOMKiller",
        "not supported on cgroup v2",
    );
    Ok(())
}

#[allow(deprecated, reason = "the specification still has the fields")]
fn kernel_memory(limits: &mut Limits, memory: &LinuxMemory) {
    let present = memory.kernel().is_some() || memory.kernel_tcp().is_some();
    limits.ignored(present, "memory.kernel", "no longer supported by the kernel");
}

/// The specification's swap is memory and swap together; v2 counts swap alone. -1 is no limit.
pub(crate) fn swap_v2(swap: Option<i64>, limit: Option<i64>) -> Result<Option<i64>> {
    match (swap, limit) {
        (None, Some(-1)) | (Some(-1), _) => Ok(Some(-1)),
        (None, _) => Ok(None),
        (Some(swap), Some(-1)) => Ok(Some(swap)),
        (Some(_), None) => {
            Err(Error::invalid("linux.resources.memory.swap: unable to set swap limit without memory limit"))
        }
        (Some(swap), Some(limit)) if swap < limit => {
            Err(Error::invalid("linux.resources.memory.swap: memory+swap limit should be >= memory limit"))
        }
        (Some(swap), Some(limit)) => Ok(Some(swap - limit)),
    }
}

fn memory_v1(limits: &mut Limits, memory: &LinuxMemory) -> Result<()> {
    let limit = bytes("limit", memory.limit())?;
    let swap = bytes("swap", memory.swap())?;
    // The kernel requires memory <= memory and swap at all times: a write that comes too early is tried again.
    if let Some(limit) = limit {
        limits.push("memory", "memory.limit_in_bytes", limit, Rule::Retry);
    }
    match (swap, limit) {
        (Some(swap), _) => limits.push("memory", "memory.memsw.limit_in_bytes", swap, Rule::Retry),
        (None, Some(-1)) => limits.push("memory", "memory.memsw.limit_in_bytes", -1, Rule::RetryOptional),
        (None, _) => {}
    }
    if let Some(reservation) = bytes("reservation", memory.reservation())? {
        limits.must("memory", "memory.soft_limit_in_bytes", reservation);
    }
    if memory.disable_oom_killer().unwrap_or(false) {
        limits.must("memory", "memory.oom_control", 1);
    }
    match memory.swappiness() {
        None | Some(u64::MAX) => {}
        Some(n) if n <= 100 => limits.must("memory", "memory.swappiness", n),
        Some(n) => {
            return Err(Error::invalid(format!(
                "linux.resources.memory.swappiness: invalid memory swappiness value: {n} (valid range is 0-100)"
            )));
        }
    }
    kernel_memory(limits, memory);
    Ok(())
}

fn set<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|n| *n != T::default())
}

/// The shares, if the kernel accepts them: EINVAL in an idle cgroup, whose weight is the lowest (sched_group_set_shares, Linux 5.15).
fn shares(cpu: &LinuxCpu) -> Option<u64> {
    set(cpu.shares()).filter(|_| cpu.idle().unwrap_or(0) == 0)
}

fn cpu_v2(limits: &mut Limits, cpu: &LinuxCpu) {
    if let Some(idle) = cpu.idle() {
        limits.must("cpu", "cpu.idle", idle);
    }
    if let Some(shares) = shares(cpu) {
        limits.must("cpu", "cpu.weight", weight_of_shares(shares));
    }
    let (quota, period) = (set(cpu.quota()), set(cpu.period()));
    if let Some(burst) = cpu.burst() {
        // The kernel requires burst <= quota at all times.
        limits.push("cpu", "cpu.max.burst", burst, if quota.is_some() { Rule::Retry } else { Rule::Must });
    }
    match (quota, period) {
        (None, None) => {}
        (Some(quota), Some(period)) => limits.must("cpu", "cpu.max", format!("{} {period}", max_or(quota))),
        // A single number leaves the period as it is.
        (Some(quota), None) => limits.must("cpu", "cpu.max", max_or(quota)),
        (None, Some(period)) => limits.push("cpu", "cpu.max", period, Rule::KeepQuota),
    }
    let realtime = set(cpu.realtime_runtime()).is_some() || set(cpu.realtime_period()).is_some();
    limits.ignored(realtime, "cpu.realtimeRuntime and realtimePeriod", "not supported on cgroup v2");
}

/// v1's shares (2 to 262144, default 1024) as v2's weight (1 to 10000, default 100): the curve through the three pairs, which runc
/// 1.3.2 and crun 1.23 use.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        3..262_144 => {
            #[allow(clippy::cast_precision_loss, reason = "below 2^18")]
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight
        }
        _ => 10_000,
    }
}

fn cpu_v1(limits: &mut Limits, cpu: &LinuxCpu) {
    // Real time first: a real-time process cannot join a cgroup without a budget.
    if let Some(period) = set(cpu.realtime_period()) {
        limits.push("cpu", "cpu.rt_period_us", period, Rule::Retry);
    }
    if let Some(runtime) = set(cpu.realtime_runtime()) {
        limits.push("cpu", "cpu.rt_runtime_us", runtime, Rule::Must);
    }
    if let Some(idle) = cpu.idle() {
        limits.must("cpu", "cpu.idle", idle);
    }
    if let Some(shares) = shares(cpu) {
        limits.push("cpu", "cpu.shares", shares, Rule::ReadBack);
    }
    // The kernel checks period, quota and burst against each other and the parent's.
    let quota = set(cpu.quota());
    if let Some(period) = set(cpu.period()) {
        limits.push(
            "cpu",
            "cpu.cfs_period_us",
            period,
            if quota.is_some() { Rule::Retry } else { Rule::Must },
        );
    }
    if let Some(burst) = cpu.burst() {
        limits.push("cpu", "cpu.cfs_burst_us", burst, Rule::RetryOptional);
    }
    if let Some(quota) = quota {
        limits.must("cpu", "cpu.cfs_quota_us", quota);
    }
}

/// blkio.weight (10 to 1000) as io.weight (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn device(field: &str, i: usize, major: i64, minor: i64) -> Result<String> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor}")),
        _ => Err(Error::invalid(format!(
            "linux.resources.blockIO.{field}[{i}]: invalid device {major}:{minor}"
        ))),
    }
}

fn io_v2(limits: &mut Limits, io: &LinuxBlockIo) -> Result<()> {
    if let Some(weight) = set(io.weight()) {
        let or = Rule::Or("io.weight".into(), io_weight(weight).to_string());
        limits.push("io", "io.bfq.weight", weight, or);
    }
    for (i, entry) in io.weight_device().iter().flatten().enumerate() {
        let device = device("weightDevice", i, entry.major(), entry.minor())?;
        if let Some(weight) = set(entry.weight()) {
            let or = Rule::Or("io.weight".into(), format!("{device} {}", io_weight(weight)));
            limits.push("io", "io.bfq.weight", format!("{device} {weight}"), or);
        }
    }
    let leaves = io.leaf_weight().is_some()
        || io.weight_device().iter().flatten().any(|d| set(d.leaf_weight()).is_some());
    limits.ignored(leaves, "blockIO.leafWeight", "not supported on cgroup v2");
    for (field, key, list) in throttles(io) {
        for (i, entry) in list.iter().flatten().enumerate() {
            let device = device(field, i, entry.major(), entry.minor())?;
            limits.must("io", "io.max", format!("{device} {key}={}", entry.rate()));
        }
    }
    Ok(())
}

type Throttle<'a> = (&'static str, &'static str, &'a Option<Vec<LinuxThrottleDevice>>);

fn throttles(io: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        ("throttleReadBpsDevice", "rbps", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", io.throttle_write_iops_device()),
    ]
}

fn io_v1(limits: &mut Limits, io: &LinuxBlockIo) -> Result<()> {
    // Linux 5.0 removed CFQ's files; those of BFQ have its name in theirs.
    if let Some(weight) = set(io.weight()) {
        limits.push("blkio", "blkio.weight", weight, Rule::Or("blkio.bfq.weight".into(), weight.to_string()));
    }
    if let Some(weight) = set(io.leaf_weight()) {
        limits.must("blkio", "blkio.leaf_weight", weight);
    }
    for (i, entry) in io.weight_device().iter().flatten().enumerate() {
        let device = device("weightDevice", i, entry.major(), entry.minor())?;
        if let Some(weight) = set(entry.weight()) {
            let value = format!("{device} {weight}");
            let or = Rule::Or("blkio.bfq.weight_device".into(), value.clone());
            limits.push("blkio", "blkio.weight_device", value, or);
        }
        if let Some(weight) = set(entry.leaf_weight()) {
            limits.must("blkio", "blkio.leaf_weight_device", format!("{device} {weight}"));
        }
    }
    for (field, key, list) in throttles(io) {
        let file = match key {
            "rbps" => "blkio.throttle.read_bps_device",
            "wbps" => "blkio.throttle.write_bps_device",
            "riops" => "blkio.throttle.read_iops_device",
            _ => "blkio.throttle.write_iops_device",
        };
        for (i, entry) in list.iter().flatten().enumerate() {
            limits.must(
                "blkio",
                file,
                format!("{} {}", device(field, i, entry.major(), entry.minor())?, entry.rate()),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
