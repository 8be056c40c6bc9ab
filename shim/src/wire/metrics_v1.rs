//! `io.containerd.cgroups.v1.Metrics`: the answer to `Stats` on a host with cgroup v1.
//!
//! Field numbers are those of containerd/cgroups' cgroup1/stats/metrics.proto.

use super::metrics::rdma;
pub use super::metrics::{NetworkStat, PidsStat, RdmaEntry, RdmaStat};
use super::types::Any;
use libcontainer::{Stats, Usage};
use prost::Message;
use std::collections::BTreeMap;

/// The type's name.
pub const METRICS: &str = "io.containerd.cgroups.v1.Metrics";

/// The kernel's value for "no limit" on v1.
const UNLIMITED: u64 = i64::MAX.cast_unsigned() & !0xfff;

/// Packs the counters for containerd.
pub fn pack(stats: &Stats) -> Any {
    Any::pack(METRICS, &Metrics::from(stats))
}

impl From<&Stats> for Metrics {
    fn from(stats: &Stats) -> Self {
        let hugetlb = stats.hugetlb.iter().map(|(size, usage)| HugetlbStat {
            usage: usage.usage,
            max: usage.peak,
            failcnt: usage.failures,
            pagesize: size.clone(),
        });
        Self {
            hugetlb: hugetlb.collect(),
            pids: Some(PidsStat { current: stats.pids, limit: stats.pids_limit.unwrap_or(0) }),
            cpu: Some(CpuStat {
                usage: Some(CpuUsage {
                    total: stats.cpu,
                    kernel: stats.cpu_system,
                    user: stats.cpu_user,
                    per_cpu: stats.cpu_each.clone(),
                }),
                throttling: Some(Throttle {
                    periods: stats.periods,
                    throttled_periods: stats.throttled_periods,
                    throttled_time: stats.throttled,
                }),
            }),
            memory: Some(memory(stats)),
            blkio: Some(block(stats)),
            rdma: Some(rdma(stats)),
            memory_oom_control: Some(MemoryOomControl {
                oom_kill_disable: stats.memory_events.kill_disabled.into(),
                under_oom: stats.memory_events.under_oom.into(),
                oom_kill: stats.oom_kills,
            }),
            ..Self::default()
        }
    }
}

impl From<&Usage> for MemoryEntry {
    fn from(usage: &Usage) -> Self {
        Self {
            limit: usage.limit.unwrap_or(UNLIMITED),
            usage: usage.usage,
            max: usage.peak,
            failcnt: usage.failures,
        }
    }
}

fn memory(stats: &Stats) -> MemoryStat {
    let map: &BTreeMap<String, u64> = &stats.memory_stat;
    let get = |key: &str| map.get(key).copied().unwrap_or(0);
    MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: Some(MemoryEntry::from(&stats.memory)),
        swap: Some(MemoryEntry::from(&stats.swap)),
        kernel: Some(MemoryEntry::from(&stats.kernel)),
        kernel_tcp: Some(MemoryEntry::from(&stats.kernel_tcp)),
    }
}

fn block(stats: &Stats) -> BlkIoStat {
    let entries = |value: fn(&libcontainer::IoEntry) -> u64| {
        let entry = |io: &libcontainer::IoEntry| BlkIoEntry {
            op: io.op.clone(),
            device: String::new(),
            major: io.major,
            minor: io.minor,
            value: value(io),
        };
        stats.io.iter().map(entry).collect()
    };
    BlkIoStat {
        io_service_bytes_recursive: entries(|io| io.bytes),
        io_serviced_recursive: entries(|io| io.operations),
        ..BlkIoStat::default()
    }
}

/// `io.containerd.cgroups.v1.Metrics`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Metrics {
    /// Huge pages, one entry a size.
    #[prost(message, repeated, tag = "1")]
    pub hugetlb: Vec<HugetlbStat>,
    /// Processes and threads.
    #[prost(message, optional, tag = "2")]
    pub pids: Option<PidsStat>,
    /// CPU time.
    #[prost(message, optional, tag = "3")]
    pub cpu: Option<CpuStat>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<MemoryStat>,
    /// Input and output.
    #[prost(message, optional, tag = "5")]
    pub blkio: Option<BlkIoStat>,
    /// RDMA.
    #[prost(message, optional, tag = "6")]
    pub rdma: Option<RdmaStat>,
    /// Network devices.
    #[prost(message, repeated, tag = "7")]
    pub network: Vec<NetworkStat>,
    /// How many tasks are in which state.
    #[prost(message, optional, tag = "8")]
    pub cgroup_stats: Option<CgroupStats>,
    /// memory.oom_control.
    #[prost(message, optional, tag = "9")]
    pub memory_oom_control: Option<MemoryOomControl>,
}

/// hugetlb.SIZE.*
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HugetlbStat {
    /// Bytes now.
    #[prost(uint64, tag = "1")]
    pub usage: u64,
    /// The most so far, in bytes.
    #[prost(uint64, tag = "2")]
    pub max: u64,
    /// How often the limit was met.
    #[prost(uint64, tag = "3")]
    pub failcnt: u64,
    /// As the kernel writes it, `2MB`.
    #[prost(string, tag = "4")]
    pub pagesize: String,
}

/// cpuacct.* and cpu.stat
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CpuStat {
    /// Time used.
    #[prost(message, optional, tag = "1")]
    pub usage: Option<CpuUsage>,
    /// Time waited.
    #[prost(message, optional, tag = "2")]
    pub throttling: Option<Throttle>,
}

/// In nanoseconds.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CpuUsage {
    /// In all.
    #[prost(uint64, tag = "1")]
    pub total: u64,
    /// In the kernel.
    #[prost(uint64, tag = "2")]
    pub kernel: u64,
    /// In user mode.
    #[prost(uint64, tag = "3")]
    pub user: u64,
    /// By CPU.
    #[prost(uint64, repeated, tag = "4")]
    pub per_cpu: Vec<u64>,
}

/// cpu.stat
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Throttle {
    /// Periods of the quota.
    #[prost(uint64, tag = "1")]
    pub periods: u64,
    /// Periods in which it ran out.
    #[prost(uint64, tag = "2")]
    pub throttled_periods: u64,
    /// Nanoseconds waited.
    #[prost(uint64, tag = "3")]
    pub throttled_time: u64,
}

/// memory.stat and memory.*
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemoryStat {
    /// `cache`.
    #[prost(uint64, tag = "1")]
    pub cache: u64,
    /// `rss`.
    #[prost(uint64, tag = "2")]
    pub rss: u64,
    /// `rss_huge`.
    #[prost(uint64, tag = "3")]
    pub rss_huge: u64,
    /// `mapped_file`.
    #[prost(uint64, tag = "4")]
    pub mapped_file: u64,
    /// `dirty`.
    #[prost(uint64, tag = "5")]
    pub dirty: u64,
    /// `writeback`.
    #[prost(uint64, tag = "6")]
    pub writeback: u64,
    /// `pgpgin`.
    #[prost(uint64, tag = "7")]
    pub pg_pg_in: u64,
    /// `pgpgout`.
    #[prost(uint64, tag = "8")]
    pub pg_pg_out: u64,
    /// `pgfault`.
    #[prost(uint64, tag = "9")]
    pub pg_fault: u64,
    /// `pgmajfault`.
    #[prost(uint64, tag = "10")]
    pub pg_maj_fault: u64,
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
    /// `hierarchical_memory_limit`.
    #[prost(uint64, tag = "16")]
    pub hierarchical_memory_limit: u64,
    /// `hierarchical_memsw_limit`.
    #[prost(uint64, tag = "17")]
    pub hierarchical_swap_limit: u64,
    /// `total_cache`.
    #[prost(uint64, tag = "18")]
    pub total_cache: u64,
    /// `total_rss`.
    #[prost(uint64, tag = "19")]
    pub total_rss: u64,
    /// `total_rss_huge`.
    #[prost(uint64, tag = "20")]
    pub total_rss_huge: u64,
    /// `total_mapped_file`.
    #[prost(uint64, tag = "21")]
    pub total_mapped_file: u64,
    /// `total_dirty`.
    #[prost(uint64, tag = "22")]
    pub total_dirty: u64,
    /// `total_writeback`.
    #[prost(uint64, tag = "23")]
    pub total_writeback: u64,
    /// `total_pgpgin`.
    #[prost(uint64, tag = "24")]
    pub total_pg_pg_in: u64,
    /// `total_pgpgout`.
    #[prost(uint64, tag = "25")]
    pub total_pg_pg_out: u64,
    /// `total_pgfault`.
    #[prost(uint64, tag = "26")]
    pub total_pg_fault: u64,
    /// `total_pgmajfault`.
    #[prost(uint64, tag = "27")]
    pub total_pg_maj_fault: u64,
    /// `total_inactive_anon`.
    #[prost(uint64, tag = "28")]
    pub total_inactive_anon: u64,
    /// `total_active_anon`.
    #[prost(uint64, tag = "29")]
    pub total_active_anon: u64,
    /// `total_inactive_file`.
    #[prost(uint64, tag = "30")]
    pub total_inactive_file: u64,
    /// `total_active_file`.
    #[prost(uint64, tag = "31")]
    pub total_active_file: u64,
    /// `total_unevictable`.
    #[prost(uint64, tag = "32")]
    pub total_unevictable: u64,
    /// Memory.
    #[prost(message, optional, tag = "33")]
    pub usage: Option<MemoryEntry>,
    /// Memory and swap together.
    #[prost(message, optional, tag = "34")]
    pub swap: Option<MemoryEntry>,
    /// Kernel memory.
    #[prost(message, optional, tag = "35")]
    pub kernel: Option<MemoryEntry>,
    /// Memory of TCP buffers.
    #[prost(message, optional, tag = "36")]
    pub kernel_tcp: Option<MemoryEntry>,
}

/// memory.*, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MemoryEntry {
    /// As the kernel writes it.
    #[prost(uint64, tag = "1")]
    pub limit: u64,
    /// Now.
    #[prost(uint64, tag = "2")]
    pub usage: u64,
    /// The most so far.
    #[prost(uint64, tag = "3")]
    pub max: u64,
    /// How often the limit was met.
    #[prost(uint64, tag = "4")]
    pub failcnt: u64,
}

/// memory.oom_control
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MemoryOomControl {
    /// 1: processes wait and are not killed.
    #[prost(uint64, tag = "1")]
    pub oom_kill_disable: u64,
    /// 1: they wait now.
    #[prost(uint64, tag = "2")]
    pub under_oom: u64,
    /// How many were killed.
    #[prost(uint64, tag = "3")]
    pub oom_kill: u64,
}

/// blkio.*
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlkIoStat {
    /// `blkio.io_service_bytes_recursive`.
    #[prost(message, repeated, tag = "1")]
    pub io_service_bytes_recursive: Vec<BlkIoEntry>,
    /// `blkio.io_serviced_recursive`.
    #[prost(message, repeated, tag = "2")]
    pub io_serviced_recursive: Vec<BlkIoEntry>,
    /// `blkio.io_queued_recursive`.
    #[prost(message, repeated, tag = "3")]
    pub io_queued_recursive: Vec<BlkIoEntry>,
    /// `blkio.io_service_time_recursive`.
    #[prost(message, repeated, tag = "4")]
    pub io_service_time_recursive: Vec<BlkIoEntry>,
    /// `blkio.io_wait_time_recursive`.
    #[prost(message, repeated, tag = "5")]
    pub io_wait_time_recursive: Vec<BlkIoEntry>,
    /// `blkio.io_merged_recursive`.
    #[prost(message, repeated, tag = "6")]
    pub io_merged_recursive: Vec<BlkIoEntry>,
    /// `blkio.io_time_recursive`.
    #[prost(message, repeated, tag = "7")]
    pub io_time_recursive: Vec<BlkIoEntry>,
    /// `blkio.sectors_recursive`.
    #[prost(message, repeated, tag = "8")]
    pub sectors_recursive: Vec<BlkIoEntry>,
}

/// One line of them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlkIoEntry {
    /// `Read`, `Write`, …
    #[prost(string, tag = "1")]
    pub op: String,
    /// A path, or empty.
    #[prost(string, tag = "2")]
    pub device: String,
    /// Of the device.
    #[prost(uint64, tag = "3")]
    pub major: u64,
    /// Of the device.
    #[prost(uint64, tag = "4")]
    pub minor: u64,
    /// Bytes, operations, …
    #[prost(uint64, tag = "5")]
    pub value: u64,
}

/// How many tasks are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CgroupStats {
    /// Sleeping.
    #[prost(uint64, tag = "1")]
    pub nr_sleeping: u64,
    /// Running.
    #[prost(uint64, tag = "2")]
    pub nr_running: u64,
    /// Stopped.
    #[prost(uint64, tag = "3")]
    pub nr_stopped: u64,
    /// Uninterruptible.
    #[prost(uint64, tag = "4")]
    pub nr_uninterruptible: u64,
    /// Waiting for I/O.
    #[prost(uint64, tag = "5")]
    pub nr_io_wait: u64,
}
