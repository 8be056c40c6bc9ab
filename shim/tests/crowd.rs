//! Many processes at once: every exit is reported once, in order, with its code, and neither memory nor descriptors grow.

use crate::output::resident;
use crate::stage::{LIMIT, Stage, Task, full, story};
use integration::{Lab, Outcome, Stop, Test, eq, fail, tests};
use procfs::process::Process;
use shim::client::ReceivedEvent;
use shim::wire::events::Event;
use shim::wire::task::{
    CreateTaskResponse, DeleteRequest, DeleteResponse, ExecProcessRequest, StartRequest, StartResponse,
    WaitRequest, WaitResponse,
};
use shim::wire::types::Empty;
use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = tests!["crowd":
    many_execs_at_once_each_end_once_with_their_code,
    many_containers_of_a_pod_each_end_once_with_their_code,
    many_shims_at_once_each_tell_their_story,
];

/// The number of processes that run at the same time.
const AT_ONCE: usize = 40;

fn codes(seen: &[ReceivedEvent]) -> HashMap<(String, String), Vec<u32>> {
    let mut codes: HashMap<_, Vec<u32>> = HashMap::new();
    for one in seen {
        if let Event::Exit(exit) = &one.event {
            codes.entry((exit.container_id.clone(), exit.id.clone())).or_default().push(exit.exit_status);
        }
    }
    codes
}

fn descriptors(pid: i32) -> Result<usize, Stop> {
    Ok(Process::new(pid)?.fd_count()?)
}

/// Descriptors and memory of a shim before and after.
struct Size {
    shim: i32,
    descriptors: usize,
    resident: u64,
}

impl Size {
    fn of(shim: i32) -> Result<Self, Stop> {
        Ok(Self { shim, descriptors: descriptors(shim)?, resident: resident(shim)? })
    }

    fn has_not_grown(&self, stage: &Stage<'_>) -> Outcome {
        if !stage.is_ours() {
            // Another shim has a garbage collector.
            return Ok(());
        }
        integration::process::wait_for("descriptors are closed", || {
            (descriptors(self.shim).ok()? <= self.descriptors).then_some(())
        })?;
        // Freed memory goes back to the kernel when the shim is idle.
        let small = || resident(self.shim).ok().filter(|now| *now <= self.resident + 128);
        match integration::process::wait_for("the shim is small again", small) {
            Ok(_) => Ok(()),
            Err(_) => {
                fail(format!("the shim has grown from {} to {} KiB", self.resident, resident(self.shim)?))
            }
        }
    }
}

fn many_execs_at_once_each_end_once_with_their_code(lab: &Lab) -> Outcome {
    let many = if full() { 10_000 } else { 400 };
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "100000"])?;
    task.client.timeout(LIMIT * 4);
    // The first ones fill caches and heaps.
    execs(&mut task, 0..AT_ONCE)?;
    let size = Size::of(task.shim)?;
    for begin in (AT_ONCE..many).step_by(AT_ONCE) {
        execs(&mut task, begin..(begin + AT_ONCE).min(many))?;
    }
    size.has_not_grown(&stage)?;
    let last = |seen: &[ReceivedEvent]| codes(seen).len() >= many;
    let seen =
        stage.events.wait(LIMIT, last).or_else(|seen| fail(format!("only {} exits", codes(&seen).len())))?;
    let codes = codes(&seen);
    for number in 0..many {
        let key = (task.id.clone(), format!("x{number}"));
        eq(codes.get(&key), Some(&vec![code(number)]), format!("exits of x{number}"))?;
    }
    let mut phases: HashMap<String, Vec<String>> = HashMap::new();
    for word in story(&seen, &task.id) {
        if let Some((word, exec)) = word.split_once(' ') {
            phases.entry(exec.to_owned()).or_default().push(word.to_owned());
        }
    }
    for (exec, words) in phases {
        eq(words, ["exec-added", "exec-started", "exit"], format!("events of {exec}"))?;
    }
    task.finish()
}

fn code(number: usize) -> u32 {
    u32::try_from(number % 200).unwrap_or(0)
}

/// Adds, starts, waits for and deletes these execs, all at once.
fn execs(task: &mut Task, numbers: std::ops::Range<usize>) -> Outcome {
    let names: Vec<String> = numbers.clone().map(|number| format!("x{number}")).collect();
    let mut calls = Vec::new();
    for (name, number) in names.iter().zip(numbers.clone()) {
        let exit = format!("exit {}", code(number));
        let request: ExecProcessRequest = task.exec_request(name, &["sh", "-c", &exit], ["", "", ""]);
        calls.push(task.client.begin("Exec", &request)?);
    }
    for call in calls.drain(..) {
        task.client.finish::<Empty>(call)?;
    }
    for name in &names {
        let request: StartRequest = task.start_request(name);
        calls.push(task.client.begin("Start", &request)?);
    }
    let mut waits = Vec::new();
    for name in &names {
        let request: WaitRequest = task.wait_request(name);
        waits.push(task.client.begin("Wait", &request)?);
    }
    for call in calls.drain(..) {
        task.client.finish::<StartResponse>(call)?;
    }
    for (wait, number) in waits.into_iter().zip(numbers) {
        let ended: WaitResponse = task.client.finish(wait)?;
        eq(ended.exit_status, code(number), format!("the status of x{number} by Wait"))?;
    }
    for name in names {
        let request = DeleteRequest { id: task.id.clone(), exec_id: name };
        calls.push(task.client.begin("Delete", &request)?);
    }
    for call in calls {
        task.client.finish::<DeleteResponse>(call)?;
    }
    Ok(())
}

fn many_containers_of_a_pod_each_end_once_with_their_code(lab: &Lab) -> Outcome {
    let many = if full() { 10_000 } else { 120 };
    let stage = Stage::new(lab)?;
    let mut pod = stage.started(&["sleep", "100000"])?;
    pod.client.timeout(LIMIT * 4);
    let mut ids = containers(&stage, &mut pod, 0..AT_ONCE)?;
    let size = Size::of(pod.shim)?;
    for begin in (AT_ONCE..many).step_by(AT_ONCE) {
        ids.extend(containers(&stage, &mut pod, begin..(begin + AT_ONCE).min(many))?);
    }
    size.has_not_grown(&stage)?;
    let enough = |seen: &[ReceivedEvent]| codes(seen).len() >= many;
    let seen = stage
        .events
        .wait(LIMIT, enough)
        .or_else(|seen| fail(format!("only {} exits", codes(&seen).len())))?;
    let codes = codes(&seen);
    for (number, id) in ids.iter().enumerate() {
        eq(codes.get(&(id.clone(), id.clone())), Some(&vec![code(number)]), format!("exits of {id}"))?;
        if number % 100 == 0 {
            eq(
                stage.events_until(id, "delete")?,
                ["create", "start", "exit", "delete"],
                format!("events of {id}"),
            )?;
        }
    }
    pod.finish()
}

/// Runs containers in the shim of `pod`, all at once, until they end.
fn containers(
    stage: &Stage<'_>,
    pod: &mut Task,
    numbers: std::ops::Range<usize>,
) -> Result<Vec<String>, Stop> {
    let mut tasks = Vec::new();
    for number in numbers.clone() {
        tasks.push(stage.beside(pod, |config| {
            config.sh(&format!("exit {}", code(number)));
        })?);
    }
    let mut calls = Vec::new();
    for task in &tasks {
        calls.push(pod.client.begin("Create", &stage.create_request(task, ["", "", ""]))?);
    }
    for call in calls.drain(..) {
        pod.client.finish::<CreateTaskResponse>(call)?;
    }
    for task in &tasks {
        calls.push(pod.client.begin("Start", &task.start_request(""))?);
    }
    let mut waits = Vec::new();
    for task in &tasks {
        waits.push(pod.client.begin("Wait", &task.wait_request(""))?);
    }
    for call in calls.drain(..) {
        pod.client.finish::<StartResponse>(call)?;
    }
    for (wait, number) in waits.into_iter().zip(numbers) {
        let ended: WaitResponse = pod.client.finish(wait)?;
        eq(ended.exit_status, code(number), format!("the status of container {number} by Wait"))?;
    }
    for task in &tasks {
        let request = DeleteRequest { id: task.id.clone(), exec_id: String::new() };
        calls.push(pod.client.begin("Delete", &request)?);
    }
    for call in calls {
        pod.client.finish::<DeleteResponse>(call)?;
    }
    for task in &tasks {
        fs::remove_dir_all(&task.bundle)?;
        fs::remove_dir_all(stage.root_of(&task.id))?;
    }
    Ok(tasks.into_iter().map(|task| task.id).collect())
}

fn many_shims_at_once_each_tell_their_story(lab: &Lab) -> Outcome {
    let rounds = if full() { 50 } else { 2 };
    let stage = Stage::new(lab)?;
    for _ in 0..rounds {
        let mut tasks = Vec::new();
        for number in 0..AT_ONCE {
            tasks.push(stage.shim(|config| {
                config.sh(&format!("exit {}", code(number)));
            })?);
        }
        let failed: Vec<String> = thread::scope(|scope| {
            let stage = &stage;
            let runs: Vec<_> = tasks
                .iter_mut()
                .enumerate()
                .map(|(number, task)| {
                    let request = stage.create_request(task, ["", "", ""]);
                    scope.spawn(move || one(task, &request, number).err())
                })
                .collect();
            runs.into_iter()
                .filter_map(|run| run.join().unwrap_or(Some("a thread panicked".to_owned())))
                .collect()
        });
        eq(failed, Vec::<String>::new(), "what failed")?;
        for task in &mut tasks {
            let seen = stage.events_until(&task.id, "delete")?;
            eq(seen, ["create", "start", "exit", "delete"], format!("events of {}", task.id))?;
            task.shut_down()?;
            stage.is_clean(task)?;
        }
    }
    Ok(())
}

fn one(task: &mut Task, request: &shim::wire::task::CreateTaskRequest, number: usize) -> Result<(), String> {
    let text = |failure: shim::wire::code::Failure| format!("{}: {failure}", request.id);
    task.client.timeout(Duration::from_secs(60));
    task.client.call::<CreateTaskResponse>("Create", request).map_err(text)?;
    task.start("").map_err(text)?;
    let status = task.wait("").map_err(text)?;
    if status != code(number) {
        return Err(format!("{}: status {status} instead of {}", request.id, code(number)));
    }
    let who = shim::wire::task::ConnectRequest { id: request.id.clone() };
    let who: shim::wire::task::ConnectResponse = task.client.call("Connect", &who).map_err(text)?;
    task.shim = who.shim_pid.cast_signed();
    task.delete("").map(drop).map_err(text)
}
