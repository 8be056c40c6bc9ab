//! `exec`: a second process in a container, by flags and by --process, with each of its own attributes.

use std::fs;

use integration::inspect::{caps, status};
use integration::lab::text;
use integration::process::{executes, orphan_code, wait_for};
use integration::terminal::{FdSocket, Terminal};
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, has, hasnt, skip, tests, yes};
use procfs::process::Process;
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["exec":
    exec_joins_every_namespace_of_the_container,
    exec_joins_the_cgroup_of_the_container,
    the_exit_status_of_the_program_is_the_status_of_exec,
    a_failed_exec_ends_with_255,
    standard_streams_of_exec_are_passed_through,
    env_is_added_and_the_last_value_wins,
    cwd_is_used_and_a_missing_one_is_refused,
    user_is_given_as_uid_or_uid_and_gid,
    odd_users_are_refused_and_never_become_root,
    a_user_named_like_a_number_does_not_matter,
    additional_groups_are_set,
    capabilities_of_exec_are_those_of_the_container,
    cap_adds_to_bounding_permitted_and_effective_only,
    no_new_privileges_can_be_asked_for,
    process_is_read_from_a_file,
    a_minimal_process_file_is_enough,
    a_broken_process_file_is_refused,
    detach_returns_and_the_program_runs_on,
    a_terminal_of_exec_arrives_at_the_console_socket,
    rlimits_of_the_container_hold_for_exec,
    exec_runs_in_a_created_container,
    exec_in_a_stopped_container_is_refused,
    exec_in_a_paused_container_is_refused,
    exec_without_a_program_is_refused,
    exec_into_a_sub_cgroup,
    exec_can_not_leave_the_cgroup_of_the_container,
    preserved_descriptors_reach_exec,
    many_execs_at_once,
    a_detached_exec_that_ends_is_reaped_by_the_subreaper,
    exec_in_a_user_namespace_is_root_inside,
    home_comes_from_passwd_of_the_container,
];

/// A container that sleeps, to be entered.
fn sleeper(lab: &Lab) -> Result<Container, Stop> {
    let mut c = lab.container()?;
    c.sleeping()?;
    Ok(c)
}

fn report(c: &Container, flags: &[&str]) -> Result<Value, Stop> {
    c.exec_with(flags, &["inspector", "report"])?.ok()?.json()
}

fn exec_joins_every_namespace_of_the_container(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let pid = c.pid()?;
    let report = report(&c, &[])?;
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let of_init = fs::read_link(format!("/proc/{pid}/ns/{name}"))?;
        eq(report["ns"][name].as_str(), of_init.to_str(), format!("{name} namespace"))?;
    }
    yes(report["pid"].as_i64() > Some(1), "a pid of its own")?;
    eq(report["cwd"].as_str(), Some("/"), "cwd")?;
    c.delete_force()
}

fn exec_joins_the_cgroup_of_the_container(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let file = lab.dir.join("pid");
    c.exec_with(&["--detach", "--pid-file", &text(&file)], &["sleep", "1000"])?.ok()?;
    let paths = |pid: i32| -> Result<Vec<String>, Stop> {
        Ok(Process::new(pid)?.cgroups()?.into_iter().map(|group| group.pathname).collect())
    };
    let pid = fs::read_to_string(file)?.parse()?;
    eq(paths(pid)?, paths(c.pid()?)?, "cgroups of the exec'd process")?;
    c.delete_force()
}

fn the_exit_status_of_the_program_is_the_status_of_exec(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    for code in [0, 3, 255] {
        c.exec(&["sh", "-c", &format!("exit {code}")])?.status(code)?;
    }
    c.exec(&["sh", "-c", "kill -KILL $$"])?.status(137)?;
    c.delete_force()
}

fn a_failed_exec_ends_with_255(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let ended = c.exec(&["/no/such/program"])?.refused_with("no such file or directory")?;
    // crun says 1 for its own failures.
    eq(ended.code, if lab.kind() == Kind::Crun { 1 } else { 255 }, "status")?;
    c.exec(&["/etc/passwd"])?.refused_with(if lab.kind() == Kind::Crun {
        "not permitted"
    } else {
        "permission denied"
    })?;
    c.delete_force()
}

fn standard_streams_of_exec_are_passed_through(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let mut command = lab.command(&["exec", &c.id, "sh", "-c", "cat; echo err >&2"]);
    command.stdin(fs::File::open(lab.file("input", "several\nlines\n")?)?);
    let ended = integration::process::start(command, &lab.dir)?.wait()?.ok()?;
    eq(ended.stdout.as_str(), "several\nlines\n", "stdout")?;
    eq(ended.stderr.as_str(), "err\n", "stderr")?;
    c.delete_force()
}

fn env_is_added_and_the_last_value_wins(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().push("/process/env", json!("FROM=config")).push("/process/env", json!("BOTH=config"));
    c.sleeping()?;
    let flags = ["--env", "BOTH=exec", "--env", "NEW=a=b c"];
    let out = c.exec_with(&flags, &["sh", "-c", "echo $FROM/$BOTH/$NEW"])?.ok()?;
    eq(out.text(), "config/exec/a=b c", "environment")?;
    c.delete_force()
}

fn cwd_is_used_and_a_missing_one_is_refused(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    eq(c.exec_with(&["--cwd", "/etc"], &["pwd"])?.ok()?.text(), "/etc", "cwd")?;
    c.exec_with(&["--cwd", "/no/such/folder"], &["pwd"])?.refused()?;
    c.exec_with(&["--cwd", "relative"], &["pwd"])?.refused()?;
    c.delete_force()
}

fn user_is_given_as_uid_or_uid_and_gid(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    for (user, want) in [("1000", "1000 0"), ("1000:2000", "1000 2000"), ("0:5", "0 5")] {
        let out = c.exec_with(&["--user", user], &["sh", "-c", "echo $(id -u) $(id -g)"])?.ok()?;
        eq(out.text(), want, format!("ids of --user {user}"))?;
    }
    c.delete_force()
}

fn odd_users_are_refused_and_never_become_root(lab: &Lab) -> Outcome {
    // CVE-2026-30892: a lax parser ran the process as root.
    let c = sleeper(lab)?;
    for user in ["-1", "4294967296", "4294967295", "1x", " 1", "0x10", ":5", "1:", "1:2:3", "root", "1:-1"] {
        let ended = c.exec_with(&["--user", user], &["id", "-u"])?;
        if lab.kind() == Kind::Knarr {
            ended.refused()?;
            continue;
        }
        // runc 1.3.6 truncates 2^32 to 0, crun 1.28 takes what strtol makes of it.
        let lax = lab.kind() == Kind::Crun || user == "4294967296";
        yes(lax || ended.code != 0 || ended.text() != "0", format!("--user {user:?} became root"))?;
    }
    c.delete_force()
}

fn a_user_named_like_a_number_does_not_matter(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.bundle.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n")?;
    c.sleeping()?;
    eq(c.exec_with(&["--user", "1000"], &["id", "-u"])?.ok()?.text(), "1000", "uid (CVE-2016-3697)")?;
    c.delete_force()
}

fn additional_groups_are_set(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "has no --additional-gids")?;
    let c = sleeper(lab)?;
    let flags = ["--user", "1000:1000", "-g", "2000", "-g", "3000"];
    let report = report(&c, &flags)?;
    let mut groups: Vec<&str> = status(&report, "Groups")?.split_whitespace().collect();
    groups.retain(|g| *g != "1000");
    eq(groups, vec!["2000", "3000"], "supplementary groups")?;
    c.delete_force()
}

fn capabilities_of_exec_are_those_of_the_container(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let report = report(&c, &[])?;
    // kill 5, net_bind_service 10, audit_write 29
    for (set, want) in [
        ("CapBnd", 0x2000_0420),
        ("CapPrm", 0x2000_0420),
        ("CapEff", 0x2000_0420),
        ("CapInh", 0),
        ("CapAmb", 0),
    ] {
        eq(caps(&report, set)?, want, set)?;
    }
    c.delete_force()
}

fn cap_adds_to_bounding_permitted_and_effective_only(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let report = report(&c, &["--cap", "CAP_NET_ADMIN"])?;
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        eq(caps(&report, set)? >> 12 & 1, 1, format!("net_admin in {set}"))?;
    }
    for set in ["CapInh", "CapAmb"] {
        eq(caps(&report, set)?, 0, format!("{set} (CVE-2022-29162)"))?;
    }
    c.delete_force()
}

fn no_new_privileges_can_be_asked_for(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/noNewPrivileges", false);
    c.sleeping()?;
    let report = report(&c, &["--no-new-privs"])?;
    eq(status(&report, "NoNewPrivs")?, "1", "NoNewPrivs")?;
    c.delete_force()
}

fn process_is_read_from_a_file(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let process = json!({
        "terminal": false, "user": {"uid": 1000, "gid": 1000, "additionalGids": [2000], "umask": 63},
        "args": ["inspector", "report"], "env": ["PATH=/bin", "ONLY=this"], "cwd": "/tmp",
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}],
        "capabilities": {"bounding": ["CAP_KILL"], "effective": [], "permitted": []}, "noNewPrivileges": true
    });
    let file = lab.file("process.json", &process.to_string())?;
    let report = lab.call(&["exec", "--process", &text(&file), &c.id])?.ok()?.json()?;
    eq(status(&report, "Uid")?, "1000\t1000\t1000\t1000", "uid")?;
    if lab.kind() != Kind::Runc {
        // runc 1.3 leaves an exec'd process the umask of the container.
        eq(status(&report, "Umask")?, "0077", "umask")?;
    }
    eq(caps(&report, "CapBnd")?, 1 << 5, "bounding set")?;
    eq(caps(&report, "CapEff")?, 0, "effective set")?;
    eq(report["cwd"].as_str(), Some("/tmp"), "cwd")?;
    has(report["limits"].as_str().unwrap_or_default(), "Max open files            77                   88")?;
    yes(report["env"].as_array().is_some_and(|e| e.contains(&json!(["ONLY", "this"]))), "environment")?;
    c.delete_force()
}

fn a_minimal_process_file_is_enough(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let process = json!({"args": ["/bin/busybox", "echo", "minimal"], "cwd": "/"});
    let file = lab.file("process.json", &process.to_string())?;
    eq(lab.call(&["exec", "-p", &text(&file), &c.id])?.ok()?.text(), "minimal", "output")?;
    c.delete_force()
}

fn a_broken_process_file_is_refused(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    for text_of in [
        "",
        "{",
        "[]",
        "{\"args\": 5}",
        "{\"args\": [], \"cwd\": \"/\"}",
        "{\"args\": [\"true\"], \"cwd\": \"\"}",
    ] {
        let file = lab.file("process.json", text_of)?;
        let ended = lab.call(&["exec", "-p", &text(&file), &c.id])?;
        // runc takes an empty cwd as "/" since it checks args and cwd only of a bundle's configuration.
        yes(ended.code != 0 || text_of.contains("\"true\""), format!("{text_of} was accepted"))?;
    }
    lab.call(&["exec", "-p", "/no/such/file", &c.id])?.refused()?;
    eq(c.status()?, "running", "status")?;
    c.delete_force()
}

fn detach_returns_and_the_program_runs_on(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let file = lab.dir.join("pid");
    c.exec_with(&["--detach", "--pid-file", &text(&file)], &["sleep", "500"])?.ok()?;
    let pid = fs::read_to_string(&file)?.parse()?;
    // The kernel closes descriptors at an execve, by which its success is known, before it gives the process the new arguments.
    wait_for("the program runs", || executes(pid, &["sleep", "500"]).then_some(()))?;
    c.delete_force()
}

fn a_terminal_of_exec_arrives_at_the_console_socket(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let socket = FdSocket::listen(&lab.dir.join("tty.sock"))?;
    let path = text(&socket.path);
    let flags = ["--tty", "--detach", "--console-socket", &path];
    let running = c.exec_start(&flags, &["sh", "-c", "read x; tty; echo got $x"])?;
    let (master, _) = socket.receive()?;
    running.wait()?.ok()?;
    let mut terminal = Terminal::new(master);
    terminal.type_in("hello\n")?;
    let seen = terminal.read_until("got hello")?;
    has(seen, "/dev/pts/")?;
    c.delete_force()
}

fn rlimits_of_the_container_hold_for_exec(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "exec by flags has the caller's limits")?;
    let mut c = lab.container()?;
    c.config().set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]));
    c.sleeping()?;
    eq(c.sh("ulimit -Sn; ulimit -Hn")?, "55\n66", "limits")?;
    c.delete_force()
}

fn exec_runs_in_a_created_container(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().args(&["sleep", "1000"]);
    c.create_ok()?;
    eq(c.sh("echo early")?, "early", "output")?;
    eq(c.status()?, "created", "status")?;
    c.delete_force()
}

fn exec_in_a_stopped_container_is_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    c.exec(&["true"])?.refused()?;
    c.delete()?.ok()?;
    Ok(())
}

fn exec_in_a_paused_container_is_refused(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    c.call("pause", &[])?.ok()?;
    let ended = c.exec(&["true"])?.refused_with("paused")?;
    if lab.kind() != Kind::Crun {
        eq(ended.code, 255, "status")?;
        has(&ended.stderr, "cannot exec in a paused container")?;
    }
    c.call("resume", &[])?.ok()?;
    c.exec(&["true"])?.ok()?;
    c.delete_force()
}

fn exec_without_a_program_is_refused(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    c.exec(&[])?.refused()?;
    c.delete_force()
}

fn exec_into_a_sub_cgroup(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let controller = "pids";
    let group = c.cgroup(controller)?.join("sub");
    fs::create_dir(&group)?;
    let v1 = integration::runtime::cgroups() == integration::runtime::Cgroups::V1;
    if v1 && lab.kind() == Kind::Crun {
        return skip("crun takes one path for all hierarchies, which must exist in each");
    }
    let flag = if v1 { "pids:sub" } else { "sub" };
    let out = c.exec_with(&["--cgroup", flag], &["cat", "/proc/self/cgroup"])?.ok()?;
    has(&out.stdout, if v1 { ":pids:/sub" } else { "0::/sub" })?;
    wait_for("the sub cgroup is empty", || fs::remove_dir(&group).ok())?;
    c.delete_force()
}

fn exec_can_not_leave_the_cgroup_of_the_container(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "1.28 lets --cgroup ../.. out, fixed in 1.29")?;
    let c = sleeper(lab)?;
    for path in ["../..", "/../../..", "..", "pids:../..", "/no/such"] {
        c.exec_with(&["--cgroup", path], &["true"])?.refused()?;
    }
    c.delete_force()
}

fn preserved_descriptors_reach_exec(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let line = format!(
        "exec 3</dev/zero 4</dev/full; exec {} --root {} exec --preserve-fds 1 {} inspector report",
        lab.runtime.line(),
        lab.state.display(),
        c.id
    );
    let report = lab.host(&["bash", "-c", &line])?.ok()?.json()?;
    let fds = report["fds"].as_object().cloned().unwrap_or_default();
    eq(fds.keys().map(String::as_str).collect::<Vec<_>>(), vec!["0", "1", "2", "3"], "descriptors")?;
    eq(fds["3"].as_str(), Some("/dev/zero"), "descriptor 3")?;
    c.delete_force()
}

fn many_execs_at_once(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let mut running = Vec::new();
    for number in 0..10 {
        running.push((number, c.exec_start(&[], &["sh", "-c", &format!("echo {number}; exit {number}")])?));
    }
    for (number, process) in running {
        eq(process.wait()?.status(number)?.text(), number.to_string().as_str(), "output")?;
    }
    eq(c.status()?, "running", "status")?;
    c.delete_force()
}

fn a_detached_exec_that_ends_is_reaped_by_the_subreaper(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    let file = lab.dir.join("pid");
    c.exec_with(&["--detach", "--pid-file", &text(&file)], &["sh", "-c", "exit 21"])?.ok()?;
    let pid = fs::read_to_string(&file)?.parse()?;
    eq(wait_for("the exec'd process ends", || orphan_code(pid))?, 21, "exit status")?;
    c.delete_force()
}

fn exec_in_a_user_namespace_is_root_inside(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 65536);
    c.bundle.chown(100_000)?;
    c.sleeping()?;
    let report = report(&c, &[])?;
    eq(status(&report, "Uid")?, "0\t0\t0\t0", "uid")?;
    let words: Vec<&str> = report["uid_map"].as_str().unwrap_or_default().split_whitespace().collect();
    eq(words, vec!["0", "100000", "65536"], "uid map")?;
    c.delete_force()
}

fn home_comes_from_passwd_of_the_container(lab: &Lab) -> Outcome {
    let c = sleeper(lab)?;
    eq(c.exec_with(&["--user", "1000"], &["sh", "-c", "echo $HOME"])?.ok()?.text(), "/home/user", "HOME")?;
    eq(
        c.exec_with(&["-e", "HOME=/set"], &["sh", "-c", "echo $HOME"])?.ok()?.text(),
        "/set",
        "HOME by --env",
    )?;
    hasnt(c.sh("echo $HOME")?, "home")?;
    c.delete_force()
}
