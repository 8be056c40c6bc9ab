//! Attributes of the process: capabilities, limits, no_new_privileges, user, groups, umask, cwd, environment, scores.

use integration::inspect::{caps, status};
use integration::runtime::need_capability;
use integration::{Kind, Lab, Outcome, Test, eq, has, skip, tests, yes};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["process":
    the_five_capability_sets_are_exactly_those_given,
    no_capabilities_means_none,
    ambient_capabilities_need_the_inheritable_ones,
    unknown_capabilities_are_tolerated,
    capabilities_survive_a_user_that_is_not_root_only_by_ambient,
    no_new_privileges_is_set_only_when_asked,
    limits_are_set_soft_and_hard,
    a_limit_that_can_not_be_raised_is_refused,
    broken_limits_are_refused,
    the_user_and_the_groups_are_exactly_those_given,
    large_ids_are_not_cut,
    ids_out_of_range_are_refused,
    the_umask_is_set,
    the_default_umask_is_022,
    the_environment_is_exactly_that_given,
    the_last_of_duplicate_variables_wins,
    home_is_taken_from_passwd_when_not_given,
    odd_environment_entries_are_refused_or_kept,
    the_cwd_is_used,
    a_missing_cwd_is_made_or_refused,
    a_relative_cwd_is_refused,
    a_cwd_only_for_the_user_is_reached,
    empty_args_are_refused,
    the_oom_score_is_set,
    the_oom_score_is_inherited_when_absent,
    the_oom_score_may_be_below_the_callers_in_a_user_namespace_too,
    the_scheduler_and_nice_value_are_set,
    the_io_priority_is_set,
    the_process_is_a_session_leader_with_default_signals,
    devices_by_default_are_there_and_usable,
    links_of_dev_are_there,
    devices_of_the_configuration_are_made,
    the_process_has_no_other_descriptors,
    a_memory_policy_without_nodes_is_set,
    a_process_without_a_user_is_root,
];

/// The report of a container whose process has these additional members.
fn with(lab: &Lab, members: Value) -> Result<Value, integration::Stop> {
    lab.inspect(|config| {
        for (key, value) in members.as_object().into_iter().flatten() {
            config.set(&format!("/process/{key}"), value.clone());
        }
    })
}

fn the_five_capability_sets_are_exactly_those_given(lab: &Lab) -> Outcome {
    let report = with(
        lab,
        json!({"capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT"],
            "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}),
    )?;
    // Root gains its permitted and effective sets at execve: (inheritable | bounding), whatever was asked for.
    let (chown, kill, net_raw, sys_chroot) = (1, 1 << 5, 1 << 13, 1 << 18);
    eq(caps(&report, "CapBnd")?, chown | kill | net_raw | sys_chroot, "bounding")?;
    eq(caps(&report, "CapInh")?, kill, "inheritable")?;
    let user = with(
        lab,
        json!({"user": {"uid": 1000, "gid": 1000}, "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}),
    )?;
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        eq(caps(&user, set)?, kill, format!("{set} of a user"))?;
    }
    eq(caps(&user, "CapBnd")?, chown | kill, "bounding of a user")
}

fn no_capabilities_means_none(lab: &Lab) -> Outcome {
    let report = with(lab, json!({"capabilities": {"bounding": [], "effective": [], "permitted": []}}))?;
    for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
        eq(caps(&report, set)?, 0, set)?;
    }
    Ok(())
}

fn ambient_capabilities_need_the_inheritable_ones(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/capabilities/ambient", json!(["CAP_CHOWN"])).args(&["inspector", "report"]);
    let ended = c.run()?;
    if ended.code == 0 {
        // runc warns and continues without.
        return eq(caps(&ended.json()?, "CapAmb")?, 0, "ambient set");
    }
    ended.refused()?;
    c.is_gone()
}

fn unknown_capabilities_are_tolerated(lab: &Lab) -> Outcome {
    let report = with(lab, json!({"capabilities": {"bounding": ["CAP_KILL", "CAP_UNHEARD_OF"]}}))?;
    eq(caps(&report, "CapBnd")?, 1 << 5, "bounding")
}

fn capabilities_survive_a_user_that_is_not_root_only_by_ambient(lab: &Lab) -> Outcome {
    let report = with(lab, json!({"user": {"uid": 1000, "gid": 1000}}))?;
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        eq(caps(&report, set)?, 0, set)?;
    }
    Ok(())
}

fn no_new_privileges_is_set_only_when_asked(lab: &Lab) -> Outcome {
    eq(status(&with(lab, json!({"noNewPrivileges": true}))?, "NoNewPrivs")?, "1", "when true")?;
    eq(status(&with(lab, json!({"noNewPrivileges": false}))?, "NoNewPrivs")?, "0", "when false")?;
    let absent = lab.inspect(|c| {
        c.remove("/process/noNewPrivileges");
    })?;
    eq(status(&absent, "NoNewPrivs")?, "0", "when absent")
}

fn limits_are_set_soft_and_hard(lab: &Lab) -> Outcome {
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 300, "hard": 400}, {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152},
        {"type": "RLIMIT_FSIZE", "soft": 5_000_000, "hard": 6_000_000}, {"type": "RLIMIT_RTPRIO", "soft": 0, "hard": 0}]);
    let report = with(lab, json!({"rlimits": limits}))?;
    let words = |name: &str| {
        let line = report["limits"].as_str().unwrap_or_default().lines().find(|l| l.starts_with(name));
        line.unwrap_or_default()[26..]
            .split_whitespace()
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    eq(words("Max open files").as_str(), "100 200", "nofile")?;
    eq(words("Max core file size").as_str(), "0 0", "core")?;
    eq(words("Max processes").as_str(), "300 400", "nproc")?;
    eq(words("Max stack size").as_str(), "1048576 2097152", "stack")?;
    eq(words("Max file size").as_str(), "5000000 6000000", "fsize")
}

fn a_limit_that_can_not_be_raised_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "refuses, and leaves the cgroup behind")?;
    if need_capability(24, "CAP_SYS_RESOURCE").is_ok() {
        return integration::skip("this root may raise every limit");
    }
    let mut c = lab.container()?;
    c.config().set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 1_000_000_000, "hard": 1_000_000_000}]),
    );
    has(c.run()?.refused()?.stderr.to_lowercase(), "not permitted")?;
    c.is_gone()
}

fn broken_limits_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "refuses, and leaves the cgroup behind")?;
    let bad = [
        json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]),
        json!([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]),
        json!([{"type": "RLIMIT_NOFILE", "soft": -5, "hard": 1}]),
    ];
    for limits in bad {
        let mut c = lab.container()?;
        c.config().set("/process/rlimits", limits.clone());
        let ended = c.run()?;
        yes(ended.code != 0, format!("accepted: {limits}"))?;
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn the_user_and_the_groups_are_exactly_those_given(lab: &Lab) -> Outcome {
    let report = with(lab, json!({"user": {"uid": 1000, "gid": 2000, "additionalGids": [5, 6, 7]}}))?;
    eq(status(&report, "Uid")?, "1000\t1000\t1000\t1000", "uid")?;
    eq(status(&report, "Gid")?, "2000\t2000\t2000\t2000", "gid")?;
    eq(status(&report, "Groups")?, "5 6 7", "groups")?;
    let report = with(lab, json!({"user": {"uid": 1000, "gid": 1000}}))?;
    eq(status(&report, "Groups")?, "", "groups when none are given")
}

fn large_ids_are_not_cut(lab: &Lab) -> Outcome {
    let report = with(lab, json!({"user": {"uid": 2_147_483_648_u32, "gid": 4_294_967_294_u32}}));
    match report {
        Ok(report) => {
            has(status(&report, "Uid")?, "2147483648")?;
            has(status(&report, "Gid")?, "4294967294")
        }
        // runc's configuration check has a signed number.
        Err(_) if lab.kind() == Kind::Runc => Ok(()),
        Err(stop) => Err(stop),
    }
}

fn ids_out_of_range_are_refused(lab: &Lab) -> Outcome {
    for uid in [json!(4_294_967_296_u64), json!(-1), json!(4_294_967_295_u32), json!("0")] {
        let mut c = lab.container()?;
        c.config().set("/process/user/uid", uid.clone()).sh("id -u");
        let ended = c.run()?;
        // CVE-2024-40635: an overflow made such a user root. crun reads a text as the number in it.
        let lax = lab.kind() == Kind::Crun && (uid.is_string() || uid == 4_294_967_295_u32);
        yes(lax || ended.code != 0, format!("uid {uid} ran as {}", ended.text()))?;
        c.delete_force()?;
    }
    Ok(())
}

fn the_umask_is_set(lab: &Lab) -> Outcome {
    for (umask, want) in [(0, "0000"), (63, "0077"), (18, "0022")] {
        let report = with(lab, json!({"user": {"uid": 0, "gid": 0, "umask": umask}}))?;
        eq(status(&report, "Umask")?, want, format!("umask {umask}"))?;
    }
    Ok(())
}

fn the_default_umask_is_022(lab: &Lab) -> Outcome {
    eq(status(&lab.inspect(|_| {})?, "Umask")?, "0022", "umask")
}

fn the_environment_is_exactly_that_given(lab: &Lab) -> Outcome {
    let report = with(lab, json!({"env": ["PATH=/bin", "A=1", "B=two words", "C=a=b", "EMPTY="]}))?;
    let mut env: Vec<String> = Vec::new();
    for pair in report["env"].as_array().into_iter().flatten() {
        env.push(format!(
            "{}={}",
            pair[0].as_str().unwrap_or_default(),
            pair[1].as_str().unwrap_or_default()
        ));
    }
    env.retain(|e| !e.starts_with("HOME="));
    eq(env, vec!["PATH=/bin", "A=1", "B=two words", "C=a=b", "EMPTY="], "environment")
}

fn the_last_of_duplicate_variables_wins(lab: &Lab) -> Outcome {
    let out = lab.sh(
        |c| {
            c.set("/process/env", json!(["PATH=/bin", "X=first", "X=last"]));
        },
        "echo $X; env | grep -c ^X=",
    )?;
    eq(out.as_str(), "last\n1", "value and count")
}

fn home_is_taken_from_passwd_when_not_given(lab: &Lab) -> Outcome {
    eq(lab.sh(|_| {}, "echo $HOME")?.as_str(), "/root", "of root")?;
    let user = lab.sh(
        |c| {
            c.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        },
        "echo $HOME",
    )?;
    eq(user.as_str(), "/home/user", "of a user")?;
    let nobody = lab.sh(
        |c| {
            c.set("/process/user", json!({"uid": 77, "gid": 77}));
        },
        "echo $HOME",
    )?;
    eq(nobody.as_str(), "/", "of nobody")?;
    let given = lab.sh(
        |c| {
            c.push("/process/env", json!("HOME=/given"));
        },
        "echo $HOME",
    )?;
    eq(given.as_str(), "/given", "when given")
}

fn odd_environment_entries_are_refused_or_kept(lab: &Lab) -> Outcome {
    for entry in ["NOVALUE", "=x", "A\u{0}B=1"] {
        let mut c = lab.container()?;
        c.config().push("/process/env", json!(entry)).sh("env");
        let ended = c.run()?;
        yes(ended.code < 128, format!("{entry:?}: status {}", ended.code))?;
        yes(
            !(entry.contains('\u{0}') && ended.code == 0 && ended.stdout.contains("A=")),
            "a NUL byte changed a variable",
        )?;
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn the_cwd_is_used(lab: &Lab) -> Outcome {
    eq(
        lab.sh(
            |c| {
                c.set("/process/cwd", "/home/user");
            },
            "pwd",
        )?
        .as_str(),
        "/home/user",
        "cwd",
    )
}

fn a_missing_cwd_is_made_or_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().writable().set("/process/cwd", "/made/up").sh("pwd");
    let ended = c.run()?;
    if ended.code == 0 {
        // runc makes it, within the root.
        eq(ended.text(), "/made/up", "cwd")?;
        return yes(c.bundle.inside("/made/up").is_dir(), "it was made elsewhere");
    }
    ended.refused()?;
    c.is_gone()
}

fn a_relative_cwd_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "takes it from the root")?;
    for cwd in ["tmp", "", "./", "../"] {
        let mut c = lab.container()?;
        c.config().set("/process/cwd", cwd);
        if cwd.is_empty() && lab.kind() == Kind::Crun {
            continue;
        }
        c.run()?.refused()?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_cwd_only_for_the_user_is_reached(lab: &Lab) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let mut c = lab.container()?;
    let home = c.bundle.inside("/home/user");
    std::os::unix::fs::chown(&home, Some(1000), Some(1000))?;
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
    c.config()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .set("/process/cwd", "/home/user")
        .sh("pwd; id -u");
    eq(c.run()?.ok()?.text(), "/home/user\n1000", "cwd and user")
}

fn empty_args_are_refused(lab: &Lab) -> Outcome {
    for args in [json!([]), json!([""]), Value::Null] {
        let mut c = lab.container()?;
        c.config().set("/process/args", args);
        c.run()?.refused()?;
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn the_oom_score_is_set(lab: &Lab) -> Outcome {
    let report = with(lab, json!({"oomScoreAdj": 321}))?;
    eq(report["oom_score_adj"].as_str(), Some("321\n"), "oom_score_adj")?;
    lab.except(Kind::Crun, "refuses a score out of range, and leaves the cgroup behind")?;
    for score in [1001, -1001, 100_000] {
        let mut c = lab.container()?;
        c.config().set("/process/oomScoreAdj", score);
        c.run()?.refused()?;
        c.is_gone()?;
    }
    Ok(())
}

fn the_oom_score_may_be_below_the_callers_in_a_user_namespace_too(lab: &Lab) -> Outcome {
    // What a process with CAP_SYS_RESOURCE has set, another without it cannot go below: engines raise the score of their shims.
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 65536).set("/process/oomScoreAdj", 50);
    c.config().sh("cat /proc/self/oom_score_adj");
    c.bundle.write()?;
    let line = format!(
        "echo 200 > /proc/self/oom_score_adj && exec {} --root {} run --bundle {} {}",
        lab.runtime.line(),
        lab.state.display(),
        c.bundle_arg(),
        c.id
    );
    eq(lab.host(&["sh", "-c", &line])?.ok()?.text(), "50", "oom_score_adj")?;
    c.is_gone()
}

fn the_oom_score_is_inherited_when_absent(lab: &Lab) -> Outcome {
    let ours = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    eq(lab.inspect(|_| {})?["oom_score_adj"].as_str(), Some(ours.as_str()), "oom_score_adj")
}

fn the_scheduler_and_nice_value_are_set(lab: &Lab) -> Outcome {
    let script = "cut -d' ' -f19,41 /proc/self/stat";
    let out = lab.sh(
        |c| {
            c.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 7}));
        },
        script,
    )?;
    // SCHED_BATCH is 3.
    eq(out.as_str(), "7 3", "nice value and policy")?;
    let mut c = lab.container()?;
    c.config().set("/process/scheduler", json!({"policy": "SCHED_NOSUCH"}));
    c.run()?.refused()?;
    c.is_gone()
}

fn the_io_priority_is_set(lab: &Lab) -> Outcome {
    // ioprio_get(IOPRIO_WHO_PROCESS, self) gives class << 13 | priority.
    let number = libc_number("ioprio_get").to_string();
    let mut c = lab.container()?;
    c.config().set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    c.config().args(&["inspector", "syscall", &number, "1", "0"]);
    eq(c.run()?.ok()?.text(), format!("ok {}", (2 << 13) | 6).as_str(), "I/O priority")?;
    c.config().set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_NOSUCH", "priority": 6}));
    c.run()?.refused()?;
    c.is_gone()
}

/// Call numbers that the tests pass to the inspector.
fn libc_number(name: &str) -> i64 {
    match name {
        "ioprio_get" => libc::SYS_ioprio_get,
        _ => -1,
    }
}

fn the_process_is_a_session_leader_with_default_signals(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    for set in ["SigBlk", "SigCgt"] {
        // The Rust runtime of the inspector catches SIGSEGV and SIGBUS for its stack guard.
        let value = u64::from_str_radix(status(&report, set)?, 16)? & !(1 << 10 | 1 << 6);
        eq(value, 0, set)?;
    }
    eq(lab.sh(|_| {}, "cut -d' ' -f5,6 /proc/self/stat")?.as_str(), "1 1", "process group and session")?;
    // No shell and no Rust program, for both ignore signals of their own.
    let mut c = lab.container()?;
    c.config().args(&["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]);
    let out = c.run()?.ok()?.stdout;
    has(&out, "SigBlk:\t0000000000000000")?;
    // Also where the caller ignores some, as below nohup(1). The C library's own, 32 and 33, are left out.
    let hex = out.lines().find_map(|l| l.strip_prefix("SigIgn:")).unwrap_or("none").trim().to_owned();
    eq(u64::from_str_radix(&hex, 16)? & 0x7fff_ffff, 0, "ignored signals")
}

fn devices_by_default_are_there_and_usable(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        eq(&report["dev"][name]["rdev"], &json!([major, minor]), name)?;
        eq(report["dev"][name]["mode"].as_str(), Some("20666"), format!("mode of {name}"))?;
        eq(report["dev"][name]["uid"].as_i64(), Some(0), format!("owner of {name}"))?;
    }
    let script = "echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; echo x > /dev/full; true";
    let mut c = lab.container()?;
    c.config().sh(script);
    eq(c.run()?.ok()?.text(), "2\n2", "reading devices")
}

fn links_of_dev_are_there(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        eq(report["dev"][name]["link"].as_str(), Some(target), name)?;
    }
    Ok(())
}

fn devices_of_the_configuration_are_made(lab: &Lab) -> Outcome {
    let report = lab.inspect(|config| {
        let devices = json!([
            {"path": "/dev/kmsg-like", "type": "c", "major": 1, "minor": 11, "fileMode": 416, "uid": 5, "gid": 6},
            {"path": "/dev/block", "type": "b", "major": 7, "minor": 0, "fileMode": 384},
            {"path": "/dev/pipe", "type": "p", "fileMode": 420}]);
        config.set("/linux/devices", devices);
    })?;
    let dev = &report["dev"];
    eq(
        &dev["kmsg-like"],
        &json!({"mode": "20640", "rdev": [1, 11], "uid": 5, "gid": 6, "link": null}),
        "character device",
    )?;
    eq(dev["block"]["mode"].as_str(), Some("60600"), "block device")?;
    eq(dev["pipe"]["mode"].as_str(), Some("10644"), "FIFO")
}

fn the_process_has_no_other_descriptors(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    let numbers: Vec<String> =
        report["fds"].as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    eq(numbers, vec!["0", "1", "2"], "descriptors")
}

fn a_memory_policy_without_nodes_is_set(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "knows no memory policies")?;
    lab.except(Kind::Runc, "up to 1.3 it knows no memory policies")?;
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return skip("this kernel has no NUMA");
    }
    for (mode, shown) in [("MPOL_DEFAULT", "default"), ("MPOL_LOCAL", "local"), ("MPOL_PREFERRED", "local")] {
        let out = lab.sh(
            |c| {
                c.set("/linux/memoryPolicy", json!({"mode": mode}));
            },
            "head -n 1 /proc/self/numa_maps",
        )?;
        has(out, format!(" {shown}"))?;
    }
    for (policy, place) in [
        (json!({"mode": "MPOL_SIDEWAYS"}), "linux.memoryPolicy.mode"),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_SIDEWAYS"]}),
            "linux.memoryPolicy.flags[0]",
        ),
    ] {
        let mut c = lab.container()?;
        c.config().set("/linux/memoryPolicy", policy);
        c.create()?.refused_with(place)?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_process_without_a_user_is_root(lab: &Lab) -> Outcome {
    let out = lab.sh(
        |c| {
            c.remove("/process/user");
        },
        "id -u; id -g",
    )?;
    eq(out.as_str(), "0\n0", "user and group")
}
