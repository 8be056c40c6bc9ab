//! The view of the cgroups on each kind of host, with and without a cgroup namespace.

use crate::host::{CgroupHost, Host};
use crate::plan::NamespaceFacts;
use crate::plan::cgroup::Place;
use crate::plan::mounts::tests::*;

const CGROUP: &str = r#"{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","noexec","nodev","relatime","ro"]}"#;
const SHARED: NamespaceFacts = NamespaceFacts { new: NEWNS, joined: 0 };

fn lines(host: &Host, ns: NamespaceFacts) -> Vec<String> {
    let spec = spec(CGROUP, "");
    let draft = draft_of(&spec, host, |inputs, mounts, draft| {
        mounts.append(inputs, ns, &Place::Root("c/c1".into()), draft)
    });
    words(&draft.unwrap()).split_off(2)
}

#[test]
fn v2_is_one_mount() {
    for (ns, bound) in [(PLAIN, "/sys/fs/cgroup/c/c1"), (SHARED, "/sys/fs/cgroup")] {
        let line = format!("mount cgroup2 on /sys/fs/cgroup (ro,nosuid,nodev,noexec), or bind {bound}");
        assert_eq!(lines(&host(), ns), [line]);
    }
}

#[test]
fn v1_with_a_cgroup_namespace_mounts_each_hierarchy_anew() {
    assert_eq!(
        lines(&hybrid(), PLAIN),
        [
            "mount tmpfs on /sys/fs/cgroup (nosuid,nodev,noexec,mode=755)",
            "mount cgroup on /sys/fs/cgroup/cpu,cpuacct (ro,nosuid,nodev,noexec,cpu,cpuacct), or bind /sys/fs/cgroup/cpu,cpuacct/c/c1",
            "mount cgroup on /sys/fs/cgroup/memory (ro,nosuid,nodev,noexec,memory), or bind /sys/fs/cgroup/memory/c/c1",
            "mount cgroup on /sys/fs/cgroup/systemd (ro,nosuid,nodev,noexec,name=systemd), or bind /sys/fs/cgroup/systemd/c/c1",
            "open directory /sys/fs/cgroup",
            "link /sys/fs/cgroup/cpu -> cpu,cpuacct",
            "link /sys/fs/cgroup/cpuacct -> cpu,cpuacct",
        ]
    );
}

#[test]
fn v1_without_a_cgroup_namespace_binds_the_containers_own_cgroup() {
    let lines = lines(&hybrid(), SHARED);
    assert_eq!(
        lines[1..4],
        [
            "bind /sys/fs/cgroup/cpu,cpuacct/c/c1 on /sys/fs/cgroup/cpu,cpuacct (rbind,ro,nosuid,nodev,noexec)",
            "bind /sys/fs/cgroup/memory/c/c1 on /sys/fs/cgroup/memory (rbind,ro,nosuid,nodev,noexec)",
            "bind /sys/fs/cgroup/systemd/c/c1 on /sys/fs/cgroup/systemd (rbind,ro,nosuid,nodev,noexec)",
        ]
    );
}

#[test]
fn v1_without_root_shows_the_callers_cgroup() {
    let host = Host { euid: 1000, ..hybrid() };
    assert!(lines(&host, SHARED)[2].starts_with("bind /sys/fs/cgroup/memory/own on "));
}

#[test]
fn a_host_without_cgroups_can_show_none() {
    let host = Host { cgroup: CgroupHost::None, ..host() };
    let spec = spec(CGROUP, "");
    let draft = draft_of(&spec, &host, |inputs, mounts, draft| {
        mounts.append(inputs, PLAIN, &Place::Root("c".into()), draft)
    });
    assert_eq!(
        draft.unwrap_err(),
        r#"mounts[0].type: "cgroup": no cgroup file system is mounted on this host"#
    );
}
