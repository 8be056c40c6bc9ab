//! Execs: their cost, and the state of their processes at the start.

use crate::stage::{Stage, Task};
use integration::{Lab, Outcome, Stop, Test, eq, skip, tests, yes};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use procfs::process::{LimitValue, Process};
use serde_json::json;
use shim::wire::types::Empty;

pub(crate) const TESTS: &[Test] = tests!["execs":
    an_exec_is_one_clone,
    a_paused_container_takes_no_exec_and_goes_on_when_it_is_resumed,
    a_crowded_pod_starts_processes_with_the_limit_of_files_that_it_was_given,
];

/// Pids are allocated in sequence: between two execs with adjacent pids there was no other process.
fn an_exec_is_one_clone(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("it runs runc")?;
    if !integration::runtime::v2() {
        return skip("cgroup v1: its hierarchies are joined by a worker");
    }
    let mut task = stage.created(["", "", ""], |config| {
        config.args(&["sleep", "1000"]);
        let sets = json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]});
        config.set("/process/capabilities", sets);
    })?;
    task.start("")?;
    let mut pids = Vec::new();
    for number in 0..100 {
        let name = format!("x{number}");
        task.add(&name, &["true"])?;
        pids.push(task.start(&name)?);
        eq(task.wait(&name)?, 0, "the status of an exec")?;
        task.delete(&name)?;
    }
    let least = pids.windows(2).filter_map(|pair| pair.last()?.checked_sub(*pair.first()?)).min();
    eq(least, Some(1), format!("the least distance of two pids among {pids:?}"))?;
    task.finish()
}

fn a_paused_container_takes_no_exec_and_goes_on_when_it_is_resumed(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    // One before, so that the handle that is kept between execs exists.
    task.add("before", &["true"])?;
    task.start("before")?;
    eq(task.wait("before")?, 0, "the status of the exec before")?;
    task.add("x", &["true"])?;
    let pause = shim::wire::task::PauseRequest { id: task.id.clone() };
    task.client.call::<Empty>("Pause", &pause)?;
    if stage.is_ours() {
        yes(task.start("x").is_err(), "an exec was started in a paused container")?;
    }
    let resume = shim::wire::task::ResumeRequest { id: task.id.clone() };
    task.client.call::<Empty>("Resume", &resume)?;
    task.start("x")?;
    eq(task.wait("x")?, 0, "the status of the exec after")?;
    task.finish()
}

/// The soft limit of open files while `work` runs.
fn with_files<T>(soft: u64, work: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    let (old, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    let result = work();
    setrlimit(Resource::RLIMIT_NOFILE, old, hard)?;
    result
}

fn a_crowded_pod_starts_processes_with_the_limit_of_files_that_it_was_given(lab: &Lab) -> Outcome {
    const SOFT: u64 = 300;
    let stage = Stage::new(lab)?;
    stage.ours_only("it has another limit")?;
    let unlimited = |config: &mut integration::Config| {
        config.args(&["sleep", "1000"]);
        config.set("/process/rlimits", json!([]));
    };
    let mut task = with_files(SOFT, || stage.shim(unlimited))?;
    task.create(&stage, ["", "", ""])?;
    task.start("")?;
    let log = format!("file://{}", lab.dir.join("log").display());
    for number in 0..80 {
        let name = format!("x{number}");
        let request = task.exec_request(&name, &["sleep", "1000"], ["", &log, &log]);
        task.client.call::<Empty>("Exec", &request)?;
        task.start(&name)?;
    }
    let open = Process::new(task.shim)?.fd_count()?;
    yes(open as u64 > SOFT, format!("only {open} descriptors are open"))?;
    eq(soft_limit(task.start_one("an exec")?)?, SOFT, "the limit of an exec")?;
    let mut other = stage.beside(&task, unlimited)?;
    other.create(&stage, ["", &log, &log])?;
    eq(soft_limit(other.start("")?)?, SOFT, "the limit of a container")?;
    other.kill("", nix::sys::signal::Signal::SIGKILL)?;
    other.wait("")?;
    // An idle shim closes some of the oldest: then a worker that needs more descriptors finds only a few low numbers.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    other.delete("")?;
    task.finish()
}

impl Task {
    /// Starts an exec that keeps running and returns its pid.
    fn start_one(&mut self, name: &str) -> Result<u32, Stop> {
        self.add(name, &["sleep", "1000"])?;
        Ok(self.start(name)?)
    }
}

fn soft_limit(pid: u32) -> Result<u64, Stop> {
    match Process::new(pid.cast_signed())?.limits()?.max_open_files.soft_limit {
        LimitValue::Value(limit) => Ok(limit),
        LimitValue::Unlimited => Ok(u64::MAX),
    }
}
