//! The facts about this host that a plan depends on, probed once per `Runtime`, as cheaply as possible. They can be deserialized, so that
//! a test can plan for any host.

use crate::error::{Context, Result};
use crate::sys;
use caps::{CapSet, Capability};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

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
    /// The last capability known to the kernel (/proc/sys/kernel/cap_last_cap).
    pub(crate) last_cap: u8,
    /// The caller's bounding set, by number.
    pub(crate) bounding: u64,
    /// The caller has CAP_SYS_PTRACE, so a process without it cannot inspect the caller's processes.
    #[serde(default)]
    pub(crate) traces: bool,
    /// /proc/kcore exists.
    #[serde(default)]
    pub(crate) kcore: bool,
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

/// The host, probed when it is first needed: most commands on an existing container never need it. Shared by a `Runtime` and its
/// containers.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedHost(Arc<OnceLock<Host>>);

impl SharedHost {
    pub(crate) fn get(&self) -> Result<&Host> {
        match self.0.get() {
            Some(host) => Ok(host),
            None => {
                let host = Host::probe().context("probe the host")?;
                Ok(self.0.get_or_init(|| host))
            }
        }
    }
}

impl Host {
    /// Probes this host. On a cgroup v2 host it opens /proc/self/uid_map only.
    ///
    /// # Errors
    /// `NotFound` if /proc is not mounted.
    pub fn probe() -> Result<Self> {
        let (last_cap, bounding) = capabilities();
        Ok(Host {
            kernel: kernel()?,
            euid: nix::unistd::geteuid().as_raw(),
            egid: nix::unistd::getegid().as_raw(),
            in_user_namespace: !has_all_ids(&read("/proc/self/uid_map")?),
            cgroup: CgroupHost::probe()?,
            apparmor: read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            last_cap,
            bounding,
            traces: caps::has_cap(None, CapSet::Permitted, Capability::CAP_SYS_PTRACE).unwrap_or(false),
            kcore: Path::new("/proc/kcore").exists(),
        })
    }

    /// The caller cannot act as root on the host: cgroup and device errors are tolerated.
    pub fn is_rootless(&self) -> bool {
        self.euid != 0 || self.in_user_namespace
    }
}

fn read(path: &str) -> Result<String> {
    File::open(path).and_then(sys::fs::read_text).with_context(|| format!("read {path:?}"))
}

fn kernel() -> Result<(u32, u32)> {
    let name = nix::sys::utsname::uname().map_err(std::io::Error::from).context("uname")?;
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}

/// The initial user namespace maps every id to itself.
fn has_all_ids(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// The number of the last capability known to the kernel, and the caller's bounding set.
fn capabilities() -> (u8, u64) {
    let mut set = 0;
    for capability in 0..64u8 {
        match sys::process::in_bounding(capability.into()) {
            Ok(true) => set |= 1 << capability,
            Ok(false) => {}
            Err(_) => return (capability.saturating_sub(1), set),
        }
    }
    (63, set)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_full_identity_map_is_the_initial_user_namespace() {
        assert!(super::has_all_ids("         0          0 4294967295\n"));
        assert!(!super::has_all_ids("0 100000 65536\n"));
        assert!(!super::has_all_ids("0 0 1\n1 1 4294967294\n"));
    }
}
