//! What is done to a running container through its cgroup: update, pause, resume, ps, removal with all below.

use std::fs;
use std::path::PathBuf;

use crate::namespaces::{end, holder};
use cgroups_rs::cgroup::Cgroup;
use cgroups_rs::freezer::{FreezerController, FreezerState};
use cgroups_rs::pid::PidController;
use cgroups_rs::{CgroupPid, MaxValue};
use integration::Container;
use integration::lab::{cgroup_path, in_cgroup, text};
use integration::process::{command, start, wait_for};
use integration::runtime::{need_controller, v2};
use integration::witness;
use integration::{Kind, Lab, Outcome, Stop, Test, eq, fail, has, skip, tests, yes};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["control":
    update_changes_limits,
    update_reads_resources_from_a_file_and_from_standard_input,
    update_of_what_another_library_has_limited,
    update_of_a_broken_value_changes_nothing,
    update_that_fails_puts_back_what_it_has_set,
    update_makes_a_container_idle_and_busy_again,
    an_idle_container_is_updated_with_shares_that_it_does_not_feel,
    update_without_a_pids_limit_leaves_it_alone,
    update_of_a_stopped_container_is_refused_or_harmless,
    update_never_loosens_the_device_rules,
    pause_freezes_and_resume_thaws,
    a_container_that_another_library_freezes_is_paused,
    pause_of_a_paused_container_is_refused,
    start_of_a_paused_container_is_refused_and_works_after_resume,
    resume_of_a_running_container_is_refused,
    a_paused_container_is_deleted_by_force,
    kill_of_a_paused_container_works_after_resume,
    kill_ends_a_paused_container,
    kill_ends_all_processes_where_the_first_ones_end_does_not,
    ps_lists_all_processes,
    ps_lists_a_process_that_another_library_has_added,
    ps_of_a_stopped_container_is_empty_or_refused,
    nested_cgroups_are_removed_by_force,
    nested_and_frozen_cgroups_are_removed_by_force,
    a_delete_that_a_stranger_holds_up_is_finished_by_another,
    a_container_that_has_left_its_cgroup_is_entered_where_it_is,
    a_container_that_has_left_its_cgroup_is_not_paused_without_effect,
    a_container_without_its_own_pids_that_has_left_its_cgroup_is_killed_all_the_same,
];

fn update_changes_limits(lab: &Lab) -> Outcome {
    need_controller("pids")?;
    let c = lab.limited(&["pids"], &json!({"pids": {"limit": 50}}))?;
    c.call("update", &["--pids-limit", "60"])?.ok()?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "60", "pids")?;
    c.call("update", &["--pids-limit", "-1"])?.ok()?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "max", "pids of -1")?;
    if lab.kind() == Kind::Knarr {
        c.call("update", &["--pids-limit", "0"])?.ok()?;
        eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "1", "pids of 0, as create has it")?;
    }
    if need_controller("memory").is_ok() {
        c.call("update", &["--memory", "64M"])?.ok()?;
        eq(c.limit("memory/memory.limit_in_bytes", "memory.max")?.as_str(), "67108864", "memory")?;
    }
    if need_controller("cpu").is_ok() {
        c.call("update", &["--cpu-period", "50000", "--cpu-quota", "25000"])?.ok()?;
        if v2() {
            eq(c.limit("", "cpu.max")?.as_str(), "25000 50000", "cpu.max")?;
        } else {
            eq(c.limit("cpu/cpu.cfs_quota_us", "")?.as_str(), "25000", "quota")?;
        }
    }
    c.delete_force()
}

fn update_reads_resources_from_a_file_and_from_standard_input(lab: &Lab) -> Outcome {
    let c = lab.limited(&["pids"], &json!({"pids": {"limit": 50}}))?;
    let file = lab.file("resources.json", r#"{"pids": {"limit": 31}}"#)?;
    c.call("update", &["--resources", &text(&file)])?.ok()?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "31", "from a file")?;
    let file = lab.file("resources2.json", r#"{"pids": {"limit": 32}}"#)?;
    let mut command = lab.command(&["update", "-r", "-", &c.id]);
    command.stdin(fs::File::open(file)?);
    integration::process::start(command, &lab.dir)?.wait()?.ok()?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "32", "from standard input")?;
    c.delete_force()
}

/// The container's cgroup in the hands of the witness.
fn witnessed(c: &Container) -> Result<Cgroup, Stop> {
    Ok(witness::cgroup(&cgroup_path(c.pid()?, "pids")?))
}

fn update_of_what_another_library_has_limited(lab: &Lab) -> Outcome {
    let c = lab.limited(&["pids"], &json!({"pids": {"limit": 50}}))?;
    let group = witnessed(&c)?;
    let Some(pids) = group.controller_of::<PidController>() else {
        return fail("cgroups-rs sees no pids controller");
    };
    pids.set_pid_max(MaxValue::Value(3))?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "3", "pids")?;
    c.call("update", &["--pids-limit", "60"])?.ok()?;
    eq(pids.get_pid_max()?, MaxValue::Value(60), "pids after update")?;
    c.delete_force()
}

fn update_of_a_broken_value_changes_nothing(lab: &Lab) -> Outcome {
    let c = lab.limited(&["pids"], &json!({"pids": {"limit": 50}}))?;
    for flags in [
        ["--memory", "much"],
        ["--pids-limit", "x"],
        ["--cpu-quota", "x"],
        ["--resources", "/no/such/file"],
        ["--cpuset-cpus", "99999"],
    ] {
        c.call("update", &flags)?.refused()?;
        eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "50", format!("pids after {flags:?}"))?;
    }
    c.delete_force()
}

fn update_that_fails_puts_back_what_it_has_set(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "puts back what the container was created with, and nothing else")?;
    lab.except(Kind::Crun, "leaves what it has set")?;
    need_controller("cpu")?;
    let c = lab.limited(&["pids"], &json!({}))?;
    let file = lab.file("half.json", r#"{"pids": {"limit": 9}, "cpu": {"quota": 5000, "period": 10}}"#)?;
    let file2 = lab.file("half2.json", r#"{"cpu": {"shares": 77, "cpus": "99999"}}"#)?;
    for file in [file, file2] {
        c.call("update", &["-r", &text(&file)])?.refused()?;
        eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "max", "pids")?;
        let weight = c.limit("cpu/cpu.shares", "cpu.weight")?;
        eq(weight.as_str(), if v2() { "100" } else { "1024" }, "the weight")?;
        let quota = c.limit("cpu/cpu.cfs_quota_us", "cpu.max")?;
        eq(quota.as_str(), if v2() { "max 100000" } else { "-1" }, "quota")?;
    }
    c.delete_force()
}

fn update_makes_a_container_idle_and_busy_again(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "has no --cpu-idle")?;
    need_controller("cpu")?;
    let c = lab.limited(&["pids"], &json!({"cpu": {"shares": 512}}))?;
    let idle = || c.limit("cpu/cpu.idle", "cpu.idle");
    c.call("update", &["--cpu-idle", "1"])?.ok()?;
    eq(idle()?.as_str(), "1", "idle")?;
    c.call("update", &["--pids-limit", "50"])?.ok()?;
    c.call("update", &["--cpu-idle", "0"])?.ok()?;
    eq(idle()?.as_str(), "0", "busy")?;
    c.delete_force()
}

fn an_idle_container_is_updated_with_shares_that_it_does_not_feel(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "writes shares that the kernel refuses in an idle cgroup")?;
    need_controller("cpu")?;
    lab.except(Kind::Runc, "writes shares that the kernel refuses in an idle cgroup")?;
    let c = lab.limited(&["pids"], &json!({"cpu": {"shares": 512, "idle": 1}}))?;
    let both = lab.file("both.json", r#"{"cpu": {"shares": 700, "idle": 1}}"#)?;
    for _ in 0..2 {
        c.call("update", &["-r", &text(&both)])?.ok()?;
        eq(c.limit("cpu/cpu.idle", "cpu.idle")?.as_str(), "1", "idle with shares")?;
    }
    c.delete_force()
}

fn update_without_a_pids_limit_leaves_it_alone(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "1.3 takes it for 0, which is no limit there")?;
    let c = lab.limited(&["pids"], &json!({"pids": {}}))?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "max", "pids of {}")?;
    c.call("update", &["--pids-limit", "40"])?.ok()?;
    let file = lab.file("none.json", r#"{"pids": {}}"#)?;
    c.call("update", &["-r", &text(&file)])?.ok()?;
    eq(c.limit("pids/pids.max", "pids.max")?.as_str(), "40", "pids after an update to {}")?;
    let file = lab.file("list.json", "[]")?;
    c.call("update", &["-r", &text(&file)])?.refused()?;
    c.delete_force()
}

fn update_of_a_stopped_container_is_refused_or_harmless(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    let ended = c.call("update", &["--pids-limit", "10"])?;
    yes(ended.code < 128, format!("status {}", ended.code))?;
    eq(c.status()?, "stopped", "status")?;
    c.delete()?.ok()?;
    Ok(())
}

fn update_never_loosens_the_device_rules(lab: &Lab) -> Outcome {
    need_controller("pids")?;
    let mut c = lab.container()?;
    c.config().privileged();
    c.sleeping()?;
    let probe = "rm -f /dev/k; mknod /dev/k c 1 11 2>&1; inspector open r /dev/k";
    let before = c.sh(probe)?;
    c.call("update", &["--pids-limit", "60"])?.ok()?;
    eq(c.sh(probe)?, before.clone(), "what a denied device gives after update")?;
    yes(!before.contains("/dev/k ok"), before)?;
    c.delete_force()
}

fn pause_freezes_and_resume_thaws(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().writable().sh("i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.01; done");
    c.run_detached()?;
    wait_for("it counts", || c.bundle.inside("/count").exists().then_some(()))?;
    c.call("pause", &[])?.ok()?;
    eq(c.status()?, "paused", "status")?;
    let read = || fs::read_to_string(c.bundle.inside("/count")).unwrap_or_default();
    let before = read();
    // Long enough for ten rounds: another container has made them meanwhile.
    let mut twin = lab.container()?;
    twin.config().writable().sh("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.01; done");
    twin.run()?.ok()?;
    eq(read(), before.clone(), "the count while paused")?;
    c.call("resume", &[])?.ok()?;
    eq(c.status()?, "running", "status")?;
    wait_for("it counts again", || (read() != before).then_some(()))?;
    c.delete_force()
}

fn a_container_that_another_library_freezes_is_paused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let group = witnessed(&c)?;
    let Some(freezer) = group.controller_of::<FreezerController>() else {
        return fail("cgroups-rs sees no freezer");
    };
    freezer.freeze()?;
    c.wait_for_status("paused")?;
    c.call("resume", &[])?.ok()?;
    eq(c.status()?, "running", "status")?;
    yes(matches!(freezer.state()?, FreezerState::Thawed), "cgroups-rs sees it thawed after resume")?;
    c.call("pause", &[])?.ok()?;
    yes(matches!(freezer.state()?, FreezerState::Frozen), "cgroups-rs sees it frozen after pause")?;
    freezer.thaw()?;
    c.wait_for_status("running")?;
    c.delete_force()
}

fn pause_of_a_paused_container_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("pause", &[])?.ok()?;
    let again = c.call("pause", &[])?;
    // runc takes it without a message.
    yes(again.code == 0 || !again.stderr.is_empty(), "a failure without a message")?;
    eq(c.status()?, "paused", "status")?;
    c.call("resume", &[])?.ok()?;
    c.delete_force()
}

fn start_of_a_paused_container_is_refused_and_works_after_resume(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "waits forever")?;
    let mut c = lab.container()?;
    c.config().args(&["sleep", "1000"]);
    c.create_ok()?;
    c.call("pause", &[])?.ok()?;
    c.start()?.refused_with("cannot start a container in the paused state")?;
    eq(c.status()?, "paused", "status")?;
    c.call("resume", &[])?.ok()?;
    c.start_ok()?;
    c.wait_for_status("running")?;
    c.delete_force()
}

fn resume_of_a_running_container_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "does nothing, with success")?;
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("resume", &[])?.refused()?;
    eq(c.status()?, "running", "status")?;
    c.delete_force()
}

fn a_paused_container_is_deleted_by_force(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("pause", &[])?.ok()?;
    c.delete_force()?;
    c.is_gone()
}

fn kill_of_a_paused_container_works_after_resume(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    c.call("pause", &[])?.ok()?;
    c.kill("KILL")?.ok()?;
    let resumed = c.call("resume", &[])?;
    yes(resumed.code == 0 || !resumed.stderr.is_empty(), "a failure without a message")?;
    c.wait_for_status("stopped")?;
    c.delete()?.ok()?;
    Ok(())
}

fn ps_lists_all_processes(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("sleep 1001 & sleep 1002 & wait");
    c.run_detached()?;
    let list = || -> Option<Vec<i64>> {
        let json = c.call("ps", &["--format", "json"]).ok()?.json().ok()?;
        json.as_array()?.iter().map(Value::as_i64).collect()
    };
    let pids = wait_for("three processes are listed", || list().filter(|l| l.len() == 3))?;
    yes(pids.contains(&i64::from(c.pid()?)), "the init is in the list")?;
    for pid in pids {
        yes(PathBuf::from(format!("/proc/{pid}")).is_dir(), format!("{pid} is a pid of the host"))?;
    }
    if lab.kind() != Kind::Crun {
        let table = c.call("ps", &[])?.ok()?.stdout;
        has(table.lines().next().unwrap_or_default(), "PID")?;
        has(&table, "sleep 1002")?;
        eq(table.lines().count(), 4, "lines of the table")?;
        // A process is there from its fork on, under the name of the shell until it executes its program.
        let names = || lab.call(&["ps", &c.id, "-o", "pid,comm"]).ok()?.ok().ok();
        wait_for("its programs are listed by their names", || {
            names()?.stdout.contains("sleep").then_some(())
        })?;
    }
    c.delete_force()
}

fn ps_lists_a_process_that_another_library_has_added(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let mut sleep = command("sleep");
    sleep.arg("1000");
    let stranger = start(sleep, &lab.dir)?;
    witnessed(&c)?.add_task_by_tgid(CgroupPid::from(u64::from(stranger.pid().cast_unsigned())))?;
    let listed = c.call("ps", &["--format", "json"])?.ok()?.json()?;
    let listed: Vec<_> = listed.as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    yes(listed.contains(&i64::from(stranger.pid())), format!("the stranger is in {listed:?}"))?;
    eq(listed.len(), 2, "processes")?;
    stranger.signal(Signal::SIGKILL)?;
    stranger.wait()?.status(137)?;
    c.delete_force()
}

fn ps_of_a_stopped_container_is_empty_or_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    let ended = c.call("ps", &["--format", "json"])?;
    if ended.code == 0 {
        let json = ended.json()?;
        yes(json.is_null() || json == json!([]), format!("processes {json}"))?;
    }
    c.delete()?.ok()?;
    Ok(())
}

/// Makes directories below the container's own cgroups, some deep, with a process of the container in the last.
fn nest(c: &Container, depth: usize) -> Result<PathBuf, Stop> {
    let mut deepest = c.cgroup("freezer")?;
    for _ in 0..depth {
        deepest = deepest.join("n");
        fs::create_dir(&deepest)?;
    }
    c.exec_with(&["--detach"], &["sleep", "1003"])?.ok()?;
    let json = c.call("ps", &["--format", "json"])?.ok()?.json()?;
    let init = i64::from(c.pid()?);
    let other =
        json.as_array().into_iter().flatten().find(|p| p.as_i64() != Some(init)).cloned().unwrap_or_default();
    fs::write(deepest.join("cgroup.procs"), other.to_string())?;
    Ok(deepest)
}

fn nested_cgroups_are_removed_by_force(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    nest(&c, 10)?;
    c.delete_force()?;
    c.is_gone()
}

fn nested_and_frozen_cgroups_are_removed_by_force(lab: &Lab) -> Outcome {
    // Outside a pid namespace of its own, the frozen child would otherwise die with its init.
    let mut c = lab.container()?;
    c.sleeping()?;
    let deepest = nest(&c, 3)?;
    fs::write(
        deepest.join(if v2() { "cgroup.freeze" } else { "freezer.state" }),
        if v2() { "1" } else { "FROZEN" },
    )?;
    let ended = c.call("delete", &["--force"])?;
    fs::write(
        deepest.join(if v2() { "cgroup.freeze" } else { "freezer.state" }),
        if v2() { "0" } else { "THAWED" },
    )
    .ok();
    if ended.code != 0 && lab.kind() != Kind::Knarr {
        // A process frozen by v1's freezer cannot die, and peers do not thaw below the container's own directory.
        return c.delete_force();
    }
    ended.ok()?;
    c.is_gone()
}

fn a_delete_that_a_stranger_holds_up_is_finished_by_another(lab: &Lab) -> Outcome {
    if lab.kind() != Kind::Knarr {
        return skip("a test of knarr alone");
    }
    if v2() {
        return skip("with one tree, whatever is in the container's cgroup is killed with it");
    }
    let mut c = lab.container()?;
    c.sleeping()?;
    let group = c.cgroup("pids")?;
    let mut sleep = command("sleep");
    sleep.arg("1000");
    // In one hierarchy only it is none of the container's processes.
    let stranger = start(sleep, &lab.dir)?;
    fs::write(group.join("cgroup.procs"), stranger.pid().to_string())?;
    c.call("delete", &["--force"])?.refused_with("busy")?;
    eq(c.status()?, "stopped", "status")?;
    stranger.signal(Signal::SIGKILL)?;
    stranger.wait()?.status(137)?;
    c.delete_force()?;
    yes(!group.exists(), format!("{} is left", group.display()))?;
    c.is_gone()
}

fn kill_ends_a_paused_container(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "it stays paused on cgroup v1")?;
    for pids in ["own", "shared"] {
        let mut c = lab.container()?;
        if pids == "shared" {
            lab.except(Kind::Runc, "it stays paused without its own pids on cgroup v1")?;
            c.config().share("pid");
        }
        c.sleeping()?;
        c.call("pause", &[])?.ok()?;
        c.kill("KILL")?.ok()?;
        c.wait_for_status("stopped")?;
        c.delete()?.ok()?;
        c.is_gone()?;
    }
    Ok(())
}

fn kill_ends_all_processes_where_the_first_ones_end_does_not(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "it signals the first process alone")?;
    for pids in ["shared", "joined"] {
        let mut c = lab.container()?;
        let (holder, pid) = holder(lab, &["--pid", "--fork", "--kill-child"])?;
        match pids {
            "joined" => c.config().join("pid", &format!("/proc/{pid}/ns/pid")),
            _ => c.config().share("pid"),
        };
        c.config().writable().sh("sleep 1000 & touch /ready; sleep 1000");
        c.run_detached()?;
        wait_for("it has a second process", || c.bundle.inside("/ready").exists().then_some(()))?;
        let cgroup = cgroup_path(c.pid()?, "pids")?;
        c.kill("KILL")?.ok()?;
        wait_for("no process is left in its cgroup", || in_cgroup(&cgroup).is_empty().then_some(()))?;
        c.delete()?.ok()?;
        c.is_gone()?;
        end(holder)?;
    }
    Ok(())
}

/// Moves the container's first process to another cgroup in each hierarchy, and removes its own if `removed`. Returns the new ones.
fn leave(c: &Container, removed: bool) -> Result<Vec<PathBuf>, Stop> {
    let pid = c.pid()?;
    let mut new = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/cgroup"))?.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let root = PathBuf::from("/sys/fs/cgroup");
        let mount = match controllers {
            "" if v2() => root,
            "" => root.join("unified"),
            name => root.join(name.trim_start_matches("name=")),
        };
        let old = mount.join(path.trim_start_matches('/'));
        if path == "/" || !old.is_dir() {
            continue;
        }
        let other = old.with_file_name(format!("{}-left", c.id));
        fs::create_dir(&other)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // A cpuset of v1 takes processes only when it has these.
            if let Ok(value) = fs::read_to_string(old.join(file)) {
                let _ = fs::write(other.join(file), value);
            }
        }
        fs::write(other.join("cgroup.procs"), pid.to_string())?;
        if removed {
            fs::remove_dir(old)?;
        }
        new.push(other);
    }
    yes(!new.is_empty(), "the container was in cgroups")?;
    Ok(new)
}

fn gone(c: &Container, new: Vec<PathBuf>) -> Outcome {
    c.delete_force()?;
    c.is_gone()?;
    for dir in new {
        wait_for("the other cgroup is empty", || fs::remove_dir(&dir).ok())?;
    }
    Ok(())
}

fn a_container_that_has_left_its_cgroup_is_entered_where_it_is(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "exec fails")?;
    lab.except(Kind::Runc, "its ps fails, and its exec on cgroup v1")?;
    let mut c = lab.container()?;
    c.config().share("cgroup");
    c.sleeping()?;
    let new = leave(&c, true)?;
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup"));
    let entered = c.exec_start(&[], &["sh", "-c", "echo in; exec sleep 1000"])?;
    entered.wait_for_output("in")?;
    let pids: Vec<i32> = serde_json::from_value(c.call("ps", &["--format", "json"])?.ok()?.json()?)?;
    eq(pids.len(), 2, format!("the first process and the one that entered: {pids:?}"))?;
    yes(pids.contains(&c.pid()?), "the first process is listed")?;
    for pid in &pids {
        eq(of(&pid.to_string())?, of(&c.pid()?.to_string())?, "cgroups")?;
    }
    eq(c.status()?, "running", "status")?;
    gone(&c, new)?;
    entered.wait()?;
    Ok(())
}

fn a_container_that_has_left_its_cgroup_is_not_paused_without_effect(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "it pauses the empty cgroup")?;
    lab.except(Kind::Runc, "it pauses the empty cgroup")?;
    for removed in [false, true] {
        let mut c = lab.container()?;
        c.config().share("cgroup");
        c.sleeping()?;
        let new = leave(&c, removed)?;
        let why = "the container's first process has left its cgroup";
        c.call("pause", &[])?.refused_with(why)?;
        c.call("update", &["--pids-limit", "20"])?.refused_with(why)?;
        eq(c.status()?, "running", "status")?;
        gone(&c, new)?;
    }
    Ok(())
}

fn a_container_without_its_own_pids_that_has_left_its_cgroup_is_killed_all_the_same(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "it looks for the cgroup")?;
    lab.except(Kind::Runc, "it signals the empty cgroup")?;
    for removed in [false, true] {
        let mut c = lab.container()?;
        c.config().share("cgroup").share("pid");
        c.sleeping()?;
        let new = leave(&c, removed)?;
        if lab.kind() == Kind::Knarr {
            c.call("ps", &["--format", "json"])?.refused_with("has left its cgroup")?;
        }
        c.kill("KILL")?.ok()?;
        c.wait_for_status("stopped")?;
        gone(&c, new)?;
    }
    Ok(())
}
