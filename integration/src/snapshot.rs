//! The host before and after a test: mounts, cgroups, processes, descriptors, state directories, global settings.
//!
//! The runner works in a mount namespace of its own and is a subreaper, so mounts and processes can be compared
//! exactly even while others use the machine. Everything on the machine shares cgroups and /run: there only what bears the
//! run's token counts, unless `KNARR_ALONE=1` says that nothing else is at work (a VM).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::{MountInfo, Process};

use crate::outcome::Stop;
use crate::process::{processes, reap, wait_for};

/// What must not differ.
#[derive(Debug, Clone)]
pub struct Host {
    mounts: Vec<Mount>,
    cgroups: BTreeSet<PathBuf>,
    run: BTreeSet<PathBuf>,
    descriptors: BTreeSet<String>,
    settings: Vec<(String, String)>,
    cwd: Option<PathBuf>,
}

/// Files of the host that a container has tried to change in some advisory. Only what no idle machine changes itself.
const SETTINGS: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/shm_rmid_forced",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/self/oom_score_adj",
    "/proc/self/attr/current",
    "/sys/fs/cgroup/pids/release_agent",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/freezer/release_agent",
    "/etc/hostname",
    "/etc/resolv.conf",
];

impl Host {
    /// The host now.
    pub fn now(token: &str) -> Result<Host, Stop> {
        let alone = std::env::var_os("KNARR_ALONE").is_some();
        let mounts = Process::myself()?.mountinfo()?.into_iter().map(Mount::from).collect();
        let mut cgroups = BTreeSet::new();
        directories(Path::new("/sys/fs/cgroup"), token, &mut cgroups);
        let mut run = BTreeSet::new();
        for dir in ["/run", "/dev/shm", "/tmp"] {
            run.extend(fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()));
        }
        // Other programs make files there too; a runtime's bear its name or the container's.
        let marks: &[&str] = if alone { &[token, "runc", "crun", "knarr"] } else { &[token] };
        run.retain(|p: &PathBuf| marks.iter().any(|m| p.to_string_lossy().contains(m)));
        if !alone {
            cgroups.retain(|p| p.to_string_lossy().contains(token));
        }
        Ok(Host {
            mounts,
            cgroups,
            run,
            descriptors: descriptors(),
            settings: SETTINGS
                .iter()
                .map(|p| ((*p).to_owned(), fs::read_to_string(p).unwrap_or_default()))
                .collect(),
            cwd: std::env::current_dir().ok(),
        })
    }

    /// One line foreverything that is there now and was not, or the other way.
    pub fn differences(&self, now: &Host) -> Vec<String> {
        let mut found = Vec::new();
        for mount in now.mounts.iter().filter(|m| !self.mounts.contains(m)) {
            found.push(format!("mount left: {mount:?}"));
        }
        for mount in self.mounts.iter().filter(|m| !now.mounts.contains(m)) {
            found.push(format!("mount gone or changed: {mount:?}"));
        }
        let sets = [("cgroup", &self.cgroups, &now.cgroups), ("file", &self.run, &now.run)];
        for (what, before, after) in sets {
            found.extend(after.difference(before).map(|p| format!("{what} left: {}", p.display())));
        }
        found.extend(now.descriptors.difference(&self.descriptors).map(|d| format!("descriptor left: {d}")));
        for (before, after) in self.settings.iter().zip(&now.settings).filter(|(a, b)| a != b) {
            found.push(format!("{} was {:?}, is {:?}", before.0, before.1, after.1));
        }
        if self.cwd != now.cwd {
            found.push(format!("working directory was {:?}, is {:?}", self.cwd, now.cwd));
        }
        found
    }

    /// Removes what differs, so that the next test starts clean. Best effort: the difference was reported.
    pub fn restore(&self, now: &Host) {
        let mounts = now.mounts.iter().filter(|m| !self.mounts.contains(m));
        for mount in mounts.rev() {
            let _ = umount2(&mount.point, MntFlags::MNT_DETACH);
        }
        for cgroup in now.cgroups.difference(&self.cgroups).collect::<Vec<_>>().iter().rev() {
            drop(fs::write(cgroup.join("cgroup.freeze"), "0"));
            drop(fs::write(cgroup.join("freezer.state"), "THAWED"));
            drop(fs::write(cgroup.join("cgroup.kill"), "1"));
            drop(wait_for("the cgroup is empty", || fs::remove_dir(cgroup).ok()));
        }
    }
}

/// A mount without the numbers that differ from one reading to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    root: String,
    options: BTreeMap<String, Option<String>>,
    kind: String,
}

impl From<MountInfo> for Mount {
    fn from(info: MountInfo) -> Self {
        Mount {
            point: info.mount_point,
            root: info.root,
            options: info.mount_options.into_iter().collect(),
            kind: info.fs_type,
        }
    }
}

/// All directories below `dir` but the run's own one, which the runner removes.
fn directories(dir: &Path, token: &str, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            directories(&entry.path(), token, found);
            if entry.file_name() != token {
                found.insert(entry.path());
            }
        }
    }
}

fn descriptors() -> BTreeSet<String> {
    let numbers: Vec<_> =
        fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().map(|e| e.path()).collect();
    let named = numbers.iter().filter_map(|p| Some((p, fs::read_link(p).ok()?)));
    named.map(|(p, target)| format!("{} {}", p.display(), target.display())).collect()
}

/// Pids and names of all processes that descend from this one.
pub fn descendants() -> Vec<(i32, String)> {
    let all = processes();
    let mut family = vec![std::process::id().cast_signed()];
    let mut found = Vec::new();
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        for process in all.iter().filter(|p| p.ppid == parent) {
            family.push(process.pid);
            found.push((process.pid, process.comm.clone()));
        }
        at += 1;
    }
    found
}

/// Kills and reaps every descendant; gives the names of those that were there after a moment's grace.
pub fn end_descendants() -> Vec<String> {
    let calm = wait_for("processes end", || descendants().is_empty().then_some(()));
    if calm.is_ok() {
        return Vec::new();
    }
    let left: Vec<String> =
        descendants().iter().map(|(pid, name)| format!("process left: {pid} {name}")).collect();
    kill_descendants();
    left
}

/// Kills and reaps every descendant.
pub fn kill_descendants() {
    let gone = wait_for("killed processes are gone", || {
        for (pid, _) in descendants() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        crate::process::forget();
        reap();
        descendants().is_empty().then_some(())
    });
    drop(gone);
}
