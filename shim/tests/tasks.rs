//! One task: each method and its errors.

use crate::stage::{Stage, is_alive};
use integration::process::wait_for;
use integration::{Lab, Outcome, Test, eq, has, tests, yes};
use nix::sys::signal::Signal;
use serde_json::json;
use shim::wire::code::Code;
use shim::wire::frame::{self, Request};
use shim::wire::options::ProcessDetails;
use shim::wire::task::{
    CloseIORequest, ConnectRequest, ConnectResponse, KillRequest, PauseRequest, PidsRequest, PidsResponse,
    ResizePtyRequest, ResumeRequest, SERVICE_V2, SERVICE_V3, ShutdownRequest, StatsRequest, StatsResponse,
    UpdateTaskRequest,
};
use shim::wire::types::{Any, Empty, Status};
use shim::wire::{metrics_v1, metrics_v2};

pub(crate) const TESTS: &[Test] = tests!["tasks":
    a_task_is_made_started_awaited_and_deleted,
    both_versions_of_the_service_are_served,
    a_signal_ends_a_task_with_128_and_its_number,
    an_exec_is_a_process_of_its_own,
    an_exec_that_cannot_be_started_is_reported_and_can_be_deleted,
    a_program_that_is_not_there_fails_start_or_create_in_words_that_docker_knows,
    what_is_not_there_is_not_found,
    what_is_in_the_wrong_state_is_refused,
    an_unknown_method_is_unimplemented,
    a_request_that_is_too_long_is_refused_and_the_connection_lives,
    processes_are_listed_with_their_exec_ids,
    a_paused_task_says_so_and_resumes,
    stats_are_those_of_the_containers_cgroup,
    limits_are_changed_by_update,
    a_shim_with_a_container_does_not_shut_down,
    resize_without_a_terminal_and_closing_no_stdin_are_no_errors,
];

fn a_task_is_made_started_awaited_and_deleted(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.created(["", "", ""], |config| {
        config.sh("exit 7");
    })?;
    let state = task.state("")?;
    eq(state.status, Status::Created as i32, "the state after Create")?;
    eq(state.bundle, task.bundle.to_string_lossy().into_owned(), "the bundle in State")?;
    let pid = task.start("")?;
    eq(pid, state.pid, "the pid of Start and of State")?;
    eq(task.wait("")?, 7, "the status that Wait gives")?;
    let state = task.state("")?;
    eq((state.status, state.exit_status), (Status::Stopped as i32, 7), "the state after the end")?;
    yes(state.exited_at.is_some_and(|at| at.seconds > 1_600_000_000), "no time of the exit in State")?;
    let deleted = task.delete("")?;
    eq((deleted.pid, deleted.exit_status), (pid, 7), "what Delete gives")?;
    eq(task.state("").unwrap_err().code, Code::NotFound, "State after Delete")?;
    eq(stage.events_until(&task.id, "delete")?, ["create", "start", "exit", "delete"], "events")?;
    task.shut_down()?;
    stage.is_clean(&task)
}

fn both_versions_of_the_service_are_served(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    for service in [SERVICE_V2, SERVICE_V3] {
        task.client.service(service);
        if service == SERVICE_V2 && !stage.is_ours() {
            continue;
        }
        eq(task.state("")?.status, Status::Running as i32, service)?;
    }
    task.finish()
}

fn a_signal_ends_a_task_with_128_and_its_number(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    task.kill("", Signal::SIGKILL)?;
    eq(task.wait("")?, 137, "the status after SIGKILL")?;
    let again = task.kill("", Signal::SIGKILL).unwrap_err();
    eq(again.code, Code::NotFound, "Kill of what has ended")?;
    task.finish()?;
    stage.is_clean(&task)
}

fn an_exec_is_a_process_of_its_own(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    task.add("x", &["sh", "-c", "exit 3"])?;
    eq(task.state("x")?.status, Status::Created as i32, "the state of an exec before Start")?;
    let pid = task.start("x")?;
    eq(task.wait("x")?, 3, "the status of the exec")?;
    let deleted = task.delete("x")?;
    eq((deleted.pid, deleted.exit_status), (pid, 3), "what Delete of the exec gives")?;
    eq(task.state("")?.status, Status::Running as i32, "the container's state")?;
    let story = stage.events_until(&task.id, "exit x")?;
    eq(story, ["create", "start", "exec-added x", "exec-started x", "exit x"], "events")?;
    task.add("long", &["sleep", "1000"])?;
    task.start("long")?;
    task.kill("long", Signal::SIGTERM)?;
    eq(task.wait("long")?, 143, "the status of the killed exec")?;
    task.delete("long")?;
    task.finish()
}

fn an_exec_that_cannot_be_started_is_reported_and_can_be_deleted(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    task.add("x", &["no-such-program"])?;
    let failure = task.start("x").unwrap_err();
    has(&failure.message, "no-such-program")?;
    task.delete("x")?;
    task.add("x", &["true"])?;
    task.start("x")?;
    eq(task.wait("x")?, 0, "the status of the second exec of that name")?;
    task.delete("x")?;
    task.finish()
}

fn a_program_that_is_not_there_fails_start_or_create_in_words_that_docker_knows(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.shim(|config| {
        config.args(&["no-such-program"]);
    })?;
    let request = stage.create_request(&task, ["", "", ""]);
    let made = task.client.call::<shim::wire::task::CreateTaskResponse>("Create", &request);
    let failure = match made {
        Err(failure) => failure,
        Ok(_) => task.start("").unwrap_err(),
    };
    has(&failure.message, "\"no-such-program\": executable file not found in $PATH")?;
    if let Ok(who) = task.client.call::<ConnectResponse>("Connect", &ConnectRequest { id: task.id.clone() }) {
        task.shim = who.shim_pid.cast_signed();
    }
    if task.shim == 0 {
        task.client.call::<Empty>("Shutdown", &ShutdownRequest::default()).ok();
    } else {
        task.delete("").ok();
        task.shut_down()?;
    }
    wait_for("the socket goes", || (!task.socket.exists()).then_some(()))?;
    stage.is_clean(&task)
}

fn what_is_not_there_is_not_found(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    eq(task.state("nope").unwrap_err().code, Code::NotFound, "State of an unknown exec")?;
    eq(task.wait("nope").unwrap_err().code, Code::NotFound, "Wait for an unknown exec")?;
    eq(task.kill("nope", Signal::SIGTERM).unwrap_err().code, Code::NotFound, "Kill of an unknown exec")?;
    eq(task.delete("nope").unwrap_err().code, Code::NotFound, "Delete of an unknown exec")?;
    let other = PidsRequest { id: "other".to_owned() };
    eq(
        task.client.call::<PidsResponse>("Pids", &other).unwrap_err().code,
        Code::NotFound,
        "Pids of an unknown task",
    )?;
    task.finish()
}

fn what_is_in_the_wrong_state_is_refused(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let refused = task.delete("").unwrap_err();
    if stage.is_ours() {
        eq(refused.code, Code::FailedPrecondition, format!("Delete of what runs ({refused})"))?;
    }
    task.add("x", &["true"])?;
    let again = task.add("x", &["true"]).unwrap_err();
    eq(again.code, Code::AlreadyExists, "Exec with an id that is taken")?;
    if stage.is_ours() {
        let second = stage.create_request(&task, ["", "", ""]);
        let refused = task.client.call::<Empty>("Create", &second).unwrap_err();
        eq(refused.code, Code::AlreadyExists, "Create of what is there")?;
    }
    task.delete("x")?;
    eq(task.state("")?.status, Status::Running as i32, "the state after all refusals")?;
    task.finish()
}

fn an_unknown_method_is_unimplemented(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let failure = task.client.call::<Empty>("Nonsense", &Empty {}).unwrap_err();
    eq(failure.code, Code::Unimplemented, "an unknown method")?;
    task.client.service("containerd.task.v9.Task");
    let failure = task.client.call::<Empty>("State", &Empty {}).unwrap_err();
    eq(failure.code, Code::Unimplemented, "an unknown service")?;
    task.client.service(SERVICE_V3);
    task.finish()
}

fn a_request_that_is_too_long_is_refused_and_the_connection_lives(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let request = Request {
        service: SERVICE_V3.to_owned(),
        method: "State".to_owned(),
        payload: vec![0; frame::MAX_BODY + 1],
        ..Request::default()
    };
    // Stream numbers must increase; those of the client are low.
    task.client.send(&frame::encode_request(9_001, &request))?;
    let failure = task.client.finish::<Empty>(9_001).unwrap_err();
    eq(failure.code, Code::ResourceExhausted, "a request of more than 4 MiB")?;
    let mut second = shim::client::Client::connect(&task.socket, "t")?;
    std::mem::swap(&mut task.client, &mut second);
    task.finish()
}

fn processes_are_listed_with_their_exec_ids(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    task.add("x", &["sleep", "1000"])?;
    let exec = task.start("x")?;
    let init = task.state("")?.pid;
    let list: PidsResponse = task.client.call("Pids", &PidsRequest { id: task.id.clone() })?;
    let mut found: Vec<(u32, String)> = Vec::new();
    for process in list.processes {
        let details = process.info.map(|any| any.unpack::<ProcessDetails>("details")).transpose()?;
        found.push((process.pid, details.unwrap_or_default().exec_id));
    }
    found.sort();
    let mut wanted = vec![(init, String::new()), (exec, "x".to_owned())];
    wanted.sort();
    eq(found, wanted, "processes and their exec ids")?;
    task.kill("x", Signal::SIGKILL)?;
    task.wait("x")?;
    task.delete("x")?;
    task.finish()
}

fn a_paused_task_says_so_and_resumes(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    task.client.call::<Empty>("Pause", &PauseRequest { id: task.id.clone() })?;
    eq(task.state("")?.status, Status::Paused as i32, "the state after Pause")?;
    task.client.call::<Empty>("Resume", &ResumeRequest { id: task.id.clone() })?;
    eq(task.state("")?.status, Status::Running as i32, "the state after Resume")?;
    eq(stage.events_until(&task.id, "resumed")?, ["create", "start", "paused", "resumed"], "events")?;
    task.finish()
}

fn stats_are_those_of_the_containers_cgroup(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let answer: StatsResponse = task.client.call("Stats", &StatsRequest { id: task.id.clone() })?;
    let any = answer.stats.unwrap_or_default();
    let (pids, memory) = match any.name() {
        metrics_v1::METRICS => {
            let metrics: metrics_v1::Metrics = any.unpack("metrics")?;
            (
                metrics.pids.map(|pids| pids.current),
                metrics.memory.and_then(|memory| memory.usage).map(|m| m.usage),
            )
        }
        metrics_v2::METRICS => {
            let metrics: metrics_v2::Metrics = any.unpack("metrics")?;
            (metrics.pids.map(|pids| pids.current), metrics.memory.map(|memory| memory.usage))
        }
        name => return integration::fail(format!("Stats gives {name:?}")),
    };
    eq(pids, Some(1), "processes in the cgroup")?;
    if !integration::runtime::v2() || integration::runtime::need_controller("memory").is_ok() {
        yes(memory.is_some_and(|memory| memory > 0), "no memory in use")?;
    }
    task.finish()
}

fn limits_are_changed_by_update(lab: &Lab) -> Outcome {
    integration::runtime::need_controller("pids")?;
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let resources = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
        value: json!({"pids": {"limit": 77}}).to_string().into_bytes(),
    };
    let request =
        UpdateTaskRequest { id: task.id.clone(), resources: Some(resources), ..UpdateTaskRequest::default() };
    task.client.call::<Empty>("Update", &request)?;
    let answer: StatsResponse = task.client.call("Stats", &StatsRequest { id: task.id.clone() })?;
    let any = answer.stats.unwrap_or_default();
    let limit = if any.name() == metrics_v1::METRICS {
        any.unpack::<metrics_v1::Metrics>("metrics")?.pids.map(|pids| pids.limit)
    } else {
        any.unpack::<metrics_v2::Metrics>("metrics")?.pids.map(|pids| pids.limit)
    };
    eq(limit, Some(77), "the limit after Update")?;
    task.finish()
}

fn a_shim_with_a_container_does_not_shut_down(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    task.client.call::<Empty>("Shutdown", &ShutdownRequest { id: task.id.clone(), now: false })?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    yes(is_alive(task.shim), "the shim has ended under its container")?;
    eq(task.state("")?.status, Status::Running as i32, "the state after Shutdown")?;
    task.finish()
}

fn resize_without_a_terminal_and_closing_no_stdin_are_no_errors(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let resize =
        ResizePtyRequest { id: task.id.clone(), width: 80, height: 25, ..ResizePtyRequest::default() };
    task.client.call::<Empty>("ResizePty", &resize)?;
    let close = CloseIORequest { id: task.id.clone(), stdin: true, ..CloseIORequest::default() };
    task.client.call::<Empty>("CloseIO", &close)?;
    let kill = KillRequest { id: task.id.clone(), signal: 9, all: true, ..KillRequest::default() };
    task.client.call::<Empty>("Kill", &kill)?;
    eq(task.wait("")?, 137, "the status after Kill of all")?;
    task.finish()
}
