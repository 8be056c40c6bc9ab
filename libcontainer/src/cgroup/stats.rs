//! The kernel's counters of a cgroup. Those of a missing file (its controller is off, the kernel too old) are zero.
//!
//! Parsing is apart from reading, so that it can be tested with texts.

use super::Member;
use super::dir::Dir;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kernel's counters of a container since its cgroup was made: times in nanoseconds, sizes in bytes. A counter that the
/// kernel does not keep (its controller is off, the kernel too old) is 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Total CPU time.
    pub cpu: u64,
    /// CPU time in user mode.
    pub cpu_user: u64,
    /// CPU time in the kernel.
    pub cpu_system: u64,
    /// CPU time by CPU (cpuacct.usage_percpu); empty on v2, which does not count it.
    pub cpu_each: Vec<u64>,
    /// Elapsed periods of the CPU quota.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled: u64,
    /// Time lost waiting for a CPU (cpu.pressure); `None` on v1 and on kernels without PSI.
    pub cpu_pressure: Option<Pressure>,
    /// Memory.
    pub memory: Usage,
    /// On v1 memory and swap together, on v2 swap alone, as the kernel counts.
    pub swap: Usage,
    /// Kernel memory: counted separately on v1 only.
    pub kernel: Usage,
    /// Buffers of TCP connections: counted separately on v1 only.
    pub kernel_tcp: Usage,
    /// memory.stat: names and sizes are the kernel's, which differ between v1 and v2.
    pub memory_stat: BTreeMap<String, u64>,
    /// Processes killed because of the memory limit.
    pub oom_kills: u64,
    /// How often memory reached a limit.
    pub memory_events: MemoryEvents,
    /// Time lost waiting for memory (memory.pressure); `None` on v1 and on kernels without PSI.
    pub memory_pressure: Option<Pressure>,
    /// The number of processes and threads.
    pub pids: u64,
    /// Their maximum number; `None` is no limit.
    pub pids_limit: Option<u64>,
    /// Input and output, by device and kind.
    pub io: Vec<IoEntry>,
    /// Time lost waiting for input and output (io.pressure); `None` on v1 and on kernels without PSI.
    pub io_pressure: Option<Pressure>,
    /// Huge pages, by their size as the kernel writes it (`2MB`).
    pub hugetlb: BTreeMap<String, Usage>,
    /// Resources of RDMA devices, by device.
    pub rdma: BTreeMap<String, Rdma>,
}

/// The usage of a resource, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// The current usage.
    pub usage: u64,
    /// The maximum usage so far; 0 if the kernel does not record it.
    pub peak: u64,
    /// The limit; `None` is no limit.
    pub limit: Option<u64>,
    /// How often the limit was reached.
    pub failures: u64,
}

/// How often memory reached a limit: memory.events of v2, memory.oom_control of v1. Kills are in [`Stats::oom_kills`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryEvents {
    /// Memory was reclaimed below `memory.low` (v2).
    pub low: u64,
    /// Processes were throttled above `memory.high` (v2).
    pub high: u64,
    /// The limit was reached (v2).
    pub max: u64,
    /// The limit was reached and no memory could be reclaimed (v2).
    pub oom: u64,
    /// Processes wait for memory now (v1).
    pub under_oom: bool,
    /// They wait instead of being killed (v1).
    pub kill_disabled: bool,
}

/// Pressure stall information: Documentation/accounting/psi.rst of Linux, 4.20.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pressure {
    /// Some of the processes waited.
    pub some: Stall,
    /// All processes that could have run waited.
    pub full: Stall,
}

/// The share of the time spent waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stall {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// The total time.
    pub total: u64,
}

/// The usage of one RDMA device (rdma.current, rdma.max); a limit of `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rdma {
    /// Open handles.
    pub handles: u64,
    /// Objects created through them.
    pub objects: u64,
    /// The maximum number of handles.
    pub handle_limit: Option<u64>,
    /// The maximum number of objects.
    pub object_limit: Option<u64>,
}

/// Data read, written or discarded on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IoEntry {
    /// The device's major number.
    pub major: u64,
    /// The device's minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Discard`, and on v1 the sums that the kernel adds.
    pub op: String,
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub operations: u64,
}

pub(super) fn v2(dir: &Dir) -> Stats {
    let mut stats = Stats::default();
    let cpu = keys(&text(dir, "cpu.stat"));
    let get = |map: &BTreeMap<String, u64>, key: &str| map.get(key).copied().unwrap_or(0);
    stats.cpu = get(&cpu, "usage_usec").saturating_mul(1000);
    stats.cpu_user = get(&cpu, "user_usec").saturating_mul(1000);
    stats.cpu_system = get(&cpu, "system_usec").saturating_mul(1000);
    stats.periods = get(&cpu, "nr_periods");
    stats.throttled_periods = get(&cpu, "nr_throttled");
    stats.throttled = get(&cpu, "throttled_usec").saturating_mul(1000);
    stats.cpu_pressure = pressure(&text(dir, "cpu.pressure"));
    stats.memory_stat = keys(&text(dir, "memory.stat"));
    let events = keys(&text(dir, "memory.events"));
    stats.oom_kills = get(&events, "oom_kill");
    stats.memory_events = MemoryEvents {
        low: get(&events, "low"),
        high: get(&events, "high"),
        max: get(&events, "max"),
        oom: get(&events, "oom"),
        ..MemoryEvents::default()
    };
    stats.memory_pressure = pressure(&text(dir, "memory.pressure"));
    stats.memory = usage(dir, ["memory.current", "memory.peak", "memory.max"]);
    stats.memory.failures = stats.memory_events.max;
    stats.swap = usage(dir, ["memory.swap.current", "memory.swap.peak", "memory.swap.max"]);
    stats.pids = number(dir, "pids.current")
        .unwrap_or_else(|| dir.own_processes().map_or(0, |list| u64::try_from(list.len()).unwrap_or(0)));
    stats.pids_limit = number(dir, "pids.max");
    stats.io = io_v2(&text(dir, "io.stat"));
    stats.io_pressure = pressure(&text(dir, "io.pressure"));
    for size in page_sizes() {
        let file = |end: &str| format!("hugetlb.{size}.{end}");
        if let Some(usage) = number(dir, &file("current")) {
            let failures = get(&keys(&text(dir, &file("events"))), "max");
            let limit = number(dir, &file("max"));
            stats.hugetlb.insert(size, Usage { usage, peak: 0, limit, failures });
        }
    }
    stats.rdma = rdma(&text(dir, "rdma.current"), &text(dir, "rdma.max"));
    stats
}

pub(super) fn v1(dirs: &[(&Member, Dir)]) -> Stats {
    let mut stats = Stats::default();
    let find = |controller: &str| {
        dirs.iter().find(|(m, _)| m.controllers.iter().any(|c| c == controller)).map(|(_, dir)| dir)
    };
    if let Some(dir) = find("cpuacct") {
        stats.cpu = number(dir, "cpuacct.usage").unwrap_or(0);
        stats.cpu_user = number(dir, "cpuacct.usage_user").unwrap_or(0);
        stats.cpu_system = number(dir, "cpuacct.usage_sys").unwrap_or(0);
        let each = text(dir, "cpuacct.usage_percpu");
        stats.cpu_each = each.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    }
    if let Some(dir) = find("cpu") {
        let cpu = keys(&text(dir, "cpu.stat"));
        let get = |key: &str| cpu.get(key).copied().unwrap_or(0);
        stats.periods = get("nr_periods");
        stats.throttled_periods = get("nr_throttled");
        stats.throttled = get("throttled_time");
    }
    if let Some(dir) = find("memory") {
        memory_v1(dir, &mut stats);
    }
    if let Some(dir) = find("pids") {
        stats.pids = number(dir, "pids.current").unwrap_or(0);
        stats.pids_limit = number(dir, "pids.max");
    }
    if let Some(dir) = find("blkio") {
        stats.io = io_v1(
            &text(dir, "blkio.throttle.io_service_bytes_recursive"),
            &text(dir, "blkio.throttle.io_serviced_recursive"),
        );
    }
    if let Some(dir) = find("hugetlb") {
        for size in page_sizes() {
            if number(dir, &format!("hugetlb.{size}.usage_in_bytes")).is_some() {
                let used = usage_v1(dir, &format!("hugetlb.{size}."));
                stats.hugetlb.insert(size, used);
            }
        }
    }
    if let Some(dir) = find("rdma") {
        stats.rdma = rdma(&text(dir, "rdma.current"), &text(dir, "rdma.max"));
    }
    stats
}

fn memory_v1(dir: &Dir, stats: &mut Stats) {
    stats.memory = usage_v1(dir, "memory.");
    stats.swap = usage_v1(dir, "memory.memsw.");
    stats.kernel = usage_v1(dir, "memory.kmem.");
    stats.kernel_tcp = usage_v1(dir, "memory.kmem.tcp.");
    stats.memory_stat = keys(&text(dir, "memory.stat"));
    let control = keys(&text(dir, "memory.oom_control"));
    let get = |key: &str| control.get(key).copied().unwrap_or(0);
    stats.oom_kills = get("oom_kill");
    stats.memory_events.under_oom = get("under_oom") != 0;
    stats.memory_events.kill_disabled = get("oom_kill_disable") != 0;
}

fn text(dir: &Dir, file: &str) -> String {
    dir.read(file).unwrap_or_default()
}

/// `max` and anything but a number is `None`.
fn number(dir: &Dir, file: &str) -> Option<u64> {
    text(dir, file).trim().parse().ok()
}

fn usage(dir: &Dir, [current, peak, limit]: [&str; 3]) -> Usage {
    // v1 shows "no limit" as the largest number of whole pages.
    let limit = number(dir, limit).filter(|n| *n < i64::MAX.cast_unsigned() & !0xffff);
    Usage {
        usage: number(dir, current).unwrap_or(0),
        peak: number(dir, peak).unwrap_or(0),
        limit,
        failures: 0,
    }
}

/// The four files of v1 that begin with `prefix`.
fn usage_v1(dir: &Dir, prefix: &str) -> Usage {
    let file = |end: &str| format!("{prefix}{end}");
    let [current, peak, limit] = ["usage_in_bytes", "max_usage_in_bytes", "limit_in_bytes"].map(file);
    let failures = number(dir, &file("failcnt")).unwrap_or(0);
    Usage { failures, ..usage(dir, [&current, &peak, &limit]) }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`. The kernel counts in microseconds.
fn pressure(text: &str) -> Option<Pressure> {
    let stall = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let average = |name: &str| word(name)?.parse().ok();
        Some(Stall {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: word("total")?.parse::<u64>().ok()?.saturating_mul(1000),
        })
    };
    // `full` of the CPU came with Linux 5.13.
    Some(Pressure { some: stall("some ")?, full: stall("full ").unwrap_or_default() })
}

/// `mlx5_0 hca_handle=2 hca_object=2000`; `max` is no limit.
fn rdma(current: &str, limits: &str) -> BTreeMap<String, Rdma> {
    let parse = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let word = |name: &str| rest.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok());
        Some((device.to_owned(), (word("hca_handle="), word("hca_object="))))
    };
    let limits: BTreeMap<_, _> = limits.lines().filter_map(parse).collect();
    let entry = |(device, (handles, objects)): (String, (Option<u64>, Option<u64>))| {
        let (handle_limit, object_limit) = limits.get(&device).copied().unwrap_or_default();
        let (handles, objects) = (handles.unwrap_or(0), objects.unwrap_or(0));
        (device, Rdma { handles, objects, handle_limit, object_limit })
    };
    current.lines().filter_map(parse).map(entry).collect()
}

/// Lines of `key value`.
fn keys(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn io_v2(text: &str) -> Vec<IoEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        let values: BTreeMap<&str, u64> =
            words.filter_map(|w| w.split_once('=')).filter_map(|(k, v)| Some((k, v.parse().ok()?))).collect();
        for (letter, op) in [("r", "Read"), ("w", "Write"), ("d", "Discard")] {
            let get = |what: &str| values.get(format!("{letter}{what}").as_str()).copied();
            if let (Some(bytes), Some(operations)) = (get("bytes"), get("ios")) {
                entries.push(IoEntry { major, minor, op: op.to_owned(), bytes, operations });
            }
        }
    }
    entries
}

/// `8:0 Read 1282048` in two files.
fn io_v1(bytes: &str, operations: &str) -> Vec<IoEntry> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let op = words.next()?.to_owned();
        Some((major, minor, op, words.next()?.parse::<u64>().ok()?))
    };
    let counts: Vec<_> = operations.lines().filter_map(parse).collect();
    let count = |major, minor, op: &str| {
        counts
            .iter()
            .find(|(a, b, o, _)| (*a, *b, o.as_str()) == (major, minor, op))
            .map_or(0, |entry| entry.3)
    };
    let entry = |line| {
        let (major, minor, op, bytes) = parse(line)?;
        let operations = count(major, minor, &op);
        Some(IoEntry { major, minor, op, bytes, operations })
    };
    bytes.lines().filter_map(entry).collect()
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The huge page sizes of this machine, as cgroup files name them: `2MB`, `1GB`.
fn page_sizes() -> Vec<String> {
    let Ok(list) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let mut sizes: Vec<String> =
        list.filter_map(|entry| page_size(entry.ok()?.file_name().to_str()?)).collect();
    sizes.sort();
    sizes
}

fn page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        k if k >= 1 << 20 => format!("{}GB", k >> 20),
        k if k >= 1 << 10 => format!("{}MB", k >> 10),
        k => format!("{k}KB"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=99.99 total=7\n";
        let stall = |avg10, avg60, avg300, total| Stall { avg10, avg60, avg300, total };
        let both = Pressure { some: stall(1.5, 0.25, 0.0, 1_234_000), full: stall(0.0, 0.0, 99.99, 7000) };
        assert_eq!(pressure(text), Some(both));
        let some = text.lines().next().unwrap_or_default();
        assert_eq!(pressure(some), Some(Pressure { full: Stall::default(), ..both }));
        for bad in ["", "some\n", "some avg10=x avg60=0 avg300=0 total=0\n"] {
            assert_eq!(pressure(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rdma_devices_have_uses_and_limits() {
        let found = rdma(
            "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=1 hca_object=0\n",
            "mlx4_0 hca_handle=3 hca_object=max\n",
        );
        let both = Rdma { handles: 2, objects: 2000, handle_limit: Some(3), object_limit: None };
        let one = Rdma { handles: 1, ..Rdma::default() };
        assert_eq!(found, BTreeMap::from([("mlx4_0".to_owned(), both), ("ocrdma1".to_owned(), one)]));
    }

    #[test]
    fn input_and_output_is_told_by_device_and_kind() {
        let entry = |op: &str, bytes, operations| IoEntry {
            major: 8,
            minor: 16,
            op: op.to_owned(),
            bytes,
            operations,
        };
        let v2 = io_v2("8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0\nnonsense\n");
        assert_eq!(v2, [entry("Read", 1, 3), entry("Write", 2, 4), entry("Discard", 5, 6)]);
        let v1 = io_v1("8:16 Read 100\n8:16 Write 7\nTotal 107\n", "8:16 Read 10\nTotal 10\n");
        assert_eq!(v1, [entry("Read", 100, 10), entry("Write", 7, 0)]);
    }
}
