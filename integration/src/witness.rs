//! An independent witness of limits: what the crate cgroups-rs, which shares no code with knarr, reads from a cgroup.

use cgroups_rs::cgroup::Cgroup;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::hierarchies;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;

/// The cgroup with this path below the mount point of every controller.
pub fn cgroup(path: &str) -> Cgroup {
    Cgroup::load(hierarchies::auto(), path.trim_start_matches('/'))
}

/// A limit of a cgroup, as the file of this name spells it; nothing if the crate does not know the file.
pub fn limit(path: &str, file: &str) -> Option<String> {
    let cgroup = cgroup(path);
    let memory = || cgroup.controller_of::<MemController>();
    let cpu = || cgroup.controller_of::<CpuController>();
    let cpuset = || cgroup.controller_of::<CpuSetController>().map(CpuSetController::cpuset);
    match file {
        "memory.limit_in_bytes" | "memory.max" => Some(or_max(memory()?.memory_stat().limit_in_bytes)),
        "memory.soft_limit_in_bytes" | "memory.low" => {
            Some(or_max(memory()?.memory_stat().soft_limit_in_bytes))
        }
        "memory.high" => Some(memory()?.get_mem().ok()?.high?.to_string()),
        "memory.memsw.limit_in_bytes" | "memory.swap.max" => {
            Some(memory()?.memswap().limit_in_bytes.to_string())
        }
        "cpu.cfs_quota_us" => Some(cpu()?.cfs_quota().ok()?.to_string()),
        "cpu.cfs_period_us" => Some(cpu()?.cfs_period().ok()?.to_string()),
        "cpu.max" => Some(format!("{} {}", or_max(cpu()?.cfs_quota().ok()?), cpu()?.cfs_period().ok()?)),
        "cpu.shares" | "cpu.weight" => Some(cpu()?.shares().ok()?.to_string()),
        "cpuset.cpus" => Some(ranges(&cpuset()?.cpus)),
        "cpuset.mems" => Some(ranges(&cpuset()?.mems)),
        "pids.max" => Some(cgroup.controller_of::<PidController>()?.get_pid_max().ok()?.to_string()),
        _ => None,
    }
}

/// Of cgroup v2's "max" the crate makes -1.
fn or_max(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

fn ranges(list: &[(u64, u64)]) -> String {
    let one = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    list.iter().map(one).collect::<Vec<_>>().join(",")
}
