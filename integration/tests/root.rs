//! The root file system: where it is, read-only or not, masks, propagation, and what is left of the host.

use std::fs;
use std::os::unix::fs::symlink;

use integration::inspect::{Mount, mount};
use integration::lab::{Tmpfs, text};
use integration::process::wait_for;
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, has, hasnt, tests, yes};
use nix::mount::{MntFlags, MsFlags, umount2};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["root":
    propagation_of_a_mount_is_set,
    a_slave_mount_receives_from_the_host,
    a_private_mount_does_not_receive,
    a_shared_mount_sends_to_the_host,
    rootfs_propagation_is_set,
    a_mount_on_the_root_becomes_the_root,
    a_read_only_root_is_read_only,
    a_writable_root_is_writable,
    a_root_named_by_a_symlink_is_found,
    a_missing_root_is_refused,
    a_root_that_is_a_file_is_refused,
    masked_paths_read_as_empty,
    a_masked_path_that_is_missing_is_no_error,
    read_only_paths_are_read_only,
    no_pivot_works_too,
    nothing_of_the_host_stays_mounted,
];

fn propagation_of_a_mount_is_set(lab: &Lab) -> Outcome {
    let table = [
        ("private", "", ""),
        ("slave", "master:", ""),
        ("shared", "shared:", ""),
        ("unbindable", "unbindable", ""),
    ];
    for (option, want, _) in table {
        let dir = Tmpfs::on(lab.dir.join(format!("source-{option}")))?;
        let report = lab.inspect(|config| {
            config.set("/linux/rootfsPropagation", if option == "shared" { "rshared" } else { "rslave" });
            config.mount("/mnt", "bind", &text(&dir.0), &["rbind", option]);
        })?;
        let found = mount(&report, "/mnt")?.propagation.join(" ");
        if want.is_empty() {
            eq(found.as_str(), "", "propagation of a private mount")?;
        } else {
            has(found, want)?;
        }
    }
    Ok(())
}

/// Runs a sleeping container with a bind of a shared host tmpfs in this propagation.
fn sharing(lab: &Lab, option: &str) -> Result<(Container, Tmpfs), Stop> {
    let dir = Tmpfs::on(lab.dir.join("source"))?;
    nix::mount::mount(None::<&str>, &dir.0, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
    let mut c = lab.container()?;
    c.config()
        .privileged()
        .set("/linux/rootfsPropagation", if option == "rshared" { "rshared" } else { "rslave" });
    c.config().mount("/mnt", "bind", &text(&dir.0), &["rbind", option]);
    c.sleeping()?;
    Ok((c, dir))
}

fn a_slave_mount_receives_from_the_host(lab: &Lab) -> Outcome {
    let (c, dir) = sharing(lab, "rslave")?;
    let inner = Tmpfs::on(dir.0.join("late"))?;
    fs::write(inner.0.join("file"), "")?;
    eq(c.sh("ls /mnt/late")?.as_str(), "file", "a later mount of the host")?;
    c.exec(&["mount", "-t", "tmpfs", "tmpfs", "/mnt/late"])?.ok()?;
    eq(fs::read_dir(&inner.0)?.count(), 1, "the host's view after a mount inside")?;
    c.delete_force()
}

fn a_private_mount_does_not_receive(lab: &Lab) -> Outcome {
    let (c, dir) = sharing(lab, "rprivate")?;
    let inner = Tmpfs::on(dir.0.join("late"))?;
    fs::write(inner.0.join("file"), "")?;
    eq(c.sh("ls /mnt/late")?.as_str(), "", "a later mount of the host")?;
    c.delete_force()
}

fn a_shared_mount_sends_to_the_host(lab: &Lab) -> Outcome {
    let (c, dir) = sharing(lab, "rshared")?;
    c.exec(&["sh", "-c", "mkdir /mnt/inner && mount -t tmpfs tmpfs /mnt/inner && touch /mnt/inner/file"])?
        .ok()?;
    wait_for("the host sees the mount", || dir.0.join("inner/file").exists().then_some(()))?;
    umount2(&dir.0.join("inner"), MntFlags::MNT_DETACH)?;
    c.delete_force()
}

fn rootfs_propagation_is_set(lab: &Lab) -> Outcome {
    for (value, want) in [
        ("private", ""),
        ("slave", "master:"),
        ("rslave", "master:"),
        ("shared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        let mut c = lab.container()?;
        // A slave needs a master.
        let _shared = Tmpfs::shared(c.bundle.root())?;
        if want == "master:" {
            lab.except(Kind::Runc, "up to 1.3 its root is private first")?;
        }
        c.config().set("/linux/rootfsPropagation", value).args(&["inspector", "report"]);
        let report = c.run()?.ok()?.json()?;
        let found = mount(&report, "/")?.propagation.join(" ");
        if want.is_empty() { eq(found.as_str(), "", "propagation")? } else { has(found, want)? }
    }
    lab.except(Kind::Crun, "ignores a propagation it does not know")?;
    let mut c = lab.container()?;
    c.config().set("/linux/rootfsPropagation", "sideways");
    c.create()?.refused()?;
    c.is_gone()
}

fn a_mount_on_the_root_becomes_the_root(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "since 1.3.3 it refuses one")?;
    let other = lab.rootfs("other")?;
    fs::write(other.join("which"), "other")?;
    let volume = lab.directory("volume")?;
    fs::write(volume.join("inner"), "inner")?;
    for readonly in [false, true] {
        let mut c = lab.container()?;
        c.bundle.file("/which", "first")?;
        c.config().set("/root/readonly", readonly);
        // Before all others, which are then mounted in it.
        if let Some(mounts) = c.config().0["mounts"].as_array_mut() {
            mounts.insert(
                0,
                json!({"destination": "/", "type": "bind", "source": text(&other), "options": ["rbind"]}),
            );
        }
        c.config().mount("/mnt", "bind", &text(&volume), &["bind"]);
        c.config().sh("cat /which /mnt/inner; ls /proc/1/status /dev/null; cat /proc/kcore | wc -c; touch /made 2>&1; pwd");
        let out = c.run()?.ok()?.stdout;
        has(&out, "otherinner/dev/null\n/proc/1/status\n0\n")?;
        eq(out.contains("Read-only file system"), readonly, "a read-only root")?;
        eq(fs::remove_file(other.join("made")).is_ok(), !readonly, "a file was made in it")?;
        eq(c.bundle.inside("/made").exists(), false, "in the first root")?;
    }
    Ok(())
}

fn a_read_only_root_is_read_only(lab: &Lab) -> Outcome {
    let out = lab.sh(|_| {}, "touch /x 2>&1; touch /dev/x && echo dev is writable")?;
    has(&out, "Read-only file system")?;
    has(&out, "dev is writable")
}

fn a_writable_root_is_writable(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().writable().sh("echo text > /made");
    c.run()?.ok()?;
    eq(fs::read_to_string(c.bundle.inside("/made"))?.as_str(), "text\n", "the file")
}

fn a_root_named_by_a_symlink_is_found(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    fs::rename(c.bundle.root(), lab.dir.join("elsewhere"))?;
    symlink(lab.dir.join("elsewhere"), c.bundle.root())?;
    c.config().args(&["echo", "fine"]);
    let ended = c.run()?;
    if ended.code == 0 {
        eq(ended.text(), "fine", "output")?;
    } else {
        // runc 1.3.6 refuses a root that is a symlink.
        ended.refused()?;
    }
    c.config().set("/root/path", text(&lab.dir.join("elsewhere")));
    eq(c.run()?.ok()?.text(), "fine", "output with an absolute path")
}

fn a_missing_root_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/root/path", "no/such/folder");
    has(c.create()?.refused()?.stderr, "no/such/folder")?;
    c.is_gone()
}

fn a_root_that_is_a_file_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    fs::write(c.bundle.path.join("file"), "")?;
    c.config().set("/root/path", "file");
    c.create()?.refused()?;
    c.is_gone()
}

fn masked_paths_read_as_empty(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.bundle.file("/secret/file", "secret")?;
    c.bundle.file("/secret.txt", "secret")?;
    c.config()
        .push("/linux/maskedPaths", json!("/secret"))
        .push("/linux/maskedPaths", json!("/secret.txt"))
        .writable();
    c.config().sh("ls -A /secret; cat /secret.txt; wc -c < /proc/keys; wc -c < /proc/timer_list; echo x > /secret.txt; touch /secret/x 2>&1");
    let ended = c.run()?;
    let out = ended.stdout.as_str();
    hasnt(out, "secret\n")?;
    has(out, "0\n0\n")?;
    has(out, "Read-only file system")?;
    eq(fs::read_to_string(c.bundle.inside("/secret.txt"))?.as_str(), "secret", "the file below the mask")
}

fn a_masked_path_that_is_missing_is_no_error(lab: &Lab) -> Outcome {
    lab.sh(
        |c| {
            c.push("/linux/maskedPaths", json!("/no/such"))
                .push("/linux/readonlyPaths", json!("/no/such/either"));
        },
        "true",
    )?;
    Ok(())
}

fn read_only_paths_are_read_only(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.bundle.file("/kept/file", "kept")?;
    c.config().writable().push("/linux/readonlyPaths", json!("/kept"));
    c.config().sh("touch /free && echo free; touch /kept/x 2>&1; inspector open w /proc/sys/kernel/panic /proc/sysrq-trigger");
    let out = c.run()?.ok()?.stdout;
    has(&out, "free")?;
    has(&out, "Read-only file system")?;
    has(&out, "/proc/sys/kernel/panic EROFS")?;
    // Not every kernel has the trigger.
    hasnt(&out, "/proc/sysrq-trigger ok")
}

fn no_pivot_works_too(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("ls /; awk '{print $5}' /proc/self/mountinfo | head -1");
    let out = c.run_with(&["--no-pivot"])?.ok()?.stdout;
    has(&out, "bin\n")?;
    has(&out, "/\n")
}

fn nothing_of_the_host_stays_mounted(lab: &Lab) -> Outcome {
    let report = lab.inspect(|_| {})?;
    let text = report["mountinfo"].as_str().unwrap_or_default();
    let points: Vec<String> = text.lines().filter_map(Mount::parse).map(|m| m.point).collect();
    let known = ["/", "/proc", "/dev", "/sys", "/bin"];
    for point in &points {
        let fine = known.contains(&point.as_str())
            || ["/proc/", "/dev/", "/sys/"].iter().any(|p| point.starts_with(p));
        yes(fine, format!("{point} in the container:\n{text}"))?;
    }
    hasnt(text, "/oldroot").and_then(|()| hasnt(text, ".pivot"))
}
