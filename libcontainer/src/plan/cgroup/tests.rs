//! Places, owners and updates, as tables.

use super::*;
use crate::host::Host;
use crate::plan::PlanOptions;
use crate::plan::mounts::Mounts;
use oci_spec::runtime::{LinuxResources, Spec};

fn host(cgroup: CgroupHost, euid: u32) -> Host {
    Host {
        kernel: (6, 18),
        euid,
        egid: euid,
        in_user_namespace: false,
        cgroup,
        apparmor: false,
        selinux: false,
        traces: true,
        last_cap: 40,
        bounding: u64::MAX,
        kcore: true,
    }
}

fn v2() -> CgroupHost {
    CgroupHost::V2 { mount: "/sys/fs/cgroup".into() }
}

fn planned(json: &str, host: &Host, new: u64) -> Result<CgroupPlan> {
    let spec: Spec = serde_json::from_str(json).expect(json);
    let options = PlanOptions::default();
    let inputs = Inputs {
        id: "c1",
        spec: &spec,
        host,
        bundle: Path::new("/b"),
        options: &options,
        overlay: None,
        filter: None,
    };
    plan(
        &inputs,
        Mounts::read(&inputs)?.cgroup_is_writable(),
        NamespaceFacts { new, joined: 0 },
        &mut Vec::new(),
    )
}

#[test]
fn paths_are_placed_as_runc_places_them() {
    for (path, expected) in [
        (None, Place::Own("c1".into())),
        (Some(""), Place::Own("c1".into())),
        (Some("/a/b"), Place::Root("a/b".into())),
        (Some("a/b"), Place::Own("a/b".into())),
        (Some("/../../a"), Place::Root("a".into())),
        (Some("../../a"), Place::Own("a".into())),
        (Some("/a/./b//../c/"), Place::Root("a/c".into())),
    ] {
        let path = path.map_or(String::new(), |p| format!(r#""cgroupsPath": "{p}""#));
        let json = format!(r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "linux": {{{path}}}}}"#);
        assert_eq!(planned(&json, &host(v2(), 0), 0).expect(&json).place, expected, "{json}");
    }
}

#[test]
fn places_that_can_not_be_are_refused() {
    for (path, text) in [
        ("/", "is the root of the hierarchy"),
        ("/a/..", "is the root of the hierarchy"),
        ("system.slice:knarr:c1", "systemd cgroup driver, which is not supported yet"),
    ] {
        let json = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "linux": {{"cgroupsPath": "{path}"}}}}"#
        );
        let error = planned(&json, &host(v2(), 0), 0).expect_err(path).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn only_a_rootless_caller_who_asks_for_nothing_may_go_without() {
    let cases = [
        (0, "", false, true),
        (1000, "", true, false),
        (1000, r#""cgroupsPath": "/a""#, false, false),
        (1000, r#""resources": {"pids": {"limit": 5}}"#, false, false),
    ];
    for (euid, linux, may_lack, devices) in cases {
        let json =
            format!(r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "linux": {{{linux}}}}}"#);
        let plan = planned(&json, &host(v2(), euid), 0).expect(&json);
        assert_eq!((plan.may_lack, plan.devices.is_some()), (may_lack, devices), "{euid} {linux}");
    }
}

#[test]
fn a_cgroup_is_handed_over_only_with_both_namespaces_and_a_writable_view() {
    let both = (libc::CLONE_NEWCGROUP | libc::CLONE_NEWUSER) as u64;
    let json = |options: &str, kind: &str| {
        format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "process": {{"user": {{"uid": 5, "gid": 0}}, "cwd": "/"}},
                "mounts": [{{"destination": "/sys/fs/cgroup/", "type": "{kind}", "source": "{kind}", "options": [{options}]}}],
                "linux": {{"uidMappings": [{{"containerID": 0, "hostID": 100000, "size": 65536}}]}}}}"#
        )
    };
    let v1 = CgroupHost::V1 { hierarchies: Vec::new(), unified: None };
    for (host, new, options, kind, owner) in [
        (host(v2(), 0), both, r#""nosuid""#, "cgroup", Some(100_005)),
        (host(v2(), 0), both, "", "cgroup2", Some(100_005)),
        (host(v2(), 0), both, r#""ro""#, "cgroup", None),
        (host(v2(), 0), both, r#""ro", "rw""#, "cgroup", Some(100_005)),
        (host(v2(), 0), both, "", "tmpfs", None),
        (host(v2(), 0), libc::CLONE_NEWCGROUP as u64, "", "cgroup", None),
        (host(v2(), 0), libc::CLONE_NEWUSER as u64, "", "cgroup", None),
        (host(v1, 0), both, "", "cgroup", None),
    ] {
        let json = json(options, kind);
        assert_eq!(planned(&json, &host, new).expect(&json).owner, owner, "{json}");
    }
}

#[test]
fn updates_change_what_they_mention() {
    let old = r#"{"memory": {"limit": 100, "swap": 300, "reservation": 50}, "cpu": {"shares": 512, "quota": 5000, "period": 10000,
                  "cpus": "0"}, "pids": {"limit": 7}, "blockIO": {"weight": 100, "throttleReadBpsDevice":
                  [{"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 1, "rate": 1}]}}"#;
    let parse = |json: &str| serde_json::from_str::<LinuxResources>(json).expect(json);
    for (new, expected) in [
        (
            "{}",
            "memory.swap.max=200 memory.max=100 memory.low=50 io.bfq.weight=100 io.max=8:0 rbps=1 io.max=8:1 rbps=1 cpu.weight=59 cpu.max=5000 10000",
        ),
        (
            r#"{"memory": {"limit": 200}, "blockIO": {"weight": 10}, "cpu": {}}"#,
            "memory.swap.max=100 memory.max=200 memory.low=50 io.bfq.weight=10 io.max=8:0 rbps=1 io.max=8:1 rbps=1 cpu.weight=59",
        ),
        (
            r#"{"memory": {"limit": -1}, "cpu": {"quota": 7000}}"#,
            "memory.swap.max=max memory.max=max memory.low=50 io.bfq.weight=100 io.max=8:0 rbps=1 io.max=8:1 rbps=1 cpu.weight=59 cpu.max=7000 10000",
        ),
        (
            r#"{"pids": {"limit": -1}, "cpu": {"period": 20000, "cpus": "1"}}"#,
            "pids.max=max memory.swap.max=200 memory.max=100 memory.low=50 io.bfq.weight=100 io.max=8:0 rbps=1 io.max=8:1 rbps=1 cpu.weight=59 cpu.max=5000 20000 cpuset.cpus=1",
        ),
        (
            r#"{"cpu": {"idle": 1}, "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]}}"#,
            "memory.swap.max=200 memory.max=100 memory.low=50 io.bfq.weight=100 io.max=8:1 rbps=1 io.max=8:0 rbps=9 cpu.idle=1",
        ),
        (
            r#"{"unified": {"memory.high": "9"}}"#,
            "memory.swap.max=200 memory.max=100 memory.low=50 io.bfq.weight=100 io.max=8:0 rbps=1 io.max=8:1 rbps=1 cpu.weight=59 cpu.max=5000 10000 memory.high=9",
        ),
    ] {
        let merged = merge(&parse(old), &parse(new));
        let writes = super::super::limits::v2(&merged).expect(new).writes;
        let text: Vec<_> = writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        assert_eq!(text.join(" "), expected, "{new}");
    }
}
