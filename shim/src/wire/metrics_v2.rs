//! `io.containerd.cgroups.v2.Metrics`: the answer to `Stats` on a host with only cgroup v2.
//!
//! Field numbers are those of containerd/cgroups' cgroup2/stats/metrics.proto.

use super::metrics::rdma;
pub use super::metrics::{NetworkStat, PidsStat, RdmaEntry, RdmaStat};
use super::types::Any;
use libcontainer::{Pressure, Stall, Stats};
use prost::Message;

/// The type's name.
pub const METRICS: &str = "io.containerd.cgroups.v2.Metrics";

/// Packs the counters for containerd.
pub fn pack(stats: &Stats) -> Any {
    Any::pack(METRICS, &Metrics::from(stats))
}

impl From<&Stats> for Metrics {
    fn from(stats: &Stats) -> Self {
        let hugetlb = stats.hugetlb.iter().map(|(size, usage)| HugeTlbStat {
            current: usage.usage,
            max: usage.limit.unwrap_or(u64::MAX),
            pagesize: size.clone(),
        });
        Self {
            pids: Some(PidsStat { current: stats.pids, limit: stats.pids_limit.unwrap_or(0) }),
            cpu: Some(CpuStat {
                usage_usec: stats.cpu / 1000,
                user_usec: stats.cpu_user / 1000,
                system_usec: stats.cpu_system / 1000,
                nr_periods: stats.periods,
                nr_throttled: stats.throttled_periods,
                throttled_usec: stats.throttled / 1000,
                psi: stats.cpu_pressure.map(PsiStats::from),
                ..CpuStat::default()
            }),
            memory: Some(memory(stats)),
            io: Some(IoStat { usage: io(stats), psi: stats.io_pressure.map(PsiStats::from) }),
            hugetlb: hugetlb.collect(),
            rdma: Some(rdma(stats)),
            memory_events: Some(MemoryEvents {
                low: stats.memory_events.low,
                high: stats.memory_events.high,
                max: stats.memory_events.max,
                oom: stats.memory_events.oom,
                oom_kill: stats.oom_kills,
            }),
            ..Self::default()
        }
    }
}

impl From<Pressure> for PsiStats {
    fn from(pressure: Pressure) -> Self {
        Self { some: Some(pressure.some.into()), full: Some(pressure.full.into()) }
    }
}

impl From<Stall> for PsiData {
    fn from(stall: Stall) -> Self {
        Self { avg10: stall.avg10, avg60: stall.avg60, avg300: stall.avg300, total: stall.total / 1000 }
    }
}

fn memory(stats: &Stats) -> MemoryStat {
    let get = |key: &str| stats.memory_stat.get(key).copied().unwrap_or(0);
    MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault")
            + get("workingset_refault_anon")
            + get("workingset_refault_file"),
        workingset_activate: get("workingset_activate")
            + get("workingset_activate_anon")
            + get("workingset_activate_file"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: stats.memory.usage,
        usage_limit: stats.memory.limit.unwrap_or(u64::MAX),
        swap_usage: stats.swap.usage,
        swap_limit: stats.swap.limit.unwrap_or(u64::MAX),
        max_usage: stats.memory.peak,
        swap_max_usage: stats.swap.peak,
        psi: stats.memory_pressure.map(PsiStats::from),
    }
}

/// One entry a device, of one a device and kind.
fn io(stats: &Stats) -> Vec<IoEntry> {
    let mut entries: Vec<IoEntry> = Vec::new();
    for io in &stats.io {
        let same = |entry: &IoEntry| (entry.major, entry.minor) == (io.major, io.minor);
        if !entries.iter().any(same) {
            entries.push(IoEntry { major: io.major, minor: io.minor, ..IoEntry::default() });
        }
        let Some(entry) = entries.iter_mut().find(|entry| same(entry)) else { continue };
        match io.op.as_str() {
            "Read" => (entry.rbytes, entry.rios) = (io.bytes, io.operations),
            "Write" => (entry.wbytes, entry.wios) = (io.bytes, io.operations),
            _ => {}
        }
    }
    entries
}

/// `io.containerd.cgroups.v2.Metrics`.
#[derive(Clone, PartialEq, Message)]
pub struct Metrics {
    /// Processes and threads.
    #[prost(message, optional, tag = "1")]
    pub pids: Option<PidsStat>,
    /// CPU time.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<CpuStat>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<MemoryStat>,
    /// RDMA.
    #[prost(message, optional, tag = "5")]
    pub rdma: Option<RdmaStat>,
    /// Input and output.
    #[prost(message, optional, tag = "6")]
    pub io: Option<IoStat>,
    /// Huge pages, one entry a size.
    #[prost(message, repeated, tag = "7")]
    pub hugetlb: Vec<HugeTlbStat>,
    /// memory.events.
    #[prost(message, optional, tag = "8")]
    pub memory_events: Option<MemoryEvents>,
    /// Network devices.
    #[prost(message, repeated, tag = "9")]
    pub network: Vec<NetworkStat>,
}

/// One line of a pressure file.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PsiData {
    /// Per cent of the last 10 seconds.
    #[prost(double, tag = "1")]
    pub avg10: f64,
    /// Per cent of the last minute.
    #[prost(double, tag = "2")]
    pub avg60: f64,
    /// Per cent of the last 5 minutes.
    #[prost(double, tag = "3")]
    pub avg300: f64,
    /// Microseconds in all.
    #[prost(uint64, tag = "4")]
    pub total: u64,
}

/// *.pressure
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PsiStats {
    /// At least one task waited.
    #[prost(message, optional, tag = "1")]
    pub some: Option<PsiData>,
    /// All tasks waited.
    #[prost(message, optional, tag = "2")]
    pub full: Option<PsiData>,
}

/// cpu.stat
#[derive(Clone, Copy, PartialEq, Message)]
pub struct CpuStat {
    /// `usage_usec`.
    #[prost(uint64, tag = "1")]
    pub usage_usec: u64,
    /// `user_usec`.
    #[prost(uint64, tag = "2")]
    pub user_usec: u64,
    /// `system_usec`.
    #[prost(uint64, tag = "3")]
    pub system_usec: u64,
    /// `nr_periods`.
    #[prost(uint64, tag = "4")]
    pub nr_periods: u64,
    /// `nr_throttled`.
    #[prost(uint64, tag = "5")]
    pub nr_throttled: u64,
    /// `throttled_usec`.
    #[prost(uint64, tag = "6")]
    pub throttled_usec: u64,
    /// cpu.pressure
    #[prost(message, optional, tag = "7")]
    pub psi: Option<PsiStats>,
    /// `nr_bursts`.
    #[prost(uint64, tag = "8")]
    pub nr_bursts: u64,
    /// `burst_usec`.
    #[prost(uint64, tag = "9")]
    pub burst_usec: u64,
}

/// memory.stat and memory.*
#[derive(Clone, Copy, PartialEq, Message)]
pub struct MemoryStat {
    /// `anon`.
    #[prost(uint64, tag = "1")]
    pub anon: u64,
    /// `file`.
    #[prost(uint64, tag = "2")]
    pub file: u64,
    /// `kernel_stack`.
    #[prost(uint64, tag = "3")]
    pub kernel_stack: u64,
    /// `slab`.
    #[prost(uint64, tag = "4")]
    pub slab: u64,
    /// `sock`.
    #[prost(uint64, tag = "5")]
    pub sock: u64,
    /// `shmem`.
    #[prost(uint64, tag = "6")]
    pub shmem: u64,
    /// `file_mapped`.
    #[prost(uint64, tag = "7")]
    pub file_mapped: u64,
    /// `file_dirty`.
    #[prost(uint64, tag = "8")]
    pub file_dirty: u64,
    /// `file_writeback`.
    #[prost(uint64, tag = "9")]
    pub file_writeback: u64,
    /// `anon_thp`.
    #[prost(uint64, tag = "10")]
    pub anon_thp: u64,
    /// `inactive_anon`.
    #[prost(uint64, tag = "11")]
    pub inactive_anon: u64,
    /// `active_anon`.
    #[prost(uint64, tag = "12")]
    pub active_anon: u64,
    /// `inactive_file`.
    #[prost(uint64, tag = "13")]
    pub inactive_file: u64,
    /// `active_file`.
    #[prost(uint64, tag = "14")]
    pub active_file: u64,
    /// `unevictable`.
    #[prost(uint64, tag = "15")]
    pub unevictable: u64,
    /// `slab_reclaimable`.
    #[prost(uint64, tag = "16")]
    pub slab_reclaimable: u64,
    /// `slab_unreclaimable`.
    #[prost(uint64, tag = "17")]
    pub slab_unreclaimable: u64,
    /// `pgfault`.
    #[prost(uint64, tag = "18")]
    pub pgfault: u64,
    /// `pgmajfault`.
    #[prost(uint64, tag = "19")]
    pub pgmajfault: u64,
    /// `workingset_refault`.
    #[prost(uint64, tag = "20")]
    pub workingset_refault: u64,
    /// `workingset_activate`.
    #[prost(uint64, tag = "21")]
    pub workingset_activate: u64,
    /// `workingset_nodereclaim`.
    #[prost(uint64, tag = "22")]
    pub workingset_nodereclaim: u64,
    /// `pgrefill`.
    #[prost(uint64, tag = "23")]
    pub pgrefill: u64,
    /// `pgscan`.
    #[prost(uint64, tag = "24")]
    pub pgscan: u64,
    /// `pgsteal`.
    #[prost(uint64, tag = "25")]
    pub pgsteal: u64,
    /// `pgactivate`.
    #[prost(uint64, tag = "26")]
    pub pgactivate: u64,
    /// `pgdeactivate`.
    #[prost(uint64, tag = "27")]
    pub pgdeactivate: u64,
    /// `pglazyfree`.
    #[prost(uint64, tag = "28")]
    pub pglazyfree: u64,
    /// `pglazyfreed`.
    #[prost(uint64, tag = "29")]
    pub pglazyfreed: u64,
    /// `thp_fault_alloc`.
    #[prost(uint64, tag = "30")]
    pub thp_fault_alloc: u64,
    /// `thp_collapse_alloc`.
    #[prost(uint64, tag = "31")]
    pub thp_collapse_alloc: u64,
    /// memory.current
    #[prost(uint64, tag = "32")]
    pub usage: u64,
    /// memory.max; all ones is no limit.
    #[prost(uint64, tag = "33")]
    pub usage_limit: u64,
    /// memory.swap.current
    #[prost(uint64, tag = "34")]
    pub swap_usage: u64,
    /// memory.swap.max; all ones is no limit.
    #[prost(uint64, tag = "35")]
    pub swap_limit: u64,
    /// memory.peak
    #[prost(uint64, tag = "36")]
    pub max_usage: u64,
    /// memory.swap.peak
    #[prost(uint64, tag = "37")]
    pub swap_max_usage: u64,
    /// memory.pressure
    #[prost(message, optional, tag = "38")]
    pub psi: Option<PsiStats>,
}

/// memory.events
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MemoryEvents {
    /// `low`.
    #[prost(uint64, tag = "1")]
    pub low: u64,
    /// `high`.
    #[prost(uint64, tag = "2")]
    pub high: u64,
    /// `max`.
    #[prost(uint64, tag = "3")]
    pub max: u64,
    /// `oom`.
    #[prost(uint64, tag = "4")]
    pub oom: u64,
    /// `oom_kill`.
    #[prost(uint64, tag = "5")]
    pub oom_kill: u64,
}

/// io.stat
#[derive(Clone, PartialEq, Message)]
pub struct IoStat {
    /// One entry a device.
    #[prost(message, repeated, tag = "1")]
    pub usage: Vec<IoEntry>,
    /// io.pressure
    #[prost(message, optional, tag = "2")]
    pub psi: Option<PsiStats>,
}

/// One device.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IoEntry {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub major: u64,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub minor: u64,
    /// Bytes read.
    #[prost(uint64, tag = "3")]
    pub rbytes: u64,
    /// Bytes written.
    #[prost(uint64, tag = "4")]
    pub wbytes: u64,
    /// Reads.
    #[prost(uint64, tag = "5")]
    pub rios: u64,
    /// Writes.
    #[prost(uint64, tag = "6")]
    pub wios: u64,
}

/// hugetlb.SIZE.*
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HugeTlbStat {
    /// Bytes now.
    #[prost(uint64, tag = "1")]
    pub current: u64,
    /// At most, in bytes; all ones is no limit.
    #[prost(uint64, tag = "2")]
    pub max: u64,
    /// As the kernel writes it, `2MB`.
    #[prost(string, tag = "3")]
    pub pagesize: String,
}
