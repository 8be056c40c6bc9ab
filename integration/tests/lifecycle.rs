//! create, start, state, kill, delete, list: a container's life, and every verb at the wrong moment.

use std::fs;
use std::path::{Path, PathBuf};

use integration::lab::text;
use integration::process::{executes, orphan_code, wait_for};
use integration::terminal::FdSocket;
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, has, hasnt, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["lifecycle":
    create_does_not_run_the_program_and_start_does,
    state_tells_the_spec_fields,
    the_bundle_is_the_current_directory_unless_named,
    a_second_create_with_the_same_id_is_refused,
    an_unknown_id_is_refused_by_every_verb,
    odd_ids_are_refused_and_make_nothing,
    unusual_but_valid_ids_work,
    a_second_start_is_refused,
    start_of_a_stopped_container_is_refused,
    a_created_container_can_be_killed_and_deleted,
    a_running_container_is_not_deleted_without_force,
    delete_force_ends_a_running_container,
    delete_force_of_an_unknown_id_succeeds,
    kill_reaches_the_program_with_the_named_signal,
    kill_sends_term_by_default,
    kill_of_a_stopped_container_is_refused,
    kill_all_of_a_stopped_container_succeeds,
    kill_of_an_unknown_signal_is_refused,
    signals_are_named_in_every_form,
    the_exit_status_reaches_the_subreaper,
    list_shows_containers_in_three_forms,
    list_of_an_empty_root_is_empty,
    list_names_a_damaged_container_beside_the_others,
    the_pid_file_holds_the_pid_without_a_newline,
    the_pidfd_socket_receives_a_pidfd,
    an_init_that_ends_is_seen_as_stopped_with_pid_zero,
    annotations_appear_in_state,
    force_deletes_a_container_that_ignores_every_signal,
    leftover_processes_of_a_shared_pid_namespace_die_by_force,
    delete_force_ends_a_create_that_is_under_way,
    delete_force_ends_a_start_that_is_under_way,
    a_container_is_changed_and_deleted_while_its_poststart_hook_runs,
    delete_force_gives_up_on_a_create_that_does_not_go_on,
    a_verb_that_has_waited_for_a_create_acts_on_what_it_has_made,
];

fn create_does_not_run_the_program_and_start_does(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().writable().sh("echo started > /proof; sleep 1000");
    c.create_ok()?;
    eq(c.status()?, "created", "status after create")?;
    yes(!c.bundle.inside("/proof").exists(), "the program ran before start")?;
    c.start_ok()?;
    eq(c.status()?, "running", "status after start")?;
    wait_for("the program has run", || c.bundle.inside("/proof").exists().then_some(()))?;
    c.kill_and_delete()?;
    c.is_gone()
}

fn state_tells_the_spec_fields(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let state = c.state()?;
    eq(state["id"].as_str(), Some(c.id.as_str()), "id")?;
    eq(state["status"].as_str(), Some("running"), "status")?;
    eq(state["bundle"].as_str(), Some(c.bundle_arg().as_str()), "bundle")?;
    // crun repeats root.path as config.json has it.
    let rootfs = if lab.kind() == Kind::Crun { "rootfs".to_owned() } else { text(&c.bundle.root()) };
    eq(state["rootfs"].as_str(), Some(rootfs.as_str()), "rootfs")?;
    yes(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "ociVersion is 1.x")?;
    yes(
        state["created"].as_str().is_some_and(|t| t.starts_with("20") && t.ends_with('Z')),
        "created is RFC 3339",
    )?;
    eq(state["owner"].as_str().is_some(), true, "owner is text")?;
    // The start returns a moment before the program has its arguments (runc: before it is executed).
    let pid = c.pid()?;
    wait_for("the pid is the program's", || executes(pid, &["sleep", "1000"]).then_some(()))?;
    c.delete_force()
}

fn the_bundle_is_the_current_directory_unless_named(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().args(&["echo", "here"]);
    c.bundle.write()?;
    let mut command = lab.command(&["run", &c.id]);
    command.current_dir(&c.bundle.path);
    let ended = integration::process::start(command, &lab.dir)?.wait()?.ok()?;
    eq(ended.text(), "here", "output")
}

fn a_second_create_with_the_same_id_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let pid = c.pid()?;
    c.create()?.refused_with("exist")?;
    c.run()?.refused_with("exist")?;
    eq(c.pid()?, pid, "pid of the first container")?;
    eq(c.status()?, "running", "status of the first container")?;
    c.delete_force()
}

fn an_unknown_id_is_refused_by_every_verb(lab: &Lab) -> Outcome {
    let id = format!("{}-nobody", lab.token);
    let missing = if lab.kind() == Kind::Crun { "no such file" } else { "does not exist" };
    let verbs: &[&[&str]] = &[
        &["state"],
        &["start"],
        &["kill"],
        &["delete"],
        &["pause"],
        &["resume"],
        &["ps"],
        &["update", "--pids-limit", "10"],
    ];
    for verb in verbs {
        lab.call(&[verb, [id.as_str()].as_slice()].concat())?.refused_with(missing)?;
    }
    let ended = lab.call(&["exec", &id, "true"])?.refused_with(missing)?;
    // crun ends every failure with 1, runc a failed exec with 255.
    eq(ended.code, if lab.kind() == Kind::Crun { 1 } else { 255 }, "status of a failed exec")?;
    Ok(())
}

fn odd_ids_are_refused_and_make_nothing(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.bundle.write()?;
    let long = "a".repeat(1025);
    let ids =
        ["", ".", "..", "a/b", "../x", "/abs", "a b", "a\nb", "a*", "ä", "a:b", "a\\b", "\u{1b}[31m", &long];
    let parent = fs::read_dir(&lab.dir)?.count();
    for id in ids {
        lab.call(&["create", "--bundle", &c.bundle_arg(), id])?.refused()?;
        lab.call(&["state", id])?.refused()?;
        lab.call(&["delete", "--force", id]).map(drop)?;
    }
    let left: Vec<_> =
        fs::read_dir(&lab.state).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    yes(
        left.iter().all(|n| n.to_string_lossy().starts_with(['.', '@'])),
        format!("in the state root: {left:?}"),
    )?;
    let made =
        fs::read_dir(&lab.dir)?.flatten().filter(|e| !e.file_name().to_string_lossy().starts_with("std"));
    yes(made.count() <= parent + 1, "something was made beside the state root")
}

fn unusual_but_valid_ids_work(lab: &Lab) -> Outcome {
    for suffix in ["_", "a+b", "a.b-c", "UPPER", "+x", "...x"] {
        let mut c = lab.container()?;
        c.id = format!("{}{suffix}", c.id);
        c.config().args(&["echo", "fine"]);
        eq(c.run()?.ok()?.text(), "fine", suffix)?;
    }
    Ok(())
}

fn a_second_start_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.start()?.refused()?;
    eq(c.status()?, "running", "status")?;
    c.delete_force()
}

fn start_of_a_stopped_container_is_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.create_ok()?;
    c.start_ok()?;
    c.wait_for_status("stopped")?;
    c.start()?.refused()?;
    c.delete()?.ok()?;
    c.is_gone()
}

fn a_created_container_can_be_killed_and_deleted(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.create_ok()?;
    c.kill_and_delete()?;
    c.is_gone()
}

fn a_running_container_is_not_deleted_without_force(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.delete()?.refused()?;
    eq(c.status()?, "running", "status")?;
    c.delete_force()?;
    c.is_gone()
}

fn delete_force_ends_a_running_container(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let pid = c.pid()?;
    c.delete_force()?;
    eq(wait_for("the init has ended", || orphan_code(pid))?, 137, "how the init ended")?;
    c.is_gone()
}

fn delete_force_of_an_unknown_id_succeeds(lab: &Lab) -> Outcome {
    lab.call(&["delete", "--force", &format!("{}-nobody", lab.token)])?.ok()?;
    Ok(())
}

fn kill_reaches_the_program_with_the_named_signal(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config()
        .writable()
        .sh("trap 'echo got > /got; exit 7' USR1; touch /ready; while :; do sleep 0.05; done");
    c.run_detached()?;
    wait_for("the trap is set", || c.bundle.inside("/ready").exists().then_some(()))?;
    let pid = c.pid()?;
    c.kill("USR1")?.ok()?;
    eq(wait_for("the init has ended", || orphan_code(pid))?, 7, "exit status")?;
    yes(c.bundle.inside("/got").exists(), "the handler did not run")?;
    c.delete()?.ok()?;
    Ok(())
}

fn kill_sends_term_by_default(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().writable().sh("trap 'exit 15' TERM; touch /ready; while :; do sleep 0.05; done");
    c.run_detached()?;
    wait_for("the trap is set", || c.bundle.inside("/ready").exists().then_some(()))?;
    let pid = c.pid()?;
    lab.call(&["kill", &c.id])?.ok()?;
    eq(wait_for("the init has ended", || orphan_code(pid))?, 15, "exit status")?;
    c.delete()?.ok()?;
    Ok(())
}

fn kill_of_a_stopped_container_is_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    let ended = c.kill("TERM")?.refused()?;
    if lab.kind() != Kind::Crun {
        has(&ended.stderr, "container not running")?;
    }
    c.delete()?.ok()?;
    Ok(())
}

fn kill_all_of_a_stopped_container_succeeds(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    lab.call(&["kill", "--all", &c.id, "KILL"])?.ok()?;
    c.delete()?.ok()?;
    Ok(())
}

fn kill_of_an_unknown_signal_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    for signal in ["NOSUCH", "SIG", "999", "1x", "99999999999999999999"] {
        if signal == "1x" && lab.kind() == Kind::Crun {
            continue; // it sends signal 1
        }
        c.kill(signal)?.refused()?;
        eq(c.status()?, "running", format!("status after {signal}"))?;
    }
    c.delete_force()
}

fn signals_are_named_in_every_form(lab: &Lab) -> Outcome {
    for signal in ["KILL", "SIGKILL", "9", "kill", "sigkill"] {
        if signal.starts_with(char::is_lowercase) && lab.kind() == Kind::Crun {
            continue;
        }
        let mut c = lab.container()?;
        c.sleeping()?;
        c.kill(signal)?.ok()?;
        c.wait_for_status("stopped")?;
        c.delete()?.ok()?;
    }
    Ok(())
}

fn the_exit_status_reaches_the_subreaper(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("exit 42");
    c.create_ok()?;
    let pid = c.pid()?;
    c.start_ok()?;
    eq(wait_for("the init has ended", || orphan_code(pid))?, 42, "exit status")?;
    c.delete()?.ok()?;
    Ok(())
}

fn list_shows_containers_in_three_forms(lab: &Lab) -> Outcome {
    let (mut a, b) = (lab.container()?, lab.container()?);
    a.sleeping()?;
    b.create_ok()?;
    let ids = lab.call(&["list", "--quiet"])?.ok()?;
    let mut lines: Vec<&str> = ids.stdout.lines().collect();
    lines.sort_unstable();
    let mut want = vec![a.id.as_str(), b.id.as_str()];
    want.sort_unstable();
    eq(lines, want, "list -q")?;
    let table = lab.call(&["list"])?.ok()?;
    let mut lines = table.stdout.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    if lab.kind() != Kind::Crun {
        eq(head, vec!["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], "heading of list")?;
    }
    let row = table.stdout.lines().find(|l| l.starts_with(&b.id)).unwrap_or_default();
    has(row, "created")?;
    has(row, b.bundle_arg())?;
    let json = lab.call(&["list", "--format", "json"])?.ok()?.json()?;
    let found = json.as_array().into_iter().flatten().find(|c| c["id"] == a.id.as_str());
    let found = found.cloned().unwrap_or_default();
    eq(found["status"].as_str(), Some("running"), "status in list -f json")?;
    eq(found["pid"].as_i64(), Some(i64::from(a.pid()?)), "pid in list -f json")?;
    a.delete_force()?;
    b.delete_force()
}

fn list_names_a_damaged_container_beside_the_others(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "up to 1.3 it panics")?;
    lab.except(Kind::Crun, "it stops at the damaged one")?;
    let (mut good, mut bad) = (lab.container()?, lab.container()?);
    good.sleeping()?;
    bad.sleeping()?;
    let state = lab.state.join(&bad.id).join("state.json");
    let whole = fs::read(&state)?;
    for broken in ["", "{", "{\"version\": 99}"] {
        fs::write(&state, broken)?;
        for flags in [&["list"][..], &["list", "--quiet"], &["list", "--format", "json"]] {
            let ended = lab.call(flags)?.ok()?;
            has(&ended.stdout, &good.id)?;
            hasnt(&ended.stdout, &bad.id)?;
            has(&ended.stderr, &bad.id)
                .map_err(|_| Stop::Failed(format!("{flags:?} does not name it: {}", ended.stderr)))?;
        }
    }
    fs::write(&state, whole)?;
    bad.delete_force()?;
    good.delete_force()
}

fn list_of_an_empty_root_is_empty(lab: &Lab) -> Outcome {
    fs::create_dir_all(&lab.state)?;
    eq(lab.call(&["list", "--quiet"])?.ok()?.text(), "", "list -q")?;
    let json = lab.call(&["list", "--format", "json"])?.ok()?.json()?;
    yes(json.is_null() || json.as_array().is_some_and(Vec::is_empty), format!("list -f json gives {json}"))
}

fn the_pid_file_holds_the_pid_without_a_newline(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().args(&["sleep", "1000"]);
    let file = lab.dir.join("pid");
    c.create_with(&["--pid-file", &text(&file)])?.ok()?;
    eq(fs::read_to_string(&file)?, c.pid()?.to_string(), "pid file of create")?;
    c.start_ok()?;
    let exec = lab.dir.join("pid-exec");
    let flags = ["--detach", "--pid-file", &text(&exec)];
    c.exec_with(&flags, &["sleep", "1001"])?.ok()?;
    let pid = fs::read_to_string(&exec)?.parse()?;
    wait_for("the pid is that of exec's program", || executes(pid, &["sleep", "1001"]).then_some(()))?;
    c.delete_force()
}

fn the_pidfd_socket_receives_a_pidfd(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "has no --pidfd-socket")?;
    let mut c = lab.container()?;
    c.config().args(&["sleep", "1000"]);
    let socket = FdSocket::listen(&lab.dir.join("pidfd.sock"))?;
    c.bundle.write()?;
    let path = text(&socket.path);
    let running = lab.start(&["create", "--bundle", &c.bundle_arg(), "--pidfd-socket", &path, &c.id])?;
    let (fd, _) = socket.receive()?;
    running.wait()?.ok()?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    has(info, format!("Pid:\t{}\n", c.pid()?))?;
    c.delete_force()
}

fn an_init_that_ends_is_seen_as_stopped_with_pid_zero(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    let state = c.state()?;
    // The specification lets a stopped container have no pid; runc and crun say 0.
    eq(state["pid"].as_i64().unwrap_or(0), 0, "pid of a stopped container")?;
    c.delete()?.ok()?;
    Ok(())
}

fn annotations_appear_in_state(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/annotations/org.example.key", "value with spaces\nand lines");
    c.create_ok()?;
    eq(
        c.state()?["annotations"]["org.example.key"].as_str(),
        Some("value with spaces\nand lines"),
        "annotation",
    )?;
    c.delete_force()
}

fn force_deletes_a_container_that_ignores_every_signal(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().writable().sh(
        "trap '' TERM INT HUP QUIT; touch /ready; (trap '' TERM; sleep 1000) & while :; do sleep 1; done",
    );
    c.run_detached()?;
    wait_for("it ignores signals", || c.bundle.inside("/ready").exists().then_some(()))?;
    c.kill("TERM")?.ok()?;
    eq(c.status()?, "running", "status after TERM")?;
    c.delete_force()?;
    c.is_gone()
}

fn leftover_processes_of_a_shared_pid_namespace_die_by_force(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().share("pid").writable().sh("sleep 1000 & sleep 1000 & touch /ready; sleep 1000");
    c.run_detached()?;
    wait_for("its children run", || c.bundle.inside("/ready").exists().then_some(()))?;
    c.delete_force()?;
    hasnt(lab.call(&["list", "--quiet"])?.stdout, &c.id)
}

/// A hook that tells by a file that it runs, and ends when another one is there.
fn held(lab: &Lab, kind: &str) -> Result<(Container, PathBuf, PathBuf), Stop> {
    let (running, go) = (lab.dir.join(format!("{kind}-runs")), lab.dir.join(format!("{kind}-go")));
    let wait = held_script(&running, &go);
    let mut c = lab.container()?;
    // In the container's namespaces the host's programs and files are at their places, too.
    let dir = text(&lab.dir);
    c.config().mount(&dir, "bind", &dir, &["rbind", "rw"]);
    c.config().push(
        &format!("/hooks/{kind}"),
        json!({"path": "/bin/sh", "args": ["sh", "-c", wait], "env": ["PATH=/usr/bin:/bin"]}),
    );
    c.config().args(&["sleep", "1000"]);
    Ok((c, running, go))
}

pub(crate) fn held_script(running: &Path, go: &Path) -> String {
    format!("touch {}; while ! [ -e {} ]; do sleep 0.05; done", text(running), text(go))
}

fn delete_force_ends_a_create_that_is_under_way(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "its create waits for the hook")?;
    lab.except(Kind::Crun, "its create waits for the hook")?;
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let (c, running, _) = held(lab, kind)?;
        c.bundle.write()?;
        let creating = lab.start(&["create", "--bundle", &c.bundle_arg(), &c.id])?;
        wait_for("the hook runs", || running.exists().then_some(()))?;
        c.delete_force()?;
        // A hook in the container's pid namespace is killed by the kernel.
        let why =
            if kind == "createContainer" { "killed" } else { "the container's process has ended meanwhile" };
        creating.wait()?.refused_with(why)?;
        c.is_gone()?;
    }
    Ok(())
}

fn delete_force_ends_a_start_that_is_under_way(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "its start does not wait for the hook")?;
    lab.except(Kind::Crun, "its start does not wait for the hook")?;
    let (c, running, _) = held(lab, "startContainer")?;
    c.create_ok()?;
    let starting = lab.start(&["start", &c.id])?;
    wait_for("the hook runs", || running.exists().then_some(()))?;
    c.delete_force()?;
    starting.wait()?.refused()?;
    c.is_gone()
}

/// The container is running by then, and the hook may take as long as it likes.
fn a_container_is_changed_and_deleted_while_its_poststart_hook_runs(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "runs poststart hooks within create")?;
    for (number, (fails, next)) in
        [(false, ""), (false, "delete"), (true, "delete"), (true, "replace")].into_iter().enumerate()
    {
        let lab = lab.inner(&number.to_string())?;
        let (mut c, running, go) = held(&lab, "poststart")?;
        if fails {
            let script = json!(format!("{}; exit 3", held_script(&running, &go)));
            c.config().set("/hooks/poststart/0/args/2", script);
        }
        c.create_ok()?;
        let starting = lab.start(&["start", &c.id])?;
        wait_for("the hook runs", || running.exists().then_some(()))?;
        eq(c.status()?, "running", "status meanwhile")?;
        c.call("pause", &[])?.ok()?;
        c.call("resume", &[])?.ok()?;
        if !next.is_empty() {
            c.delete_force()?;
            c.is_gone()?;
        }
        if next == "replace" {
            c.config().remove("/hooks");
            c.sleeping()?;
        }
        fs::write(&go, "")?;
        let ended = starting.wait()?;
        if fails {
            ended.refused_with("poststart hook #0")?
        } else {
            ended.ok()?
        };
        if next != "delete" {
            eq(c.status()?, "running", "status of the container, or of the next one of its name")?;
            c.delete_force()?;
        }
        c.is_gone()?;
    }
    Ok(())
}

fn delete_force_gives_up_on_a_create_that_does_not_go_on(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it has no lock")?;
    lab.except(Kind::Crun, "it has no lock")?;
    let c = lab.container()?;
    // What a create has before all else: the directory, locked.
    let dir = lab.state.join(&c.id);
    fs::create_dir_all(&dir)?;
    let lock = fs::File::open(&dir)?;
    lock.lock()?;
    lab.call(&["delete", "--force", &c.id])?.refused_with("container is being created")?;
    drop(lock);
    c.delete_force()?;
    c.is_gone()
}

fn a_verb_that_has_waited_for_a_create_acts_on_what_it_has_made(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it has no lock")?;
    lab.except(Kind::Crun, "it has no lock")?;
    let waits = format!("{} ", libc::SYS_flock);
    let resources = text(&lab.file("resources.json", "{}")?);
    let verbs: [(&[&str], &str); 4] = [
        (&["start"], "running"),
        (&["pause"], "paused"),
        (&["update", "--resources", &resources], "created"),
        (&["delete"], ""),
    ];
    for (number, (verb, status)) in verbs.into_iter().enumerate() {
        let lab = lab.inner(&number.to_string())?;
        let (c, running, go) = held(&lab, "createRuntime")?;
        c.bundle.write()?;
        let creating = lab.start(&["create", "--bundle", &c.bundle_arg(), &c.id])?;
        wait_for("the hook runs", || running.exists().then_some(()))?;
        let waiting = lab.start(&[verb, &[c.id.as_str()]].concat())?;
        let file = format!("/proc/{}/syscall", waiting.pid());
        wait_for("the verb waits for the lock", || {
            fs::read_to_string(&file).ok()?.starts_with(&waits).then_some(())
        })?;
        eq(c.status()?, "creating", "status meanwhile")?;
        fs::write(&go, "")?;
        creating.wait()?.ok()?;
        waiting.wait()?.ok()?;
        if status.is_empty() {
            c.is_gone()?;
        } else {
            eq(c.status()?, status, format!("status after {verb:?}"))?;
            c.delete_force()?;
        }
    }
    Ok(())
}
