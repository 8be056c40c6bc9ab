//! Every step of a creation fails once, and the process dies once at every step: the host is as before, or a
//! `delete --force` makes it so. And whoever creates is killed at any moment.
//!
//! Only knarr built with the feature `fault` can be told to fail (`KNARR_FAULT=fail:STEP`, `die:STEP`); `make
//! test-faults` builds it and runs this topic.

use std::time::Duration;

use integration::process::start;
use integration::{Container, Kind, Lab, Outcome, Stop, Test, fail, has, skip, tests, yes};
use nix::sys::signal::Signal;
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["faults":
    every_step_that_fails_leaves_the_host_as_it_was,
    every_step_that_dies_leaves_what_delete_can_finish,
    every_step_of_exec_that_fails_leaves_the_container_as_it_was,
    every_step_that_fails_in_a_user_namespace_leaves_the_host_as_it_was,
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

/// `create` with the fault at each step in turn, until a number is beyond the plan; gives how many were hit.
fn creating(lab: &Lab, kind: &str, make: impl Fn(&Lab) -> Result<Container, Stop>) -> Result<usize, Stop> {
    let mut late = 0;
    for step in 0..MOST {
        let c = make(lab)?;
        c.bundle.write()?;
        let ended =
            with_fault(lab, &format!("{kind}:{step}"), &["create", "--bundle", &c.bundle_arg(), &c.id])?;
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
    let hit = creating(lab, "fail", |lab| {
        let mut c = lab.container()?;
        c.config().user_namespace(100_000, 65536).args(&["sleep", "1000"]);
        c.bundle.chown(100_000)?;
        Ok(c)
    })?;
    yes(hit > 20, format!("only {hit} steps were hit"))
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
    let pids = c.call("ps", &["--format", "json"])?.ok()?.json()?;
    yes(pids.as_array().is_some_and(|p| p.len() == 1), format!("processes are left: {pids}"))?;
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
