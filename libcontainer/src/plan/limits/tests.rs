//! Resources and the writes they become, as tables.

use super::*;

fn lines(limits: &Limits) -> Vec<String> {
    limits.writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect()
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect(json)
}

#[test]
fn resources_become_writes() {
    // resources, v2, v1
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("{}", &[], &[]),
        (r#"{"memory": {}, "cpu": {}, "blockIO": {}}"#, &[], &[]),
        (r#"{"pids": {"limit": 5}}"#, &["pids.max=5"], &["pids.max=5"]),
        (r#"{"pids": {"limit": 0}}"#, &["pids.max=1"], &["pids.max=1"]),
        (r#"{"pids": {"limit": -1}}"#, &["pids.max=max"], &["pids.max=max"]),
        (
            r#"{"memory": {"limit": 4096, "swap": 12288, "reservation": 1024}}"#,
            &["memory.swap.max=8192", "memory.max=4096", "memory.low=1024"],
            &[
                "memory.limit_in_bytes=4096",
                "memory.memsw.limit_in_bytes=12288",
                "memory.soft_limit_in_bytes=1024",
            ],
        ),
        (
            r#"{"memory": {"limit": 4096, "swap": 4096}}"#,
            &["memory.swap.max=0", "memory.max=4096"],
            &["memory.limit_in_bytes=4096", "memory.memsw.limit_in_bytes=4096"],
        ),
        (
            r#"{"memory": {"limit": -1}}"#,
            &["memory.swap.max=max", "memory.max=max"],
            &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
        ),
        (
            r#"{"memory": {"limit": 4096, "swap": -1}}"#,
            &["memory.swap.max=max", "memory.max=4096"],
            &["memory.limit_in_bytes=4096", "memory.memsw.limit_in_bytes=-1"],
        ),
        (r#"{"memory": {"limit": 0, "swap": 0}}"#, &[], &[]),
        (r#"{"memory": {"swappiness": 10}}"#, &[], &["memory.swappiness=10"]),
        (r#"{"memory": {"disableOOMKiller": true}}"#, &[], &["memory.oom_control=1"]),
        (r#"{"cpu": {"shares": 1024}}"#, &["cpu.weight=100"], &["cpu.shares=1024"]),
        (r#"{"cpu": {"shares": 0}}"#, &[], &[]),
        (
            r#"{"cpu": {"quota": 5000, "period": 10000}}"#,
            &["cpu.max=5000 10000"],
            &["cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000"],
        ),
        (r#"{"cpu": {"quota": 5000}}"#, &["cpu.max=5000"], &["cpu.cfs_quota_us=5000"]),
        (
            r#"{"cpu": {"quota": -1, "period": 10000}}"#,
            &["cpu.max=max 10000"],
            &["cpu.cfs_period_us=10000", "cpu.cfs_quota_us=-1"],
        ),
        (r#"{"cpu": {"period": 10000}}"#, &["cpu.max=10000"], &["cpu.cfs_period_us=10000"]),
        (r#"{"cpu": {"burst": 100}}"#, &["cpu.max.burst=100"], &["cpu.cfs_burst_us=100"]),
        (r#"{"cpu": {"idle": 1, "shares": 0}}"#, &["cpu.idle=1"], &["cpu.idle=1"]),
        (r#"{"cpu": {"idle": 1, "shares": 1024}}"#, &["cpu.idle=1"], &["cpu.idle=1"]),
        (
            r#"{"cpu": {"idle": 0, "shares": 1024}}"#,
            &["cpu.idle=0", "cpu.weight=100"],
            &["cpu.idle=0", "cpu.shares=1024"],
        ),
        (
            r#"{"cpu": {"realtimeRuntime": 9, "realtimePeriod": 99}}"#,
            &[],
            &["cpu.rt_period_us=99", "cpu.rt_runtime_us=9"],
        ),
        (
            r#"{"cpu": {"cpus": "0-1", "mems": "0"}}"#,
            &["cpuset.cpus=0-1", "cpuset.mems=0"],
            &["cpuset.cpus=0-1", "cpuset.mems=0"],
        ),
        (
            r#"{"blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}]}}"#,
            &["io.bfq.weight=10", "io.bfq.weight=8:0 1000"],
            &["blkio.weight=10", "blkio.weight_device=8:0 1000"],
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]}}"#,
            &["io.max=8:0 rbps=1", "io.max=8:0 wbps=2", "io.max=8:0 riops=3", "io.max=8:0 wiops=4"],
            &[
                "blkio.throttle.read_bps_device=8:0 1",
                "blkio.throttle.write_bps_device=8:0 2",
                "blkio.throttle.read_iops_device=8:0 3",
                "blkio.throttle.write_iops_device=8:0 4",
            ],
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]}"#,
            &["hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9"],
            &["hugetlb.2MB.limit_in_bytes=9", "hugetlb.2MB.rsvd.limit_in_bytes=9"],
        ),
        (
            r#"{"rdma": {"mlx5_1": {"hcaHandles": 2, "hcaObjects": 3}}}"#,
            &["rdma.max=mlx5_1 hca_handle=2 hca_object=3"],
            &["rdma.max=mlx5_1 hca_handle=2 hca_object=3"],
        ),
        (
            r#"{"network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 5}]}}"#,
            &[],
            &["net_cls.classid=7", "net_prio.ifpriomap=eth0 5"],
        ),
    ];
    for (json, on_v2, on_v1) in cases {
        assert_eq!(lines(&v2(&resources(json)).expect(json)), *on_v2, "{json}");
        assert_eq!(lines(&v1(&resources(json)).expect(json)), *on_v1, "{json}");
    }
}

#[test]
fn unified_files_are_written_as_they_are_line_by_line_and_last() {
    let limits = v2(&resources(
        r#"{"unified": {"memory.high": "max", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "hugetlb.2MB.max": "0"}, "pids": {"limit": 3}}"#,
    ))
    .expect("limits");
    let expected =
        ["pids.max=3", "hugetlb.2MB.max=0", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=max"];
    assert_eq!(lines(&limits), expected);
    assert_eq!(limits.controllers(), ["pids", "hugetlb", "io", "memory"]);
}

#[test]
fn shares_become_weights_on_the_curve_through_least_default_and_most() {
    for (shares, weight) in [
        (0, 1),
        (2, 1),
        (3, 2),
        (1023, 100),
        (1024, 100),
        (1025, 101),
        (2048, 174),
        (262_143, 10_000),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(weight_of_shares(shares), weight, "{shares}");
    }
    let mut last = 0;
    for shares in (2..262_144).step_by(97) {
        let weight = weight_of_shares(shares);
        assert!((1..=10_000).contains(&weight) && weight >= last, "{shares}");
        last = weight;
    }
    assert_eq!([0, 10, 500, 1000].map(io_weight), [1, 1, 4950, 10_000]);
}

#[test]
fn what_can_not_be_is_refused_by_name() {
    for (json, text) in [
        (r#"{"memory": {"limit": -2}}"#, "linux.resources.memory.limit: -2 is negative"),
        (r#"{"memory": {"swap": 5}}"#, "unable to set swap limit without memory limit"),
        (r#"{"memory": {"limit": 5, "swap": 4}}"#, "memory+swap limit should be >= memory limit"),
        (r#"{"unified": {"a/../b": "1"}}"#, "must be a file name (no slashes)"),
        (r#"{"unified": {"plain": "1"}}"#, "must be in the form CONTROLLER.PARAMETER"),
        (r#"{"unified": {"cgroup.procs": "1"}}"#, "is not a limit"),
        (r#"{"unified": {"cgroup.freeze": "1"}}"#, "is not a limit"),
        (r#"{"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}"#, "invalid page size"),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}}"#,
            "throttleReadBpsDevice[0]",
        ),
    ] {
        let error = v2(&resources(json)).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
    for (json, text) in [
        (r#"{"unified": {"memory.max": "1"}}"#, "cannot use unified on cgroup v1"),
        (r#"{"memory": {"swappiness": 101}}"#, "invalid memory swappiness value: 101 (valid range is 0-100)"),
    ] {
        let error = v1(&resources(json)).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn what_v2_lacks_is_told() {
    for (json, field) in [
        (r#"{"memory": {"swappiness": 10}}"#, "memory.swappiness"),
        (r#"{"memory": {"disableOOMKiller": true}}"#, "memory.disableOOMKiller"),
        (r#"{"memory": {"kernel": 10}}"#, "memory.kernel"),
        (r#"{"cpu": {"realtimeRuntime": 10}}"#, "cpu.realtimeRuntime"),
        (r#"{"network": {"classID": 10}}"#, "network"),
        (r#"{"blockIO": {"leafWeight": 10}}"#, "blockIO.leafWeight"),
    ] {
        let limits = v2(&resources(json)).expect(json);
        assert!(limits.writes.is_empty() && limits.warnings.len() == 1, "{json}: {limits:?}");
        assert!(limits.warnings[0].contains(field), "{json}: {limits:?}");
    }
    // Docker writes this one for every container.
    assert_eq!(
        v2(&resources(r#"{"memory": {"disableOOMKiller": false}}"#)).expect("docker"),
        Limits::default()
    );
}

#[test]
fn a_check_before_an_update_knows_the_new_limits() {
    let check = |json: &str| v2(&resources(json)).expect(json).check;
    assert_eq!(check(r#"{"memory": {"limit": 10, "swap": 20}}"#), None);
    let both = Some(MemoryCheck { memory: Some(10), memory_and_swap: Some(20) });
    assert_eq!(check(r#"{"memory": {"limit": 10, "swap": 20, "checkBeforeUpdate": true}}"#), both);
    let none = Some(MemoryCheck { memory: None, memory_and_swap: None });
    assert_eq!(check(r#"{"memory": {"limit": -1, "checkBeforeUpdate": true}}"#), none);
}
