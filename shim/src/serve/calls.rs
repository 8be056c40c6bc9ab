//! The methods of the task service. A call is answered at once, becomes an order for a worker, or waits for an event.

use super::clock::Alarm;
use super::life::{Lives, Phase};
use super::place::runtime_failed;
use super::slots::Key;
use super::streams::Streams;
use super::table::{Caller, Order, Pending, Process, Task};
use super::{Server, saved};
use crate::sys;
use crate::wire::code::{Code, Failure};
use crate::wire::events::{Event, TaskExecAdded};
use crate::wire::method::{Method, MethodCall};
use crate::wire::options::{Options, PROCESS_DETAILS, ProcessDetails};
use crate::wire::task::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, DeleteRequest,
    ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest,
    ResumeRequest, StartRequest, StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest,
    WaitRequest, WaitResponse,
};
use crate::wire::types::{Any, ProcessInfo, Status, Timestamp};
use crate::wire::{metrics_v1, metrics_v2};
use crate::{bundle, wire::types::Empty};
use libcontainer::CgroupPaths;
use nix::errno::Errno;
use prost::Message;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long Delete waits for streams that other processes keep open.
const DRAIN: Duration = Duration::from_secs(10);

/// The answer, or `None` if it follows later.
type Answer = Result<Option<Vec<u8>>, Failure>;

#[expect(clippy::unnecessary_wraps, reason = "the type of an answer")]
fn done() -> Answer {
    Ok(Some(Empty {}.encode_to_vec()))
}

impl Server {
    /// Makes a call.
    pub(crate) fn call(&mut self, caller: Caller, call: &MethodCall) {
        let answer = match call.method {
            Method::Create => self.create(caller, call),
            Method::Start => self.start(caller, call),
            Method::State => self.state(call),
            Method::Delete => self.delete(caller, call),
            Method::Exec => self.exec(call),
            Method::Kill => self.kill(caller, call),
            Method::Wait => self.wait(caller, call),
            Method::Pids => self.pids(call),
            Method::Stats => self.stats(call),
            Method::Pause => {
                call.argument().and_then(|ask: PauseRequest| self.command(caller, &ask.id, Order::Pause))
            }
            Method::Resume => {
                call.argument().and_then(|ask: ResumeRequest| self.command(caller, &ask.id, Order::Resume))
            }
            Method::Update => self.update(caller, call),
            Method::ResizePty => self.resize(call),
            Method::CloseIo => self.close_io(call),
            Method::Connect => self.connect(call),
            Method::Shutdown => self.shutdown(),
            Method::Checkpoint => self.checkpoint(caller, call),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(payload)) => self.answer(caller, Ok(payload)),
            Err(failure) => self.answer(caller, Err(failure)),
        }
    }

    /// Gives an order for a container that exists.
    fn command(&mut self, caller: Caller, id: &str, order: Order) -> Answer {
        let (key, _) = self.table.task(id)?;
        self.order(key, Pending { order, caller: Some(caller) });
        Ok(None)
    }

    fn create(&mut self, caller: Caller, call: &MethodCall) -> Answer {
        let ask: CreateTaskRequest = call.argument()?;
        if self.table.find(&ask.id).is_some() {
            return Err(Failure::new(Code::AlreadyExists, format!("container {:?}: already exists", ask.id)));
        }
        libcontainer::ContainerId::new(ask.id.clone())?;
        if !Path::new(&ask.bundle).is_absolute() {
            return Err(Failure::invalid_argument(format!(
                "bundle {:?}: must be an absolute path",
                ask.bundle
            )));
        }
        if !ask.parent_checkpoint.is_empty() {
            let message = format!(
                "restore {:?}: must be empty: the parent is recorded in the checkpoint",
                ask.parent_checkpoint
            );
            return Err(Failure::invalid_argument(message));
        }
        if !ask.checkpoint.is_empty() && !Path::new(&ask.checkpoint).is_absolute() {
            let message = format!("restore {:?}: must be an absolute path", ask.checkpoint);
            return Err(Failure::invalid_argument(message));
        }
        let options = Options::read(ask.options.as_ref())?;
        options.check()?;
        let streams = Streams {
            stdin: ask.stdin.clone(),
            stdout: ask.stdout.clone(),
            stderr: ask.stderr.clone(),
            terminal: ask.terminal,
        };
        let task = self.table.tasks.next_key();
        let init = self.table.processes.insert(Process::new(task, String::new(), streams, Vec::new()));
        self.table.tasks.insert(Task {
            id: ask.id.clone(),
            bundle: PathBuf::from(&ask.bundle),
            root: bundle::state_root(&options.root, &self.about.namespace, &self.about.program),
            owner: (options.io_uid, options.io_gid),
            init,
            execs: Vec::new(),
            lives: Lives::new(init),
            paused: false,
            cgroup: CgroupPaths::None,
            handle: OnceCell::new(),
            saved: None,
            oom: None,
            orders: VecDeque::new(),
            deleting: None,
            shared: 0,
            alone: false,
        });
        self.order(task, Pending { order: Order::Create(Box::new(ask)), caller: Some(caller) });
        Ok(None)
    }

    fn start(&mut self, caller: Caller, call: &MethodCall) -> Answer {
        let ask: StartRequest = call.argument()?;
        let (process, _, about) = self.table.process(&ask.id, &ask.exec_id)?;
        let key = about.task;
        let is_exec = !about.exec_id.is_empty();
        if let Some(task) = self.table.tasks.get_mut(key) {
            task.lives.starting(process)?;
        }
        let saved = self.table.tasks.get(key).and_then(|task| task.saved.clone()).filter(|_| !is_exec);
        let order = match saved {
            Some(ask) => Order::Restore(ask),
            None if is_exec => Order::Exec(process),
            None => Order::Start,
        };
        self.order(key, Pending { order, caller: Some(caller) });
        Ok(None)
    }

    fn exec(&mut self, call: &MethodCall) -> Answer {
        let ask: ExecProcessRequest = call.argument()?;
        let (key, task) = self.table.task(&ask.id)?;
        if ask.exec_id.is_empty() {
            return Err(Failure::invalid_argument("exec: empty exec id"));
        }
        if self.table.exec(task, &ask.exec_id).is_some() {
            return Err(Failure::new(Code::AlreadyExists, format!("id {}: already exists", ask.exec_id)));
        }
        if task.lives.init_is_gone() {
            return Err(Failure::failed_precondition("cannot exec in a stopped container"));
        }
        if task.paused {
            return Err(Failure::failed_precondition("cannot exec in a paused container"));
        }
        let spec = ask.spec.ok_or_else(|| Failure::invalid_argument("exec: missing process"))?.value;
        let streams =
            Streams { stdin: ask.stdin, stdout: ask.stdout, stderr: ask.stderr, terminal: ask.terminal };
        let process = self.table.processes.insert(Process::new(key, ask.exec_id.clone(), streams, spec));
        if let Some(task) = self.table.tasks.get_mut(key) {
            task.execs.push(process);
            task.lives.add_exec(process);
        }
        self.publish(Event::ExecAdded(TaskExecAdded { container_id: ask.id, exec_id: ask.exec_id }));
        done()
    }

    fn state(&self, call: &MethodCall) -> Answer {
        let ask: StateRequest = call.argument()?;
        let (key, task, process) = self.table.process(&ask.id, &ask.exec_id)?;
        let status = match task.lives.phase(key) {
            Phase::Making => Status::Unknown,
            Phase::Made | Phase::Starting => Status::Created,
            Phase::Running if task.paused && key == task.init => Status::Paused,
            Phase::Running => Status::Running,
            Phase::Stopped => Status::Stopped,
        };
        let exit = task.lives.exit(key);
        let streams = &process.streams;
        let state = StateResponse {
            id: task.id.clone(),
            bundle: task.bundle.to_string_lossy().into_owned(),
            pid: number(process.pid),
            status: status as i32,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal: streams.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| Timestamp::from(exit.at)),
            exec_id: process.exec_id.clone(),
        };
        Ok(Some(state.encode_to_vec()))
    }

    fn delete(&mut self, caller: Caller, call: &MethodCall) -> Answer {
        let ask: DeleteRequest = call.argument()?;
        let (key, task, _) = self.table.process(&ask.id, &ask.exec_id)?;
        let what = match task.lives.phase(key) {
            Phase::Making | Phase::Starting => Some("that is being started"),
            Phase::Running => Some("that is running"),
            Phase::Made | Phase::Stopped => None,
        };
        if let Some(what) = what {
            return Err(Failure::failed_precondition(format!("cannot delete a process {what}")));
        }
        if let Some(process) = self.table.processes.get_mut(key) {
            process.deletions.push(caller);
            if process.deletions.len() > 1 {
                return Ok(None);
            }
            // The streams of a process that never ran do not end by themselves.
            if self.table.phase(key) == Phase::Made {
                self.close_streams(key);
            }
        }
        self.clock.alarms.replace(Instant::now() + DRAIN, Alarm::Drain(key));
        self.continue_delete(key);
        Ok(None)
    }

    fn kill(&mut self, caller: Caller, call: &MethodCall) -> Answer {
        let ask: KillRequest = call.argument()?;
        let (key, task, process) = self.table.process(&ask.id, &ask.exec_id)?;
        let signal = i32::try_from(ask.signal).ok().filter(|signal| (0..=64).contains(signal));
        let signal =
            signal.ok_or_else(|| Failure::invalid_argument(format!("unknown signal {}", ask.signal)))?;
        let gone = || Failure::not_found("process already finished: not found");
        if task.lives.phase(key) == Phase::Stopped {
            return Err(gone());
        }
        let first = ask.exec_id.is_empty();
        // With cgroup v1 a frozen process does not get signals; for SIGKILL the library thaws it.
        if first && (ask.all || (task.paused && signal == libc::SIGKILL)) {
            return self.command(caller, &ask.id, Order::SignalAll(signal));
        }
        let Some(pidfd) = &process.pidfd else {
            if process.pid != 0 {
                return Err(gone());
            }
            return Err(Failure::failed_precondition("cannot signal a process that is not started"));
        };
        match sys::process::pidfd_send_signal(pidfd.as_fd(), signal) {
            Ok(()) => done(),
            Err(Errno::ESRCH) => Err(gone()),
            Err(e) => Err(Failure::new(
                Code::Unknown,
                format!("signal process {}: pidfd_send_signal: {e}", process.pid),
            )),
        }
    }

    fn wait(&mut self, caller: Caller, call: &MethodCall) -> Answer {
        let ask: WaitRequest = call.argument()?;
        let (key, task, _) = self.table.process(&ask.id, &ask.exec_id)?;
        if let Some(exit) = task.lives.exit(key) {
            let answer = WaitResponse { exit_status: exit.status, exited_at: Some(exit.at.into()) };
            return Ok(Some(answer.encode_to_vec()));
        }
        if let Some(process) = self.table.processes.get_mut(key) {
            process.waiters.push(caller);
        }
        Ok(None)
    }

    fn pids(&self, call: &MethodCall) -> Answer {
        let ask: PidsRequest = call.argument()?;
        let (_, task) = self.table.task(&ask.id)?;
        let mut pids = Vec::new();
        match any_dir(&task.cgroup) {
            Some(dir) => collect_pids(dir, 0, &mut pids),
            None => {
                pids.extend(self.table.processes.get(task.init).filter(|p| p.pidfd.is_some()).map(|p| p.pid));
            }
        }
        if pids.is_empty() {
            // A process that has ended and is not deleted is listed, like a zombie. When containerd restarts it takes a shim without
            // processes for a leaked one and ends it, and the exit would be lost.
            pids.extend(self.table.processes.get(task.init).map(|process| process.pid));
        }
        let info = |pid: i32| {
            let exec = self.table.by_pid(pid).and_then(|key| self.table.processes.get(key));
            let exec = exec.filter(|process| !process.exec_id.is_empty());
            let details =
                exec.map(|p| Any::pack(PROCESS_DETAILS, &ProcessDetails { exec_id: p.exec_id.clone() }));
            ProcessInfo { pid: number(pid), info: details }
        };
        let processes = pids.into_iter().map(info).collect();
        Ok(Some(PidsResponse { processes }.encode_to_vec()))
    }

    /// The container's counters. They are read from a few small files of the kernel, which does not block.
    fn stats(&self, call: &MethodCall) -> Answer {
        let ask: StatsRequest = call.argument()?;
        let (_, task) = self.table.task(&ask.id)?;
        let stats = task.cgroup.stats().map_err(runtime_failed("stats"))?;
        let packed = match &task.cgroup {
            CgroupPaths::V1(_) => metrics_v1::pack(&stats),
            _ => metrics_v2::pack(&stats),
        };
        Ok(Some(StatsResponse { stats: Some(packed) }.encode_to_vec()))
    }

    fn checkpoint(&mut self, caller: Caller, call: &MethodCall) -> Answer {
        let ask: CheckpointTaskRequest = call.argument()?;
        saved::wanted(&ask)?;
        let id = ask.id.clone();
        self.command(caller, &id, Order::Checkpoint(Box::new(ask)))
    }

    fn update(&mut self, caller: Caller, call: &MethodCall) -> Answer {
        let ask: UpdateTaskRequest = call.argument()?;
        let resources = ask.resources.map(|any| any.value).unwrap_or_default();
        self.command(caller, &ask.id, Order::Update(resources))
    }

    fn resize(&self, call: &MethodCall) -> Answer {
        let ask: ResizePtyRequest = call.argument()?;
        let (_, _, process) = self.table.process(&ask.id, &ask.exec_id)?;
        let size = |number: u32, what: &str| {
            u16::try_from(number).map_err(|_| Failure::invalid_argument(format!("resize: {what} {number}")))
        };
        let (width, height) = (size(ask.width, "width")?, size(ask.height, "height")?);
        if let Some(terminal) = &process.terminal {
            sys::terminal::resize(terminal.as_fd(), width, height)
                .map_err(|e| Failure::new(Code::Unknown, format!("resize: ioctl(TIOCSWINSZ): {e}")))?;
        }
        done()
    }

    fn close_io(&mut self, call: &MethodCall) -> Answer {
        let ask: CloseIORequest = call.argument()?;
        let (key, _, _) = self.table.process(&ask.id, &ask.exec_id)?;
        if ask.stdin {
            self.close_stdin(key);
        }
        done()
    }

    fn connect(&self, call: &MethodCall) -> Answer {
        let ask: ConnectRequest = call.argument()?;
        let first = match self.table.task(&ask.id) {
            Ok((_, task)) => self.table.processes.get(task.init).map_or(0, |process| process.pid),
            Err(_) => 0,
        };
        let answer = ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: number(first),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Some(answer.encode_to_vec()))
    }

    fn shutdown(&mut self) -> Answer {
        if self.table.tasks.is_empty() {
            self.begin_end();
        }
        done()
    }

    /// Deletes a process for which that was asked, once all of its output has been copied.
    pub(crate) fn continue_delete(&mut self, key: Key) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        if process.deletions.is_empty() || !process.is_drained() {
            return;
        }
        self.clock.alarms.cancel(Alarm::Drain(key));
        let callers = std::mem::take(&mut process.deletions);
        let (task, is_exec) = (process.task, !process.exec_id.is_empty());
        if is_exec {
            self.delete_exec(key, &callers);
            return;
        }
        self.close_streams(key);
        if let Some(task) = self.table.tasks.get_mut(task)
            && let Some(oom) = task.oom.take()
        {
            // The removal of a v1 cgroup looks like a kill.
            self.poll.remove(&oom);
        }
        for caller in callers {
            self.order(task, Pending { order: Order::Delete, caller: Some(caller) });
        }
    }
}

/// A pid or a status as a number of a message.
pub(crate) fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// A cgroup directory with all processes of a container.
fn any_dir(paths: &CgroupPaths) -> Option<&Path> {
    match paths {
        CgroupPaths::V2(path) => Some(path),
        CgroupPaths::V1(dirs) => {
            let wanted = ["pids", "memory", "devices", "freezer"].into_iter().find_map(|name| dirs.get(name));
            wanted.or_else(|| dirs.values().next()).map(PathBuf::as_path)
        }
        _ => None,
    }
}

/// Collects the pids in a cgroup and in those below it. A directory that vanishes meanwhile has none.
fn collect_pids(dir: &Path, depth: u32, pids: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        // A bound for containers that nest cgroups without end.
        if depth < 32 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), depth + 1, pids);
        }
    }
}
