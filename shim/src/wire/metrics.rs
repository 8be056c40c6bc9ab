//! Messages that the metrics of cgroup v1 and v2 have in common.

use libcontainer::Stats;
use prost::Message;

pub(super) fn rdma(stats: &Stats) -> RdmaStat {
    let entry = |device: &str, handles: u64, objects: u64| RdmaEntry {
        device: device.to_owned(),
        hca_handles: u32::try_from(handles).unwrap_or(u32::MAX),
        hca_objects: u32::try_from(objects).unwrap_or(u32::MAX),
    };
    let current = stats.rdma.iter().map(|(device, rdma)| entry(device, rdma.handles, rdma.objects));
    let limit = stats.rdma.iter().map(|(device, rdma)| {
        entry(device, rdma.handle_limit.unwrap_or(u64::MAX), rdma.object_limit.unwrap_or(u64::MAX))
    });
    RdmaStat { current: current.collect(), limit: limit.collect() }
}

/// pids.*
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PidsStat {
    /// The current number.
    #[prost(uint64, tag = "1")]
    pub current: u64,
    /// The limit; 0 is none.
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

/// rdma.*
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RdmaStat {
    /// The current number.
    #[prost(message, repeated, tag = "1")]
    pub current: Vec<RdmaEntry>,
    /// The limit.
    #[prost(message, repeated, tag = "2")]
    pub limit: Vec<RdmaEntry>,
}

/// One device.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RdmaEntry {
    /// Its name.
    #[prost(string, tag = "1")]
    pub device: String,
    /// Handles.
    #[prost(uint32, tag = "2")]
    pub hca_handles: u32,
    /// Objects.
    #[prost(uint32, tag = "3")]
    pub hca_objects: u32,
}

/// One network device.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NetworkStat {
    /// The device's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Bytes received.
    #[prost(uint64, tag = "2")]
    pub rx_bytes: u64,
    /// Packets received.
    #[prost(uint64, tag = "3")]
    pub rx_packets: u64,
    /// Errors of receiving.
    #[prost(uint64, tag = "4")]
    pub rx_errors: u64,
    /// Packets dropped.
    #[prost(uint64, tag = "5")]
    pub rx_dropped: u64,
    /// Bytes sent.
    #[prost(uint64, tag = "6")]
    pub tx_bytes: u64,
    /// Packets sent.
    #[prost(uint64, tag = "7")]
    pub tx_packets: u64,
    /// Errors of sending.
    #[prost(uint64, tag = "8")]
    pub tx_errors: u64,
    /// Packets dropped.
    #[prost(uint64, tag = "9")]
    pub tx_dropped: u64,
}
