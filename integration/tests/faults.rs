//! Every step of a creation fails once, and the process dies once at every step: the host is as before, or a
//! `delete --force` makes it so. And a creating runtime is killed at any moment.
//!
//! Only knarr built with the feature `fault` can be told to fail (`KNARR_FAULT=fail:STEP`, `die:STEP`, and `kill:POINT` for
//! the runtime itself); `make test-faults` builds it and runs all topics with it.

use std::time::Duration;

use integration::lab::text;
use integration::process::{start, wait_for};
use integration::terminal::FdSocket;
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, fail, has, skip, tests, yes};
use nix::sys::signal::Signal;
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["faults":
    every_step_that_fails_leaves_the_host_as_it_was,
    every_step_that_dies_leaves_what_delete_can_finish,
    every_step_of_exec_that_fails_leaves_the_container_as_it_was,
    every_step_that_fails_in_a_user_namespace_leaves_the_host_as_it_was,
    every_step_that_dies_in_a_user_namespace_leaves_what_delete_can_finish,
    every_step_that_fails_with_a_terminal_leaves_the_host_as_it_was,
    every_step_that_fails_in_joined_namespaces_leaves_the_host_as_it_was,
    every_step_that_dies_in_joined_namespaces_leaves_what_delete_can_finish,
    create_killed_at_every_point_leaves_what_delete_can_finish,
    create_killed_in_a_user_namespace_leaves_what_delete_can_finish,
    create_killed_in_joined_namespaces_leaves_what_delete_can_finish,
    start_killed_at_every_point_leaves_what_delete_can_finish,
    run_killed_at_every_point_leaves_what_delete_can_finish,
    delete_killed_at_every_point_is_finished_by_another,
    exec_killed_at_every_point_leaves_the_container_as_it_was,
    a_runtime_killed_at_any_moment_leaves_what_delete_can_finish,
];

/// More steps than any plan of these tests has: the loop ends at the first number that no longer hits.
const MOST: usize = 400;

fn with_fault(lab: &Lab, fault: &str, args: &[&str]) -> Result<integration::Ended, Stop> {
    let mut command = lab.command(args);
    command.env("KNARR_FAULT", fault);
    start(command, &lab.dir)?.wait()
}

fn need_faults(lab: &Lab) -> Outcome {
    if lab.kind() != Kind::Knarr {
        return skip("a test of knarr alone");
    }
    let c = lab.container()?;
    c.bundle.write()?;
    let ended = with_fault(lab, "fail:0", &["create", "--bundle", &c.bundle_arg(), &c.id])?;
    c.delete_force()?;
    if ended.code == 0 {
        skip("this binary was built without the feature `fault`: make test-faults")
    } else {
        Ok(())
    }
}

/// A container that has something of every kind: mounts, masks, devices, limits, a filter, hooks.
fn rich(lab: &Lab) -> Result<Container, Stop> {
    let mut c = lab.container()?;
    let config = c.config();
    config.args(&["sleep", "1000"]).writable().mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    config.mount("/mnt", "bind", "/usr/share", &["rbind", "ro"]);
    config.set(
        "/linux/devices",
        json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 438}]),
    );
    config.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})).set("/process/oomScoreAdj", 100);
    config.push("/hooks/createRuntime", json!({"path": "/bin/true"}));
    let rule = json!([{"names": ["swapoff"], "action": "SCMP_ACT_ERRNO"}]);
    config.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}));
    std::fs::create_dir(c.bundle.inside("/data"))?;
    Ok(c)
}

/// One with id maps.
fn mapped(lab: &Lab) -> Result<Container, Stop> {
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 65536).args(&["sleep", "1000"]);
    c.bundle.chown(100_000)?;
    Ok(c)
}

/// One in the namespaces of the container `other`, which takes a second clone.
fn joined(lab: &Lab, other: &Container) -> Result<Container, Stop> {
    let pid = other.pid()?;
    let mut c = lab.container()?;
    for (kind, file) in [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        c.config().join(kind, &format!("/proc/{pid}/ns/{file}"));
    }
    c.config().remove("/hostname").args(&["sleep", "1000"]);
    Ok(c)
}

/// `create` with the fault at each step in turn, until a number is beyond the plan; gives how many were hit.
fn creating(lab: &Lab, kind: &str, make: impl Fn(&Lab) -> Result<Container, Stop>) -> Result<usize, Stop> {
    creating_with(lab, kind, &[], make)
}

fn creating_with(
    lab: &Lab,
    kind: &str,
    flags: &[&str],
    make: impl Fn(&Lab) -> Result<Container, Stop>,
) -> Result<usize, Stop> {
    let mut late = 0;
    for step in 0..MOST {
        let c = make(lab)?;
        c.bundle.write()?;
        let bundle = c.bundle_arg();
        let line = [&["create", "--bundle", &bundle], flags, &[&c.id]].concat();
        let ended = with_fault(lab, &format!("{kind}:{step}"), &line)?;
        if ended.code == 0 {
            // The last steps are those of `start`: the gate of creation is behind. Some more are beyond the plan.
            let started = c.start()?;
            c.delete_force()?;
            if started.code == 0 {
                late += 1;
            }
            if late == 3 {
                return Ok(step - 2);
            }
        } else {
            if kind == "fail" {
                ended.refused()?;
                c.is_gone()?;
            }
            c.delete_force()?;
        }
        c.is_gone()?;
        std::fs::remove_dir_all(&c.bundle.path)?;
    }
    fail(format!("a plan of more than {MOST} steps"))
}

fn every_step_that_fails_leaves_the_host_as_it_was(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let hit = creating(lab, "fail", rich)?;
    yes(hit > 30, format!("only {hit} steps were hit"))
}

fn every_step_that_dies_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let hit = creating(lab, "die", rich)?;
    yes(hit > 30, format!("only {hit} steps were hit"))
}

fn every_step_that_fails_in_a_user_namespace_leaves_the_host_as_it_was(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let hit = creating(lab, "fail", mapped)?;
    yes(hit > 20, format!("only {hit} steps were hit"))
}

fn every_step_that_dies_in_a_user_namespace_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let hit = creating(lab, "die", mapped)?;
    yes(hit > 20, format!("only {hit} steps were hit"))
}

fn every_step_that_fails_with_a_terminal_leaves_the_host_as_it_was(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let path = lab.dir.join("console");
    let _console = FdSocket::listen(&path)?;
    let hit = creating_with(lab, "fail", &["--console-socket", &text(&path)], |lab| {
        let mut c = lab.container()?;
        c.config().set("/process/terminal", true).args(&["sleep", "1000"]);
        Ok(c)
    })?;
    yes(hit > 20, format!("only {hit} steps were hit"))
}

fn every_step_that_fails_in_joined_namespaces_leaves_the_host_as_it_was(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let mut other = lab.container()?;
    other.sleeping()?;
    let hit = creating(lab, "fail", |lab| joined(lab, &other))?;
    yes(hit > 20, format!("only {hit} steps were hit"))?;
    has(other.status()?, "running")?;
    other.delete_force()
}

fn every_step_that_dies_in_joined_namespaces_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let mut other = lab.container()?;
    other.sleeping()?;
    let hit = creating(lab, "die", |lab| joined(lab, &other))?;
    yes(hit > 20, format!("only {hit} steps were hit"))?;
    has(other.status()?, "running")?;
    other.delete_force()
}

/// Calls of the runtime that is killed at each point in turn, until it passes none of that number; `delete --force` ends
/// each. `prepare` makes a container, `line` is what is called with it. Gives how many points were hit.
fn killing(
    lab: &Lab,
    prepare: impl Fn() -> Result<Container, Stop>,
    line: impl Fn(&Container) -> Vec<String>,
) -> Result<usize, Stop> {
    for point in 0..MOST {
        let c = prepare()?;
        c.bundle.write()?;
        let words = line(&c);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ended = with_fault(lab, &format!("kill:{point}"), &words)?;
        c.delete_force()?;
        c.is_gone()?;
        yes(!lab.state.join(&c.id).exists(), "a state directory is left")?;
        std::fs::remove_dir_all(&c.bundle.path)?;
        match ended.code {
            137 => {}
            0 => return Ok(point),
            other => return fail(format!("point {point}: status {other}: {}", ended.stderr)),
        }
    }
    fail(format!("more than {MOST} points"))
}

fn create_line(c: &Container) -> Vec<String> {
    ["create", "--bundle", &c.bundle_arg(), &c.id].map(str::to_owned).to_vec()
}

fn create_killed_at_every_point_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let hit = killing(lab, || rich(lab), create_line)?;
    yes(hit > 6, format!("only {hit} points were hit"))
}

fn create_killed_in_a_user_namespace_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let hit = killing(lab, || mapped(lab), create_line)?;
    yes(hit > 6, format!("only {hit} points were hit"))
}

fn create_killed_in_joined_namespaces_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let mut other = lab.container()?;
    other.sleeping()?;
    let hit = killing(lab, || joined(lab, &other), create_line)?;
    yes(hit > 6, format!("only {hit} points were hit"))?;
    // It was joined: those that were killed must not live on in its pid namespace.
    // The shell, ls and grep are there, too.
    let seen = || other.sh("ls /proc | grep -c '^[0-9]'").ok()?.trim().parse::<u32>().ok();
    wait_for("only its own processes are in the joined namespace", || (seen()? <= 4).then_some(()))?;
    other.delete_force()
}

fn start_killed_at_every_point_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let created = || {
        let c = rich(lab)?;
        c.create_ok()?;
        Ok(c)
    };
    let hit = killing(lab, created, |c| vec!["start".to_owned(), c.id.clone()])?;
    yes(hit > 2, format!("only {hit} points were hit"))
}

fn run_killed_at_every_point_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let line =
        |c: &Container| ["run", "--detach", "--bundle", &c.bundle_arg(), &c.id].map(str::to_owned).to_vec();
    let plain = || {
        let mut c = lab.container()?;
        c.config().args(&["sleep", "1000"]);
        Ok(c)
    };
    for hit in [killing(lab, || rich(lab), line)?, killing(lab, plain, line)?] {
        yes(hit > 6, format!("only {hit} points were hit"))?;
    }
    Ok(())
}

fn delete_killed_at_every_point_is_finished_by_another(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let running = || {
        let c = rich(lab)?;
        c.run_detached()?;
        Ok(c)
    };
    let line = |c: &Container| ["delete", "--force", &c.id].map(str::to_owned).to_vec();
    let hit = killing(lab, running, line)?;
    yes(hit > 3, format!("only {hit} points were hit"))
}

fn exec_killed_at_every_point_leaves_the_container_as_it_was(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let mut c = lab.container()?;
    c.sleeping()?;
    let mut hit = 0;
    for point in 0..MOST {
        let ended = with_fault(lab, &format!("kill:{point}"), &["exec", &c.id, "true"])?;
        if ended.code == 0 {
            break;
        }
        eq(ended.code, 137, "status")?;
        hit += 1;
        wait_for("the process of exec ends", || {
            let pids = c.call("ps", &["--format", "json"]).ok()?.json().ok()?;
            (pids.as_array()?.len() == 1).then_some(())
        })?;
    }
    yes(hit > 0, "no point was hit")?;
    c.exec(&["true"])?.ok()?;
    c.delete_force()
}

fn every_step_of_exec_that_fails_leaves_the_container_as_it_was(lab: &Lab) -> Outcome {
    need_faults(lab)?;
    let mut c = lab.container()?;
    c.sleeping()?;
    let mut hit = 0;
    for step in 0..MOST {
        let ended = with_fault(lab, &format!("fail:{step}"), &["exec", &c.id, "true"])?;
        if ended.code == 0 {
            break;
        }
        ended.refused()?;
        hit += 1;
    }
    yes(hit > 3, format!("only {hit} steps were hit"))?;
    has(c.status()?, "running")?;
    wait_for("none of its processes is left", || {
        let pids = c.call("ps", &["--format", "json"]).ok()?.json().ok()?;
        (pids.as_array()?.len() == 1).then_some(())
    })?;
    c.exec(&["true"])?.ok()?;
    c.delete_force()
}

fn a_runtime_killed_at_any_moment_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    if lab.kind() != Kind::Knarr {
        return skip("peers leave mounts or cgroups behind that their delete does not know");
    }
    for round in 0..60_u64 {
        let c = rich(lab)?;
        c.bundle.write()?;
        let running = lab.start(&["create", "--bundle", &c.bundle_arg(), &c.id])?;
        // Not a measure of time: any moment will do, the rounds only spread them.
        std::thread::sleep(Duration::from_micros(round * 150));
        running.signal(Signal::SIGKILL)?;
        running.wait()?;
        c.delete_force()?;
        c.is_gone()?;
        std::fs::remove_dir_all(&c.bundle.path)?;
    }
    Ok(())
}
