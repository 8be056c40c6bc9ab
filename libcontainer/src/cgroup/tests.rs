//! Real cgroups, on whatever layout the host has: run as root, and again in a private mount namespace with a pure v2 tree.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use super::*;
use crate::plan::cgroup::Place;
use crate::plan::devfilter;
use oci_spec::runtime::LinuxResources;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

mod v2_only;

/// A container's cgroup of this test's own, gone at its end.
struct Scratch {
    host: CgroupHost,
    path: PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Option<Scratch> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let host = CgroupHost::probe().expect("probe");
        if host == CgroupHost::None {
            println!("skipped: no cgroups are mounted");
            return None;
        }
        Some(Scratch { host, path: PathBuf::from(format!("knarr-test-{}-{name}", std::process::id())) })
    }

    fn plan(&self, resources: &str) -> CgroupPlan {
        let resources: LinuxResources = serde_json::from_str(resources).expect("resources");
        CgroupPlan {
            place: Place::Root(self.path.clone()),
            limits: crate::plan::cgroup::limits(&resources, &self.host).expect("limits"),
            devices: None,
            owner: None,
            tolerant: false,
            may_lack: false,
        }
    }

    fn create(&self, resources: &str) -> Result<Cgroup> {
        made(&self.plan(resources), &self.host)
    }

    fn dirs(&self) -> Vec<PathBuf> {
        match &self.host {
            CgroupHost::V2 { mount } => vec![mount.join(&self.path)],
            CgroupHost::V1 { hierarchies, unified } => hierarchies
                .iter()
                .map(|h| &h.mount)
                .chain(unified)
                .map(|mount| mount.join(&self.path))
                .collect(),
            CgroupHost::None => Vec::new(),
        }
    }

    fn dir(&self, controller: &str) -> Option<PathBuf> {
        match &self.host {
            CgroupHost::V2 { mount } => Some(mount.join(&self.path)),
            CgroupHost::V1 { hierarchies, .. } => {
                let has = |h: &&crate::host::V1Hierarchy| h.controllers.iter().any(|c| c == controller);
                hierarchies.iter().find(has).map(|h| h.mount.join(&self.path))
            }
            CgroupHost::None => None,
        }
    }

    fn has(&self, controller: &str) -> bool {
        match &self.host {
            CgroupHost::V2 { mount } => std::fs::read_to_string(mount.join("cgroup.controllers"))
                .is_ok_and(|list| list.split_whitespace().any(|c| c == controller)),
            _ => self.dir(controller).is_some(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for dir in self.dirs() {
            let mount = dir.parent().map(Path::to_owned).unwrap_or_default();
            let left = Location { mount: mount.clone(), path: self.path.clone() }
                .open()
                .and_then(|dir| processes(&dir));
            let _ = signal_each(&left.unwrap_or_default(), libc::SIGKILL);
            let _ = Location { mount, path: self.path.clone() }.remove(Instant::now() + PATIENCE);
        }
    }
}

/// A process that does its work once it is told to.
struct Waiting(Child);

impl Waiting {
    fn new(script: &str) -> Waiting {
        let script = format!("read go; {script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Waiting(command.spawn().expect("sh"))
    }

    fn in_cgroup(script: &str, cgroup: &Cgroup) -> Waiting {
        let mut process = Waiting::new(script);
        cgroup.attach_sub(process.pid(), &SubPaths::default(), None).expect("attach");
        process.go();
        process
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn go(&mut self) {
        self.0.stdin.take().expect("stdin").write_all(b"go\n").expect("write");
    }

    fn output(mut self) -> String {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut self.0.stdout.take().expect("stdout"), &mut text);
        let _ = self.0.wait();
        text
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cgroup_is_made_joined_frozen_killed_and_removed() {
    let Some(scratch) = Scratch::new("life") else {
        return;
    };
    let cgroup = scratch.create("{}").expect("create");
    assert!(scratch.dirs().iter().all(|f| f.is_dir()), "{:?}", scratch.dirs());
    let stored: Cgroup = serde_json::from_str(&serde_json::to_string(&cgroup).expect("json")).expect("json");
    assert_eq!(stored, cgroup);

    let mut sleeper = Waiting::in_cgroup("sleep 100 & sleep 100; wait", &cgroup);
    while cgroup.processes().expect("processes").len() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).expect("proc");
    let here = text.lines().filter(|l| l.ends_with(&format!("/{}", scratch.path.display()))).count();
    assert!(here >= scratch.dirs().len(), "{text}");

    assert!(!cgroup.is_frozen().expect("state"));
    cgroup.freeze().expect("freeze");
    assert!(cgroup.is_frozen().expect("state"));
    let refused = scratch.create("{}").expect_err("not empty").to_string();
    assert!(refused.contains("container's cgroup is not empty"), "{refused}");
    // Also one that is frozen dies.
    cgroup.kill(Signal::KILL).expect("kill");
    sleeper.0.wait().expect("wait");
    cgroup.remove().expect("remove");
    assert!(scratch.dirs().iter().all(|f| !f.exists()));
    cgroup.remove().expect("a second removal finds nothing to do");
    assert_eq!(cgroup.processes().expect("gone"), Vec::<i32>::new());
    assert!(!cgroup.is_frozen().expect("gone"));
}

#[test]
fn a_signal_reaches_all_processes_and_leaves_them_thawed() {
    let Some(scratch) = Scratch::new("signal") else {
        return;
    };
    let cgroup = scratch.create("{}").expect("create");
    let mut process =
        Waiting::in_cgroup("trap 'echo got; exit' 34; echo ready; while :; do sleep 0.05; done", &cgroup);
    let mut ready = [0; 6];
    std::io::Read::read_exact(process.0.stdout.as_mut().expect("stdout"), &mut ready).expect("read");
    assert_eq!(&ready, b"ready\n");
    // A real-time signal: those have no names in most libraries.
    cgroup.kill(Signal::from_number(34).expect("signal")).expect("kill");
    assert!(!cgroup.is_frozen().expect("state"));
    assert_eq!(process.output(), "got\n");
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let Some(scratch) = Scratch::new("frozen") else {
        return;
    };
    let cgroup = scratch.create("{}").expect("create");
    cgroup.freeze().expect("freeze");
    let refused = scratch.create("{}").expect_err("frozen").to_string();
    assert!(refused.contains("container's cgroup unexpectedly frozen"), "{refused}");
    cgroup.thaw().expect("thaw");
    scratch.create("{}").expect("an empty one is taken");
}

#[test]
fn nested_cgroups_are_emptied_and_removed_however_deep() {
    let Some(scratch) = Scratch::new("nested") else {
        return;
    };
    let cgroup = scratch.create("{}").expect("create");
    let base = scratch.dirs().pop().expect("directory");
    let mut deep = base.clone();
    for level in 0..60 {
        deep.push(format!("n{level}"));
        std::fs::create_dir(&deep).expect("mkdir");
        std::fs::create_dir(deep.with_file_name(format!("side{level}"))).expect("mkdir");
    }
    cgroup.remove().expect("remove");
    assert!(!base.exists());
}

#[test]
fn removal_waits_for_processes_that_are_ending() {
    let Some(scratch) = Scratch::new("ending") else {
        return;
    };
    let cgroup = scratch.create("{}").expect("create");
    let process = Waiting::in_cgroup("sleep 0.1", &cgroup);
    let reaper = std::thread::spawn(move || process.output());
    cgroup.remove().expect("remove");
    reaper.join().expect("reaper");
}

#[test]
fn a_failed_creation_leaves_no_directory() {
    let Some(mut scratch) = Scratch::new("failed") else {
        return;
    };
    let top = scratch.path.clone();
    scratch.path = top.join("a/b");
    let resources = match scratch.host {
        CgroupHost::V2 { .. } => r#"{"unified": {"nosuch.max": "1"}}"#,
        _ => r#"{"pids": {"limit": 4294967296000}}"#,
    };
    let error = scratch.create(resources).expect_err("must fail").to_string();
    assert!(error.contains("nosuch") || error.contains("pids.max"), "{error}");
    scratch.path = top;
    assert!(scratch.dirs().iter().all(|f| !f.exists()), "{error}");
}

#[test]
fn limits_are_set_and_changed() {
    let Some(scratch) = Scratch::new("limits") else {
        return;
    };
    let v2 = matches!(scratch.host, CgroupHost::V2 { .. });
    // controller, resources, file, value, file on v1, value on v1
    let cases = [
        ("pids", r#"{"pids": {"limit": 20}}"#, "pids.max", "20", "pids.max", "20"),
        ("pids", r#"{"pids": {"limit": 0}}"#, "pids.max", "1", "pids.max", "1"),
        ("pids", r#"{"pids": {"limit": -1}}"#, "pids.max", "max", "pids.max", "max"),
        ("cpu", r#"{"cpu": {"shares": 1024}}"#, "cpu.weight", "100", "cpu.shares", "1024"),
        (
            "cpu",
            r#"{"cpu": {"quota": 50000, "period": 100000}}"#,
            "cpu.max",
            "50000 100000",
            "cpu.cfs_quota_us",
            "50000",
        ),
        ("cpu", r#"{"cpu": {"period": 200000}}"#, "cpu.max", "50000 200000", "cpu.cfs_period_us", "200000"),
        ("cpu", r#"{"cpu": {"quota": -1}}"#, "cpu.max", "max 200000", "cpu.cfs_quota_us", "-1"),
        (
            "memory",
            r#"{"memory": {"limit": 33554432}}"#,
            "memory.max",
            "33554432",
            "memory.limit_in_bytes",
            "33554432",
        ),
        (
            "memory",
            r#"{"memory": {"limit": 67108864, "reservation": 1048576}}"#,
            "memory.low",
            "1048576",
            "memory.soft_limit_in_bytes",
            "1048576",
        ),
        ("cpuset", r#"{"cpu": {"cpus": "0"}}"#, "cpuset.cpus", "0", "cpuset.cpus", "0"),
    ];
    let cgroup = scratch.create("{}").expect("create");
    for (controller, resources, file2, value2, file1, value1) in cases {
        if !scratch.has(controller) {
            println!("skipped: no controller {controller}: {resources}");
            continue;
        }
        cgroup.apply(&scratch.plan(resources).limits).unwrap_or_else(|e| panic!("{resources}: {e}"));
        let (file, value) = if v2 { (file2, value2) } else { (file1, value1) };
        let path = scratch.dir(controller).expect("directory").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        assert_eq!(text.trim(), value, "{resources}: {path:?}");
    }
}

#[test]
fn limits_take_hold_in_a_new_cgroup_and_a_process_can_join_it() {
    let Some(scratch) = Scratch::new("join") else {
        return;
    };
    if !scratch.has("pids") || !scratch.has("cpuset") {
        println!("skipped: no controllers pids and cpuset");
        return;
    }
    let cgroup = scratch.create(r#"{"pids": {"limit": 3}, "cpu": {"cpus": "0"}}"#).expect("create");
    let process = Waiting::in_cgroup("grep Cpus_allowed_list /proc/self/status", &cgroup);
    assert_eq!(process.output(), "Cpus_allowed_list:\t0\n");
}

#[test]
fn memory_and_swap_can_grow_and_shrink_together() {
    let Some(scratch) = Scratch::new("memsw") else {
        return;
    };
    let Some(dir) = scratch.dir("memory") else {
        return;
    };
    let cgroup = scratch.create("{}").expect("create");
    if !dir.join("memory.memsw.limit_in_bytes").exists() {
        println!("skipped: no v1 swap accounting");
        return;
    }
    for size in ["33554432", "67108864", "16777216", "-1"] {
        let resources = format!(r#"{{"memory": {{"limit": {size}, "swap": {size}}}}}"#);
        cgroup.apply(&scratch.plan(&resources).limits).expect("apply");
    }
}

#[test]
fn a_limit_without_a_controller_is_named() {
    let Some(scratch) = Scratch::new("missing") else {
        return;
    };
    if scratch.has("hugetlb") {
        println!("skipped: the host has the controller hugetlb");
        return;
    }
    let error = scratch
        .create(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("hugetlb"), "{error}");
    assert!(scratch.dirs().iter().all(|f| !f.exists()));
}

fn made(plan: &CgroupPlan, host: &CgroupHost) -> Result<Cgroup> {
    Cgroup::create(plan, &Cgroup::planned(plan, host)?, host)
}

/// As `create` does once the process is there.
fn restrict(cgroup: &Cgroup, plan: &CgroupPlan) {
    if let (Some(dir), Some(policy)) = (cgroup.open().expect("open"), &plan.devices) {
        dir.restrict_devices(policy).expect("restrict devices");
    }
}

#[test]
fn only_allowed_devices_can_be_opened() {
    let Some(scratch) = Scratch::new("devices") else {
        return;
    };
    // Whatever of these can be opened here; none is among the default devices.
    let nodes = [("/dev/kmsg", 1, 11), ("/dev/fuse", 10, 229), ("/dev/loop-control", 10, 237)];
    let Some((node, major, minor)) = nodes.into_iter().find(|(path, ..)| std::fs::File::open(path).is_ok())
    else {
        println!("skipped: no device to try");
        return;
    };
    let script = format!("exec 2>&1; true < {node} && echo open; true < /dev/null && echo null");
    let mut plan = scratch.plan("{}");
    let outcome = |plan: &CgroupPlan| {
        let cgroup = made(plan, &scratch.host).expect("create");
        restrict(&cgroup, plan);
        let text = Waiting::in_cgroup(&script, &cgroup).output();
        text.lines().filter(|l| ["open", "null"].contains(l)).collect::<Vec<_>>().join(" ")
    };
    let free = outcome(&plan);
    plan.devices = Some(devfilter::policy(&[], &[]).expect("policy"));
    let restricted = outcome(&plan);
    let rule =
        format!(r#"{{"allow": true, "type": "c", "major": {major}, "minor": {minor}, "access": "r"}}"#);
    let rule = serde_json::from_str(&rule).expect("rule");
    plan.devices = Some(devfilter::policy(&[rule], &[]).expect("policy"));
    // The cgroup is there already: its program is replaced.
    let allowed = outcome(&plan);
    plan.devices = Some(devfilter::policy(&[], &[]).expect("policy"));
    let again = outcome(&plan);
    if let CgroupHost::V2 { .. } = scratch.host {
        let dir = Dir::mount(&scratch.dirs()[0]).expect("open");
        let programs = crate::sys::bpf::device_programs(dir.fd()).expect("query");
        assert_eq!(programs.len(), 1, "each took the place of the one before");
    }
    assert_eq!(
        [free, restricted, allowed, again].map(String::from),
        ["open null", "null", "open null", "null"]
    );
}

#[test]
fn paths_below_stay_below() {
    let location = Location { mount: "/sys/fs/cgroup".into(), path: "c1".into() };
    for bad in ["..", "../c2", "a/../../c2", "/../c2"] {
        let error = location.below(Path::new(bad)).expect_err(bad).to_string();
        assert!(error.contains("bad sub cgroup path"), "{error}");
    }
    for (good, path) in [("", "c1"), ("/", "c1"), ("a", "c1/a"), ("/a/b", "c1/a/b"), ("a/../b", "c1/b")] {
        assert_eq!(location.below(Path::new(good)).expect(good).path, Path::new(path));
    }
}

#[test]
fn exec_goes_to_the_named_cgroup_below() {
    let Some(scratch) = Scratch::new("sub") else {
        return;
    };
    let cgroup = scratch.create("{}").expect("create");
    for dir in scratch.dirs() {
        std::fs::create_dir(dir.join("below")).expect("mkdir");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // A v1 cpuset takes processes only when it has these.
            if let Ok(value) = std::fs::read_to_string(dir.join(file)) {
                let _ = std::fs::write(dir.join("below").join(file), value);
            }
        }
    }
    let process = Waiting::new("sleep 100");
    cgroup
        .attach_sub(process.pid(), &SubPaths::parse(&["/below".to_owned()]).expect("parse"), None)
        .expect("attach");
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).expect("proc");
    assert!(text.lines().any(|l| l.ends_with("/below")), "{text}");
    assert_eq!(cgroup.processes().expect("processes"), [process.pid()]);
    let missing =
        cgroup.attach_sub(process.pid(), &SubPaths::parse(&["nosuch".to_owned()]).expect("parse"), None);
    assert_eq!(missing.expect_err("missing").kind(), ErrorKind::NotFound);
}

#[test]
fn stats_count_what_runs() {
    let Some(scratch) = Scratch::new("stats") else {
        return;
    };
    let cgroup =
        scratch.create(if scratch.has("pids") { r#"{"pids": {"limit": 7}}"# } else { "{}" }).expect("create");
    let _process =
        Waiting::in_cgroup("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 100", &cgroup);
    let v1_memory = scratch.has("memory") && matches!(scratch.host, CgroupHost::V1 { .. });
    let end = Instant::now() + PATIENCE * 3;
    let stats = loop {
        let stats = cgroup.stats().expect("stats");
        if stats.cpu > 0 && (stats.memory.usage > 0 || !v1_memory) || Instant::now() > end {
            break stats;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(stats.cpu > 0, "{stats:?}");
    assert!(stats.pids >= 1, "{stats:?}");
    if scratch.has("pids") {
        assert_eq!(stats.pids_limit, Some(7));
    }
    if v1_memory {
        assert!(stats.memory.usage > 0 && stats.memory.limit.is_none(), "{stats:?}");
    }
    match scratch.host {
        CgroupHost::V1 { .. } => assert!(stats.cpu_each.iter().sum::<u64>() > 0, "{stats:?}"),
        _ => assert_eq!(stats.cpu_pressure.is_some(), Path::new("/proc/pressure/cpu").exists(), "{stats:?}"),
    }
}

#[test]
fn the_memory_limit_is_known_to_have_killed() {
    let Some(scratch) = Scratch::new("oom") else {
        return;
    };
    if !scratch.has("memory") {
        println!("skipped: no controller memory");
        return;
    }
    let cgroup = scratch.create(r#"{"memory": {"limit": 8388608}}"#).expect("create");
    assert!(!cgroup.oom_killed());
    let mut watch = cgroup.watch_oom().expect("watch").expect("memory is accounted");
    let ready = |watch: &OomWatch| {
        let events = nix::poll::PollFlags::from_bits_truncate(watch.events());
        let mut polled = [nix::poll::PollFd::new(watch.as_fd(), events)];
        nix::poll::poll(&mut polled, 30_000u16).expect("poll") == 1
    };
    assert!(!watch.happened().expect("before"));
    // tail keeps an endless line in memory.
    Waiting::in_cgroup("tail /dev/zero", &cgroup).output();
    assert!(cgroup.oom_killed() && cgroup.stats().expect("stats").oom_kills > 0);
    assert!(ready(&watch) && watch.happened().expect("after"));
    assert!(!watch.happened().expect("asked again"));
    cgroup.remove().expect("remove");
    assert_eq!(watch.happened().expect_err("gone").kind(), ErrorKind::NotFound);
}

#[test]
fn a_cgroup_tells_where_it_is() {
    let Some(scratch) = Scratch::new("where") else {
        return;
    };
    let paths: Vec<PathBuf> = match scratch.create("{}").expect("create").paths() {
        CgroupPaths::V2(path) => vec![path],
        CgroupPaths::V1(by_controller) => by_controller.into_values().collect(),
        CgroupPaths::None => Vec::new(),
    };
    assert!(!paths.is_empty() && paths.iter().all(|path| path.is_dir()), "{paths:?}");
}

#[test]
fn arguments_of_cgroup_are_parsed_as_runc_does() {
    let parse = |args: &[&str]| SubPaths::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
    assert!(parse(&[]).expect("none").is_empty());
    assert_eq!(parse(&["cpu,memory:a", "pids:b"]).expect("three").0.len(), 3);
    for (args, text) in [
        (&["a", "b"][..], "missing <controller>: prefix"),
        (&[":a"][..], "empty <controller> prefix"),
        (&["cpu:a", "cpu:b"][..], "specified multiple times"),
    ] {
        let error = parse(args).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}
