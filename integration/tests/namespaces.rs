//! Namespaces: made, joined by path, shared with the host; user namespaces and their maps; time offsets.

use std::fs;
use std::process::Command;

use integration::inspect::status;
use integration::process::{Running, start};
use integration::{Kind, Lab, Outcome, Stop, Test, eq, fail, has, skip, tests, yes};
use procfs::process::Process;
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["namespaces":
    namespaces_of_the_list_are_new_and_others_are_the_hosts,
    every_namespace_can_be_made_alone,
    namespaces_are_joined_by_path,
    a_pid_namespace_is_joined_by_path,
    all_namespaces_of_another_container_are_joined,
    a_joined_namespace_of_the_wrong_kind_is_refused,
    a_missing_namespace_path_is_refused,
    a_namespace_named_twice_is_refused,
    an_unknown_namespace_is_refused,
    the_hostname_and_domainname_are_set,
    a_hostname_without_a_uts_namespace_is_refused,
    without_a_mount_namespace_a_container_is_refused,
    the_loopback_device_is_up_or_alone,
    a_user_namespace_maps_ids,
    a_user_namespace_maps_several_ranges,
    message_queues_of_a_user_namespace_belong_to_its_root,
    a_user_namespace_without_maps_is_refused,
    broken_maps_are_refused,
    a_user_namespace_is_joined_by_path,
    maps_that_a_joined_user_namespace_does_not_have_are_refused,
    an_id_that_a_joined_user_namespace_does_not_map_is_refused,
    a_time_namespace_has_its_offsets,
    time_offsets_without_a_time_namespace_are_refused,
    the_init_is_pid_one_and_reaps,
    a_pid_namespace_shared_with_the_host_shows_the_host,
    sysctls_of_the_namespaces_are_set,
    sysctls_of_the_host_are_refused,
    the_session_keyring_is_new_unless_refused,
];

const KINDS: [(&str, &str); 6] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("uts", "uts"),
];

fn ours(name: &str) -> Result<String, Stop> {
    Ok(fs::read_link(format!("/proc/self/ns/{name}"))?.to_string_lossy().into_owned())
}

fn namespaces_of_the_list_are_new_and_others_are_the_hosts(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    for (_, name) in KINDS {
        yes(report["ns"][name].as_str() != Some(&ours(name)?), format!("{name} namespace is the host's"))?;
    }
    for name in ["user", "time"] {
        eq(report["ns"][name].as_str(), Some(ours(name)?.as_str()), format!("{name} namespace"))?;
    }
    Ok(())
}

fn every_namespace_can_be_made_alone(lab: &Lab) -> Outcome {
    for (kind, name) in KINDS {
        let report = lab.inspect(|config| {
            config.set("/linux/namespaces", json!([{"type": "mount"}])).unshare(kind).remove("/hostname");
            // sysfs belongs to a network namespace and mqueue to an ipc namespace: without one of its own neither can
            // be mounted by everybody, so only what is always possible is left.
            config.without_mount("/sys").without_mount("/sys/fs/cgroup").without_mount("/dev/mqueue");
            config.set("/linux/readonlyPaths", json!([])).set("/linux/maskedPaths", json!([]));
        })?;
        for (other, other_name) in KINDS {
            let new = other == kind || other == "mount";
            let same = report["ns"][other_name].as_str() == Some(&ours(other_name)?);
            eq(!same, new, format!("{other_name} namespace is new when {name} is asked for"))?;
        }
    }
    Ok(())
}

/// A process in new namespaces (flags of unshare(1)) that sleeps until the test ends.
pub(crate) fn holder(lab: &Lab, flags: &[&str]) -> Result<(Running, i32), Stop> {
    let mut command = Command::new("unshare");
    command.args(flags).args(["--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let running = start(command, &lab.dir)?;
    running.wait_for_output("ready")?;
    let pid = running.pid();
    // With --fork the sleeper is a child.
    let children = Process::new(pid)?.task_main_thread()?.children()?;
    Ok((running, children.first().map_or(pid, |child| child.cast_signed())))
}

pub(crate) fn end(running: Running) -> Outcome {
    running.signal(nix::sys::signal::Signal::SIGKILL)?;
    running.wait()?;
    Ok(())
}

fn namespaces_are_joined_by_path(lab: &Lab) -> Outcome {
    let (running, pid) = holder(lab, &["--net", "--ipc", "--uts", "--cgroup"])?;
    let report = lab.inspect(|config| {
        config.remove("/hostname");
        for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")] {
            config.join(kind, &format!("/proc/{pid}/ns/{name}"));
        }
    })?;
    for name in ["net", "ipc", "uts", "cgroup"] {
        let want = fs::read_link(format!("/proc/{pid}/ns/{name}"))?;
        eq(report["ns"][name].as_str(), want.to_str(), format!("{name} namespace"))?;
    }
    end(running)
}

fn a_pid_namespace_is_joined_by_path(lab: &Lab) -> Outcome {
    let (running, pid) = holder(lab, &["--pid", "--fork", "--kill-child"])?;
    let report = lab.inspect(|config| {
        config.join("pid", &format!("/proc/{pid}/ns/pid"));
    })?;
    let want = fs::read_link(format!("/proc/{pid}/ns/pid"))?;
    eq(report["ns"]["pid"].as_str(), want.to_str(), "pid namespace")?;
    yes(report["pid"].as_i64() > Some(1), "not pid 1 in a joined namespace")?;
    end(running)
}

fn all_namespaces_of_another_container_are_joined(lab: &Lab) -> Outcome {
    let mut first = lab.container()?;
    first.sleeping()?;
    let pid = first.pid()?;
    let report = lab.inspect(|config| {
        config.remove("/hostname");
        for (kind, name) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
            config.join(kind, &format!("/proc/{pid}/ns/{name}"));
        }
    })?;
    for (kind, name) in KINDS {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{name}"))?;
        eq(
            report["ns"][name].as_str() == theirs.to_str(),
            kind != "mount",
            format!("{name} namespace is joined"),
        )?;
    }
    first.delete_force()
}

fn a_joined_namespace_of_the_wrong_kind_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "refuses, and leaves the cgroup behind")?;
    let mut c = lab.container()?;
    c.config().join("network", "/proc/self/ns/uts");
    c.create()?.refused()?;
    c.config().join("network", "/etc/passwd");
    c.create()?.refused()?;
    c.is_gone()
}

fn a_missing_namespace_path_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "refuses, and leaves the cgroup behind")?;
    let mut c = lab.container()?;
    c.config().join("ipc", "/no/such/namespace");
    has(c.create()?.refused()?.stderr, "/no/such/namespace")?;
    c.is_gone()
}

fn a_namespace_named_twice_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "takes the list as it is")?;
    let mut c = lab.container()?;
    c.config().push("/linux/namespaces", json!({"type": "uts"}));
    c.create()?.refused()?;
    c.is_gone()
}

fn an_unknown_namespace_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "refuses, and leaves the cgroup behind")?;
    let mut c = lab.container()?;
    c.config().push("/linux/namespaces", json!({"type": "quux"}));
    c.create()?.refused_with("quux")?;
    c.is_gone()
}

fn the_hostname_and_domainname_are_set(lab: &Lab) -> Outcome {
    let report = lab.inspect(|config| {
        config.set("/hostname", "some-host").set("/domainname", "some.domain");
    })?;
    eq(report["hostname"].as_str(), Some("some-host\n"), "hostname")?;
    eq(report["domainname"].as_str(), Some("some.domain\n"), "domainname")
}

fn a_hostname_without_a_uts_namespace_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().share("uts");
    c.create()?.refused()?;
    c.is_gone()
}

fn without_a_mount_namespace_a_container_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "runs it in the host's")?;
    let mut c = lab.container()?;
    c.config().share("mount");
    c.create()?.refused()?;
    c.is_gone()
}

fn the_loopback_device_is_up_or_alone(lab: &Lab) -> Outcome {
    let out = lab.sh(|_| {}, "ip -o link | sed 's/^[0-9]*: //'")?;
    yes(out.starts_with("lo:"), &out)?;
    // runc brings it up, as the specification does not ask; crun leaves it down.
    if lab.kind() != Kind::Crun {
        has(&out, "UP")?;
    }
    Ok(())
}

fn map_words(report: &Value, name: &str) -> Vec<Vec<String>> {
    let text = report[name].as_str().unwrap_or_default();
    text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
}

fn a_user_namespace_maps_ids(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 65536).args(&["inspector", "report"]);
    c.bundle.chown(100_000)?;
    let report = c.run()?.ok()?.json()?;
    eq(map_words(&report, "uid_map"), vec![vec!["0", "100000", "65536"]], "uid map")?;
    eq(map_words(&report, "gid_map"), vec![vec!["0", "100000", "65536"]], "gid map")?;
    eq(status(&report, "Uid")?, "0\t0\t0\t0", "uid inside")?;
    c.sleeping()?;
    let outside = Process::new(c.pid()?)?.status()?;
    eq(
        (outside.ruid, outside.euid, outside.suid, outside.fuid),
        (100_000, 100_000, 100_000, 100_000),
        "uids outside",
    )?;
    c.delete_force()
}

fn a_user_namespace_maps_several_ranges(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}, {"containerID": 1000, "hostID": 300_000, "size": 1},
                     {"containerID": 1001, "hostID": 400_000, "size": 500}]);
    c.config().unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    c.config().set("/process/user", json!({"uid": 1000, "gid": 1001})).args(&["inspector", "report"]);
    c.bundle.chown(100_000)?;
    let report = c.run()?.ok()?.json()?;
    eq(map_words(&report, "uid_map").len(), 3, "ranges")?;
    eq(status(&report, "Uid")?, "1000\t1000\t1000\t1000", "uid")?;
    eq(status(&report, "Gid")?, "1001\t1001\t1001\t1001", "gid")
}

fn message_queues_of_a_user_namespace_belong_to_its_root(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 65536).sh("stat -c '%u' /dev/mqueue");
    c.bundle.chown(100_000)?;
    eq(c.run()?.ok()?.text(), "0", "owner of /dev/mqueue")
}

fn a_user_namespace_without_maps_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "maps the caller by default")?;
    let mut c = lab.container()?;
    c.config().unshare("user");
    c.create()?.refused()?;
    c.is_gone()
}

fn broken_maps_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "takes a text for an empty list")?;
    let maps = [
        json!([{"containerID": 0, "hostID": 100_000, "size": 0}]),
        json!([{"containerID": 0, "hostID": 4_294_967_295_u32, "size": 10}]),
        json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 5, "hostID": 200_000, "size": 10}]),
        json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 20, "hostID": 100_005, "size": 10}]),
        json!([{"containerID": -1, "hostID": 0, "size": 1}]),
        json!([{"containerID": 0, "hostID": 0, "size": 4_294_967_296_u64}]),
        json!("0 0 1"),
    ];
    for map in maps {
        let mut c = lab.container()?;
        c.config().user_namespace(100_000, 65536).set("/linux/uidMappings", map.clone());
        c.bundle.chown(100_000)?;
        let ended = c.create()?;
        if ended.code == 0 {
            c.delete_force()?;
            return fail(format!("accepted: {map}"));
        }
        ended.refused()?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_user_namespace_is_joined_by_path(lab: &Lab) -> Outcome {
    let mut first = lab.container()?;
    first.config().user_namespace(100_000, 65536);
    first.bundle.chown(100_000)?;
    first.sleeping()?;
    let pid = first.pid()?;
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 65536).join("user", &format!("/proc/{pid}/ns/user"));
    c.config().args(&["inspector", "report"]);
    c.bundle.chown(100_000)?;
    let report = c.run()?.ok()?.json()?;
    let want = fs::read_link(format!("/proc/{pid}/ns/user"))?;
    eq(report["ns"]["user"].as_str(), want.to_str(), "user namespace")?;
    eq(status(&report, "Uid")?, "0\t0\t0\t0", "uid")?;
    first.delete_force()
}

fn maps_that_a_joined_user_namespace_does_not_have_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "ignores the maps")?;
    let mut first = lab.container()?;
    first.config().user_namespace(100_000, 65536);
    first.bundle.chown(100_000)?;
    first.sleeping()?;
    let path = format!("/proc/{}/ns/user", first.pid()?);
    for (start, size) in [(100_000, 65535), (100_001, 65536)] {
        let mut c = lab.container()?;
        c.config().user_namespace(start, size).join("user", &path).args(&["true"]);
        c.bundle.chown(100_000)?;
        c.run()?.refused_with("mapping")?;
        c.is_gone()?;
    }
    first.delete_force()
}

fn an_id_that_a_joined_user_namespace_does_not_map_is_refused(lab: &Lab) -> Outcome {
    let mut first = lab.container()?;
    first.config().user_namespace(100_000, 10);
    first.bundle.chown(100_000)?;
    first.sleeping()?;
    let path = format!("/proc/{}/ns/user", first.pid()?);
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 10).join("user", &path);
    c.config().remove("/linux/uidMappings").remove("/linux/gidMappings");
    c.config().set("/process/user", json!({"uid": 10, "gid": 0})).args(&["id"]);
    c.bundle.chown(100_000)?;
    c.run()?.refused()?;
    c.is_gone()?;
    first.delete_force()
}

fn a_time_namespace_has_its_offsets(lab: &Lab) -> Outcome {
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        return skip("this kernel has no time namespaces (5.6)");
    }
    let report = lab.inspect(|config| {
        config.unshare("time");
        config.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7881, "nanosecs": 2_718_281}, "boottime": {"secs": 1_337_000, "nanosecs": 3}}));
    })?;
    let words: Vec<&str> = report["timens_offsets"].as_str().unwrap_or_default().split_whitespace().collect();
    eq(words, vec!["monotonic", "7881", "2718281", "boottime", "1337000", "3"], "offsets")?;
    let uptime =
        report["uptime"].as_str().and_then(|t| t.split('.').next()?.parse::<u64>().ok()).unwrap_or(0);
    yes(uptime > 1_337_000, format!("uptime is {uptime}"))
}

fn time_offsets_without_a_time_namespace_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "ignores them")?;
    let mut c = lab.container()?;
    c.config().set("/linux/timeOffsets", json!({"monotonic": {"secs": 5, "nanosecs": 0}}));
    c.create()?.refused()?;
    c.is_gone()
}

fn the_init_is_pid_one_and_reaps(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    eq(report["pid"].as_i64(), Some(1), "pid")?;
    eq(report["ppid"].as_i64(), Some(0), "parent")
}

fn a_pid_namespace_shared_with_the_host_shows_the_host(lab: &Lab) -> Outcome {
    let report = lab.inspect(|config| {
        config.share("pid");
    })?;
    eq(report["ns"]["pid"].as_str(), Some(ours("pid")?.as_str()), "pid namespace")?;
    yes(report["pid"].as_i64() > Some(1), "not pid 1")
}

fn sysctls_of_the_namespaces_are_set(lab: &Lab) -> Outcome {
    let out = lab.sh(
        |config| {
            let all = json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "11",
                             "net/ipv4/conf/lo/forwarding": "1"});
            config.set("/linux/sysctl", all);
        },
        "cd /proc/sys; cat net/ipv4/ip_forward kernel/shm_rmid_forced fs/mqueue/msg_max net/ipv4/conf/lo/forwarding",
    )?;
    eq(out, "1\n1\n11\n1", "sysctls")
}

fn sysctls_of_the_host_are_refused(lab: &Lab) -> Outcome {
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let bad = [
        ("kernel.core_pattern", "|/x"),
        ("vm.swappiness", "1"),
        ("kernel.panic", "1"),
        ("kernel.shm_rmid_forced/../core_pattern", "|/x"),
        ("net.ipv4/../../kernel/core_pattern", "|/x"),
        ("kernel.hostname", "x"),
    ];
    for (name, value) in bad {
        let mut c = lab.container()?;
        let mut map = serde_json::Map::new();
        map.insert(name.to_owned(), json!(value));
        c.config().set("/linux/sysctl", map);
        let ended = c.create()?;
        if ended.code == 0 {
            // crun takes kernel.hostname in a uts namespace of its own.
            c.delete_force()?;
            yes(name == "kernel.hostname", format!("{name} was accepted"))?;
        }
        eq(
            fs::read_to_string("/proc/sys/kernel/core_pattern")?,
            before.clone(),
            format!("core_pattern after {name}"),
        )?;
    }
    // A namespaced one needs its namespace.
    let mut c = lab.container()?;
    c.config().share("network").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    c.config().without_mount("/sys").without_mount("/sys/fs/cgroup");
    c.create()?.refused()?;
    c.is_gone()
}

fn the_session_keyring_is_new_unless_refused(lab: &Lab) -> Outcome {
    // The keyring is named after the container, so it takes two containers to see two.
    let (a, b) = (lab.inspect(|_| {})?, lab.inspect(|_| {})?);
    let mut first = lab.container()?;
    first.config().args(&["inspector", "report"]);
    let shared = first.run_with(&["--no-new-keyring"])?.ok()?.json()?;
    let again = first.run_with(&["--no-new-keyring"])?.ok()?.json()?;
    yes(a["session_keyring"] != b["session_keyring"], "two containers have the same session keyring")?;
    eq(&shared["session_keyring"], &again["session_keyring"], "session keyring of the caller")?;
    Ok(())
}
