//! Trouble around a container: broken state, odd state roots, wrong arguments, exhausted resources, closed streams.

use std::fs;
use std::os::unix::fs::symlink;

use integration::lab::text;
use integration::rootfs::{Trap, lay};
use integration::{Kind, Lab, Outcome, Test, eq, fail, has, tests, yes};

pub(crate) const TESTS: &[Test] = tests!["trouble":
    broken_state_is_reported_and_can_be_removed,
    a_state_directory_without_state_is_no_container,
    a_state_root_that_is_a_file_is_refused,
    the_state_root_must_not_be_the_root,
    hostile_names_in_the_state_root_do_no_harm,
    unknown_flags_are_refused,
    missing_arguments_are_refused,
    too_many_arguments_are_refused,
    a_pid_file_that_can_not_be_written_is_refused,
    a_full_disk_is_reported,
    a_disk_that_fills_at_any_moment_leaves_no_state,
    a_full_root_is_reported,
    exhausted_pids_are_reported,
    exhausted_namespaces_are_reported,
    an_engine_that_closes_its_ends_does_not_hang_the_runtime,
];

fn broken_state_is_reported_and_can_be_removed(lab: &Lab) -> Outcome {
    for content in ["", "{", "null", "{\"id\": 5}", "\u{0}\u{0}\u{0}"] {
        let mut c = lab.container()?;
        c.sleeping()?;
        let dir = lab.state.join(&c.id);
        let file = fs::read_dir(&dir)?
            .flatten()
            .map(|e| e.path())
            .find(|p| fs::read_to_string(p).is_ok_and(|t| t.trim_start().starts_with('{')));
        let Some(file) = file else {
            return fail(format!("no state file in {}", dir.display()));
        };
        if content == "null" && lab.kind() == Kind::Runc {
            c.delete_force()?; // runc 1.3.6 dereferences a nil pointer
            continue;
        }
        let whole = fs::read_to_string(&file)?;
        fs::write(&file, content)?;
        for verb in ["state", "start", "pause"] {
            c.call(verb, &[])?.refused()?;
        }
        c.exec(&["true"])?.refused()?;
        // One broken container does not hide the others.
        let listed = lab.call(&["list", "--quiet"])?;
        yes(listed.code < 128 || lab.kind() == Kind::Crun, "list crashed")?;
        fs::write(&file, whole)?;
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_state_directory_without_state_is_no_container(lab: &Lab) -> Outcome {
    let id = format!("{}-empty", lab.token);
    fs::create_dir_all(lab.state.join(&id))?;
    lab.call(&["state", &id])?.refused()?;
    lab.call(&["start", &id])?.refused()?;
    lab.call(&["delete", "--force", &id]).map(drop)?;
    lab.call(&["list"])?
        .ok()
        .map(drop)
        .or_else(|e| if lab.kind() == Kind::Knarr { Err(e) } else { Ok(()) })?;
    if lab.kind() != Kind::Knarr {
        fs::remove_dir(lab.state.join(&id)).ok();
    }
    yes(!lab.state.join(&id).exists(), "delete --force leaves an empty state directory")
}

fn a_state_root_that_is_a_file_is_refused(lab: &Lab) -> Outcome {
    fs::write(&lab.state, "")?;
    let c = lab.container()?;
    c.create()?.refused()?;
    fs::remove_file(&lab.state)?;
    symlink("/no/such/place", &lab.state)?;
    c.create()?.refused().map(drop).or_else(|e| if lab.kind() == Kind::Crun { Ok(()) } else { Err(e) })?;
    fs::remove_file(&lab.state)?;
    Ok(())
}

fn the_state_root_must_not_be_the_root(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "does not mind")?;
    let c = lab.container()?;
    c.bundle.write()?;
    let mut command = lab.runtime.program(&lab.runtime.path);
    command.args(["--root", "/", "create", "--bundle", &c.bundle_arg(), &c.id]);
    integration::process::start(command, &lab.dir)?.wait()?.refused()?;
    yes(!std::path::Path::new("/").join(&c.id).exists(), "state in the root directory")
}

fn hostile_names_in_the_state_root_do_no_harm(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "delete --force removes what a link in its state root points to")?;
    let mut c = lab.container()?;
    c.sleeping()?;
    let outside = lab.directory("outside")?;
    fs::write(outside.join("canary"), "alive")?;
    symlink(&outside, lab.state.join("linked"))?;
    fs::write(lab.state.join("a-file"), "")?;
    lay(&lab.state.join("a-fifo"), Trap::Fifo)?;
    let listed = lab.call(&["list", "--quiet"])?;
    if lab.kind() == Kind::Knarr {
        has(&listed.stdout, &c.id)?;
    }
    for id in ["linked", "a-file", "a-fifo"] {
        lab.call(&["state", id])?.refused()?;
        lab.call(&["delete", "--force", id]).map(drop)?;
    }
    eq(fs::read_to_string(outside.join("canary"))?.as_str(), "alive", "a file behind a link")?;
    for name in ["linked", "a-file", "a-fifo"] {
        fs::remove_file(lab.state.join(name)).ok();
    }
    c.delete_force()
}

fn unknown_flags_are_refused(lab: &Lab) -> Outcome {
    for verb in [
        "create", "run", "start", "state", "kill", "delete", "list", "exec", "ps", "pause", "update", "spec",
        "features",
    ] {
        let ended = lab.call(&[verb, "--no-such-flag", "x"])?;
        yes(ended.code != 0 && ended.code < 128, format!("{verb} --no-such-flag: status {}", ended.code))?;
    }
    let ended = lab.call(&["--no-such-flag", "list"])?;
    yes(ended.code != 0, "an unknown global flag")
}

fn missing_arguments_are_refused(lab: &Lab) -> Outcome {
    for verb in
        ["create", "run", "start", "state", "kill", "delete", "exec", "ps", "pause", "resume", "update"]
    {
        let ended = lab.call(&[verb])?;
        yes(ended.code != 0 && ended.code < 128, format!("{verb}: status {}", ended.code))?;
    }
    Ok(())
}

fn too_many_arguments_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "ignores what is too much")?;
    for verb in ["create", "run", "start", "state", "delete", "pause", "resume", "update"] {
        let ended = lab.call(&[verb, "one", "two"])?;
        yes(ended.code != 0 && ended.code < 128, format!("{verb}: status {}", ended.code))?;
    }
    Ok(())
}

fn a_pid_file_that_can_not_be_written_is_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.create_with(&["--pid-file", "/no/such/folder/pid"])?.refused()?;
    c.delete_force()?;
    c.is_gone()
}

fn a_full_disk_is_reported(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "leaves its state directory")?;
    // The state root on a tmpfs without any space left.
    let state = lab.directory("full")?;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &state, Some("tmpfs"), flags, Some("size=4k,nr_inodes=64"))?;
    fs::write(state.join("filler"), vec![0_u8; 4096])?;
    let c = lab.container()?;
    c.bundle.write()?;
    let mut command = lab.runtime.program(&lab.runtime.path);
    command.arg("--root").arg(&state).args(["create", "--bundle", &c.bundle_arg(), &c.id]);
    let ended = integration::process::start(command, &lab.dir)?.wait()?.refused();
    let left: Vec<_> =
        fs::read_dir(&state)?.flatten().map(|e| e.file_name()).filter(|n| n != "filler").collect();
    nix::mount::umount2(&state, nix::mount::MntFlags::MNT_DETACH)?;
    has(ended?.stderr.to_lowercase(), "no space left")?;
    yes(
        left.iter().all(|n| n.to_string_lossy().starts_with(['.', '@'])),
        format!("left in the state root: {left:?}"),
    )
}

fn a_disk_that_fills_at_any_moment_leaves_no_state(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "leaves its state directory")?;
    lab.except(Kind::Runc, "leaves its state directory")?;
    let mut refused = 0;
    // From no inode and no page at all to enough for all that a creation writes.
    for (inodes, pages) in (1..10).flat_map(|inodes| [(inodes, 64), (64, inodes)]) {
        let state = lab.directory("filling")?;
        let flags = nix::mount::MsFlags::empty();
        let size = format!("size={}k,nr_inodes={inodes}", 4 * pages);
        nix::mount::mount(Some("tmpfs"), &state, Some("tmpfs"), flags, Some(size.as_str()))?;
        let mut c = lab.container()?;
        c.config().args(&["sleep", "1000"]);
        c.bundle.write()?;
        let call = |line: &[&str]| {
            let mut command = lab.runtime.program(&lab.runtime.path);
            command.arg("--root").arg(&state).args(line);
            integration::process::start(command, &lab.dir)?.wait()
        };
        let ended = call(&["create", "--bundle", &c.bundle_arg(), &c.id])?;
        let left = state.join(&c.id).exists();
        let removed = call(&["delete", "--force", &c.id])?;
        let after = state.join(&c.id).exists();
        nix::mount::umount2(&state, nix::mount::MntFlags::MNT_DETACH)?;
        if ended.code != 0 {
            refused += 1;
            has(ended.refused()?.stderr.to_lowercase(), "no space left")?;
            yes(!left, format!("{inodes} inodes, {pages} pages: state is left"))?;
        }
        removed.ok()?;
        yes(!after, "delete leaves the state")?;
    }
    yes((3..18).contains(&refused), format!("{refused} of 18 were refused"))
}

fn a_full_root_is_reported(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let root = integration::lab::Tmpfs::on(lab.dir.join("full-root"))?;
    let remount = nix::mount::MsFlags::MS_REMOUNT;
    for name in ["bin", "proc", "dev", "sys"] {
        fs::create_dir(root.0.join(name))?;
    }
    nix::mount::mount(None::<&str>, &root.0, None::<&str>, remount, Some("nr_inodes=5"))?;
    c.config().set("/root/path", text(&root.0)).mount("/not/there", "tmpfs", "tmpfs", &[]);
    let ended = c.create()?.refused()?;
    has(ended.stderr.to_lowercase(), "no space left")?;
    c.delete_force()?;
    c.is_gone()
}

fn exhausted_pids_are_reported(lab: &Lab) -> Outcome {
    integration::runtime::need_controller("pids")?;
    let v2 = integration::runtime::v2();
    let name = format!("{}-few", lab.token);
    let group = std::path::PathBuf::from(format!("/sys/fs/cgroup/{}{name}", if v2 { "" } else { "pids/" }));
    fs::create_dir_all(group.join("caller"))?;
    let limited = fs::write(group.join("pids.max"), "1");
    let mut c = lab.container()?;
    // The caller and the container are both below the limit: a process may be charged to either (CLONE_INTO_CGROUP).
    if v2 {
        c.config().set("/linux/cgroupsPath", format!("/{name}/container"));
    }
    c.bundle.write()?;
    // The shell is the one process that the group may have; then it becomes the runtime.
    let line = format!(
        "echo $$ > {}/caller/cgroup.procs && exec {} --root {} create --bundle {} {}",
        group.display(),
        lab.runtime.line(),
        lab.state.display(),
        c.bundle_arg(),
        c.id
    );
    let ended = lab.host(&["bash", "-c", &line])?;
    fs::write(group.join("pids.max"), "max")?;
    c.delete_force()?;
    let removed = integration::process::wait_for("the group is empty", || {
        fs::remove_dir(group.join("caller")).ok().or(Some(())).and_then(|()| fs::remove_dir(&group).ok())
    });
    limited?;
    removed?;
    yes(ended.code != 0, "create worked without a pid to have")?;
    if lab.kind() == Kind::Knarr {
        ended.refused()?;
    }
    c.is_gone()
}

fn exhausted_namespaces_are_reported(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "leaves its cgroup")?;
    // The limit is that of a user namespace made for this: no other process on the machine is affected.
    let c = lab.container()?;
    c.bundle.write()?;
    let line = format!(
        "echo 0 > /proc/sys/user/max_net_namespaces && exec {} --root {} create --bundle {} {}",
        lab.runtime.line(),
        lab.state.display(),
        c.bundle_arg(),
        c.id
    );
    let ended = lab.host(&["unshare", "--user", "--map-root-user", "sh", "-c", &line])?.refused()?;
    has(ended.stderr.to_lowercase(), "no space left")
        .or_else(|e| if lab.kind() == Kind::Knarr { Err(e) } else { Ok(()) })?;
    c.delete_force()?;
    c.is_gone()
}

fn an_engine_that_closes_its_ends_does_not_hang_the_runtime(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "dies of SIGSEGV")?;
    let mut c = lab.container()?;
    c.config().args(&["echo", "words"]);
    c.bundle.write()?;
    let line = format!(
        "exec 0<&- 1>&- 2>&-; exec {} --root {} run --bundle {} {}",
        lab.runtime.line(),
        lab.state.display(),
        c.bundle_arg(),
        c.id
    );
    let ended = lab.host(&["bash", "-c", &line])?;
    yes(ended.code < 128, format!("status {}", ended.code))?;
    c.delete_force()?;
    c.is_gone()
}
