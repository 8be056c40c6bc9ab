//! Published attacks, each as a hostile root file system or configuration. Named after their class and advisory.
//!
//! A test passes if the runtime refuses or if the attack stays inside; in both cases the host is as before. The
//! files of the host that attackers aimed at are in every snapshot, so each test checks them by itself.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use integration::inspect::caps;
use integration::lab::text;
use integration::rootfs::Trap;
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, fail, has, hasnt, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["cves":
    cve_2015_3629_mount_targets_stay_inside,
    cve_2018_and_2019_16884_proc_can_not_be_replaced,
    cve_2019_5736_the_binary_can_not_be_overwritten,
    cve_2019_5736_by_a_preloaded_library,
    cve_2019_18837_dev_as_a_symlink_stays_inside,
    cve_2026_41579_dev_as_a_symlink_without_a_mount,
    cve_2023_27561_proc_as_a_symlink_is_refused,
    cve_2025_54867_sys_as_a_symlink_is_refused,
    cve_2024_21626_cwd_is_not_on_the_host,
    cve_2024_21626_exec_cwd_is_not_on_the_host,
    cve_2025_31133_dev_null_is_verified,
    cve_2022_29162_no_inheritable_capabilities,
    cve_2024_40635_large_uids_do_not_wrap,
    cve_2022_0811_sysctl_values_are_not_split,
    cve_2022_0492_release_agent_is_out_of_reach,
    cve_2021_30465_parents_that_are_symlinks_stay_inside,
    cve_2024_45310_no_folders_are_made_on_the_host,
    race_a_flipping_target_never_escapes,
    fifos_in_place_of_files_do_not_hang,
    devices_in_place_of_files_do_not_hang,
    setuid_programs_gain_nothing_under_no_new_privileges,
    default_masks_and_read_only_paths_hold,
    the_delete_of_a_swapped_root_leaves_the_host_alone,
    annotations_open_no_files,
    hostile_passwd_and_group_are_bounded,
    the_runtime_does_not_run_programs_of_the_container,
    ptrace_of_the_entering_process_fails,
];

/// A canary folder on the host with a file in it.
fn canary(lab: &Lab) -> Result<PathBuf, Stop> {
    let folder = lab.folder("host")?;
    fs::write(folder.join("canary"), "alive")?;
    Ok(folder)
}

fn alive(folder: &std::path::Path) -> Outcome {
    eq(
        fs::read_to_string(folder.join("canary"))?.as_str(),
        "alive",
        "the canary",
    )?;
    let names: Vec<_> = fs::read_dir(folder)?.flatten().map(|e| e.file_name()).collect();
    eq(names.len(), 1, format!("files on the host: {names:?}"))
}

/// Runs the container to its end or to a refusal; either is fine, if it is orderly.
fn run_or_refuse(c: &Container) -> Result<integration::Ended, Stop> {
    let ended = c.run()?;
    if ended.code != 0 && ended.stdout.is_empty() {
        yes(!ended.stderr.is_empty(), "a failure without a word")?;
        hasnt(&ended.stderr, "panicked")?;
    }
    c.delete_force()?;
    Ok(ended)
}

fn cve_2015_3629_mount_targets_stay_inside(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    for target in [
        text(&host),
        format!("../../../../../../../../..{}", text(&host)),
        "/proc/self/cwd".to_owned(),
    ] {
        let mut c = lab.container()?;
        c.bundle.trap("/vol", Trap::Link(&target))?;
        c.config().mount("/vol/inner", "tmpfs", "tmpfs", &[]).writable();
        run_or_refuse(&c)?;
        alive(&host)?;
    }
    Ok(())
}

fn cve_2018_and_2019_16884_proc_can_not_be_replaced(lab: &Lab) -> Outcome {
    lab.except(
        Kind::Crun,
        "allows it, and checks its own procfs when it writes labels",
    )?;
    let mut c = lab.container()?;
    c.bundle.file("/fake/self/attr/exec", "")?;
    let fake = text(&c.bundle.inside("/fake"));
    c.config()
        .without_mount("/proc")
        .mount("/proc", "bind", &fake, &["rbind"]);
    c.run()?.refused()?;
    c.is_gone()
}

fn cve_2019_5736_the_binary_can_not_be_overwritten(lab: &Lab) -> Outcome {
    // The interpreter of the program is the runtime itself, which the container then opens to write by /proc/<pid>/exe.
    // The runner compares the binary afterwards.
    let mut c = lab.container()?;
    c.bundle.file("/bin/trap", "#!/proc/self/exe\n")?;
    fs::set_permissions(c.bundle.inside("/bin/trap"), fs::Permissions::from_mode(0o755))?;
    let watch = "while :; do for e in /proc/[0-9]*/exe; do
        case $e in /proc/1/*|/proc/self/*|/proc/$$/*) continue;; esac
        t=$(readlink $e) || continue; case $t in */busybox|*/inspector|'') continue;; esac
        echo seen $t; : 2>/dev/null >>$e && echo overwritten; done; done";
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

fn cve_2019_18837_dev_as_a_symlink_stays_inside(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let c = lab.container()?;
    c.bundle.trap("/dev", Trap::Link(&text(&host)))?;
    run_or_refuse(&c)?;
    alive(&host)
}

fn cve_2026_41579_dev_as_a_symlink_without_a_mount(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let mut c = lab.container()?;
    c.bundle.trap("/dev", Trap::Link(&text(&host)))?;
    c.config().writable();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        c.config().without_mount(destination);
    }
    run_or_refuse(&c)?;
    alive(&host)
}

fn cve_2023_27561_proc_as_a_symlink_is_refused(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    for target in [text(&host), "/fake".to_owned(), "fake".to_owned()] {
        let c = lab.container()?;
        fs::create_dir(c.bundle.inside("/fake"))?;
        c.bundle.trap("/proc", Trap::Link(&target))?;
        let ended = c.create()?.refused()?;
        if lab.kind() != Kind::Crun {
            has(&ended.stderr, "must be mounted on ordinary directory")?;
        }
        c.is_gone()?;
        alive(&host)?;
    }
    Ok(())
}

fn cve_2025_54867_sys_as_a_symlink_is_refused(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    for target in [text(&host), "../../../host".to_owned()] {
        let c = lab.container()?;
        c.bundle.trap("/sys", Trap::Link(&target))?;
        c.create()?.refused()?;
        c.is_gone()?;
        alive(&host)?;
    }
    Ok(())
}

/// The script looks for the host through its current folder.
const CWD: &str =
    "pwd; cat ../../../../../../etc/hostname 2>/dev/null; ls ../../../../../../boot 2>/dev/null; echo looked";

fn cve_2024_21626_cwd_is_not_on_the_host(lab: &Lab) -> Outcome {
    let secret = fs::read_to_string("/etc/hostname").unwrap_or_default();
    for number in (3..20).chain([63]) {
        let mut c = lab.container()?;
        c.config()
            .set("/process/cwd", format!("/proc/self/fd/{number}"))
            .sh(CWD);
        let ended = run_or_refuse(&c)?;
        let leaked = ended.stdout.contains("looked")
            && !secret.trim().is_empty()
            && ended.stdout.contains(secret.trim());
        yes(
            !leaked,
            format!("the host through descriptor {number}:\n{}", ended.stdout),
        )?;
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
        yes(
            !leaked,
            format!("the host through descriptor {number}:\n{}", ended.stdout),
        )?;
    }
    c.delete_force()
}

fn cve_2025_31133_dev_null_is_verified(lab: &Lab) -> Outcome {
    for trap in [
        Trap::Link("/proc/sys/kernel/core_pattern"),
        Trap::File("text"),
        Trap::Device(1, 11),
        Trap::Fifo,
    ] {
        let mut c = lab.container()?;
        c.bundle.trap("/dev/null", trap)?;
        c.config()
            .privileged()
            .writable()
            .without_mount("/dev")
            .without_mount("/dev/pts")
            .without_mount("/dev/shm");
        c.config()
            .without_mount("/dev/mqueue")
            .push("/linux/maskedPaths", json!("/etc/passwd"));
        c.config()
            .sh("cat /etc/passwd; echo '|/x' > /etc/passwd; cat /proc/keys");
        let ended = run_or_refuse(&c)?;
        hasnt(ended.stdout, "core")?;
    }
    Ok(())
}

fn cve_2022_29162_no_inheritable_capabilities(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    eq(caps(&report, "CapInh")?, 0, "inheritable set of the init")?;
    let mut c = lab.container()?;
    c.sleeping()?;
    let report = c
        .exec_with(&["--cap", "CAP_NET_RAW"], &["inspector", "report"])?
        .ok()?
        .json()?;
    eq(caps(&report, "CapInh")?, 0, "inheritable set of exec")?;
    eq(caps(&report, "CapAmb")?, 0, "ambient set of exec")?;
    c.delete_force()
}

fn cve_2024_40635_large_uids_do_not_wrap(lab: &Lab) -> Outcome {
    for uid in [
        2_147_483_648_u64,
        4_294_967_294,
        4_294_967_295,
        4_294_967_296,
        4_294_967_297,
    ] {
        let mut c = lab.container()?;
        c.config()
            .set("/process/user", json!({"uid": uid, "gid": uid}))
            .sh("id -u; id -g");
        let ended = run_or_refuse(&c)?;
        let lax = lab.kind() == Kind::Crun && uid == 4_294_967_295;
        yes(
            lax || !ended.stdout.lines().any(|l| l == "0" || l == "1"),
            format!("uid {uid} became {:?}", ended.stdout),
        )?;
    }
    Ok(())
}

fn cve_2022_0811_sysctl_values_are_not_split(lab: &Lab) -> Outcome {
    for value in [
        "1+kernel.core_pattern=|/x",
        "1\nkernel.core_pattern=|/x",
        "0\u{0}1",
    ] {
        let mut c = lab.container()?;
        c.config()
            .set("/linux/sysctl", json!({"kernel.shm_rmid_forced": value}));
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

fn cve_2021_30465_parents_that_are_symlinks_stay_inside(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let mut c = lab.container()?;
    let source = lab.folder("source")?;
    for (number, target) in ["/", "/..", "../../../..", "/proc/self/root"].iter().enumerate() {
        c.bundle.trap(&format!("/a{number}"), Trap::Link(target))?;
        c.config().mount(
            &format!("/a{number}{}/deep", text(&host)),
            "bind",
            &text(&source),
            &["bind"],
        );
    }
    c.config().writable();
    run_or_refuse(&c)?;
    alive(&host)
}

fn cve_2024_45310_no_folders_are_made_on_the_host(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let mut c = lab.container()?;
    let file = lab.file("file", "")?;
    c.bundle.trap("/link", Trap::Link(&text(&host)))?;
    c.config()
        .writable()
        .mount("/link/made/by/runtime", "bind", &text(&file), &["bind"]);
    c.config().push(
        "/linux/devices",
        json!({"path": "/link/device", "type": "c", "major": 1, "minor": 3}),
    );
    c.config().set("/process/cwd", "/link/cwd");
    run_or_refuse(&c)?;
    alive(&host)
}

fn race_a_flipping_target_never_escapes(lab: &Lab) -> Outcome {
    // CVE-2019-19921, 2021-30465, 2024-45310: a second container swaps the parent of a target by a symlink to the host.
    let host = canary(lab)?;
    let shared = lab.folder("shared")?;
    fs::create_dir_all(shared.join("a/b"))?;
    symlink(text(&host), shared.join("evil"))?;
    let inspector = integration::rootfs::beside_this_program("inspector");
    let Some(inspector) = inspector else {
        return fail("no inspector beside the test program");
    };
    let mut flip = integration::process::command(inspector);
    flip.arg("flip").arg(shared.join("a")).arg(shared.join("evil"));
    let attacker = integration::process::start(flip, &lab.dir)?;
    let rounds = if lab.kind() == Kind::Knarr { 60 } else { 20 };
    let mut failure = None;
    for _ in 0..rounds {
        let mut c = lab.container()?;
        fs::remove_dir(c.bundle.inside("/mnt"))?;
        // The volume is in the root itself, as with an image whose root is shared.
        fs::rename(c.bundle.root(), c.bundle.path.join("lower"))?;
        fs::create_dir(c.bundle.root())?;
        let root = c.bundle.root();
        let bind = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(
            Some(&c.bundle.path.join("lower")),
            &root,
            None::<&str>,
            bind,
            None::<&str>,
        )?;
        fs::create_dir(c.bundle.inside("/mnt"))?;
        nix::mount::mount(
            Some(&shared),
            &c.bundle.inside("/mnt"),
            None::<&str>,
            bind,
            None::<&str>,
        )?;
        c.config().writable().mount("/mnt/a/b/c/d", "tmpfs", "tmpfs", &[]);
        let ended = c.run();
        let deleted = c.delete_force();
        nix::mount::umount2(&c.bundle.inside("/mnt"), nix::mount::MntFlags::MNT_DETACH)?;
        nix::mount::umount2(&root, nix::mount::MntFlags::MNT_DETACH)?;
        let outcome = ended.map(drop).and(deleted).and_then(|()| alive(&host));
        if outcome.is_err() {
            failure = Some(outcome);
            break;
        }
    }
    attacker.signal(nix::sys::signal::Signal::SIGKILL)?;
    attacker.wait()?;
    failure.unwrap_or(Ok(()))
}

fn fifos_in_place_of_files_do_not_hang(lab: &Lab) -> Outcome {
    for path in [
        "/etc/passwd",
        "/etc/group",
        "/dev/null",
        "/dev/console",
        "/bin/true",
        "/etc/hostname",
        "/etc/ld.so.cache",
    ] {
        let mut c = lab.container()?;
        c.bundle.trap(path, Trap::Fifo)?;
        c.config().set("/process/user", json!({"uid": 1000, "gid": 1000}));
        if path == "/etc/passwd" && lab.kind() != Kind::Knarr {
            continue; // peers open it and wait for ever
        }
        run_or_refuse(&c)?;
    }
    Ok(())
}

fn devices_in_place_of_files_do_not_hang(lab: &Lab) -> Outcome {
    for path in ["/etc/passwd", "/etc/group", "/bin/true"] {
        let c = lab.container()?;
        // /dev/zero never ends, /dev/kmsg blocks.
        for (major, minor) in [(1, 5), (1, 11)] {
            if path == "/etc/passwd" && lab.kind() != Kind::Knarr {
                continue;
            }
            c.bundle.trap(path, Trap::Device(major, minor))?;
            run_or_refuse(&c)?;
        }
    }
    Ok(())
}

fn setuid_programs_gain_nothing_under_no_new_privileges(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    fs::copy(c.bundle.inside("/bin/inspector"), c.bundle.inside("/bin/gain"))?;
    fs::set_permissions(c.bundle.inside("/bin/gain"), fs::Permissions::from_mode(0o4755))?;
    c.config()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .args(&["/bin/gain", "report"]);
    let uids = |report: &serde_json::Value| integration::inspect::status(report, "Uid").map(str::to_owned);
    eq(
        uids(&c.run()?.ok()?.json()?)?.as_str(),
        "1000\t1000\t1000\t1000",
        "with no_new_privileges",
    )?;
    c.config().set("/process/noNewPrivileges", false);
    eq(
        uids(&c.run()?.ok()?.json()?)?.as_str(),
        "1000\t0\t0\t0",
        "without, which shows that the trap works",
    )
}

fn default_masks_and_read_only_paths_hold(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().privileged().args(&[
        "inspector",
        "open",
        "w",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/sys/firmware",
    ]);
    let out = c.run()?.ok()?.stdout;
    for line in out.lines().filter(|l| l.ends_with(" ok")) {
        // A masked file is a bind of a read-write /dev/null: writing to it goes nowhere.
        yes(
            ["/proc/kcore", "/proc/keys", "/proc/timer_list"]
                .iter()
                .any(|m| line.starts_with(m)),
            line,
        )?;
    }
    Ok(())
}

fn the_delete_of_a_swapped_root_leaves_the_host_alone(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let mut c = lab.container()?;
    c.sleeping()?;
    for place in ["/proc", "/dev", "/sys", "/mnt"] {
        let path = c.bundle.inside(place);
        fs::rename(&path, c.bundle.inside(&format!("{place}-was")))?;
        symlink(&host, &path)?;
    }
    c.delete_force()?;
    alive(&host)
}

fn annotations_open_no_files(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let mut c = lab.container()?;
    let target = text(&host.join("made"));
    for name in [
        "run.oci.hooks.stdout",
        "run.oci.hooks.stderr",
        "org.criu.config",
        "run.oci.pidfd_receiver",
        "run.oci.seccomp.receiver",
    ] {
        c.config().0["annotations"][name] = json!(target);
    }
    c.config().push(
        "/hooks/createRuntime",
        json!({"path": "/bin/echo", "args": ["echo", "words"]}),
    );
    if lab.kind() == Kind::Crun {
        // These are crun's documented extensions.
        return integration::skip("Crun: its own annotations");
    }
    c.run()?.ok()?;
    alive(&host)
}

fn hostile_passwd_and_group_are_bounded(lab: &Lab) -> Outcome {
    // CVE-2026-47262: a sparse file of gigabytes.
    let mut c = lab.container()?;
    for name in ["/etc/passwd", "/etc/group"] {
        fs::File::options()
            .write(true)
            .open(c.bundle.inside(name))?
            .set_len(2 << 30)?;
    }
    c.config().set("/process/user", json!({"uid": 1234, "gid": 1234}));
    if lab.kind() != Kind::Knarr {
        return integration::skip("peers read it all, or give up with an error of their own");
    }
    run_or_refuse(&c)?;
    Ok(())
}

fn the_runtime_does_not_run_programs_of_the_container(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let marker = "#!/bin/sh\ntouch /ran-a-program\n";
    for name in [
        "/sbin/modprobe",
        "/usr/bin/newuidmap",
        "/usr/sbin/iptables",
        "/bin/ps",
        "/usr/bin/xz",
    ] {
        fs::remove_file(c.bundle.inside(name)).ok();
        c.bundle.file(name, marker)?;
        fs::set_permissions(c.bundle.inside(name), fs::Permissions::from_mode(0o755))?;
    }
    c.config().writable();
    c.sleeping()?;
    c.call("ps", &[])?.ok()?;
    c.delete_force()?;
    yes(
        !c.bundle.inside("/ran-a-program").exists(),
        "a program of the container was run",
    )
}

fn ptrace_of_the_entering_process_fails(lab: &Lab) -> Outcome {
    // CVE-2016-9962: whoever enters must not be open to those inside before it has become one of them: no descriptor
    // of the host may be seen in /proc/<pid>/fd of any process.
    let mut c = lab.container()?;
    let watch = "while :; do for d in /proc/[0-9]*; do case $d in /proc/$$) continue;; esac
        for f in $d/fd/*; do t=$(readlink $f 2>/dev/null) || continue
        case $t in pipe:*|/dev/*|socket:*|anon_inode*|/proc/*|'') ;; /tmp/kt*/std*) ;; *) echo host $t;; esac; done; done; done";
    c.config()
        .caps(
            &["bounding", "effective", "permitted"],
            &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"],
        )
        .sh(watch);
    let running = c.foreground(&[])?;
    integration::process::wait_for("it runs", || {
        c.status().is_ok_and(|s| s == "running").then_some(())
    })?;
    for _ in 0..30 {
        c.exec(&["true"])?.ok()?;
    }
    c.kill("KILL")?.ok()?;
    let seen = running.wait()?.stdout;
    let odd: Vec<&str> = seen
        .lines()
        .filter(|l| !l.ends_with("(deleted)") && !l.contains("/bin") && *l != "host /")
        .collect();
    if odd.is_empty() || lab.kind() != Kind::Knarr {
        Ok(())
    } else {
        fail(format!("descriptors of the host: {odd:?}"))
    }
}
