//! Cgroups: where the container is, limits on v1 and v2, update, pause, ps, devices, removal.

use std::fs;
use std::path::PathBuf;

use cgroups_rs::cgroup_builder::CgroupBuilder;
use cgroups_rs::{MaxValue, hierarchies};
use integration::runtime::{need_controller, v2};
use integration::witness;
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, has, skip, tests, yes};
use procfs::process::Process;
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
    the_cgroup_namespace_starts_at_the_own_cgroup,
    a_container_in_a_tiny_memory_limit_starts,
    a_limit_that_another_library_has_set_above_is_felt,
    below_a_cgroup_with_processes_a_container_is_threaded,
    below_a_cgroup_with_processes_a_limit_of_memory_changes_nothing,
];

fn the_path_of_the_configuration_is_used(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let path = format!("/{}/some/where/deep", lab.token);
    c.config().set("/linux/cgroupsPath", path.as_str());
    c.sleeping()?;
    let (found, elsewhere): (Vec<_>, Vec<_>) = cgroups(&c)?.into_iter().partition(|p| *p == path);
    yes(!found.is_empty(), format!("not in {path}"))?;
    yes(v2() || elsewhere.is_empty() || lab.kind() == Kind::Crun, format!("elsewhere: {elsewhere:?}"))?;
    c.delete_force()?;
    for dir in
        trees(&format!("{}/some/where", lab.token)).into_iter().chain(trees(&format!("{}/some", lab.token)))
    {
        // The one who chose the path owns the parents.
        fs::remove_dir(dir)?;
    }
    Ok(())
}

/// The paths of the init's cgroups.
fn cgroups(c: &Container) -> Result<Vec<String>, Stop> {
    Ok(Process::new(c.pid()?)?.cgroups()?.into_iter().map(|group| group.pathname).collect())
}

/// The directories of this name in every cgroup tree.
fn trees(name: &str) -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&root).into_iter().flatten().flatten().map(|e| e.path());
    below.chain([root.clone()]).map(|tree| tree.join(name)).filter(|p| p.is_dir()).collect()
}

fn a_relative_path_is_below_the_callers_or_the_root(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let name = format!("{}-relative", lab.token);
    c.config().set("/linux/cgroupsPath", name.as_str());
    c.sleeping()?;
    let paths = cgroups(&c)?;
    yes(paths.iter().any(|p| p.ends_with(&format!("/{name}"))), format!("paths {paths:?}"))?;
    c.delete_force()
}

fn without_a_path_the_container_has_a_cgroup_of_its_own(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().remove("/linux/cgroupsPath");
    c.sleeping()?;
    let paths = cgroups(&c)?;
    yes(paths.iter().any(|p| p.contains(&c.id)), format!("paths {paths:?}"))?;
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
    let c = lab.limited(&["memory"], &json!({"memory": {"limit": 67_108_864, "reservation": 33_554_432}}))?;
    eq(c.limit("memory/memory.limit_in_bytes", "memory.max")?.as_str(), "67108864", "limit")?;
    eq(c.limit("memory/memory.soft_limit_in_bytes", "memory.low")?.as_str(), "33554432", "reservation")?;
    c.delete_force()
}

fn memory_and_swap_are_limited(lab: &Lab) -> Outcome {
    let c = lab.limited(&["memory"], &json!({"memory": {"limit": 67_108_864}}))?;
    let has_swap = c
        .cgroup("memory")?
        .join(if v2() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" })
        .exists();
    c.delete_force()?;
    if !has_swap {
        return skip("this kernel does not account for swap");
    }
    let c = lab.limited(&["memory"], &json!({"memory": {"limit": 67_108_864, "swap": 100_663_296}}))?;
    let want = if v2() { "33554432" } else { "100663296" };
    eq(c.limit("memory/memory.memsw.limit_in_bytes", "memory.swap.max")?.as_str(), want, "swap")?;
    c.delete_force()
}

fn a_memory_limit_is_felt(lab: &Lab) -> Outcome {
    need_controller("memory")?;
    let mut c = lab.container()?;
    c.config().set("/linux/resources/memory", json!({"limit": 20_971_520, "swap": 20_971_520}));
    c.config().sh("dd if=/dev/zero of=/dev/shm/big bs=1M count=64 2>&1; echo survived $?");
    let ended = c.run()?;
    yes(
        ended.code == 137 || ended.stdout.contains("survived 137") || ended.stdout.contains("Killed"),
        format!("status {}: {}{}", ended.code, ended.stdout, ended.stderr),
    )?;
    c.delete_force()
}

fn cpu_shares_and_quota_are_set(lab: &Lab) -> Outcome {
    let c = lab.limited(&["cpu"], &json!({"cpu": {"shares": 512, "quota": 50_000, "period": 100_000}}))?;
    if v2() {
        eq(c.limit("", "cpu.max")?.as_str(), "50000 100000", "quota")?;
        let weight: u64 = c.limit("", "cpu.weight")?.parse()?;
        // Linear (20) by the older formula, 59 by the one runc and crun share since 2025.
        yes([20, 59].contains(&weight), format!("weight {weight} for 512 shares"))?;
    } else {
        eq(c.limit("cpu/cpu.cfs_quota_us", "")?.as_str(), "50000", "quota")?;
        eq(c.limit("cpu/cpu.cfs_period_us", "")?.as_str(), "100000", "period")?;
        eq(c.limit("cpu/cpu.shares", "")?.as_str(), "512", "shares")?;
    }
    c.delete_force()
}

fn cpusets_are_set(lab: &Lab) -> Outcome {
    let c = lab.limited(&["cpuset"], &json!({"cpu": {"cpus": "0", "mems": "0"}}))?;
    eq(c.limit("cpuset/cpuset.cpus", "cpuset.cpus")?.as_str(), "0", "cpus")?;
    eq(c.limit("cpuset/cpuset.mems", "cpuset.mems")?.as_str(), "0", "mems")?;
    eq(Process::new(c.pid()?)?.status()?.cpus_allowed_list, Some(vec![(0, 0)]), "cpus of the init")?;
    c.delete_force()
}

fn pids_are_limited(lab: &Lab) -> Outcome {
    let c = lab.limited(&["pids"], &json!({"pids": {"limit": 20}}))?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "20", "limit")?;
    // runc waits until no process has the streams any more.
    let ended = c.exec(&["sh", "-c", "for i in $(seq 40); do sleep 1000 > /dev/null 2>&1 & done"])?;
    has(ended.stderr, "fork")?;
    c.delete_force()?;
    let c = lab.limited(&["pids"], &json!({"pids": {"limit": -1}}))?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "max", "limit of -1")?;
    c.delete_force()
}

fn a_pids_limit_of_zero_is_one(lab: &Lab) -> Outcome {
    need_controller("pids")?;
    let c = lab.limited(&["pids"], &json!({"pids": {"limit": 0}}))?;
    let limit = c.limit("pids/pids.max", "pids.max")?;
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
    c.config().set("/linux/resources/blockIO", resources["blockIO"].clone()).args(&["sleep", "1000"]);
    let ended = c.run_with(&["--detach"])?;
    if ended.code != 0 && !throttling() {
        return skip("this kernel has no block I/O throttling");
    }
    ended.ok()?;
    let line = format!("{major}:{minor}");
    if v2() {
        let text = c.limit("", "io.max")?;
        has(&text, format!("{line} rbps=1048576"))?;
        has(&text, "wiops=500")?;
    } else {
        has(c.limit("blkio/blkio.throttle.read_bps_device", "")?, format!("{line} 1048576"))?;
        has(c.limit("blkio/blkio.throttle.write_iops_device", "")?, format!("{line} 500"))?;
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

fn a_limit_that_another_library_has_set_above_is_felt(lab: &Lab) -> Outcome {
    need_controller("pids")?;
    let above = format!("{}-above", lab.token);
    let builder = CgroupBuilder::new(&above).set_specified_controllers(vec!["pids".to_owned()]);
    builder.pid().maximum_number_of_processes(MaxValue::Value(20)).done().build(hierarchies::auto())?;
    let mut c = lab.container()?;
    c.config().set("/linux/cgroupsPath", format!("/{above}/container"));
    c.sleeping()?;
    let ended = c.exec(&["sh", "-c", "for i in $(seq 40); do sleep 1000 > /dev/null 2>&1 & done"])?;
    has(ended.stderr, "fork")?;
    let limit = witness::limit(&above, "pids.max");
    eq(limit.as_deref(), Some("20"), "the limit above, which the runtime must leave alone")?;
    c.delete_force()?;
    for dir in trees(&above) {
        fs::remove_dir(dir)?;
    }
    Ok(())
}

fn unified_values_are_written(lab: &Lab) -> Outcome {
    if !v2() {
        return skip("unified is for cgroup v2");
    }
    let c =
        lab.limited(&["memory", "pids"], &json!({"unified": {"memory.high": "50331648", "pids.max": "77"}}))?;
    eq(c.limit("", "memory.high")?.as_str(), "50331648", "memory.high")?;
    eq(c.limit("", "pids.max")?.as_str(), "77", "pids.max")?;
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
    c.config().set("/linux/resources/unified", json!({"memory.high": "50331648"}));
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
    for rules in [Some(json!([{"allow": false, "access": "rwm"}])), Some(json!([])), None] {
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
    has(&out, "/dev/k EPERM").or_else(|_| has(&out, "/dev/k ok")).and_then(|()| has(&out, "/dev/null ok"))?;
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 7, "minor": 0, "access": "rwm"}]);
    let out = opened(lab, Some(rules))?;
    yes(!out.contains("/dev/b EPERM"), format!("an allowed block device:\n{out}"))?;
    let rules =
        json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 7, "access": "rwm"}]);
    let out = opened(lab, Some(rules))?;
    yes(!out.contains("/dev/b ok"), format!("a denied block device:\n{out}"))
}

fn default_devices_stay_usable(lab: &Lab) -> Outcome {
    let out = lab.sh(
        |_| {},
        "for d in null zero full random urandom; do head -c1 /dev/$d >/dev/null && echo $d; done",
    )?;
    eq(out.as_str(), "null\nzero\nfull\nrandom\nurandom", "readable devices")
}

fn the_cgroup_namespace_starts_at_the_own_cgroup(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    let text = report["cgroup"].as_str().unwrap_or_default();
    yes(text.lines().all(|l| l.ends_with(":/")), format!("paths inside:\n{text}"))?;
    let report = lab.inspect(|config| {
        config.share("cgroup");
    })?;
    has(report["cgroup"].as_str().unwrap_or_default(), &lab.token)
}

fn a_container_in_a_tiny_memory_limit_starts(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "its own init needs some 6 MB in the container's cgroup")?;
    need_controller("memory")?;
    let mut c = lab.container()?;
    c.config().set("/linux/resources/memory", json!({"limit": 1_048_576})).args(&["/bin/busybox", "true"]);
    c.run()?.ok()?;
    Ok(())
}

/// A cgroup of the v2 tree with a process in it, its controllers enabled above.
struct Occupied {
    dir: PathBuf,
    process: std::process::Child,
}

impl Occupied {
    fn new(lab: &Lab) -> Result<Self, Stop> {
        if !v2() {
            return skip("no pure v2 host");
        }
        need_controller("pids")?;
        need_controller("memory")?;
        let above = PathBuf::from("/sys/fs/cgroup").join(&lab.token);
        let dir = above.join("occupied");
        fs::create_dir_all(&dir)?;
        for parent in [PathBuf::from("/sys/fs/cgroup"), above] {
            fs::write(parent.join("cgroup.subtree_control"), "+pids +memory")?;
        }
        let process = integration::process::command("sleep").arg("1000").spawn()?;
        fs::write(dir.join("cgroup.procs"), process.id().to_string())?;
        Ok(Occupied { dir, process })
    }

    fn read(&self, file: &str) -> Result<String, Stop> {
        Ok(fs::read_to_string(self.dir.join(file))?.trim().to_owned())
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for dir in [&*self.dir, self.dir.parent().unwrap_or(&self.dir)] {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// A dockerd that OpenRC has started is in the cgroup that it makes its containers' below.
fn below_a_cgroup_with_processes_a_container_is_threaded(lab: &Lab) -> Outcome {
    let occupied = Occupied::new(lab)?;
    for number in 0..2 {
        let mut c = lab.container()?;
        c.config()
            .set("/linux/cgroupsPath", format!("/{}/occupied/{number}", lab.token))
            .set("/linux/resources/pids", json!({"limit": 30}));
        c.sleeping()?;
        let dir = c.cgroup("pids")?;
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
        eq((read("cgroup.type").as_str(), read("pids.max").as_str()), ("threaded", "30"), "type and limit")?;
        eq(c.sh("echo in")?.as_str(), "in", "exec")?;
        eq(c.call("ps", &["--format", "json"])?.ok()?.json()?, json!([c.pid()?]), "processes")?;
        c.call("pause", &[])?.ok()?;
        c.call("resume", &[])?.ok()?;
        c.delete_force()?;
    }
    eq(occupied.read("cgroup.type")?.as_str(), "domain threaded", "the parent")
}

fn below_a_cgroup_with_processes_a_limit_of_memory_changes_nothing(lab: &Lab) -> Outcome {
    let occupied = Occupied::new(lab)?;
    for path in ["c", "new/c"] {
        let mut c = lab.container()?;
        c.config()
            .set("/linux/cgroupsPath", format!("/{}/occupied/{path}", lab.token))
            .set("/linux/resources/pids", json!({"limit": 30}))
            .set("/linux/resources/memory", json!({"limit": 100_000_000}));
        let ended = c.create()?.refused()?;
        if lab.kind() == Kind::Knarr {
            has(&ended.stderr, "memory cannot be limited below it: it has processes of its own")?;
            eq(occupied.read("cgroup.subtree_control")?.as_str(), "", "controllers of the parent")?;
            eq(occupied.read("cgroup.type")?.as_str(), "domain", "the parent")?;
        }
        c.is_gone()?;
        yes(!occupied.dir.join("c").exists() && !occupied.dir.join("new").exists(), "nothing is left")?;
    }
    Ok(())
}
