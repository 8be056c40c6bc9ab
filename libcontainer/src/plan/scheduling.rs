//! CPUs, scheduling, I/O priority and NUMA nodes of a process, in the kernel's numbers.

use super::Scheduler;
use super::step::Step;
use crate::error::{Error, Result};
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler as SchedulerSpec,
};

/// CPUs as (first, last).
type Ranges = Vec<(u32, u32)>;

/// The largest CONFIG_NR_CPUS.
const MAX_CPUS: u32 = 8192;
/// The largest MAX_NUMNODES.
const MAX_NODES: u32 = 1024;

/// Checks by sched_setattr(2)'s rules which field is allowed with which policy.
pub(crate) fn scheduler(spec: &SchedulerSpec) -> Result<Scheduler> {
    use LinuxSchedulerPolicy as P;
    let policy = *spec.policy();
    let number = match policy {
        P::SchedOther => libc::SCHED_OTHER,
        P::SchedFifo => libc::SCHED_FIFO,
        P::SchedRr => libc::SCHED_RR,
        P::SchedBatch => libc::SCHED_BATCH,
        P::SchedIso => {
            return Err(Error::unsupported("process.scheduler.policy: SCHED_ISO is not supported by Linux"));
        }
        P::SchedIdle => libc::SCHED_IDLE,
        P::SchedDeadline => libc::SCHED_DEADLINE,
    };
    let (nice, priority) = (spec.nice().unwrap_or(0), spec.priority().unwrap_or(0));
    if matches!(policy, P::SchedOther | P::SchedBatch) && !(-20..=19).contains(&nice) {
        return Err(Error::invalid(format!(
            "process.scheduler.nice: invalid scheduler.nice: {nice} with {policy}"
        )));
    }
    if priority != 0 && !matches!(policy, P::SchedFifo | P::SchedRr) {
        let text = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy";
        return Err(Error::invalid(format!("process.scheduler.priority: {text}")));
    }
    let priority = u32::try_from(priority)
        .map_err(|_| Error::invalid(format!("process.scheduler.priority: {priority} is negative")))?;
    let (runtime, deadline, period) =
        (spec.runtime().unwrap_or(0), spec.deadline().unwrap_or(0), spec.period().unwrap_or(0));
    if policy != P::SchedDeadline && (runtime, deadline, period) != (0, 0, 0) {
        let text = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
        return Err(Error::invalid(format!("process.scheduler: {text}")));
    }
    let flags = spec
        .flags()
        .iter()
        .flatten()
        .try_fold(0, |flags, flag| Ok::<_, Error>(flags | scheduler_flag(*flag)?))?;
    let policy = u32::try_from(number).unwrap_or_default();
    Ok(Scheduler { policy, flags, nice, priority, runtime, deadline, period })
}

/// linux/sched.h, SCHED_FLAG_*.
fn scheduler_flag(flag: LinuxSchedulerFlag) -> Result<u64> {
    use LinuxSchedulerFlag as F;
    match flag {
        F::SchedResetOnFork => Ok(0x01),
        F::SchedFlagReclaim => Ok(0x02),
        F::SchedFlagDLOverrun => Ok(0x04),
        F::SchedFlagKeepPolicy => Ok(0x08),
        F::SchedFlagKeepParams => Ok(0x10),
        F::SchedFlagUtilClampMin | F::SchedFlagUtilClampMax => Err(Error::unsupported(format!(
            "process.scheduler.flags: {flag} is not supported: the specification has no field for its value"
        ))),
    }
}

/// ioprio_set(2).
pub(crate) fn io_priority(spec: &LinuxIOPriority) -> Result<i32> {
    let level = i32::try_from(spec.priority()).ok().filter(|p| (0..=7).contains(p)).ok_or_else(|| {
        Error::invalid(format!(
            "process.ioPriority.priority: invalid ioPriority.Priority: {}",
            spec.priority()
        ))
    })?;
    let class = match spec.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    Ok(class << 13 | level)
}

/// The CPUs of `execCPUAffinity` before the cgroup is joined, as ranges, and the step that sets the final ones. Without final ones the
/// initial ones stay.
pub(crate) fn affinity(process: &Process) -> Result<(Ranges, Option<Step>)> {
    let spec = process.exec_cpu_affinity().as_ref();
    let list = |field: &str, text: Option<&String>| {
        text.filter(|t| !t.is_empty()).map_or(Ok(Vec::new()), |t| number_list(field, t, MAX_CPUS))
    };
    let initial = list("process.execCPUAffinity.initial", spec.and_then(|s| s.initial().as_ref()))?;
    let last = list("process.execCPUAffinity.final", spec.and_then(|s| s.cpu_affinity_final().as_ref()))?;
    let step = match (initial.is_empty(), last.is_empty()) {
        (true, true) => Some(every_cpu()),
        (false, true) => None,
        (_, false) => Some(Step::Affinity { mask: mask_of(&last), required: true }),
    };
    Ok((initial, step))
}

/// All CPUs that the cgroup allows: a process must not inherit the narrower set that the caller happens to run on.
pub(crate) fn every_cpu() -> Step {
    Step::Affinity { mask: vec![u64::MAX; MAX_CPUS as usize / 64], required: false }
}

/// `linux.memoryPolicy` for set_mempolicy(2).
pub(crate) fn memory_policy(spec: &LinuxMemoryPolicy) -> Result<Step> {
    use MemoryPolicyModeType as M;
    // linux/mempolicy.h
    let mode = match spec.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flags = spec.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
    });
    let text = spec.nodes().as_deref().unwrap_or_default();
    let nodes = match text {
        "" => Vec::new(),
        text => number_list("linux.memoryPolicy.nodes: invalid memory policy node", text, MAX_NODES)?,
    };
    if matches!(mode, 0 | 4) && !(nodes.is_empty() && flags == 0) {
        return Err(Error::invalid(format!(
            "linux.memoryPolicy: {} takes neither nodes nor flags",
            spec.mode()
        )));
    }
    if nodes.is_empty() && !matches!(mode, 0 | 1 | 4) {
        return Err(Error::invalid(format!("linux.memoryPolicy.nodes: {} needs nodes", spec.mode())));
    }
    Ok(Step::MemoryPolicy { mode: mode | flags, nodes: mask_of(&nodes) })
}

/// The kernel's list format, `0-3,7`: numbers below `limit`.
fn number_list(field: &str, text: &str, limit: u32) -> Result<Ranges> {
    let wrong = |part: &str| {
        Error::invalid(format!("{field}: {part:?} in {text:?} must be a number or range below {limit}"))
    };
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| digits.parse().ok()).flatten().filter(|n| *n < limit)
            };
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => Ok((first, last)),
                _ => Err(wrong(part)),
            }
        })
        .collect()
}

fn mask_of(ranges: &[(u32, u32)]) -> Vec<u64> {
    let words = ranges.iter().map(|(_, last)| *last as usize / 64 + 1).max().unwrap_or(0);
    let mut mask = vec![0; words];
    for n in ranges.iter().flat_map(|(first, last)| *first..=*last) {
        mask[n as usize / 64] |= 1 << (n % 64);
    }
    mask
}

#[cfg(test)]
mod tests;
