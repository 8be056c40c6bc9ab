//! Cgroups: where the container is, limits on v1 and v2, update, pause, ps, devices, removal.

use std::fs;
use std::path::PathBuf;

use integration::Container;
use integration::lab::text;
use integration::process::wait_for;
use integration::runtime::{Cgroups, cgroups, need_controller};
use integration::{Kind, Lab, Outcome, Stop, Test, eq, fail, has, skip, tests, yes};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["cgroups":
    the_path_of_the_configuration_is_used,
    a_relative_path_is_below_the_callers_or_the_root,
    without_a_path_the_container_has_a_cgroup_of_its_own,
    the_cgroup_is_removed_with_the_container,
    a_cgroup_that_is_not_empty_is_refused,
    memory_is_limited,
    memory_and_swap_are_limited,
    a_memory_limit_is_felt,
    cpu_shares_and_quota_are_set,
    cpusets_are_set,
    pids_are_limited,
    a_pids_limit_of_zero_is_one,
    block_io_is_limited,
    unified_values_are_written,
    unified_values_on_v1_are_refused,
    broken_resources_are_refused,
    devices_are_denied_by_default,
    devices_are_allowed_by_rule,
    default_devices_stay_usable,
    update_changes_limits,
    update_reads_resources_from_a_file_and_from_standard_input,
    update_of_a_broken_value_changes_nothing,
    update_of_a_stopped_container_is_refused_or_harmless,
    update_never_loosens_the_device_rules,
    pause_freezes_and_resume_thaws,
    pause_of_a_paused_container_is_refused,
    resume_of_a_running_container_is_refused,
    a_paused_container_is_deleted_by_force,
    kill_of_a_paused_container_works_after_resume,
    ps_lists_all_processes,
    ps_of_a_stopped_container_is_empty_or_refused,
    nested_cgroups_are_removed_by_force,
    nested_and_frozen_cgroups_are_removed_by_force,
    the_cgroup_namespace_starts_at_the_own_cgroup,
    a_container_in_a_tiny_memory_limit_starts,
];

fn v2() -> bool {
    cgroups() == Cgroups::V2
}

/// A running container with these resources.
fn with(lab: &Lab, controllers: &[&str], resources: &Value) -> Result<Container, Stop> {
    for controller in controllers {
        need_controller(controller)?;
    }
    let mut c = lab.container()?;
    for (key, value) in resources.as_object().into_iter().flatten() {
        c.config().set(&format!("/linux/resources/{key}"), value.clone());
    }
    c.sleeping()?;
    Ok(c)
}

/// What a file of the container's cgroup says: `v1` (controller/file) or `v2`.
fn value(c: &Container, v1_name: &str, v2_name: &str) -> Result<String, Stop> {
    let (controller, v1_file) = v1_name.split_once('/').unwrap_or(("", v1_name));
    let path = c.cgroup(controller)?.join(if v2() { v2_name } else { v1_file });
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => fail(format!("{}: {error}", path.display())),
    }
}

fn the_path_of_the_configuration_is_used(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let path = format!("/{}/some/where/deep", lab.token);
    c.config().set("/linux/cgroupsPath", path.as_str());
    c.sleeping()?;
    let found = fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?;
    has(&found, format!(":{path}\n"))?;
    let line = found.lines().filter(|l| !l.ends_with(&path)).collect::<Vec<_>>();
    yes(
        v2() || line.is_empty() || lab.kind() == Kind::Crun,
        format!("elsewhere: {line:?}"),
    )?;
    c.delete_force()?;
    for dir in trees(&format!("{}/some/where", lab.token))
        .into_iter()
        .chain(trees(&format!("{}/some", lab.token)))
    {
        // Parents are whoever's chose the path.
        fs::remove_dir(dir)?;
    }
    Ok(())
}

/// The folders of this name in every cgroup tree.
fn trees(name: &str) -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    below
        .chain([root.clone()])
        .map(|tree| tree.join(name))
        .filter(|p| p.is_dir())
        .collect()
}

fn a_relative_path_is_below_the_callers_or_the_root(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let name = format!("{}-relative", lab.token);
    c.config().set("/linux/cgroupsPath", name.as_str());
    c.sleeping()?;
    has(
        fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?,
        format!("/{name}\n"),
    )?;
    c.delete_force()
}

fn without_a_path_the_container_has_a_cgroup_of_its_own(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().remove("/linux/cgroupsPath");
    c.sleeping()?;
    has(fs::read_to_string(format!("/proc/{}/cgroup", c.pid()?))?, &c.id)?;
    c.delete_force()
}

fn the_cgroup_is_removed_with_the_container(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let group = c.cgroup("pids")?;
    yes(group.is_dir(), "the cgroup is there")?;
    c.kill_and_delete()?;
    yes(!group.exists(), format!("{} is left", group.display()))
}

fn a_cgroup_that_is_not_empty_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "shares the cgroup")?;
    let mut first = lab.container()?;
    first.sleeping()?;
    let mut second = lab.container()?;
    let path = first.config().0["linux"]["cgroupsPath"].clone();
    second.config().set("/linux/cgroupsPath", path);
    let ended = second.create()?;
    if ended.code == 0 && lab.kind() == Kind::Runc {
        // runc 1.3 only warns on v1.
        second.delete_force()?;
    } else {
        ended.refused_with("container's cgroup is not empty")?;
    }
    first.call("state", &[])?.ok()?;
    first.delete_force()
}

fn memory_is_limited(lab: &Lab) -> Outcome {
    let c = with(
        lab,
        &["memory"],
        &json!({"memory": {"limit": 67_108_864, "reservation": 33_554_432}}),
    )?;
    eq(
        value(&c, "memory/memory.limit_in_bytes", "memory.max")?.as_str(),
        "67108864",
        "limit",
    )?;
    eq(
        value(&c, "memory/memory.soft_limit_in_bytes", "memory.low")?.as_str(),
        "33554432",
        "reservation",
    )?;
    c.delete_force()
}

fn memory_and_swap_are_limited(lab: &Lab) -> Outcome {
    let c = with(lab, &["memory"], &json!({"memory": {"limit": 67_108_864}}))?;
    let has_swap = c
        .cgroup("memory")?
        .join(if v2() {
            "memory.swap.max"
        } else {
            "memory.memsw.limit_in_bytes"
        })
        .exists();
    c.delete_force()?;
    if !has_swap {
        return skip("this kernel does not account for swap");
    }
    let c = with(
        lab,
        &["memory"],
        &json!({"memory": {"limit": 67_108_864, "swap": 100_663_296}}),
    )?;
    let want = if v2() { "33554432" } else { "100663296" };
    eq(
        value(&c, "memory/memory.memsw.limit_in_bytes", "memory.swap.max")?.as_str(),
        want,
        "swap",
    )?;
    c.delete_force()
}

fn a_memory_limit_is_felt(lab: &Lab) -> Outcome {
    need_controller("memory")?;
    let mut c = lab.container()?;
    c.config().set(
        "/linux/resources/memory",
        json!({"limit": 20_971_520, "swap": 20_971_520}),
    );
    c.config()
        .sh("dd if=/dev/zero of=/dev/shm/big bs=1M count=64 2>&1; echo survived $?");
    let ended = c.run()?;
    yes(
        ended.code == 137 || ended.stdout.contains("survived 137") || ended.stdout.contains("Killed"),
        format!("status {}: {}{}", ended.code, ended.stdout, ended.stderr),
    )?;
    c.delete_force()
}

fn cpu_shares_and_quota_are_set(lab: &Lab) -> Outcome {
    let c = with(
        lab,
        &["cpu"],
        &json!({"cpu": {"shares": 512, "quota": 50_000, "period": 100_000}}),
    )?;
    if v2() {
        eq(value(&c, "", "cpu.max")?.as_str(), "50000 100000", "quota")?;
        let weight: u64 = value(&c, "", "cpu.weight")?.parse()?;
        // Linear (20) by the older formula, 59 by the one runc and crun share since 2025.
        yes(
            [20, 59].contains(&weight),
            format!("weight {weight} for 512 shares"),
        )?;
    } else {
        eq(value(&c, "cpu/cpu.cfs_quota_us", "")?.as_str(), "50000", "quota")?;
        eq(
            value(&c, "cpu/cpu.cfs_period_us", "")?.as_str(),
            "100000",
            "period",
        )?;
        eq(value(&c, "cpu/cpu.shares", "")?.as_str(), "512", "shares")?;
    }
    c.delete_force()
}

fn cpusets_are_set(lab: &Lab) -> Outcome {
    let c = with(lab, &["cpuset"], &json!({"cpu": {"cpus": "0", "mems": "0"}}))?;
    eq(
        value(&c, "cpuset/cpuset.cpus", "cpuset.cpus")?.as_str(),
        "0",
        "cpus",
    )?;
    eq(
        value(&c, "cpuset/cpuset.mems", "cpuset.mems")?.as_str(),
        "0",
        "mems",
    )?;
    has(
        fs::read_to_string(format!("/proc/{}/status", c.pid()?))?,
        "Cpus_allowed_list:\t0\n",
    )?;
    c.delete_force()
}

fn pids_are_limited(lab: &Lab) -> Outcome {
    let c = with(lab, &["pids"], &json!({"pids": {"limit": 5}}))?;
    eq(value(&c, "pids/pids.max", "pids.max")?.as_str(), "5", "limit")?;
    let ended = c.exec(&["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 2 & done; wait"])?;
    has(ended.stderr, "fork")?;
    c.delete_force()?;
    let c = with(lab, &["pids"], &json!({"pids": {"limit": -1}}))?;
    eq(
        value(&c, "pids/pids.max", "pids.max")?.as_str(),
        "max",
        "limit of -1",
    )?;
    c.delete_force()
}

fn a_pids_limit_of_zero_is_one(lab: &Lab) -> Outcome {
    need_controller("pids")?;
    let c = with(lab, &["pids"], &json!({"pids": {"limit": 0}}))?;
    let limit = value(&c, "pids/pids.max", "pids.max")?;
    // crun takes 0 for unset, runc 1.3 too.
    if lab.kind() == Kind::Knarr {
        eq(limit.as_str(), "1", "limit")?;
    }
    c.delete_force()
}

fn block_io_is_limited(lab: &Lab) -> Outcome {
    need_controller("blkio")?;
    let Some(device) = block_device()? else {
        return skip("no block device on this machine");
    };
    let (major, minor) = device;
    let rate = json!([{"major": major, "minor": minor, "rate": 1_048_576}]);
    let resources = json!({"blockIO": {"throttleReadBpsDevice": rate, "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 500}]}});
    let mut c = lab.container()?;
    c.config()
        .set("/linux/resources/blockIO", resources["blockIO"].clone())
        .args(&["sleep", "1000"]);
    let ended = c.run_with(&["--detach"])?;
    if ended.code != 0 && !throttling() {
        return skip("this kernel has no block I/O throttling");
    }
    ended.ok()?;
    let line = format!("{major}:{minor}");
    if v2() {
        let text = value(&c, "", "io.max")?;
        has(&text, format!("{line} rbps=1048576"))?;
        has(&text, "wiops=500")?;
    } else {
        has(
            value(&c, "blkio/blkio.throttle.read_bps_device", "")?,
            format!("{line} 1048576"),
        )?;
        has(
            value(&c, "blkio/blkio.throttle.write_iops_device", "")?,
            format!("{line} 500"),
        )?;
    }
    c.delete_force()
}

fn throttling() -> bool {
    let v1 = PathBuf::from("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device");
    v2() || v1.exists()
}

/// Numbers of a whole disk.
fn block_device() -> Result<Option<(u32, u32)>, Stop> {
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["vd", "sd", "nvme", "xvd"].iter().any(|p| name.starts_with(p)) {
            let text = fs::read_to_string(entry.path().join("dev"))?;
            let (major, minor) = text.trim().split_once(':').unwrap_or_default();
            return Ok(Some((major.parse()?, minor.parse()?)));
        }
    }
    Ok(None)
}

fn unified_values_are_written(lab: &Lab) -> Outcome {
    if !v2() {
        return skip("unified is for cgroup v2");
    }
    let c = with(
        lab,
        &["memory", "pids"],
        &json!({"unified": {"memory.high": "50331648", "pids.max": "77"}}),
    )?;
    eq(value(&c, "", "memory.high")?.as_str(), "50331648", "memory.high")?;
    eq(value(&c, "", "pids.max")?.as_str(), "77", "pids.max")?;
    c.delete_force()?;
    for (name, text) in [
        ("no.such.file", "1"),
        ("../cgroup.procs", "1"),
        ("memory.max/../pids.max", "1"),
        ("memory.high", "much"),
    ] {
        let mut c = lab.container()?;
        let mut map = serde_json::Map::new();
        map.insert(name.to_owned(), json!(text));
        c.config().set("/linux/resources/unified", map);
        c.create()?.refused()?;
        c.is_gone()?;
    }
    Ok(())
}

fn unified_values_on_v1_are_refused(lab: &Lab) -> Outcome {
    if v2() {
        return skip("this is cgroup v2");
    }
    let mut c = lab.container()?;
    c.config()
        .set("/linux/resources/unified", json!({"memory.high": "50331648"}));
    c.create()?.refused()?;
    c.is_gone()
}

fn broken_resources_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "refuses, and leaves the cgroup behind")?;
    let bad = [
        ("memory", json!({"memory": {"limit": -5}})),
        ("memory", json!({"memory": {"limit": "much"}})),
        ("cpuset", json!({"cpu": {"cpus": "99999"}})),
        ("cpuset", json!({"cpu": {"cpus": "zero"}})),
        ("cpu", json!({"cpu": {"quota": 1}})),
        ("pids", json!({"pids": {"limit": "some"}})),
        ("memory", json!({"memory": {"limit": 1e30}})),
    ];
    for (controller, resources) in bad {
        if need_controller(controller).is_err() {
            continue;
        }
        let mut c = lab.container()?;
        for (key, value) in resources.as_object().into_iter().flatten() {
            c.config().set(&format!("/linux/resources/{key}"), value.clone());
        }
        let ended = c.create()?;
        // runc takes any negative memory limit for "unlimited".
        yes(
            ended.code != 0 || resources == json!({"memory": {"limit": -5}}),
            format!("accepted: {resources}"),
        )?;
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

/// What opening nodes made inside gives under these device rules.
fn opened(lab: &Lab, rules: Option<Value>) -> Result<String, Stop> {
    let mut c = lab.container()?;
    c.config().privileged();
    match rules {
        Some(rules) => c.config().set("/linux/resources/devices", rules),
        None => c.config().remove("/linux/resources/devices"),
    };
    // 1:11 is kmsg, 10:200 tun, 7:0 the first loop device (a block device).
    let script = "cd /dev; mknod k c 1 11; mknod t c 10 200; mknod b b 7 0; inspector open r /dev/k /dev/t /dev/b 2>&1;
        inspector open w /dev/k; inspector open r /dev/null; inspector open w /dev/null";
    c.config().sh(script);
    let ended = c.run()?;
    Ok(format!("{}{}", ended.stdout, ended.stderr))
}

fn devices_are_denied_by_default(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "takes an empty list for no restriction")?;
    for rules in [
        Some(json!([{"allow": false, "access": "rwm"}])),
        Some(json!([])),
        None,
    ] {
        let out = opened(lab, rules.clone())?;
        // GHSA-g54h-m393-cpwq: an empty or absent list must not mean that everything is allowed.
        for node in ["k", "b"] {
            yes(
                !out.contains(&format!("/dev/{node} ok")),
                format!("{rules:?} lets /dev/{node} be opened:\n{out}"),
            )?;
        }
        has(&out, "/dev/null ok")?;
    }
    Ok(())
}

fn devices_are_allowed_by_rule(lab: &Lab) -> Outcome {
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rm"}]);
    let out = opened(lab, Some(rules))?;
    // Reading kmsg needs CAP_SYSLOG on some kernels; EPERM of the cgroup comes before, for writing too.
    has(&out, "/dev/k EPERM")
        .or_else(|_| has(&out, "/dev/k ok"))
        .and_then(|()| has(&out, "/dev/null ok"))?;
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 7, "minor": 0, "access": "rwm"}]);
    let out = opened(lab, Some(rules))?;
    yes(
        !out.contains("/dev/b EPERM"),
        format!("an allowed block device:\n{out}"),
    )?;
    let rules =
        json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 7, "access": "rwm"}]);
    let out = opened(lab, Some(rules))?;
    yes(
        !out.contains("/dev/b ok"),
        format!("a denied block device:\n{out}"),
    )
}

fn default_devices_stay_usable(lab: &Lab) -> Outcome {
    let out = lab.sh(
        |_| {},
        "for d in null zero full random urandom; do head -c1 /dev/$d >/dev/null && echo $d; done",
    )?;
    eq(
        out.as_str(),
        "null\nzero\nfull\nrandom\nurandom",
        "readable devices",
    )
}

fn update_changes_limits(lab: &Lab) -> Outcome {
    need_controller("pids")?;
    let c = with(lab, &["pids"], &json!({"pids": {"limit": 50}}))?;
    c.call("update", &["--pids-limit", "60"])?.ok()?;
    eq(value(&c, "pids/pids.max", "pids.max")?.as_str(), "60", "pids")?;
    c.call("update", &["--pids-limit", "-1"])?.ok()?;
    eq(
        value(&c, "pids/pids.max", "pids.max")?.as_str(),
        "max",
        "pids of -1",
    )?;
    if need_controller("memory").is_ok() {
        c.call("update", &["--memory", "64M"])?.ok()?;
        eq(
            value(&c, "memory/memory.limit_in_bytes", "memory.max")?.as_str(),
            "67108864",
            "memory",
        )?;
    }
    if need_controller("cpu").is_ok() {
        c.call("update", &["--cpu-period", "50000", "--cpu-quota", "25000"])?
            .ok()?;
        if v2() {
            eq(value(&c, "", "cpu.max")?.as_str(), "25000 50000", "cpu.max")?;
        } else {
            eq(value(&c, "cpu/cpu.cfs_quota_us", "")?.as_str(), "25000", "quota")?;
        }
    }
    c.delete_force()
}

fn update_reads_resources_from_a_file_and_from_standard_input(lab: &Lab) -> Outcome {
    let c = with(lab, &["pids"], &json!({"pids": {"limit": 50}}))?;
    let file = lab.file("resources.json", r#"{"pids": {"limit": 31}}"#)?;
    c.call("update", &["--resources", &text(&file)])?.ok()?;
    eq(
        value(&c, "pids/pids.max", "pids.max")?.as_str(),
        "31",
        "from a file",
    )?;
    let file = lab.file("resources2.json", r#"{"pids": {"limit": 32}}"#)?;
    let mut command = lab.command(&["update", "-r", "-", &c.id]);
    command.stdin(fs::File::open(file)?);
    integration::process::start(command, &lab.dir)?.wait()?.ok()?;
    eq(
        value(&c, "pids/pids.max", "pids.max")?.as_str(),
        "32",
        "from standard input",
    )?;
    c.delete_force()
}

fn update_of_a_broken_value_changes_nothing(lab: &Lab) -> Outcome {
    let c = with(lab, &["pids"], &json!({"pids": {"limit": 50}}))?;
    for flags in [
        ["--memory", "much"],
        ["--pids-limit", "x"],
        ["--cpu-quota", "x"],
        ["--resources", "/no/such/file"],
        ["--cpuset-cpus", "99999"],
    ] {
        c.call("update", &flags)?.refused()?;
        eq(
            value(&c, "pids/pids.max", "pids.max")?.as_str(),
            "50",
            format!("pids after {flags:?}"),
        )?;
    }
    c.delete_force()
}

fn update_of_a_stopped_container_is_refused_or_harmless(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    let ended = c.call("update", &["--pids-limit", "10"])?;
    yes(ended.code < 128, format!("status {}", ended.code))?;
    eq(c.status()?, "stopped", "status")?;
    c.delete()?.ok()?;
    Ok(())
}

fn update_never_loosens_the_device_rules(lab: &Lab) -> Outcome {
    need_controller("pids")?;
    let mut c = lab.container()?;
    c.config().privileged();
    c.sleeping()?;
    let probe = "rm -f /dev/k; mknod /dev/k c 1 11 2>&1; inspector open r /dev/k";
    let before = c.sh(probe)?;
    c.call("update", &["--pids-limit", "60"])?.ok()?;
    eq(
        c.sh(probe)?,
        before.clone(),
        "what a denied device gives after update",
    )?;
    yes(!before.contains("/dev/k ok"), before)?;
    c.delete_force()
}

fn pause_freezes_and_resume_thaws(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config()
        .writable()
        .sh("i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.01; done");
    c.run_detached()?;
    wait_for("it counts", || c.bundle.inside("/count").exists().then_some(()))?;
    c.call("pause", &[])?.ok()?;
    eq(c.status()?, "paused", "status")?;
    let read = || fs::read_to_string(c.bundle.inside("/count")).unwrap_or_default();
    let before = read();
    std::thread::sleep(std::time::Duration::from_millis(150));
    eq(read(), before.clone(), "the count while paused")?;
    c.call("resume", &[])?.ok()?;
    eq(c.status()?, "running", "status")?;
    wait_for("it counts again", || (read() != before).then_some(()))?;
    c.delete_force()
}

fn pause_of_a_paused_container_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("pause", &[])?.ok()?;
    let again = c.call("pause", &[])?;
    // runc takes it without a word.
    yes(
        again.code == 0 || !again.stderr.is_empty(),
        "a failure without a word",
    )?;
    eq(c.status()?, "paused", "status")?;
    c.call("resume", &[])?.ok()?;
    c.delete_force()
}

fn resume_of_a_running_container_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "does nothing, with success")?;
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("resume", &[])?.refused()?;
    eq(c.status()?, "running", "status")?;
    c.delete_force()
}

fn a_paused_container_is_deleted_by_force(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("pause", &[])?.ok()?;
    c.delete_force()?;
    c.is_gone()
}

fn kill_of_a_paused_container_works_after_resume(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("pause", &[])?.ok()?;
    c.kill("KILL")?.ok()?;
    let resumed = c.call("resume", &[])?;
    yes(
        resumed.code == 0 || !resumed.stderr.is_empty(),
        "a failure without a word",
    )?;
    c.wait_for_status("stopped")?;
    c.delete()?.ok()?;
    Ok(())
}

fn ps_lists_all_processes(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("sleep 1001 & sleep 1002 & wait");
    c.run_detached()?;
    let list = || -> Option<Vec<i64>> {
        let json = c.call("ps", &["--format", "json"]).ok()?.json().ok()?;
        json.as_array()?.iter().map(Value::as_i64).collect()
    };
    let pids = wait_for("three processes are listed", || list().filter(|l| l.len() == 3))?;
    yes(pids.contains(&i64::from(c.pid()?)), "the init is in the list")?;
    for pid in pids {
        yes(
            PathBuf::from(format!("/proc/{pid}")).is_dir(),
            format!("{pid} is a pid of the host"),
        )?;
    }
    if lab.kind() != Kind::Crun {
        let table = c.call("ps", &[])?.ok()?.stdout;
        has(table.lines().next().unwrap_or_default(), "PID")?;
        has(&table, "sleep 1002")?;
        eq(table.lines().count(), 4, "lines of the table")?;
        has(lab.call(&["ps", &c.id, "-o", "pid,comm"])?.ok()?.stdout, "sleep")?;
    }
    c.delete_force()
}

fn ps_of_a_stopped_container_is_empty_or_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    let ended = c.call("ps", &["--format", "json"])?;
    if ended.code == 0 {
        let json = ended.json()?;
        yes(json.is_null() || json == json!([]), format!("processes {json}"))?;
    }
    c.delete()?.ok()?;
    Ok(())
}

/// Makes folders below the container's own cgroups, some deep, with a process of the container in the last.
fn nest(c: &Container, depth: usize) -> Result<PathBuf, Stop> {
    let mut deepest = c.cgroup("freezer")?;
    for _ in 0..depth {
        deepest = deepest.join("n");
        fs::create_dir(&deepest)?;
    }
    c.exec_with(&["--detach"], &["sleep", "1003"])?.ok()?;
    let json = c.call("ps", &["--format", "json"])?.ok()?.json()?;
    let init = i64::from(c.pid()?);
    let other = json
        .as_array()
        .into_iter()
        .flatten()
        .find(|p| p.as_i64() != Some(init))
        .cloned()
        .unwrap_or_default();
    fs::write(deepest.join("cgroup.procs"), other.to_string())?;
    Ok(deepest)
}

fn nested_cgroups_are_removed_by_force(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    nest(&c, 10)?;
    c.delete_force()?;
    c.is_gone()
}

fn nested_and_frozen_cgroups_are_removed_by_force(lab: &Lab) -> Outcome {
    // Outside a pid namespace of its own, the frozen child would otherwise die with its init.
    let mut c = lab.container()?;
    c.sleeping()?;
    let deepest = nest(&c, 3)?;
    fs::write(
        deepest.join(if v2() { "cgroup.freeze" } else { "freezer.state" }),
        if v2() { "1" } else { "FROZEN" },
    )?;
    let ended = c.call("delete", &["--force"])?;
    fs::write(
        deepest.join(if v2() { "cgroup.freeze" } else { "freezer.state" }),
        if v2() { "0" } else { "THAWED" },
    )
    .ok();
    if ended.code != 0 && lab.kind() != Kind::Knarr {
        // A process frozen by v1's freezer can not die, and peers do not thaw below the container's own folder.
        return c.delete_force();
    }
    ended.ok()?;
    c.is_gone()
}

fn the_cgroup_namespace_starts_at_the_own_cgroup(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    let text = report["cgroup"].as_str().unwrap_or_default();
    yes(
        text.lines().all(|l| l.ends_with(":/")),
        format!("paths inside:\n{text}"),
    )?;
    let report = lab.inspect(|config| {
        config.share("cgroup");
    })?;
    has(report["cgroup"].as_str().unwrap_or_default(), &lab.token)
}

fn a_container_in_a_tiny_memory_limit_starts(lab: &Lab) -> Outcome {
    lab.except(
        Kind::Runc,
        "its own init needs some 6 MB in the container's cgroup",
    )?;
    need_controller("memory")?;
    let mut c = lab.container()?;
    c.config()
        .set("/linux/resources/memory", json!({"limit": 1_048_576}))
        .args(&["/bin/busybox", "true"]);
    c.run()?.ok()?;
    Ok(())
}
