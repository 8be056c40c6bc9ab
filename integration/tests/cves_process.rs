//! Published attacks on what a process inherits: handles on the host, credentials, the runtime's own binary, kernel knobs.
//!
//! A test passes if the runtime refuses or if the attack stays inside; in both cases the host is as before.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use integration::inspect::caps;
use integration::{Kind, Lab, Outcome, Test, eq, fail, hasnt, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["cves_process":
    cve_2019_5736_the_binary_can_not_be_overwritten,
    cve_2019_5736_by_a_preloaded_library,
    cve_2024_21626_cwd_is_not_on_the_host,
    cve_2024_21626_exec_cwd_is_not_on_the_host,
    cve_2022_29162_no_inheritable_capabilities,
    cve_2024_40635_large_uids_do_not_wrap,
    cve_2022_0811_sysctl_values_are_not_split,
    cve_2022_0492_release_agent_is_out_of_reach,
    setuid_programs_gain_nothing_under_no_new_privileges,
    the_runtime_does_not_run_programs_of_the_container,
    ptrace_of_the_entering_process_fails,
];

fn cve_2019_5736_the_binary_can_not_be_overwritten(lab: &Lab) -> Outcome {
    // The interpreter of the program is the runtime itself, which the container then opens to write by /proc/<pid>/exe.
    // The runner compares the binary afterwards.
    let mut c = lab.container()?;
    c.bundle.file("/bin/trap", "#!/proc/self/exe\n")?;
    fs::set_permissions(c.bundle.inside("/bin/trap"), fs::Permissions::from_mode(0o755))?;
    let watch = "while :; do for e in /proc/[0-9]*/exe; do
        case $e in /proc/1/*|/proc/self/*|/proc/$$/*) continue;; esac
        t=$(readlink $e) || continue; case $t in */busybox|*/inspector|'') continue;; esac
        echo seen $t
        ( echo x >>$e ) 2>/dev/null && echo overwritten
        ( exec 7<$e || exit; for i in 1 2 3 4 5 6 7 8 9; do ( echo x >>/proc/self/fd/7 ) 2>/dev/null && echo overwritten; sleep 0.02; done ) 2>/dev/null &
        done; done";
    c.config().privileged().writable().sh(watch);
    let running = c.foreground(&[])?;
    let pid = integration::process::wait_for("the watcher runs", || {
        c.pid().ok().filter(|_| c.status().is_ok_and(|s| s == "running"))
    })?;
    yes(pid > 0, "a pid")?;
    for _ in 0..8 {
        c.exec(&["/bin/trap"]).map(drop)?;
        c.exec(&["true"])?.ok()?;
    }
    c.kill("KILL")?.ok()?;
    let ended = running.wait()?;
    hasnt(ended.stdout, "overwritten")
}

fn cve_2019_5736_by_a_preloaded_library(lab: &Lab) -> Outcome {
    // A file that the dynamic loader would load into a runtime which enters the container.
    let mut c = lab.container()?;
    c.bundle.file("/etc/ld.so.preload", "/lib/evil.so\n")?;
    c.bundle.file("/lib/evil.so", "no library")?;
    c.sleeping()?;
    let ended = c.exec(&["true"])?.ok()?;
    hasnt(ended.stderr, "evil")?;
    c.delete_force()
}

/// The script looks for the host through its working directory.
const CWD: &str =
    "pwd; cat ../../../../../../etc/hostname 2>/dev/null; ls ../../../../../../boot 2>/dev/null; echo looked";

fn cve_2024_21626_cwd_is_not_on_the_host(lab: &Lab) -> Outcome {
    let secret = fs::read_to_string("/etc/hostname").unwrap_or_default();
    for number in (3..20).chain([63]) {
        let mut c = lab.container()?;
        c.config().set("/process/cwd", format!("/proc/self/fd/{number}")).sh(CWD);
        let ended = c.run_or_refuse()?;
        let leaked = ended.stdout.contains("looked")
            && !secret.trim().is_empty()
            && ended.stdout.contains(secret.trim());
        yes(!leaked, format!("the host through descriptor {number}:\n{}", ended.stdout))?;
    }
    Ok(())
}

fn cve_2024_21626_exec_cwd_is_not_on_the_host(lab: &Lab) -> Outcome {
    let secret = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let mut c = lab.container()?;
    c.sleeping()?;
    for number in 3..20 {
        let ended = c.exec_with(&["--cwd", &format!("/proc/self/fd/{number}")], &["sh", "-c", CWD])?;
        let leaked = ended.stdout.contains("looked")
            && !secret.trim().is_empty()
            && ended.stdout.contains(secret.trim());
        yes(!leaked, format!("the host through descriptor {number}:\n{}", ended.stdout))?;
    }
    c.delete_force()
}

fn cve_2022_29162_no_inheritable_capabilities(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    eq(caps(&report, "CapInh")?, 0, "inheritable set of the init")?;
    let mut c = lab.container()?;
    c.sleeping()?;
    let report = c.exec_with(&["--cap", "CAP_NET_RAW"], &["inspector", "report"])?.ok()?.json()?;
    eq(caps(&report, "CapInh")?, 0, "inheritable set of exec")?;
    eq(caps(&report, "CapAmb")?, 0, "ambient set of exec")?;
    c.delete_force()
}

fn cve_2024_40635_large_uids_do_not_wrap(lab: &Lab) -> Outcome {
    for uid in [2_147_483_648_u64, 4_294_967_294, 4_294_967_295, 4_294_967_296, 4_294_967_297] {
        let mut c = lab.container()?;
        c.config().set("/process/user", json!({"uid": uid, "gid": uid})).sh("id -u; id -g");
        let ended = c.run_or_refuse()?;
        let lax = lab.kind() == Kind::Crun && uid == 4_294_967_295;
        yes(
            lax || !ended.stdout.lines().any(|l| l == "0" || l == "1"),
            format!("uid {uid} became {:?}", ended.stdout),
        )?;
    }
    Ok(())
}

fn cve_2022_0811_sysctl_values_are_not_split(lab: &Lab) -> Outcome {
    for value in ["1+kernel.core_pattern=|/x", "1\nkernel.core_pattern=|/x", "0\u{0}1"] {
        let mut c = lab.container()?;
        c.config().set("/linux/sysctl", json!({"kernel.shm_rmid_forced": value}));
        let ended = c.run()?;
        yes(ended.code < 128, format!("status {}", ended.code))?;
        c.delete_force()?;
    }
    Ok(())
}

fn cve_2022_0492_release_agent_is_out_of_reach(lab: &Lab) -> Outcome {
    // What would be written is what is there, so that a success changes nothing on the host. CAP_SYS_ADMIN of the host's
    // user namespace is not contained by any runtime: the container has it only in a user namespace of its own.
    let script = "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do
            [ -e $f ] && v=$(cat $f) && echo \"$v\" > $f && echo written $f; done
        mkdir /tmp/c; for kind in pids memory freezer; do mount -t cgroup -o $kind cgroup /tmp/c && {
            v=$(cat /tmp/c/release_agent) && echo \"$v\" > /tmp/c/release_agent && echo written $kind; umount /tmp/c; }; done; true";
    for user_namespace in [false, true] {
        let mut c = lab.container()?;
        c.config().writable().sh(script);
        if user_namespace {
            c.config().privileged().user_namespace(100_000, 65536);
            c.bundle.chown(100_000)?;
        }
        let ended = c.run()?;
        hasnt(ended.stdout, "written")?;
    }
    Ok(())
}

fn setuid_programs_gain_nothing_under_no_new_privileges(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    fs::copy(c.bundle.inside("/bin/inspector"), c.bundle.inside("/bin/gain"))?;
    fs::set_permissions(c.bundle.inside("/bin/gain"), fs::Permissions::from_mode(0o4755))?;
    c.config().set("/process/user", json!({"uid": 1000, "gid": 1000})).args(&["/bin/gain", "report"]);
    let uids = |report: &serde_json::Value| integration::inspect::status(report, "Uid").map(str::to_owned);
    eq(uids(&c.run()?.ok()?.json()?)?.as_str(), "1000\t1000\t1000\t1000", "with no_new_privileges")?;
    let flags = nix::sys::statvfs::statvfs(&c.bundle.root())?.flags();
    if flags.contains(nix::sys::statvfs::FsFlags::ST_NOSUID) {
        return Ok(()); // the file system ignores the bit, so the other half would show nothing
    }
    c.config().set("/process/noNewPrivileges", false);
    eq(uids(&c.run()?.ok()?.json()?)?.as_str(), "1000\t0\t0\t0", "without, which shows that the trap works")
}

fn the_runtime_does_not_run_programs_of_the_container(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let marker = "#!/bin/sh\ntouch /ran-a-program\n";
    for name in ["/sbin/modprobe", "/usr/bin/newuidmap", "/usr/sbin/iptables", "/bin/ps", "/usr/bin/xz"] {
        fs::remove_file(c.bundle.inside(name)).ok();
        c.bundle.file(name, marker)?;
        fs::set_permissions(c.bundle.inside(name), fs::Permissions::from_mode(0o755))?;
    }
    c.config().writable();
    c.sleeping()?;
    c.call("ps", &[])?.ok()?;
    c.delete_force()?;
    yes(!c.bundle.inside("/ran-a-program").exists(), "a program of the container was run")
}

fn ptrace_of_the_entering_process_fails(lab: &Lab) -> Outcome {
    lab.except(
        Kind::Crun,
        "the directory of the container's cgroup can be seen, and with it the tree above",
    )?;
    // CVE-2016-9962: a process that enters must not be accessible to those inside before it has become one of them: no descriptor
    // of the host may be seen in /proc/<pid>/fd of any process.
    let mut c = lab.container()?;
    let watch = "while :; do for d in /proc/[0-9]*; do case $d in /proc/$$) continue;; esac
        for f in $d/fd/*; do t=$(readlink $f 2>/dev/null) || continue
        case $t in pipe:*|/dev/*|socket:*|anon_inode*|/proc/*|'') ;; /tmp/kt*/std*) ;; *) echo host $t;; esac; done; done; done";
    c.config()
        .caps(&["bounding", "effective", "permitted"], &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"])
        .sh(watch);
    let running = c.foreground(&[])?;
    integration::process::wait_for("it runs", || c.status().is_ok_and(|s| s == "running").then_some(()))?;
    for _ in 0..30 {
        c.exec(&["true"])?.ok()?;
    }
    c.kill("KILL")?.ok()?;
    let seen = running.wait()?.stdout;
    // runc shows its own procfs and the copy of itself, both detached: no way leads up from there. And it reads the container's
    // files of users from inside, and Go's runtime the size of huge pages.
    let of_runc = |path: &str| {
        path.starts_with(|c: char| c.is_ascii_digit())
            || ["etc/passwd", "etc/group", "sys/kernel/mm/transparent_hugepage/hpage_pmd_size"]
                .contains(&path)
    };
    let detached = |line: &str| {
        let Some(path) = line.strip_prefix("host /") else { return false };
        ["", "runc"].contains(&path) || path.contains("/task/") || (lab.kind() == Kind::Runc && of_runc(path))
    };
    let lines = seen.lines().filter(|l| !l.contains("/bin") && !detached(l));
    let odd: std::collections::BTreeSet<&str> = lines.collect();
    if odd.is_empty() { Ok(()) } else { fail(format!("descriptors of the host: {odd:?}")) }
}
