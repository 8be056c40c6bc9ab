//! Published attacks on path resolution and on trust in files, each as a hostile root file system or configuration.
//!
//! A test passes if the runtime refuses or if the attack stays inside; in both cases the host is as before. The
//! files of the host that attackers aimed at are in every snapshot, so each test checks them by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use integration::lab::text;
use integration::rootfs::Trap;
use integration::{Kind, Lab, Outcome, Stop, Test, eq, fail, has, hasnt, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["cves_paths":
    cve_2015_3629_mount_targets_stay_inside,
    cve_2018_and_2019_16884_proc_can_not_be_replaced,
    cve_2019_18837_dev_as_a_symlink_stays_inside,
    cve_2026_41579_dev_as_a_symlink_without_a_mount,
    cve_2023_27561_proc_as_a_symlink_is_refused,
    cve_2025_54867_sys_as_a_symlink_is_refused,
    cve_2025_31133_dev_null_is_verified,
    cve_2021_30465_parents_that_are_symlinks_stay_inside,
    cve_2024_45310_no_directories_are_made_on_the_host,
    race_a_flipping_target_never_escapes,
    race_a_flipping_directory_below_all_that_is_made_never_escapes,
    fifos_in_place_of_files_do_not_hang,
    devices_in_place_of_files_do_not_hang,
    default_masks_and_read_only_paths_hold,
    the_delete_of_a_swapped_root_leaves_the_host_alone,
    annotations_open_no_files,
    hostile_passwd_and_group_are_bounded,
];

/// A canary directory on the host with a file in it.
fn canary(lab: &Lab) -> Result<PathBuf, Stop> {
    let dir = lab.directory("host")?;
    fs::write(dir.join("canary"), "alive")?;
    Ok(dir)
}

fn alive(dir: &std::path::Path) -> Outcome {
    eq(fs::read_to_string(dir.join("canary"))?.as_str(), "alive", "the canary")?;
    let names: Vec<_> = fs::read_dir(dir)?.flatten().map(|e| e.file_name()).collect();
    eq(names.len(), 1, format!("files on the host: {names:?}"))
}

fn cve_2015_3629_mount_targets_stay_inside(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    for target in
        [text(&host), format!("../../../../../../../../..{}", text(&host)), "/proc/self/cwd".to_owned()]
    {
        let mut c = lab.container()?;
        c.bundle.trap("/vol", Trap::Link(&target))?;
        c.config().mount("/vol/inner", "tmpfs", "tmpfs", &[]).writable();
        c.run_or_refuse()?;
        alive(&host)?;
    }
    Ok(())
}

fn cve_2018_and_2019_16884_proc_can_not_be_replaced(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "allows it, and checks its own procfs when it writes labels")?;
    let mut c = lab.container()?;
    c.bundle.file("/fake/self/attr/exec", "")?;
    let fake = text(&c.bundle.inside("/fake"));
    c.config().without_mount("/proc").mount("/proc", "bind", &fake, &["rbind"]);
    c.run()?.refused()?;
    c.is_gone()
}

fn cve_2019_18837_dev_as_a_symlink_stays_inside(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let c = lab.container()?;
    c.bundle.trap("/dev", Trap::Link(&text(&host)))?;
    c.run_or_refuse()?;
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
    c.run_or_refuse()?;
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

fn cve_2025_31133_dev_null_is_verified(lab: &Lab) -> Outcome {
    for trap in
        [Trap::Link("/proc/sys/kernel/core_pattern"), Trap::File("text"), Trap::Device(1, 11), Trap::Fifo]
    {
        let mut c = lab.container()?;
        c.bundle.trap("/dev/null", trap)?;
        c.config()
            .privileged()
            .writable()
            .without_mount("/dev")
            .without_mount("/dev/pts")
            .without_mount("/dev/shm");
        c.config().without_mount("/dev/mqueue").push("/linux/maskedPaths", json!("/etc/passwd"));
        c.config().sh("cat /etc/passwd; echo '|/x' > /etc/passwd; cat /proc/keys");
        let ended = c.run_or_refuse()?;
        hasnt(ended.stdout, "core")?;
    }
    Ok(())
}

fn cve_2021_30465_parents_that_are_symlinks_stay_inside(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let mut c = lab.container()?;
    let source = lab.directory("source")?;
    for (number, target) in ["/", "/..", "../../../..", "/proc/self/root"].iter().enumerate() {
        c.bundle.trap(&format!("/a{number}"), Trap::Link(target))?;
        c.config().mount(&format!("/a{number}{}/deep", text(&host)), "bind", &text(&source), &["bind"]);
    }
    c.config().writable();
    c.run_or_refuse()?;
    alive(&host)
}

fn cve_2024_45310_no_directories_are_made_on_the_host(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let mut c = lab.container()?;
    let file = lab.file("file", "")?;
    c.bundle.trap("/link", Trap::Link(&text(&host)))?;
    c.config().writable().mount("/link/made/by/runtime", "bind", &text(&file), &["bind"]);
    c.config().push("/linux/devices", json!({"path": "/link/device", "type": "c", "major": 1, "minor": 3}));
    c.config().set("/process/cwd", "/link/cwd");
    c.run_or_refuse()?;
    alive(&host)
}

/// Everything that a runtime makes, opens or covers by a path in the root lies below one directory, which is exchanged for a symlink to the
/// host all the while: binds, a copied tmpfs, a procfs, a device, masks, the working directory, a file.
fn race_a_flipping_directory_below_all_that_is_made_never_escapes(lab: &Lab) -> Outcome {
    let host = canary(lab)?;
    let source = lab.directory("source")?;
    let Some(inspector) = integration::rootfs::beside_this_program("inspector") else {
        return fail("no inspector beside the test program");
    };
    let mut c = lab.container()?;
    fs::create_dir_all(c.bundle.inside("/v/a/sub"))?;
    symlink(text(&host), c.bundle.inside("/v/b"))?;
    c.bundle.file("/v/fa", "inside")?;
    symlink(text(&host.join("canary")), c.bundle.inside("/v/fb"))?;
    let file = lab.file("file", "bound")?;
    c.config()
        .writable()
        .mount("/v/a/m/x", "bind", &text(&source), &["rbind", "rro"])
        .mount("/v/a/t", "tmpfs", "tmpfs", &["tmpcopyup"])
        .mount("/v/fa", "bind", &text(&file), &["bind"])
        .mount("/v/a/p", "proc", "proc", &[])
        .set("/process/cwd", "/v/a/new/deep")
        .push("/linux/maskedPaths", json!("/v/a/sub"))
        .push("/linux/maskedPaths", json!("/v/fa"))
        .push("/linux/readonlyPaths", json!("/v/a/sub"))
        .set(
            "/linux/devices",
            json!([{"path": "/v/a/dev/n", "type": "c", "major": 1, "minor": 3, "uid": 5}]),
        );
    let mut attackers = Vec::new();
    for (a, b) in [("/v/a", "/v/b"), ("/v/fa", "/v/fb")] {
        let mut flip = integration::process::command(&inspector);
        flip.arg("flip").arg(c.bundle.inside(a)).arg(c.bundle.inside(b));
        attackers.push(integration::process::start(flip, &lab.dir)?);
    }
    let rounds = if lab.kind() == Kind::Knarr { 40 } else { 20 };
    let outcome = (0..rounds).try_for_each(|_| {
        c.run()?;
        c.delete_force()?;
        alive(&host)
    });
    for attacker in attackers {
        attacker.signal(nix::sys::signal::Signal::SIGKILL)?;
        attacker.wait()?;
    }
    outcome
}

fn race_a_flipping_target_never_escapes(lab: &Lab) -> Outcome {
    // CVE-2019-19921, 2021-30465, 2024-45310: a second container swaps the parent of a target by a symlink to the host.
    let host = canary(lab)?;
    let shared = lab.directory("shared")?;
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
        nix::mount::mount(Some(&c.bundle.path.join("lower")), &root, None::<&str>, bind, None::<&str>)?;
        fs::create_dir(c.bundle.inside("/mnt"))?;
        nix::mount::mount(Some(&shared), &c.bundle.inside("/mnt"), None::<&str>, bind, None::<&str>)?;
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
            continue; // peers open it and wait forever
        }
        c.run_or_refuse()?;
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
            c.run_or_refuse()?;
        }
    }
    Ok(())
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
        yes(["/proc/kcore", "/proc/keys", "/proc/timer_list"].iter().any(|m| line.starts_with(m)), line)?;
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
    c.config().push("/hooks/createRuntime", json!({"path": "/bin/echo", "args": ["echo", "words"]}));
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
        fs::File::options().write(true).open(c.bundle.inside(name))?.set_len(2 << 30)?;
    }
    c.config().set("/process/user", json!({"uid": 1234, "gid": 1234}));
    if lab.kind() != Kind::Knarr {
        return integration::skip("peers read it all, or give up with an error of their own");
    }
    c.run_or_refuse()?;
    Ok(())
}
