//! The facts about this host that a plan depends on. Probed once per `Runtime`, as cheaply as possible; serialisable, so that a
//! test can plan for any host. It knows nothing of containers.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Facts about the host and the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel version, major and minor.
    pub(crate) kernel: (u32, u32),
    /// Effective user and group of the caller.
    pub(crate) euid: u32,
    pub(crate) egid: u32,
    /// The caller has CAP_SYS_ADMIN in the user namespace that owns its mount namespace, but that namespace is not the initial one,
    /// or it is not root at all.
    pub(crate) in_user_namespace: bool,
    /// The cgroup hierarchies.
    pub(crate) cgroup: CgroupHost,
    /// AppArmor is enabled (/sys/module/apparmor/parameters/enabled is Y).
    pub(crate) apparmor: bool,
    /// SELinux is enabled (selinuxfs is mounted).
    pub(crate) selinux: bool,
    /// The last capability that the kernel knows (/proc/sys/kernel/cap_last_cap).
    pub(crate) last_cap: u8,
    /// The caller's own bounding set, by number.
    pub(crate) bounding: u64,
}

/// How the host's cgroups are laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CgroupHost {
    /// One v2 tree at this mount point.
    V2 { mount: PathBuf },
    /// v1 hierarchies, perhaps with a v2 tree beside them (`unified`, the hybrid layout).
    V1 { hierarchies: Vec<V1Hierarchy>, unified: Option<PathBuf> },
    /// No cgroup file system is mounted.
    None,
}

/// One cgroup v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct V1Hierarchy {
    /// Its controllers, or one `name=…`.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// The caller's own cgroup in it, from /proc/self/cgroup.
    pub(crate) own: PathBuf,
}

impl Host {
    /// The caller can not act as root on the host: cgroup and device errors are tolerated as the specification of rootless containers asks.
    pub fn is_rootless(&self) -> bool {
        self.euid != 0 || self.in_user_namespace
    }
}
