//! What the kernel has counted for a cgroup. A file that is not there (its controller is off, the kernel too old) leaves zeros.
//!
//! Parsing is apart from reading, so that it can be tested with texts.

use super::Member;
use super::dir::Dir;
use std::collections::BTreeMap;

/// What the kernel has counted for a container since its cgroup was made: times in nanoseconds, sizes in bytes. A counter that the
/// kernel does not keep (its controller is off, the kernel too old) is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// CPU time in all.
    pub cpu: u64,
    /// CPU time in user mode.
    pub cpu_user: u64,
    /// CPU time in the kernel.
    pub cpu_system: u64,
    /// Periods of the CPU quota that have passed.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled: u64,
    /// Memory.
    pub memory: Usage,
    /// On v1 memory and swap together, on v2 swap alone, as the kernel counts.
    pub swap: Usage,
    /// memory.stat: names and sizes are the kernel's, which differ between v1 and v2.
    pub memory_stat: BTreeMap<String, u64>,
    /// How many processes were killed for the memory limit.
    pub oom_kills: u64,
    /// Processes and threads that there are now.
    pub pids: u64,
    /// The most of them that there may be; `None` is no limit.
    pub pids_limit: Option<u64>,
    /// Input and output, by device and kind.
    pub io: Vec<IoEntry>,
    /// Huge pages, by their size as the kernel writes it (`2MB`).
    pub hugetlb: BTreeMap<String, Usage>,
}

/// How much of something is used, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Now.
    pub usage: u64,
    /// The most so far; 0 where the kernel does not keep it.
    pub peak: u64,
    /// `None` is no limit.
    pub limit: Option<u64>,
    /// How often the limit was met.
    pub failures: u64,
}

/// What one device has read, written or discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    stats.memory_stat = keys(&text(dir, "memory.stat"));
    let events = keys(&text(dir, "memory.events"));
    stats.oom_kills = get(&events, "oom_kill");
    stats.memory = usage(dir, ["memory.current", "memory.peak", "memory.max"]);
    stats.memory.failures = get(&events, "max");
    stats.swap = usage(dir, ["memory.swap.current", "memory.swap.peak", "memory.swap.max"]);
    stats.pids = number(dir, "pids.current")
        .unwrap_or_else(|| dir.own_processes().map_or(0, |list| u64::try_from(list.len()).unwrap_or(0)));
    stats.pids_limit = number(dir, "pids.max");
    stats.io = io_v2(&text(dir, "io.stat"));
    for size in page_sizes() {
        let file = |end: &str| format!("hugetlb.{size}.{end}");
        if let Some(used) = number(dir, &file("current")) {
            let failures = get(&keys(&text(dir, &file("events"))), "max");
            stats.hugetlb.insert(size, Usage { usage: used, peak: 0, limit: None, failures });
        }
    }
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
    }
    if let Some(dir) = find("cpu") {
        let cpu = keys(&text(dir, "cpu.stat"));
        let get = |key: &str| cpu.get(key).copied().unwrap_or(0);
        stats.periods = get("nr_periods");
        stats.throttled_periods = get("nr_throttled");
        stats.throttled = get("throttled_time");
    }
    if let Some(dir) = find("memory") {
        let files =
            |kind: &str| ["usage", "max_usage", "limit"].map(|part| format!("memory.{kind}{part}_in_bytes"));
        let [current, peak, limit] = files("");
        stats.memory = usage(dir, [&current, &peak, &limit]);
        stats.memory.failures = number(dir, "memory.failcnt").unwrap_or(0);
        let [current, peak, limit] = files("memsw.");
        stats.swap = usage(dir, [&current, &peak, &limit]);
        stats.memory_stat = keys(&text(dir, "memory.stat"));
        stats.oom_kills = keys(&text(dir, "memory.oom_control")).get("oom_kill").copied().unwrap_or(0);
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
            let file = |end: &str| format!("hugetlb.{size}.{end}");
            if number(dir, &file("usage_in_bytes")).is_some() {
                let (current, peak) = (file("usage_in_bytes"), file("max_usage_in_bytes"));
                let mut used = usage(dir, [&current, &peak, &file("limit_in_bytes")]);
                used.failures = number(dir, &file("failcnt")).unwrap_or(0);
                stats.hugetlb.insert(size, used);
            }
        }
    }
    stats
}

fn text(dir: &Dir, file: &str) -> String {
    dir.read(file).unwrap_or_default()
}

/// `max` and what is no number are `None`.
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

/// The page sizes of this machine, as cgroup files name them: `2MB`, `1GB`.
fn page_sizes() -> Vec<String> {
    let Ok(list) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let mut sizes: Vec<String> =
        list.filter_map(|entry| page_size(entry.ok()?.file_name().to_str()?)).collect();
    sizes.sort();
    sizes
}

fn page_size(folder: &str) -> Option<String> {
    let kilobytes: u64 = folder.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        k if k >= 1 << 20 => format!("{}GB", k >> 20),
        k if k >= 1 << 10 => format!("{}MB", k >> 10),
        k => format!("{k}KB"),
    })
}
