//! Checkpoints: saves a task and restores another one from that, as containerd does it.

use crate::stage::{Stage, Task};
use integration::process::wait_for;
use integration::runtime::{need_criu, v2};
use integration::{Lab, Outcome, Stop, Test, eq, has, tests, yes};
use nix::sys::signal::Signal;
use procfs::process::Process;
use shim::wire::code::{Code, Failure};
use shim::wire::options::{CHECKPOINT_OPTIONS, CheckpointOptions};
use shim::wire::task::{CheckpointTaskRequest, CreateTaskRequest, CreateTaskResponse};
use shim::wire::types::{Any, Empty, Status};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = tests!["saved":
    a_task_is_saved_goes_on_is_saved_and_ended_and_comes_back_at_start,
    a_restore_that_fails_is_reported_by_start_and_the_task_can_be_deleted,
    what_a_checkpoint_cannot_be_is_refused_and_the_task_goes_on,
];

/// How long an answer that needs criu may take.
const CRIU: Duration = Duration::from_secs(60);

/// A stage whose shims have criu in PATH.
fn stage(lab: &Lab) -> Result<Stage<'_>, Stop> {
    let mut stage = Stage::new(lab)?;
    stage.launch.environment.push(("PATH".to_owned(), need_criu()?));
    Ok(stage)
}

/// A task that counts in a file of its root.
fn counting(config: &mut integration::Config) {
    config.share("network").sh("n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.1; done");
}

fn count(stage: &Stage<'_>, task: &Task) -> Result<u64, Stop> {
    let file = stage.root_of(&task.id).join("count");
    wait_for("the counter is there", || std::fs::read_to_string(&file).ok()?.trim().parse().ok())
}

fn checkpoint(task: &mut Task, path: &Path, options: Option<CheckpointOptions>) -> Result<(), Failure> {
    let options = options.map(|options| Any::pack(CHECKPOINT_OPTIONS, &options));
    let request =
        CheckpointTaskRequest { id: task.id.clone(), path: path.to_string_lossy().into_owned(), options };
    task.client.timeout(CRIU);
    task.client.call::<Empty>("Checkpoint", &request).map(drop)
}

/// A request to create a task from these images.
fn create(stage: &Stage<'_>, task: &mut Task, images: &Path) -> Result<u32, Failure> {
    let checkpoint = images.to_string_lossy().into_owned();
    let request = CreateTaskRequest { checkpoint, ..stage.create_request(task, ["", "", ""]) };
    task.client.timeout(CRIU);
    task.client.call::<CreateTaskResponse>("Create", &request).map(|made| made.pid)
}

/// A task that was saved twice and has ended, and its images.
fn saved(stage: &Stage<'_>) -> Result<(Task, PathBuf, u64), Stop> {
    let mut task = stage.created(["", "", ""], counting)?;
    task.start("")?;
    let images = stage.lab.directory("images")?;
    wait_for("it has counted", || (count(stage, &task).ok()? > 2).then_some(()))?;
    checkpoint(&mut task, &images, None)?;
    eq(task.state("")?.status, Status::Running as i32, "the state after Checkpoint")?;
    let before = count(stage, &task)?;
    wait_for("it continues", || (count(stage, &task).ok()? > before).then_some(()))?;
    let before = count(stage, &task)?;
    checkpoint(&mut task, &images, Some(CheckpointOptions { exit: true, ..CheckpointOptions::default() }))?;
    eq(task.wait("")?, 137, "the status of a task that a checkpoint has ended")?;
    Ok((task, images, before))
}

fn a_task_is_saved_goes_on_is_saved_and_ended_and_comes_back_at_start(lab: &Lab) -> Outcome {
    let stage = stage(lab)?;
    stage.ours_only(
        "containerd's own shim needs a directory of containerd next to the bundle; see integration/engines",
    )?;
    let (mut first, images, before) = saved(&stage)?;
    let logs: Vec<_> = std::fs::read_dir(&images)?.flatten().map(|entry| entry.file_name()).collect();
    yes(!logs.iter().any(|name| name.to_string_lossy().ends_with(".log")), format!("logs among {logs:?}"))?;
    if v2() {
        let cgroups = String::from_utf8_lossy(&std::fs::read(images.join("cgroup.img"))?).into_owned();
        yes(cgroups.contains(&first.id.replacen('-', "/", 1)), "the container's cgroup is not saved")?;
        for own in Process::myself()?.cgroups()? {
            let name = own.controllers.join(",");
            yes(
                name.is_empty() || !cgroups.contains(&name),
                format!("the cgroups of {name} are saved, which are not the container's"),
            )?;
        }
    }
    // The exit may be reported before the worker's report.
    stage.events_until(&first.id, "exit")?;
    let twice = || {
        let seen = stage.events_until(&first.id, "checkpointed").ok()?;
        (seen.iter().filter(|word| *word == "checkpointed").count() == 2).then_some(())
    };
    wait_for("both checkpoints are reported", twice)?;
    first.finish()?;
    let mut second = stage.shim(counting)?;
    // As from an image with the changes of the root: if the file was open at the checkpoint, criu requires it with the same length.
    std::fs::copy(stage.root_of(&first.id).join("count"), stage.root_of(&second.id).join("count"))?;
    eq(create(&stage, &mut second, &images)?, 0, "the pid of Create")?;
    eq(second.state("")?.status, Status::Created as i32, "the state after Create")?;
    let pid = second.start("")?;
    yes(pid > 0, "no pid of Start")?;
    eq(
        (second.state("")?.status, second.state("")?.pid),
        (Status::Running as i32, pid),
        "the state after Start",
    )?;
    let held = count(&stage, &second)?;
    let now = wait_for("it counts on", || count(&stage, &second).ok().filter(|now| *now > held))?;
    yes(now >= before && now < before + 1000, format!("it was at {before}, and is at {now}"))?;
    second.add("x", &["sh", "-c", "exit 5"])?;
    second.start("x")?;
    eq(second.wait("x")?, 5, "the status of an exec")?;
    second.delete("x")?;
    second.kill("", Signal::SIGKILL)?;
    eq(second.wait("")?, 137, "the status of the second")?;
    eq((second.delete("")?.pid, second.state("").unwrap_err().code), (pid, Code::NotFound), "Delete")?;
    let seen = stage.events_until(&second.id, "delete")?;
    let own: Vec<_> = seen.into_iter().filter(|word| !word.contains(' ')).collect();
    eq(own, ["create", "start", "exit", "delete"], "events of the second")?;
    second.shut_down()?;
    stage.is_clean(&second)
}

fn a_restore_that_fails_is_reported_by_start_and_the_task_can_be_deleted(lab: &Lab) -> Outcome {
    let stage = stage(lab)?;
    stage.ours_only("containerd's own is left in another state")?;
    let mut task = stage.shim(counting)?;
    let none = create(&stage, &mut task, &lab.dir.join("none")).unwrap_err();
    eq(none.code, Code::NotFound, format!("Create from a missing directory: {}", none.message))?;
    let empty = lab.directory("empty")?;
    create(&stage, &mut task, &empty)?;
    let failure = task.start("").unwrap_err();
    has(&failure.message, "OCI runtime restore failed")?;
    has(&failure.message, "descriptors.json")?;
    eq(task.state("")?.status, Status::Created as i32, "the state after Start")?;
    task.delete("")?;
    task.shut_down()?;
    stage.is_clean(&task)
}

fn what_a_checkpoint_cannot_be_is_refused_and_the_task_goes_on(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("containerd's own passes over most of it")?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let mut refused = |path: &str, options: CheckpointOptions, word: &str| {
        let failure = checkpoint(&mut task, Path::new(path), Some(options)).unwrap_err();
        eq(failure.code, Code::InvalidArgument, format!("{path} {word}"))?;
        has(&failure.message, word)
    };
    let none = CheckpointOptions::default;
    refused("relative", none(), "must be an absolute path")?;
    refused("/x", CheckpointOptions { cgroups_mode: "hard".into(), ..none() }, "hard")?;
    refused("/x", CheckpointOptions { empty_namespaces: vec!["pid".into()], ..none() }, "pid")?;
    let strange = CheckpointTaskRequest {
        id: task.id.clone(),
        path: "/x".to_owned(),
        options: Some(Any::pack("some.Options", &none())),
    };
    has(task.client.call::<Empty>("Checkpoint", &strange).unwrap_err().message, "some.Options")?;
    eq(task.state("")?.status, Status::Running as i32, "the state")?;
    let mut other = stage.beside(&task, |_| {})?;
    let request = CreateTaskRequest {
        parent_checkpoint: "/x".to_owned(),
        ..stage.create_request(&other, ["", "", ""])
    };
    let failure = other.client.call::<CreateTaskResponse>("Create", &request).unwrap_err();
    eq(failure.code, Code::InvalidArgument, "Create with a parent")?;
    task.finish()
}
