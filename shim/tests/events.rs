//! Events: their order, and that none is lost.

use crate::stage::{LIMIT, Stage, full, is_alive, story};
use integration::process::wait_for;
use integration::{Lab, Outcome, Test, eq, fail, tests, yes};
use nix::sys::signal::Signal;
use serde_json::json;
use shim::client::Client;
use shim::wire::events::Event;
use shim::wire::task::{ConnectRequest, ConnectResponse, DeleteRequest, DeleteResponse, ShutdownRequest};
use shim::wire::types::Empty;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = tests!["events":
    a_start_is_reported_before_the_exit_however_short_the_program,
    the_containers_exit_is_reported_last,
    the_exit_of_one_that_never_ran_is_reported_before_its_deletion,
    events_are_kept_while_containerd_is_away,
    calls_wait_for_a_containerd_that_is_behind_with_events_and_not_for_one_that_is_away,
    a_wait_after_the_exit_is_answered,
    kills_by_the_memory_limit_are_reported,
    a_server_with_events_to_tell_before_its_end_is_not_found_by_the_next_start,
];

fn a_start_is_reported_before_the_exit_however_short_the_program(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    for _ in 0..if full() { 500 } else { 25 } {
        let mut task = stage.started(&["true"])?;
        eq(task.wait("")?, 0, "the status of true")?;
        task.delete("")?;
        eq(stage.events_until(&task.id, "delete")?, ["create", "start", "exit", "delete"], "events")?;
        task.shut_down()?;
    }
    Ok(())
}

fn the_containers_exit_is_reported_last(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    for exec in ["a", "b", "c"] {
        task.add(exec, &["sleep", "1000"])?;
        task.start(exec)?;
    }
    task.kill("", nix::sys::signal::Signal::SIGKILL)?;
    eq(task.wait("")?, 137, "the status of the container")?;
    let seen = stage.events_until(&task.id, "exit")?;
    let exits: Vec<&str> = seen.iter().map(String::as_str).filter(|word| word.starts_with("exit")).collect();
    eq(exits.len(), 4, format!("exits before and with the container's ({seen:?})"))?;
    eq(exits.last(), Some(&"exit"), "the last exit")?;
    for exec in ["a", "b", "c"] {
        eq(task.wait(exec)?, 137, "the status of an exec")?;
        task.delete(exec)?;
    }
    task.finish()
}

fn the_exit_of_one_that_never_ran_is_reported_before_its_deletion(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("it has no workers")?;
    let mut task = stage.shim(|config| {
        config.args(&["sleep", "1000"]);
    })?;
    // The container's process is a child of its worker until that ends.
    let held = crate::killer::hold_workers(task.shim)?;
    task.create(&stage, ["", "", ""])?;
    let request = DeleteRequest { id: task.id.clone(), exec_id: String::new() };
    let call = task.client.begin("Delete", &request)?;
    let early = task.client.is_answered(call, Duration::from_millis(500))?;
    drop(held);
    let answer: DeleteResponse = task.client.finish(call)?;
    eq((early, answer.exit_status), (false, 137), "answered before the exit was known, and the status")?;
    eq(stage.events_until(&task.id, "delete")?, ["create", "exit", "delete"], "events")?;
    task.shut_down()
}

fn events_are_kept_while_containerd_is_away(lab: &Lab) -> Outcome {
    let mut stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    stage.events_until(&task.id, "start")?;
    stage.events.close();
    for exec in ["a", "b"] {
        task.add(exec, &["sh", "-c", "exit 4"])?;
        task.start(exec)?;
        eq(task.wait(exec)?, 4, "the status of an exec")?;
        task.delete(exec)?;
    }
    std::thread::sleep(Duration::from_millis(300));
    stage.events.open()?;
    let seen = stage.events_until(&task.id, "exit b")?;
    let wanted = [
        "create",
        "start",
        "exec-added a",
        "exec-started a",
        "exit a",
        "exec-added b",
        "exec-started b",
        "exit b",
    ];
    if stage.is_ours() {
        eq(seen, wanted, "events, in order")?;
    } else {
        // containerd's own shim sends each event again after a while, independently of the others.
        for word in wanted {
            yes(
                seen.iter().any(|one| one == word) || stage.events_until(&task.id, word).is_ok(),
                format!("{word} is lost"),
            )?;
        }
    }
    task.finish()
}

/// More events than a shim queues for a containerd that is connected.
const MANY: usize = 1200;

fn calls_wait_for_a_containerd_that_is_behind_with_events_and_not_for_one_that_is_away(lab: &Lab) -> Outcome {
    let mut stage = Stage::new(lab)?;
    stage.ours_only("it starts a thread for each event")?;
    let mut task = stage.started(&["sleep", "1000"])?;
    stage.events_until(&task.id, "start")?;
    let add = |task: &mut crate::stage::Task,
               numbers: std::ops::Range<usize>|
     -> Result<Vec<u32>, integration::Stop> {
        let mut calls = Vec::new();
        for number in numbers {
            let request = task.exec_request(&format!("x{number}"), &["true"], ["", "", ""]);
            calls.push(task.client.begin("Exec", &request)?);
        }
        Ok(calls)
    };
    let end = |task: &mut crate::stage::Task, calls: Vec<u32>| -> Outcome {
        for call in calls {
            task.client.finish::<shim::wire::types::Empty>(call)?;
        }
        Ok(())
    };
    stage.events.hold(true);
    let calls = add(&mut task, 0..MANY)?;
    let last = *calls.last().unwrap_or(&0);
    yes(task.client.is_answered(*calls.first().unwrap_or(&0), LIMIT)?, "the first call is not answered")?;
    task.state("")?;
    yes(!task.client.is_answered(last, Duration::from_millis(300))?, "the last call did not wait")?;
    stage.events.hold(false);
    end(&mut task, calls)?;
    stage.events_until(&task.id, &format!("exec-added x{}", MANY - 1))?;

    stage.events.close();
    let calls = add(&mut task, MANY..2 * MANY)?;
    end(&mut task, calls)?;
    stage.events.open()?;
    let seen = stage.events_until(&task.id, &format!("exec-added x{}", 2 * MANY - 1))?;
    let added: Vec<&str> = seen.iter().filter_map(|word| word.strip_prefix("exec-added ")).collect();
    let wanted: Vec<String> = (0..2 * MANY).map(|number| format!("x{number}")).collect();
    eq(added, wanted, "execs that were reported")?;
    task.finish()
}

fn a_wait_after_the_exit_is_answered(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.created(["", "", ""], |config| {
        config.sh("exit 9");
    })?;
    let early = task.client.begin("Wait", &task.wait_request(""))?;
    yes(!task.client.is_answered(early, Duration::from_millis(100))?, "Wait was answered before the start")?;
    task.start("")?;
    let ended: shim::wire::task::WaitResponse = task.client.finish(early)?;
    eq(ended.exit_status, 9, "for a Wait before the end")?;
    eq(task.wait("")?, 9, "for a Wait after the end")?;
    task.finish()
}

fn kills_by_the_memory_limit_are_reported(lab: &Lab) -> Outcome {
    integration::runtime::need_controller("memory")?;
    let stage = Stage::new(lab)?;
    let mut task = stage.created(["", "", ""], |config| {
        config.args(&["sh", "-c", "head -c 100m /dev/zero | tail"]);
        config.set("/linux/resources/memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
    })?;
    task.start("")?;
    task.wait("")?;
    let enough =
        |seen: &[shim::client::ReceivedEvent]| seen.iter().any(|seen| matches!(seen.event, Event::Oom(_)));
    if let Err(seen) = stage.events.wait(LIMIT, enough) {
        return fail(format!("no oom was reported: {:?}", story(&seen, &task.id)));
    }
    task.finish()
}

fn a_server_with_events_to_tell_before_its_end_is_not_found_by_the_next_start(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("its socket is there until it has ended")?;
    let mut task = stage.started(&["sleep", "1000"])?;
    stage.events_until(&task.id, "start")?;
    task.kill("", Signal::SIGKILL)?;
    task.wait("")?;
    stage.events_until(&task.id, "exit")?;
    stage.events.hold(true);
    task.delete("")?;
    let end = ShutdownRequest { id: task.id.clone(), now: false };
    task.client.call::<Empty>("Shutdown", &end)?;
    let socket = stage.launch.start(&task.bundle, &task.id)?;
    let mut client = Client::connect(&socket, &stage.launch.namespace)?;
    let next: ConnectResponse = client.call("Connect", &ConnectRequest { id: task.id.clone() })?;
    let next = i32::try_from(next.shim_pid)?;
    yes(next != task.shim, "the next start has found the server that is about to end")?;
    stage.events.hold(false);
    let old = task.shim;
    wait_for("the old server ends", || {
        integration::process::reap();
        (!is_alive(old)).then_some(())
    })?;
    yes(socket.exists(), "the old server has taken the new one's socket along")?;
    client.call::<Empty>("Shutdown", &end)?;
    wait_for("the new server ends", || {
        integration::process::reap();
        (!is_alive(next)).then_some(())
    })
}
