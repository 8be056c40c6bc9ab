//! Mounts: every kind, the options, propagation, copies of what lies under a tmpfs, the order, and refusals.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use integration::inspect::mount;
use integration::lab::{Tmpfs, text};
use integration::rootfs::Trap;
use integration::{Config, Container, Kind, Lab, Outcome, Stop, Test, eq, fail, has, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["mounts":
    the_default_mounts_are_what_they_should_be,
    a_directory_is_bound,
    a_file_is_bound_and_its_place_is_made,
    a_bind_source_relative_to_the_bundle_is_found,
    a_recursive_bind_brings_the_mounts_below,
    a_bind_is_read_only_when_asked,
    a_recursive_read_only_bind_is_read_only_below,
    mount_flags_are_set,
    a_tmpfs_has_its_size_and_mode,
    a_tmpfs_takes_the_mode_of_the_directory_it_covers,
    tmpcopyup_copies_what_the_tmpfs_covers,
    tmpcopyup_leaves_the_owner_and_mode_that_options_name,
    mounts_are_made_in_the_order_given,
    a_mount_over_a_mount_is_allowed,
    an_unknown_option_is_handed_to_the_file_system,
    an_unknown_file_system_is_refused,
    a_missing_bind_source_is_refused,
    a_directory_is_not_bound_on_a_file,
    an_absolute_symlink_in_the_root_stays_in_the_root,
    a_dangling_symlink_as_target_is_made_inside_the_root,
    a_symlink_that_climbs_stays_in_the_root,
    a_mount_on_proc_is_refused_but_for_a_few_files,
    an_overlay_can_be_mounted,
    mqueue_and_devpts_are_private,
    sysfs_is_read_only_when_asked,
    the_cgroup_mount_shows_the_own_cgroup_read_only,
    idmapped_binds_show_mapped_owners,
    idmapped_binds_inside_the_root_work_in_a_user_namespace,
    mounts_without_a_type_or_options_work,
    many_mounts_work,
];

fn the_default_mounts_are_what_they_should_be(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    let kinds = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ];
    for (point, kind) in kinds {
        eq(mount(&report, point)?.kind.as_str(), kind, point)?;
    }
    for option in ["nosuid", "noexec", "nodev"] {
        yes(mount(&report, "/dev/shm")?.has(option), format!("/dev/shm is {option}"))?;
    }
    yes(mount(&report, "/dev")?.has("nosuid"), "/dev is nosuid")?;
    yes(mount(&report, "/")?.has("ro"), "/ is read-only")
}

fn a_directory_is_bound(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    lab.file("source/file", "from outside")?;
    let out = lab.sh(
        |c| {
            c.mount("/mnt", "bind", &text(&dir), &["bind", "rw"]);
        },
        "cat /mnt/file; echo from inside > /mnt/new",
    )?;
    eq(out.as_str(), "from outside", "file read inside")?;
    eq(fs::read_to_string(dir.join("new"))?.as_str(), "from inside\n", "file written inside")
}

fn a_file_is_bound_and_its_place_is_made(lab: &Lab) -> Outcome {
    let file = lab.file("source", "text")?;
    let mut c = lab.container()?;
    c.config().mount("/new/deep/place", "none", &text(&file), &["bind", "ro"]).sh("cat /new/deep/place");
    eq(c.run()?.ok()?.text(), "text", "file read inside")?;
    eq(fs::metadata(c.bundle.inside("/new/deep/place"))?.len(), 0, "size of what was made in the root")
}

fn a_bind_source_relative_to_the_bundle_is_found(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    fs::create_dir(c.bundle.path.join("data"))?;
    fs::write(c.bundle.path.join("data/file"), "beside config.json")?;
    c.config().mount("/mnt", "bind", "data", &["bind"]).sh("cat /mnt/file");
    eq(c.run()?.ok()?.text(), "beside config.json", "file read inside")
}

fn a_recursive_bind_brings_the_mounts_below(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    let below = Tmpfs::on(dir.join("below"))?;
    fs::write(below.0.join("file"), "")?;
    let run = |option: &str| {
        lab.sh(
            |c| {
                c.mount("/mnt", "bind", &text(&dir), &[option]);
            },
            "ls /mnt/below",
        )
    };
    eq(run("rbind")?.as_str(), "file", "with rbind")?;
    eq(run("bind")?.as_str(), "", "with bind")
}

fn a_bind_is_read_only_when_asked(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    let out = lab.sh(
        |c| {
            c.mount("/mnt", "bind", &text(&dir), &["bind", "ro", "nosuid", "nodev", "noexec"]);
        },
        "touch /mnt/x 2>&1; grep ' /mnt ' /proc/self/mountinfo",
    )?;
    has(&out, "Read-only file system")?;
    has(&out, "ro,nosuid,nodev,noexec")
}

fn a_recursive_read_only_bind_is_read_only_below(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    let below = Tmpfs::on(dir.join("below"))?;
    let script = "inspector open w /mnt/below/file; touch /mnt/below/new 2>&1";
    fs::write(below.0.join("file"), "")?;
    let run = |option: &str| {
        let mut c = lab.container()?;
        c.config().mount("/mnt", "bind", &text(&dir), &["rbind", option]).sh(script);
        c.run()
    };
    has(run("rro")?.stdout, "/mnt/below/file EROFS")?;
    has(run("ro")?.stdout, "/mnt/below/file ok")
}

fn mount_flags_are_set(lab: &Lab) -> Outcome {
    let table: &[(&[&str], &str)] = &[
        (&["nosuid"], "nosuid"),
        (&["nodev"], "nodev"),
        (&["noexec"], "noexec"),
        (&["noatime"], "noatime"),
        (&["nodiratime"], "nodiratime"),
        (&["relatime"], "relatime"),
        (&["ro"], "ro"),
        (&["sync"], "sync"),
        (&["dirsync"], "dirsync"),
        (&["nosuid", "suid"], "-nosuid"),
        (&["ro", "rw"], "rw"),
        (&["nosymfollow"], "nosymfollow"),
        (&["strictatime"], "-relatime"),
        (&["lazytime"], "lazytime"),
    ];
    // crun has no nosymfollow, and does not let a later option take back an earlier one.
    let known = |options: &[&str]| {
        lab.kind() != Kind::Crun || (options != ["nosymfollow"] && options != ["nosuid", "suid"])
    };
    let table: Vec<_> = table.iter().filter(|(options, _)| known(options)).collect();
    let report = lab.inspect(|config| {
        for (number, (options, _)) in table.iter().enumerate() {
            config.mount(&format!("/flags/{number}"), "tmpfs", "tmpfs", options);
        }
        config.writable();
    })?;
    for (number, (options, want)) in table.iter().enumerate() {
        let found = mount(&report, &format!("/flags/{number}"))?;
        match want.strip_prefix('-') {
            Some(absent) => yes(!found.has(absent), format!("{options:?} gives {found:?}"))?,
            None => yes(found.has(want), format!("{options:?} gives {found:?}"))?,
        }
    }
    Ok(())
}

fn a_tmpfs_has_its_size_and_mode(lab: &Lab) -> Outcome {
    let out = lab.sh(
        |c| { c.mount("/mnt", "tmpfs", "tmpfs", &["size=128k", "mode=0750", "uid=5", "gid=6", "nr_inodes=77"]); },
        "stat -c '%a %u %g' /mnt; df -k /mnt | tail -1 | awk '{print $2}'; grep -o nr_inodes=77 /proc/self/mountinfo",
    )?;
    eq(out.as_str(), "750 5 6\n128\nnr_inodes=77", "mode, owner, size, inodes")
}

fn a_tmpfs_takes_the_mode_of_the_directory_it_covers(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    fs::create_dir(c.bundle.inside("/special"))?;
    fs::set_permissions(c.bundle.inside("/special"), fs::Permissions::from_mode(0o1710))?;
    c.config().mount("/special", "tmpfs", "tmpfs", &[]).sh("stat -c %a /special");
    if lab.kind() == Kind::Crun {
        // crun leaves the kernel's default.
        return c.run()?.ok().map(drop);
    }
    eq(c.run()?.ok()?.text(), "1710", "mode")
}

fn tmpcopyup_copies_what_the_tmpfs_covers(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.bundle.file("/data/file", "old")?;
    c.bundle.file("/data/deep/er/file", "older")?;
    symlink("file", c.bundle.inside("/data/link"))?;
    fs::set_permissions(c.bundle.inside("/data/file"), fs::Permissions::from_mode(0o640))?;
    std::os::unix::fs::chown(c.bundle.inside("/data/file"), Some(7), Some(8))?;
    c.config().privileged().mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    c.config().sh("cd /data; cat file deep/er/file; readlink link; stat -c '%a %u %g' file; echo new > file");
    eq(c.run()?.ok()?.text(), "oldolderfile\n640 7 8", "what is in the tmpfs")?;
    eq(fs::read_to_string(c.bundle.inside("/data/file"))?.as_str(), "old", "the file below")
}

fn tmpcopyup_leaves_the_owner_and_mode_that_options_name(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let places = [
        ("/a", vec!["tmpcopyup", "mode=1777", "uid=5", "gid=6"], "1777 5 6"),
        ("/b", vec!["tmpcopyup", "mode=700"], "700 0 0"),
        ("/c", vec!["tmpcopyup"], "2751 0 0"),
    ];
    for (place, options, _) in &places {
        fs::create_dir(c.bundle.inside(place))?;
        fs::write(c.bundle.inside(place).join("file"), "old")?;
        fs::set_permissions(c.bundle.inside(place), fs::Permissions::from_mode(0o2751))?;
        c.config().mount(place, "tmpfs", "tmpfs", options);
    }
    c.config().sh("stat -c '%a %u %g' /a /b /c; cat /a/file /b/file /c/file");
    let want = places.map(|(_, _, line)| line).join("\n") + "\noldoldold";
    eq(c.run()?.ok()?.text(), want.as_str(), "the directories and what is in them")
}

fn mounts_are_made_in_the_order_given(lab: &Lab) -> Outcome {
    let out = lab.sh(
        |c| {
            c.mount("/mnt", "tmpfs", "one", &[]).mount("/mnt/a", "tmpfs", "two", &[]).mount(
                "/mnt/a/b",
                "tmpfs",
                "three",
                &[],
            );
        },
        "awk '$5 ~ \"^/mnt\" {print $5}' /proc/self/mountinfo",
    )?;
    eq(out.as_str(), "/mnt\n/mnt/a\n/mnt/a/b", "order")
}

fn a_mount_over_a_mount_is_allowed(lab: &Lab) -> Outcome {
    let file = lab.file("over", "over")?;
    let dir = lab.directory("source")?;
    lab.file("source/file", "under")?;
    let out = lab.sh(
        |c| {
            c.mount("/mnt", "bind", &text(&dir), &["bind"]).mount(
                "/mnt/file",
                "bind",
                &text(&file),
                &["bind"],
            );
        },
        "cat /mnt/file",
    )?;
    eq(out.as_str(), "over", "text")
}

fn an_unknown_option_is_handed_to_the_file_system(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().mount("/mnt", "tmpfs", "tmpfs", &["no-such-option=1"]);
    c.create()?.refused()?;
    c.is_gone()
}

fn an_unknown_file_system_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().mount("/mnt", "nosuchfs", "none", &[]);
    has(c.create()?.refused()?.stderr, "mnt")?;
    c.is_gone()
}

fn a_missing_bind_source_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().mount("/mnt", "bind", "/no/such/source", &["bind"]);
    has(c.create()?.refused()?.stderr.to_lowercase(), "no such file")?;
    c.is_gone()
}

fn a_directory_is_not_bound_on_a_file(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    let mut c = lab.container()?;
    c.config().mount("/etc/passwd", "bind", &text(&dir), &["bind"]);
    c.create()?.refused()?;
    c.is_gone()
}

/// Binds a directory on `destination` after the trap was laid at `at`; gives the container and what the host sees of it.
fn bind_over(
    lab: &Lab,
    at: &str,
    target: &str,
    destination: &str,
) -> Result<(Container, std::path::PathBuf), Stop> {
    let dir = lab.directory("source")?;
    lab.file("source/marker", "here")?;
    let outside = lab.directory("outside")?;
    let mut c = lab.container()?;
    let target = target.replace("OUTSIDE", &text(&outside));
    c.bundle.trap(at, Trap::Link(&target))?;
    c.config().writable().mount(destination, "bind", &text(&dir), &["bind"]);
    c.config()
        .sh(&format!("cat {destination}/marker; awk '$4 ~ /source$/ {{print $5}}' /proc/self/mountinfo"));
    Ok((c, outside))
}

fn an_absolute_symlink_in_the_root_stays_in_the_root(lab: &Lab) -> Outcome {
    let (c, outside) = bind_over(lab, "/vol", "OUTSIDE", "/vol")?;
    let ended = c.run()?;
    eq(fs::read_dir(&outside)?.count(), 0, "files made on the host (CVE-2015-3629)")?;
    // crun refuses a dangling symlink.
    if lab.kind() == Kind::Crun { ended.refused().map(drop) } else { has(&ended.ok()?.stdout, "here") }
}

fn a_dangling_symlink_as_target_is_made_inside_the_root(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "refuses a dangling symlink")?;
    let (c, _) = bind_over(lab, "/vol", "/does/not/exist", "/vol")?;
    let out = c.run()?.ok()?;
    has(&out.stdout, "here")?;
    has(&out.stdout, "/does/not/exist")
}

fn a_symlink_that_climbs_stays_in_the_root(lab: &Lab) -> Outcome {
    let (c, outside) = bind_over(lab, "/vol", "../../../../../../../../../../OUTSIDE", "/vol/deep")?;
    let ended = c.run()?;
    eq(fs::read_dir(&outside)?.count(), 0, "files made on the host")?;
    if lab.kind() == Kind::Crun { ended.refused().map(drop) } else { has(&ended.ok()?.stdout, "here") }
}

fn a_mount_on_proc_is_refused_but_for_a_few_files(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    let file = lab.file("file", "fake uptime\n")?;
    for place in ["/proc/sys", "/proc/self/attr", "/proc/1"] {
        let mut c = lab.container()?;
        c.config().mount(place, "bind", &text(&dir), &["bind"]);
        if lab.kind() == Kind::Crun {
            // crun only looks at /proc itself.
            continue;
        }
        c.create()?.refused()?;
        c.is_gone()?;
    }
    let mut c = lab.container()?;
    c.config().without_mount("/proc").mount("/proc", "bind", &text(&dir), &["bind"]);
    if lab.kind() != Kind::Crun {
        c.create()?.refused()?;
        c.is_gone()?;
    }
    let out = lab.sh(
        |c| {
            c.mount("/proc/uptime", "bind", &text(&file), &["bind"]);
        },
        "cat /proc/uptime",
    )?;
    eq(out.as_str(), "fake uptime", "an allowed file")
}

fn an_overlay_can_be_mounted(lab: &Lab) -> Outcome {
    // On a tmpfs, since the upper layer of an overlay must not be an overlay itself.
    let base = Tmpfs::on(lab.dir.join("base"))?;
    for name in ["lower", "upper", "work"] {
        fs::create_dir(base.0.join(name))?;
    }
    fs::write(base.0.join("lower/file"), "lower")?;
    let b = text(&base.0);
    let out = lab.sh(
        |c| {
            let options =
                [format!("lowerdir={b}/lower"), format!("upperdir={b}/upper"), format!("workdir={b}/work")];
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            c.mount("/mnt", "overlay", "overlay", &options);
        },
        "cat /mnt/file; echo changed > /mnt/file",
    )?;
    eq(out.as_str(), "lower", "text")?;
    eq(fs::read_to_string(base.0.join("upper/file"))?.as_str(), "changed\n", "the upper layer")?;
    eq(fs::read_to_string(base.0.join("lower/file"))?.as_str(), "lower", "the lower layer")
}

fn mqueue_and_devpts_are_private(lab: &Lab) -> Outcome {
    let out = lab.sh(|_| {}, "ls /dev/pts; ls /dev/mqueue; readlink /dev/ptmx; stat -c %a /dev/pts/ptmx")?;
    eq(out.as_str(), "ptmx\npts/ptmx\n666", "pts, mqueue, ptmx")
}

fn sysfs_is_read_only_when_asked(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    yes(mount(&report, "/sys")?.has("ro"), "/sys is read-only")
}

fn the_cgroup_mount_shows_the_own_cgroup_read_only(lab: &Lab) -> Outcome {
    let script = "for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs; do \
        [ -e $f ] && grep -qx 1 $f && echo own $f; done; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x 2>&1; true";
    let out = lab.sh(|_| {}, script)?;
    has(&out, "own /sys/fs/cgroup")?;
    has(&out, "Read-only file system")?;
    // Host paths of the tree are not shown: with a cgroup namespace every path starts at the own group.
    let groups = lab.sh(|_| {}, "cut -d: -f3 /proc/self/cgroup | sort -u")?;
    eq(groups.as_str(), "/", "paths in /proc/self/cgroup")
}

fn idmapped_binds_show_mapped_owners(lab: &Lab) -> Outcome {
    let base = Tmpfs::on(lab.dir.join("source"))?;
    fs::write(base.0.join("file"), "")?;
    std::os::unix::fs::chown(base.0.join("file"), Some(5), Some(6))?;
    let mut c = lab.container()?;
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    c.config().push(
        "/mounts",
        json!({"destination": "/mnt", "type": "bind", "source": text(&base.0), "options": ["bind", "idmap"],
               "uidMappings": map, "gidMappings": map}),
    );
    c.config().sh("stat -c '%u %g' /mnt/file");
    eq(c.run()?.ok()?.text(), "1005 1006", "owner inside")
}

fn idmapped_binds_inside_the_root_work_in_a_user_namespace(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "cannot map what only the container's own mounts hold")?;
    let base = Tmpfs::on(lab.dir.join("source"))?;
    fs::write(base.0.join("file"), "")?;
    std::os::unix::fs::chown(base.0.join("file"), Some(100_005), Some(100_006))?;
    let mut c = lab.container()?;
    let map = json!([{"containerID": 100_000, "hostID": 100_050, "size": 50}]);
    c.config().user_namespace(100_000, 65536).mount("/mnt", "bind", &text(&base.0), &["bind"]);
    // The source is what the mount before has put into the container.
    let source = text(&c.bundle.inside("/mnt"));
    c.config().push(
        "/mounts",
        json!({"destination": "/tmp/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"],
               "uidMappings": map, "gidMappings": map}),
    );
    c.config().set("/root/readonly", false).sh("stat -c '%u %g' /mnt/file /tmp/mapped/file");
    c.bundle.chown(100_000)?;
    eq(c.run()?.ok()?.text(), "5 6\n55 56", "owners")
}

fn mounts_without_a_type_or_options_work(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    let mut c = lab.container()?;
    c.config().push("/mounts", json!({"destination": "/mnt", "source": text(&dir), "options": ["rbind"]}));
    c.config().push("/mounts", json!({"destination": "/tmp", "type": "tmpfs"})).args(&["true"]);
    c.run()?.ok()?;
    Ok(())
}

fn many_mounts_work(lab: &Lab) -> Outcome {
    let dir = lab.directory("source")?;
    let change = |config: &mut Config| {
        for number in 0..200 {
            config.mount(&format!("/many/{number}"), "bind", &text(&dir), &["rbind", "rw"]);
        }
    };
    let out = lab.sh(change, "grep -c ' /many/' /proc/self/mountinfo")?;
    if out == "200" { Ok(()) } else { fail(format!("{out} of 200 mounts")) }
}
