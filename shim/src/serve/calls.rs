//! The task service: one table of methods for v2 and v3. What can be answered at once is; the rest becomes an order for a worker or
//! waits for something to happen.

use super::alarm::Alarm;
use super::life::{Lives, Phase};
use super::slots::Key;
use super::streams::Streams;
use super::table::{Caller, Order, Pending, Process, Task};
use super::{Server, jobs, saved};
use crate::sys;
use crate::wire::code::{Code, Failure};
use crate::wire::events::{Event, TaskExecAdded};
use crate::wire::frame::Request;
use crate::wire::options::{Options, PROCESS_DETAILS, ProcessDetails};
use crate::wire::task::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, DeleteRequest,
    ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest,
    ResumeRequest, SERVICE_V2, SERVICE_V3, StartRequest, StateRequest, StateResponse, StatsRequest,
    StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
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

/// How long a process that is deleted may keep its streams open through others.
const DRAIN: Duration = Duration::from_secs(10);

/// The answer, or `None` if there is none yet.
type Answer = Result<Option<Vec<u8>>, Failure>;

#[expect(clippy::unnecessary_wraps, reason = "it is what the methods answer")]
fn done() -> Answer {
    Ok(Some(Empty {}.encode_to_vec()))
}

impl Server {
    /// One call.
    pub(crate) fn call(&mut self, caller: Caller, request: &Request) {
        let known = matches!(request.service.as_str(), SERVICE_V2 | SERVICE_V3);
        let answer = match request.method.as_str() {
            _ if !known => Err(Failure::no_method(&request.service, &request.method)),
            "Create" => self.create(caller, request),
            "Start" => self.start(caller, request),
            "State" => self.state(request),
            "Delete" => self.delete(caller, request),
            "Exec" => self.exec(request),
            "Kill" => self.kill(caller, request),
            "Wait" => self.wait(caller, request),
            "Pids" => self.pids(request),
            "Stats" => self.stats(request),
            "Pause" => {
                request.argument().and_then(|ask: PauseRequest| self.command(caller, &ask.id, Order::Pause))
            }
            "Resume" => {
                request.argument().and_then(|ask: ResumeRequest| self.command(caller, &ask.id, Order::Resume))
            }
            "Update" => self.update(caller, request),
            "ResizePty" => self.resize(request),
            "CloseIO" => self.close_io(request),
            "Connect" => self.connect(request),
            "Shutdown" => self.shutdown(),
            "Checkpoint" => self.checkpoint(caller, request),
            _ => Err(Failure::no_method(&request.service, &request.method)),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(payload)) => self.answer(caller, Ok(payload)),
            Err(failure) => self.answer(caller, Err(failure)),
        }
    }

    /// An order for a worker, on a container that is there.
    fn command(&mut self, caller: Caller, id: &str, order: Order) -> Answer {
        let (key, _) = self.table.task(id)?;
        self.order(key, Pending { order, caller: Some(caller) });
        Ok(None)
    }

    fn create(&mut self, caller: Caller, request: &Request) -> Answer {
        let ask: CreateTaskRequest = request.argument()?;
        if self.table.find(&ask.id).is_some() {
            return Err(Failure::new(Code::AlreadyExists, format!("container {:?}: already exists", ask.id)));
        }
        libcontainer::ContainerId::new(ask.id.clone())?;
        if !Path::new(&ask.bundle).is_absolute() {
            return Err(Failure::invalid_argument(format!("bundle {:?}: not an absolute path", ask.bundle)));
        }
        if !ask.parent_checkpoint.is_empty() {
            let message =
                format!("restore {:?}: a parent is found by the checkpoint itself", ask.parent_checkpoint);
            return Err(Failure::invalid_argument(message));
        }
        if !ask.checkpoint.is_empty() && !Path::new(&ask.checkpoint).is_absolute() {
            let message = format!("restore {:?}: not an absolute path", ask.checkpoint);
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
            root: bundle::state_root(&options.root, &self.namespace, &self.program),
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
            parting: None,
            shared: 0,
            alone: false,
        });
        self.order(task, Pending { order: Order::Create(Box::new(ask)), caller: Some(caller) });
        Ok(None)
    }

    fn start(&mut self, caller: Caller, request: &Request) -> Answer {
        let ask: StartRequest = request.argument()?;
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

    fn exec(&mut self, request: &Request) -> Answer {
        let ask: ExecProcessRequest = request.argument()?;
        let (key, task) = self.table.task(&ask.id)?;
        if ask.exec_id.is_empty() {
            return Err(Failure::invalid_argument("exec: its id is empty"));
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
        let spec = ask.spec.ok_or_else(|| Failure::invalid_argument("exec: no process is described"))?.value;
        let streams =
            Streams { stdin: ask.stdin, stdout: ask.stdout, stderr: ask.stderr, terminal: ask.terminal };
        let process = self.table.processes.insert(Process::new(key, ask.exec_id.clone(), streams, spec));
        if let Some(task) = self.table.tasks.get_mut(key) {
            task.execs.push(process);
            task.lives.add_exec(process);
        }
        self.tell(Event::ExecAdded(TaskExecAdded { container_id: ask.id, exec_id: ask.exec_id }));
        done()
    }

    fn state(&self, request: &Request) -> Answer {
        let ask: StateRequest = request.argument()?;
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

    fn delete(&mut self, caller: Caller, request: &Request) -> Answer {
        let ask: DeleteRequest = request.argument()?;
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
            // One that never ran has nobody who would close its streams.
            if self.table.phase(key) == Phase::Made {
                self.close_streams(key);
            }
        }
        self.alarms.replace(Instant::now() + DRAIN, Alarm::Drain(key));
        self.go_on_deleting(key);
        Ok(None)
    }

    fn kill(&mut self, caller: Caller, request: &Request) -> Answer {
        let ask: KillRequest = request.argument()?;
        let (key, task, process) = self.table.process(&ask.id, &ask.exec_id)?;
        let signal = i32::try_from(ask.signal).ok().filter(|signal| (0..=64).contains(signal));
        let signal =
            signal.ok_or_else(|| Failure::invalid_argument(format!("unknown signal {}", ask.signal)))?;
        let gone = || Failure::not_found("process already finished: not found");
        if task.lives.phase(key) == Phase::Stopped {
            return Err(gone());
        }
        let first = ask.exec_id.is_empty();
        // A frozen process of cgroup v1 takes no signal; the library thaws for SIGKILL.
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

    fn wait(&mut self, caller: Caller, request: &Request) -> Answer {
        let ask: WaitRequest = request.argument()?;
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

    fn pids(&self, request: &Request) -> Answer {
        let ask: PidsRequest = request.argument()?;
        let (_, task) = self.table.task(&ask.id)?;
        let mut pids = Vec::new();
        match a_folder(&task.cgroup) {
            Some(folder) => collect_pids(folder, 0, &mut pids),
            None => {
                pids.extend(self.table.processes.get(task.init).filter(|p| p.pidfd.is_some()).map(|p| p.pid));
            }
        }
        if pids.is_empty() {
            // One that has ended and is not deleted is there like a zombie: a containerd that restarts takes a shim without
            // processes for a leaked one, and would end it with the exit that it alone knows.
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

    /// The container's counters: a few small files of the kernel's, whose reading nobody can hold up.
    fn stats(&self, request: &Request) -> Answer {
        let ask: StatsRequest = request.argument()?;
        let (_, task) = self.table.task(&ask.id)?;
        let stats = task.cgroup.stats().map_err(jobs::runtime_failed("stats"))?;
        let packed = match &task.cgroup {
            CgroupPaths::V1(_) => metrics_v1::pack(&stats),
            _ => metrics_v2::pack(&stats),
        };
        Ok(Some(StatsResponse { stats: Some(packed) }.encode_to_vec()))
    }

    fn checkpoint(&mut self, caller: Caller, request: &Request) -> Answer {
        let ask: CheckpointTaskRequest = request.argument()?;
        saved::wanted(&ask)?;
        let id = ask.id.clone();
        self.command(caller, &id, Order::Checkpoint(Box::new(ask)))
    }

    fn update(&mut self, caller: Caller, request: &Request) -> Answer {
        let ask: UpdateTaskRequest = request.argument()?;
        let resources = ask.resources.map(|any| any.value).unwrap_or_default();
        self.command(caller, &ask.id, Order::Update(resources))
    }

    fn resize(&self, request: &Request) -> Answer {
        let ask: ResizePtyRequest = request.argument()?;
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

    fn close_io(&mut self, request: &Request) -> Answer {
        let ask: CloseIORequest = request.argument()?;
        let (key, _, _) = self.table.process(&ask.id, &ask.exec_id)?;
        if ask.stdin {
            self.close_stdin(key);
        }
        done()
    }

    fn connect(&self, request: &Request) -> Answer {
        let ask: ConnectRequest = request.argument()?;
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

    /// The process with this key may be deleted when nothing of its output is on its way any more.
    pub(crate) fn go_on_deleting(&mut self, key: Key) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        if process.deletions.is_empty() || !process.is_drained() {
            return;
        }
        self.alarms.cancel(Alarm::Drain(key));
        let callers = std::mem::take(&mut process.deletions);
        let (task, is_exec) = (process.task, !process.exec_id.is_empty());
        if is_exec {
            self.forget_exec(key, &callers);
            return;
        }
        self.close_streams(key);
        if let Some(task) = self.table.tasks.get_mut(task)
            && let Some(oom) = task.oom.take()
        {
            // The end of a v1 cgroup looks like a kill.
            self.poll.remove(&oom);
        }
        for caller in callers {
            self.order(task, Pending { order: Order::Delete, caller: Some(caller) });
        }
    }
}

/// A pid or a status as it goes over the wire.
pub(crate) fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// One folder that all processes of a container are in.
fn a_folder(paths: &CgroupPaths) -> Option<&Path> {
    match paths {
        CgroupPaths::V2(path) => Some(path),
        CgroupPaths::V1(folders) => {
            let wanted =
                ["pids", "memory", "devices", "freezer"].into_iter().find_map(|name| folders.get(name));
            wanted.or_else(|| folders.values().next()).map(PathBuf::as_path)
        }
        _ => None,
    }
}

/// The pids in a cgroup and in those below it. A folder that vanishes meanwhile has none.
fn collect_pids(folder: &Path, depth: u32, pids: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(folder.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Deeper than the kernel's default of cgroup.max.depth for a container that nests without end.
        if depth < 32 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), depth + 1, pids);
        }
    }
}
