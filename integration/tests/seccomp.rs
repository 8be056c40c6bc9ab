//! System call filters: actions, errno, arguments, architectures, order with no_new_privileges and capabilities.

use integration::inspect::status;
use integration::lab::text;
use integration::terminal::FdSocket;
use integration::{Config, Kind, Lab, Outcome, Stop, Test, eq, has, skip, tests, yes};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["seccomp":
    without_a_profile_there_is_no_filter,
    a_profile_installs_a_filter,
    errno_is_eperm_by_default,
    errno_is_the_one_given,
    the_default_action_has_its_errno,
    arguments_are_compared_by_every_operator,
    several_arguments_must_all_match,
    rules_for_one_call_are_alternatives,
    a_masked_comparison_works,
    kill_ends_the_process,
    trap_sends_sigsys,
    log_lets_the_call_through,
    the_filter_holds_for_exec,
    the_filter_works_with_and_without_no_new_privileges,
    the_filter_does_not_hit_the_runtime_itself,
    the_runtime_does_without_calls_that_the_filter_refuses,
    unknown_system_calls_are_ignored,
    unknown_system_calls_are_warned_of,
    new_system_calls_get_the_answers_of_their_rules,
    new_system_calls_get_through_when_the_profile_allows_them,
    unknown_actions_and_operators_are_refused,
    calls_newer_than_the_profile_answer_enosys,
    the_default_profile_of_docker_style_works,
    notify_hands_the_listener_to_an_agent,
    notify_without_an_agent_is_refused,
    flags_are_accepted,
];

/// A filter that allows everything but what `syscalls` says.
fn filter(syscalls: &Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls})
}

/// What a call with these numbers answers under the filter.
fn answer(lab: &Lab, filter: Value, call: i64, args: &[&str]) -> Result<String, Stop> {
    let number = call.to_string();
    let mut c = lab.container()?;
    c.config().set("/linux/seccomp", filter).args(&[&["inspector", "syscall", &number], args].concat());
    Ok(c.run()?.ok()?.text().to_owned())
}

fn without_a_profile_there_is_no_filter(lab: &Lab) -> Outcome {
    eq(status(&lab.inspect(|_| {})?, "Seccomp")?, "0", "mode")
}

fn a_profile_installs_a_filter(lab: &Lab) -> Outcome {
    let report = lab.inspect(|c| {
        c.set("/linux/seccomp", filter(&json!([{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}])));
    })?;
    eq(status(&report, "Seccomp")?, "2", "mode")?;
    eq(status(&report, "Seccomp_filters")?, "1", "filters")
}

fn errno_is_eperm_by_default(lab: &Lab) -> Outcome {
    let f = filter(&json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]));
    eq(answer(lab, f, libc::SYS_getppid, &[])?.as_str(), "EPERM", "getppid")
}

fn errno_is_the_one_given(lab: &Lab) -> Outcome {
    let f = filter(&json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 104}]));
    eq(answer(lab, f, libc::SYS_getppid, &[])?.as_str(), "ECONNRESET", "getppid")
}

fn the_default_action_has_its_errno(lab: &Lab) -> Outcome {
    // Everything the inspector and the C library need is allowed; getppid falls to the default.
    let mut f = docker_style();
    f["defaultErrnoRet"] = json!(71);
    eq(answer(lab, f, libc::SYS_getppid, &[])?.as_str(), "EPROTO", "getppid")
}

fn arguments_are_compared_by_every_operator(lab: &Lab) -> Outcome {
    let table = [
        ("SCMP_CMP_NE", 7, ["5 EPERM", "7 EBADF", "9 EPERM"]),
        ("SCMP_CMP_LT", 7, ["5 EPERM", "7 EBADF", "9 EBADF"]),
        ("SCMP_CMP_LE", 7, ["5 EPERM", "7 EPERM", "9 EBADF"]),
        ("SCMP_CMP_EQ", 7, ["5 EBADF", "7 EPERM", "9 EBADF"]),
        ("SCMP_CMP_GE", 7, ["5 EBADF", "7 EPERM", "9 EPERM"]),
        ("SCMP_CMP_GT", 7, ["5 EBADF", "7 EBADF", "9 EPERM"]),
    ];
    for (op, value, rows) in table {
        let rule = json!([{"names": ["fchdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": value, "op": op}]}]);
        for row in rows {
            let (argument, want) = row.split_once(' ').unwrap_or_default();
            eq(
                answer(lab, filter(&rule), libc::SYS_fchdir, &[argument])?.as_str(),
                want,
                format!("fchdir({argument}) {op} {value}"),
            )?;
        }
    }
    Ok(())
}

fn several_arguments_must_all_match(lab: &Lab) -> Outcome {
    let rule = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
        "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]}]);
    eq(answer(lab, filter(&rule), libc::SYS_getpriority, &["0", "1"])?.as_str(), "EPROTO", "both match")?;
    has(answer(lab, filter(&rule), libc::SYS_getpriority, &["0", "0"])?, "ok")
}

fn rules_for_one_call_are_alternatives(lab: &Lab) -> Outcome {
    let one = |value: u32| json!({"names": ["fchdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]});
    let f = filter(&json!([one(50), one(60)]));
    for (argument, want) in [("50", "EPERM"), ("60", "EPERM"), ("55", "EBADF")] {
        eq(
            answer(lab, f.clone(), libc::SYS_fchdir, &[argument])?.as_str(),
            want,
            format!("fchdir({argument})"),
        )?;
    }
    Ok(())
}

fn a_masked_comparison_works(lab: &Lab) -> Outcome {
    let rule = json!([{"names": ["fchdir"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 0xf0, "valueTwo": 0x50, "op": "SCMP_CMP_MASKED_EQ"}]}]);
    eq(answer(lab, filter(&rule), libc::SYS_fchdir, &["89"])?.as_str(), "EPERM", "0x59")?;
    eq(answer(lab, filter(&rule), libc::SYS_fchdir, &["105"])?.as_str(), "EBADF", "0x69")
}

fn ended_with(lab: &Lab, action: &str) -> Result<i32, Stop> {
    let mut c = lab.container()?;
    // Not PID 1, so that the signal counts.
    c.config().share("pid").set("/linux/seccomp", filter(&json!([{"names": ["getppid"], "action": action}])));
    c.config().args(&["inspector", "syscall", &libc::SYS_getppid.to_string()]);
    Ok(c.run()?.code)
}

fn kill_ends_the_process(lab: &Lab) -> Outcome {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"] {
        eq(ended_with(lab, action)?, 128 + libc::SIGSYS, action)?;
    }
    Ok(())
}

fn trap_sends_sigsys(lab: &Lab) -> Outcome {
    eq(ended_with(lab, "SCMP_ACT_TRAP")?, 128 + libc::SIGSYS, "status")
}

fn log_lets_the_call_through(lab: &Lab) -> Outcome {
    eq(ended_with(lab, "SCMP_ACT_LOG")?, 0, "status")
}

fn the_filter_holds_for_exec(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let f = filter(&json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]));
    c.config().set("/linux/seccomp", f);
    c.sleeping()?;
    let number = libc::SYS_getppid.to_string();
    eq(c.exec(&["inspector", "syscall", &number])?.ok()?.text(), "EPROTO", "getppid by exec")?;
    c.delete_force()
}

fn the_filter_works_with_and_without_no_new_privileges(lab: &Lab) -> Outcome {
    for (nnp, uid) in [(true, 0), (true, 1000), (false, 0), (false, 1000)] {
        let mut c = lab.container()?;
        c.config().set("/process/noNewPrivileges", nnp).set("/process/user", json!({"uid": uid, "gid": uid}));
        c.config().set(
            "/linux/seccomp",
            filter(&json!([{"names": ["swapoff"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}])),
        );
        // A call no runtime makes: without no_new_privileges the filter is there before the runtime has finished.
        c.config().args(&["inspector", "syscall", &libc::SYS_swapoff.to_string()]);
        eq(c.run()?.ok()?.text(), "EPROTO", format!("noNewPrivileges {nnp}, uid {uid}"))?;
    }
    Ok(())
}

fn the_filter_does_not_hit_the_runtime_itself(lab: &Lab) -> Outcome {
    // With no_new_privileges the filter is the last thing before execve: what the runtime does before it is not hit.
    let calls = json!([
        "mount",
        "umount2",
        "pivot_root",
        "sethostname",
        "setns",
        "unshare",
        "capset",
        "setuid",
        "setgid",
        "setgroups",
        "setresuid",
        "setresgid",
        "chdir",
        "fchdir",
        "mknod",
        "mknodat",
        "symlinkat",
        "mkdirat",
        "fsopen",
        "fsmount",
        "move_mount",
        "open_tree",
        "setsid",
        "prlimit64",
        "keyctl",
        "close_range"
    ]);
    for nnp in [true, false] {
        let mut c = lab.container()?;
        let names = if nnp {
            calls.clone()
        } else {
            json!(["mount", "umount2", "pivot_root", "sethostname", "unshare", "fsopen"])
        };
        c.config().set("/process/noNewPrivileges", nnp).args(&["/bin/busybox", "true"]);
        c.config().set("/linux/seccomp", filter(&json!([{"names": names, "action": "SCMP_ACT_ERRNO"}])));
        let ended = c.run()?;
        // A runtime may need prlimit64, keyctl or close_range after the filter; it must then say so, not hang or crash.
        yes(
            ended.code == 0 || (nnp && lab.kind() != Kind::Knarr),
            format!("status {}: {}", ended.code, ended.stderr),
        )?;
        c.delete_force()?;
    }
    Ok(())
}

/// Without no_new_privileges the filter is installed before the change of user: what comes after it runs under it.
fn the_runtime_does_without_calls_that_the_filter_refuses(lab: &Lab) -> Outcome {
    let calls = [
        "accept4",
        "clone3",
        "close_range",
        "faccessat",
        "faccessat2",
        "fchownat",
        "keyctl",
        "openat2",
        "pidfd_open",
        "poll",
        "prlimit64",
        "sched_setaffinity",
        "setresgid",
        "setresuid",
        "statx",
        "umask",
    ];
    for (number, call) in calls.into_iter().enumerate() {
        if lab.kind() == Kind::Runc && call == "statx" {
            // It checks its procfs with it.
            continue;
        }
        let lab = lab.inner(&number.to_string())?;
        let mut c = lab.container()?;
        c.config()
            .set("/linux/seccomp", filter(&json!([{"names": [call], "action": "SCMP_ACT_ERRNO"}])))
            .set("/process/noNewPrivileges", false)
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .sh("echo $HOME $(id -u) $(id -g)");
        let ended = c.run()?;
        eq(
            (ended.code, ended.text()),
            (0, "/home/user 1000 1000"),
            format!("without {call}: {}", ended.stderr),
        )?;
        c.create()?.ok()?;
        c.start()?.ok().map_err(|e| Stop::Failed(format!("start without {call}: {e:?}")))?;
        c.wait_for_status("stopped")?;
        c.delete()?.ok()?;
    }
    Ok(())
}

fn unknown_system_calls_are_ignored(lab: &Lab) -> Outcome {
    let rule = json!([{"names": ["no_such_call", "getppid"], "action": "SCMP_ACT_ERRNO"}]);
    eq(answer(lab, filter(&rule), libc::SYS_getppid, &[])?.as_str(), "EPERM", "the known call of the rule")
}

fn unknown_system_calls_are_warned_of(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "tells of them in debug messages alone")?;
    lab.except(Kind::Crun, "tells of them in debug messages alone")?;
    let run = |names: Value| -> Result<String, Stop> {
        let mut c = lab.container()?;
        let rule = json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]);
        c.config().set("/linux/seccomp", filter(&rule)).args(&["inspector", "argv"]);
        Ok(c.run()?.ok()?.stderr.clone())
    };
    has(
        run(json!(["no_such_call", "mseal", "other_call"]))?,
        "unknown seccomp syscalls ignored: no_such_call, other_call",
    )?;
    let known: Vec<&str> = NEW.iter().map(|(name, _)| *name).collect();
    eq(run(json!(known))?.as_str(), "", "what is said of calls that are new")
}

/// Calls newer than libseccomp 2.5.4, by the numbers that they have on all architectures.
const NEW: &[(&str, i64)] =
    &[("statmount", 457), ("listmount", 458), ("mseal", 462), ("listxattrat", 465), ("listns", 470)];

/// Which of the calls the kernel has, by what it says to them without a filter. What they say to nothing but zeros is harmless.
fn new_calls(lab: &Lab) -> Result<Vec<(&'static str, i64, String)>, Stop> {
    let everything = || json!({"defaultAction": "SCMP_ACT_ALLOW"});
    let asked =
        NEW.iter().map(|(name, number)| Ok((*name, *number, answer(lab, everything(), *number, &[])?)));
    let asked: Vec<_> = asked.collect::<Result<_, Stop>>()?;
    Ok(asked.into_iter().filter(|(.., said)| said != "ENOSYS").collect())
}

fn new_system_calls_get_the_answers_of_their_rules(lab: &Lab) -> Outcome {
    for (name, number) in NEW {
        let f = filter(&json!([{"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]));
        eq(answer(lab, f, *number, &[])?.as_str(), "EPROTO", name)?;
        let conditional = filter(&json!([{"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
            "args": [{"index": 1, "value": 4096, "op": "SCMP_CMP_GE"}]}]));
        eq(
            answer(lab, conditional.clone(), *number, &["0", "4096"])?.as_str(),
            "EPROTO",
            format!("{name}(0, 4096)"),
        )?;
        let other = answer(lab, conditional, *number, &["0", "4095"])?;
        yes(other != "EPROTO", format!("{name}(0, 4095): {other}"))?;
    }
    Ok(())
}

fn new_system_calls_get_through_when_the_profile_allows_them(lab: &Lab) -> Outcome {
    let calls = new_calls(lab)?;
    if calls.is_empty() {
        return skip("the kernel has none of the calls that libseccomp 2.5.4 does not know");
    }
    for (name, number, unfiltered) in calls {
        let mut f = docker_style();
        f["defaultErrnoRet"] = json!(71);
        // One that is newer still, so that the call is not unknown to the profile.
        f["syscalls"].as_array_mut().iter_mut().for_each(|all| {
            all.push(json!({"names": ["rseq_slice_yield"], "action": "SCMP_ACT_ALLOW"}));
        });
        eq(answer(lab, f.clone(), number, &[])?.as_str(), "EPROTO", format!("{name}, which is not allowed"))?;
        f["syscalls"][0]["names"].as_array_mut().iter_mut().for_each(|names| names.push(json!(name)));
        eq(answer(lab, f, number, &[])?, unfiltered, format!("{name}, which is allowed"))?;
    }
    Ok(())
}

fn unknown_actions_and_operators_are_refused(lab: &Lab) -> Outcome {
    let bad = [
        json!({"defaultAction": "SCMP_ACT_NOSUCH"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOSUCH"]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "NOSUCH"}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 1, "op": "NOSUCH"}]}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}),
    ];
    for profile in bad {
        let mut c = lab.container()?;
        c.config().set("/linux/seccomp", profile.clone());
        let ended = c.run()?;
        yes(ended.code != 0, format!("accepted: {profile}"))?;
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn calls_newer_than_the_profile_answer_enosys(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "answers with the default errno")?;
    has(answer(lab, docker_style(), 1000, &[])?, "ENOSYS")
}

/// A profile in the style of Docker's: deny by default, allow what ordinary programs need.
fn docker_style() -> Value {
    let names = [
        "access",
        "arch_prctl",
        "brk",
        "chdir",
        "clock_gettime",
        "clone",
        "clone3",
        "fork",
        "vfork",
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "fchdir",
        "fchmod",
        "fchown",
        "fcntl",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getpid",
        "getpgrp",
        "getrandom",
        "getrlimit",
        "gettid",
        "getuid",
        "ioctl",
        "kill",
        "lseek",
        "lstat",
        "madvise",
        "mmap",
        "mprotect",
        "mremap",
        "munmap",
        "nanosleep",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "pipe",
        "pipe2",
        "poll",
        "ppoll",
        "prctl",
        "pread64",
        "prlimit64",
        "pwrite64",
        "read",
        "readlink",
        "readlinkat",
        "readv",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_getaffinity",
        "sched_yield",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setuid",
        "sigaltstack",
        "stat",
        "statfs",
        "statx",
        "sysinfo",
        "tgkill",
        "umask",
        "uname",
        "wait4",
        "waitid",
        "write",
        "writev",
        "capget",
        "capset",
        "setresuid",
        "setresgid",
        "sendmsg",
        "recvmsg",
        "socket",
        "setsid",
        "fchmodat",
        "fchownat",
        "keyctl",
        "seccomp",
        "landlock_restrict_self",
    ];
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": architectures(),
           "syscalls": [{"names": names.as_slice(), "action": "SCMP_ACT_ALLOW"}]})
}

fn architectures() -> Value {
    if cfg!(target_arch = "x86_64") {
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    } else if cfg!(target_arch = "aarch64") {
        json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    } else {
        json!([])
    }
}

fn the_default_profile_of_docker_style_works(lab: &Lab) -> Outcome {
    let change = |config: &mut Config| {
        config.set("/linux/seccomp", docker_style());
    };
    eq(lab.sh(change, "mkdir /tmp/x 2>&1; echo alive")?.lines().last(), Some("alive"), "output")?;
    let mut c = lab.container()?;
    c.config().set("/linux/seccomp", docker_style()).args(&["inspector", "socket", "38"]);
    c.run()?.ok()?;
    Ok(())
}

fn notifying(lab: &Lab, c: &mut integration::Container) -> Result<FdSocket, Stop> {
    let socket = FdSocket::listen(&lab.dir.join("agent.sock"))?;
    let mut f = filter(&json!([{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]));
    f["listenerPath"] = json!(text(&socket.path));
    f["listenerMetadata"] = json!("some words");
    c.config().set("/linux/seccomp", f);
    Ok(socket)
}

fn notify_hands_the_listener_to_an_agent(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "sends another message")?;
    let mut c = lab.container()?;
    c.config().args(&["sleep", "1000"]);
    let socket = notifying(lab, &mut c)?;
    c.bundle.write()?;
    let running = lab.start(&["create", "--bundle", &c.bundle_arg(), &c.id])?;
    let (listener, message) = socket.receive()?;
    running.wait()?.ok()?;
    let state: Value = serde_json::from_str(message.trim_end_matches('\0'))?;
    eq(&state["fds"], &json!(["seccompFd"]), "fds")?;
    eq(state["metadata"].as_str(), Some("some words"), "metadata")?;
    eq(state["state"]["id"].as_str(), Some(c.id.as_str()), "id")?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&listener);
    let target = std::fs::read_link(format!("/proc/self/fd/{number}"))?;
    has(target.to_string_lossy(), "seccomp notify")?;
    c.delete_force()
}

fn notify_without_an_agent_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "takes the agent from an annotation")?;
    let mut c = lab.container()?;
    let mut f = filter(&json!([{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]));
    c.config().set("/linux/seccomp", f.clone());
    c.run()?.refused()?;
    f["listenerPath"] = json!("/no/such/socket");
    c.config().set("/linux/seccomp", f);
    c.run()?.refused()?;
    c.delete_force()?;
    c.is_gone()
}

fn flags_are_accepted(lab: &Lab) -> Outcome {
    let mut f = filter(&json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]));
    f["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    eq(answer(lab, f.clone(), libc::SYS_getppid, &[])?.as_str(), "EPERM", "with flags")?;
    f["flags"] = json!(["SECCOMP_FILTER_FLAG_NOSUCH"]);
    let mut c = lab.container()?;
    c.config().set("/linux/seccomp", f);
    c.run()?.refused()?;
    c.delete_force()
}
