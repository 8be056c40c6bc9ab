//! The shim is killed, at any moment; `delete` leaves no process, mount, cgroup, state or socket.
//!
//! "At every system call" is meant literally: the shim is killed at its first, its second, its third… until a run ends before that.
//! `KNARR_SHIM_FULL=1` tries every one; else every few, beginning with another one each day.

use crate::killer::{End, kill_at, run_and_kill_at};
use crate::stage::{Stage, Task, full};
use integration::process::wait_for;
use integration::{Lab, Outcome, Stop, Test, eq, fail, skip, tests, yes};
use nix::sys::signal::Signal;
use procfs::process::Process;
use shim::wire::code::{Code, Failure};
use shim::wire::task::CreateTaskResponse;
use std::fs;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = tests!["death":
    a_shim_killed_in_each_state_leaves_what_delete_can_finish,
    a_shim_killed_while_its_workers_work_leaves_what_delete_can_finish,
    a_shim_killed_at_any_system_call_leaves_what_delete_can_finish,
    a_start_killed_at_any_system_call_leaves_what_delete_can_finish,
    a_delete_killed_at_any_system_call_is_finished_by_another,
    a_worker_killed_at_any_point_fails_its_call_and_leaves_what_delete_can_finish,
    a_shim_that_hangs_is_ended_by_delete_and_one_that_answers_is_not,
];

/// More system calls than any of these runs makes.
const MOST: usize = 5000;

/// The numbers of the system calls to try.
fn numbers(stride: usize) -> impl Iterator<Item = usize> {
    let day = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() / 86_400);
    let (first, stride) =
        if full() { (1, 1) } else { (1 + usize::try_from(day).unwrap_or(0) % stride, stride) };
    (first..MOST).step_by(stride)
}

fn a_shim_killed_in_each_state_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    for state in ["made", "running", "with an exec", "with a paused container", "ended"] {
        let mut task = stage.created(["", "", ""], |config| {
            config.args(&["sleep", if state == "ended" { "0" } else { "1000" }]);
        })?;
        if state != "made" {
            task.start("")?;
        }
        if state == "with an exec" {
            task.add("x", &["sleep", "1000"])?;
            task.start("x")?;
        } else if state == "with a paused container" {
            let pause = shim::wire::task::PauseRequest { id: task.id.clone() };
            task.client.call::<shim::wire::types::Empty>("Pause", &pause)?;
        } else if state == "ended" {
            task.wait("")?;
        }
        let pid = task.state("")?.pid;
        task.kill_shim()?;
        let answer = stage.clean_up(&task.bundle, &task.id)?;
        eq((answer.pid, answer.exit_status), (pid, 137), format!("what delete answers when killed {state}"))?;
        clean(&stage, &task)?;
        stage.clean_up(&task.bundle, &task.id)?;
    }
    Ok(())
}

fn clean(stage: &Stage<'_>, task: &Task) -> Outcome {
    wait_for("processes end", || {
        integration::process::reap();
        stage.is_clean(task).ok()
    })
    .or_else(|_| stage.is_clean(task))
}

/// A worker must not continue after the end of the shim and of `delete`.
fn a_shim_killed_while_its_workers_work_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    for round in 0..if full() { 400 } else { 40 } {
        let mut task = stage.shim(|config| {
            config.args(&["sleep", "1000"]);
        })?;
        let request = stage.create_request(&task, ["", "", ""]);
        if round % 4 == 3 {
            // In the middle of exec, else of create.
            task.create(&stage, ["", "", ""])?;
            task.start("")?;
            task.add("x", &["sleep", "1000"])?;
            task.client.begin("Start", &task.start_request("x"))?;
        } else if stage.is_ours() {
            task.client.begin("Create", &request)?;
        } else {
            return skip("another shim: its pid is not known before Create");
        }
        std::thread::sleep(Duration::from_micros(round % 20 * 250));
        task.kill_shim()?;
        stage.clean_up(&task.bundle, &task.id)?;
        if let Err(Stop::Failed(why)) = clean(&stage, &task) {
            return fail(format!("round {round}: {why}"));
        }
    }
    Ok(())
}

/// All methods from Create to Delete, with an exec.
fn live(stage: &Stage<'_>, task: &mut Task) -> Result<(), Failure> {
    live_with(stage, task, true)
}

fn live_with(stage: &Stage<'_>, task: &mut Task, exec: bool) -> Result<(), Failure> {
    let request = stage.create_request(task, ["", "", ""]);
    task.client.call::<CreateTaskResponse>("Create", &request)?;
    task.start("")?;
    if exec {
        task.add("x", &["sh", "-c", "exit 3"])?;
        task.start("x")?;
        task.wait("x")?;
        task.delete("x")?;
    }
    task.kill("", Signal::SIGKILL)?;
    task.wait("")?;
    task.delete("").map(drop)
}

fn a_shim_killed_at_any_system_call_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("its shim has a thread for everything")?;
    for (hit, number) in numbers(7).enumerate() {
        let mut task = stage.shim(|config| {
            config.args(&["sleep", "1000"]);
        })?;
        let killer = kill_at(task.shim, number)?;
        let lived = live(&stage, &mut task);
        let mut died = matches!(&lived, Err(failure) if failure.code == Code::Unavailable);
        if !died {
            lived?;
            task.shut_down()?;
        }
        // The last system calls come after the last answer.
        died |= killer.join().is_ok_and(|end| end == End::Killed);
        stage.clean_up(&task.bundle, &task.id)?;
        if let Err(Stop::Failed(why)) = clean(&stage, &task) {
            return fail(format!("killed at system call {number}: {why}"));
        }
        fs::remove_dir_all(&task.bundle)?;
        fs::remove_dir_all(stage.root_of(&task.id))?;
        if !died {
            return yes(hit > 10, format!("only {hit} system calls were hit"));
        }
    }
    fail("a story of too many system calls")
}

fn a_start_killed_at_any_system_call_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("it leaves an unknown server")?;
    for (hit, number) in numbers(5).enumerate() {
        let (id, bundle) = stage.bundle(|_| ())?;
        let real = stage.launch.command(&bundle, &id, "start");
        let whole = run_and_kill_at(&real, number)? == End::Exited(0);
        stage.clean_up(&bundle, &id)?;
        let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
        let socket = std::path::PathBuf::from(address.trim_start_matches("unix://"));
        wait_for("the socket goes", || (address.is_empty() || !socket.exists()).then_some(()))?;
        let ended = || {
            integration::process::reap();
            let ours = |(pid, _): &(i32, String)| {
                let line = Process::new(*pid).and_then(|process| process.cmdline()).unwrap_or_default();
                line.contains(&id)
            };
            (!integration::snapshot::descendants().iter().any(ours)).then_some(())
        };
        // A server that was too slow for `delete` ends by itself after ten seconds without a client.
        wait_for("the server ends", ended).or_else(|_| wait_for("the server ends", ended))?;
        // Another start succeeds.
        let socket = stage.launch.start(&bundle, &id)?;
        stage.clean_up(&bundle, &id)?;
        wait_for("the second socket goes", || (!socket.exists()).then_some(()))?;
        if whole {
            return yes(hit > 5, format!("only {hit} system calls were hit"));
        }
    }
    fail("a start of too many system calls")
}

fn a_delete_killed_at_any_system_call_is_finished_by_another(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("it has threads, and runs runc")?;
    for (hit, number) in numbers(9).enumerate() {
        let task = stage.started(&["sleep", "1000"])?;
        task.kill_shim()?;
        let real = stage.launch.command(&task.bundle, &task.id, "delete");
        let whole = run_and_kill_at(&real, number)? == End::Exited(0);
        stage.clean_up(&task.bundle, &task.id)?;
        if let Err(Stop::Failed(why)) = clean(&stage, &task) {
            return fail(format!("killed at system call {number}: {why}"));
        }
        fs::remove_dir_all(&task.bundle)?;
        fs::remove_dir_all(stage.root_of(&task.id))?;
        if whole {
            return yes(hit > 5, format!("only {hit} system calls were hit"));
        }
    }
    fail("a delete of too many system calls")
}

fn a_shim_that_hangs_is_ended_by_delete_and_one_that_answers_is_not(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("it leaves its server")?;
    let mut healthy = stage.started(&["sleep", "1000"])?;
    let (id, bundle) = stage.bundle(|_| ())?;
    // A bundle that never had a container, with the address of a shim that has one.
    fs::copy(healthy.bundle.join("address"), bundle.join("address"))?;
    stage.clean_up(&bundle, &id)?;
    eq(healthy.state("")?.pid > 0, true, "the shim that answers is there, with its container")?;
    healthy.finish()?;

    let task = stage.started(&["sleep", "1000"])?;
    let shim = nix::unistd::Pid::from_raw(task.shim);
    nix::sys::signal::kill(shim, Signal::SIGSTOP)?;
    let answer = stage.clean_up(&task.bundle, &task.id)?;
    eq(answer.exit_status, 137, "what delete answers")?;
    wait_for("the shim that hangs ends", || {
        integration::process::reap();
        (!crate::stage::is_alive(task.shim)).then_some(())
    })?;
    clean(&stage, &task)
}

fn a_worker_killed_at_any_point_fails_its_call_and_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    let mut stage = Stage::new(lab)?;
    stage.ours_only("no fault can be injected")?;
    // On cgroup v2 an exec has no worker: the fault would kill the shim.
    let exec = !integration::runtime::v2();
    for number in 0..MOST {
        stage.launch.environment = vec![("KNARR_FAULT".to_owned(), format!("kill:{number}"))];
        let mut task = stage.shim(|config| {
            config.args(&["sleep", "1000"]);
        })?;
        let lived = live_with(&stage, &mut task, exec);
        if lived.is_ok() && number == 0 {
            task.shut_down()?;
            return skip("this shim was built without the feature `fault`: make test-shim");
        }
        let died = matches!(&lived, Err(failure) if failure.code == Code::Internal);
        if !died {
            lived?;
            task.shut_down()?;
            return yes(number > 5, format!("only {number} points were hit"));
        }
        yes(crate::stage::is_alive(task.shim), "the shim has died with its worker")?;
        stage.launch.environment.clear();
        task.kill_shim()?;
        stage.clean_up(&task.bundle, &task.id)?;
        if let Err(Stop::Failed(why)) = clean(&stage, &task) {
            return fail(format!("worker killed at point {number}: {why}"));
        }
    }
    fail("too many points")
}
