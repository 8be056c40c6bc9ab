//! Detects the layout of the host's cgroups: by one statfs on a v2 host, by the caller's cgroups and the mounts on others.

use crate::error::{Context, Result};
use crate::host::{CgroupHost, V1Hierarchy};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::path::{Component, Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";
const UNIFIED: &str = "/sys/fs/cgroup/unified";

impl CgroupHost {
    /// Probes this host.
    ///
    /// # Errors
    /// `Os` if /proc cannot be read on a host without a v2 tree at /sys/fs/cgroup.
    pub(crate) fn probe() -> Result<CgroupHost> {
        if is_v2(MOUNT) {
            return Ok(CgroupHost::V2 { mount: MOUNT.into() });
        }
        let read =
            |file: &str| std::fs::read_to_string(file).context("read").with_context(|| format!("{file:?}"));
        let own = read("/proc/self/cgroup")?;
        let hierarchies = v1(&read("/proc/self/mountinfo")?, &own);
        if hierarchies.is_empty() {
            return Ok(CgroupHost::None);
        }
        Ok(CgroupHost::V1 { hierarchies, unified: is_v2(UNIFIED).then(|| UNIFIED.into()) })
    }
}

fn is_v2(path: &str) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The v1 hierarchies in `mountinfo` (proc_pid_mountinfo(5)) that `own` (cgroups(7), /proc/pid/cgroup) says the caller is in.
fn v1(mountinfo: &str, own: &str) -> Vec<V1Hierarchy> {
    let mut found: Vec<V1Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, fs)) = line.split_once(" - ") else {
            continue;
        };
        let mut fs = fs.split(' ');
        let (Some("cgroup"), _, Some(options)) = (fs.next(), fs.next(), fs.next()) else {
            continue;
        };
        let mut fields = mount.split(' ').skip(3);
        let (Some(root), Some(at)) = (fields.next(), fields.next()) else {
            continue;
        };
        let options: Vec<&str> = options.split(',').collect();
        let Some((controllers, path)) = own.lines().find_map(|line| membership(line, &options)) else {
            continue;
        };
        let own = below(&path, &unescape(root));
        let this = V1Hierarchy { controllers, mount: unescape(at), own };
        match found.iter_mut().find(|h| h.controllers == this.controllers) {
            // A later mount covers an earlier one: in a container with the host's /sys, the host's mounts lie below its own.
            Some(covered) if covered.mount == this.mount => *covered = this,
            Some(_) => {}
            None => found.push(this),
        }
    }
    found
}

/// `4:memory:/user` when its controllers are among the options of a mount.
fn membership(line: &str, options: &[&str]) -> Option<(Vec<String>, PathBuf)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let controllers: Vec<String> = parts.next()?.split(',').map(str::to_owned).collect();
    let here = controllers.iter().all(|c| !c.is_empty() && options.contains(&c.as_str()));
    here.then_some((controllers, PathBuf::from(parts.next()?)))
}

/// The path as the mount shows it. In a container without a cgroup namespace the paths are the host's, but the mount begins at the
/// container's cgroup.
fn below(path: &Path, root: &Path) -> PathBuf {
    let inside = path.strip_prefix(root).unwrap_or(Path::new(""));
    inside.components().filter(|c| matches!(c, Component::Normal(_))).collect()
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 22 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 /docker/c1 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/my\\040systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
35 30 0:28 / /elsewhere rw - cgroup cgroup rw,memory
";

    #[test]
    fn v1_hierarchies_come_from_mounts_and_memberships() {
        let own = "4:memory:/docker/c1/x\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/user\n0::/\n";
        let found: Vec<_> = v1(MOUNTS, own)
            .into_iter()
            .map(|h| (h.controllers.join(","), h.mount.display().to_string(), h.own.display().to_string()))
            .collect();
        let expected = [
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", ""),
            ("memory", "/sys/fs/cgroup/memory", "x"),
            ("name=systemd", "/sys/fs/cgroup/my systemd", "user"),
        ];
        assert_eq!(found, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    }

    #[test]
    fn of_two_mounts_on_one_place_the_upper_counts() {
        let mounts = "127 126 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            139 126 0:55 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            145 139 0:32 /box /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let found = v1(mounts, "4:memory:/box\n");
        assert_eq!(found.iter().map(|h| h.own.as_path()).collect::<Vec<_>>(), [Path::new("")]);
    }

    #[test]
    fn a_caller_outside_of_the_mount_is_taken_to_its_root() {
        assert_eq!(below(Path::new("/../../other"), Path::new("/")), Path::new("other"));
        assert_eq!(below(Path::new("/a/b"), Path::new("/c")), Path::new(""));
    }
}
