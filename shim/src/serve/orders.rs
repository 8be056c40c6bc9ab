//! Orders for workers. Each container has a queue of them, so that changes to it happen one after the other.

use super::calls::number;
use super::exec::Executor;
use super::place::Place;
use super::poll::{Interest, Token};
use super::slots::Key;
use super::streams::{Ends, LoggerEnds, Streams};
use super::table::{Caller, Logger, Order, Pending, Task};
use super::work::{NewStreams, Running};
use super::worker::{CgroupDir, Done, Worker};
use super::{Server, exec, jobs, oom, saved};
use crate::wire::code::{Code, Failure};
use crate::wire::events::{Event, TaskCheckpointed, TaskCreate, TaskIo, TaskPaused, TaskResumed};
use crate::wire::options::Options;
use crate::wire::task::{CreateTaskRequest, CreateTaskResponse, StartResponse};
use crate::wire::types::Empty;
use libcontainer::{CgroupPaths, Delete};
use prost::Message;
use std::os::fd::{OwnedFd, RawFd};

impl Server {
    /// Queues an order. It is carried out after those before it.
    pub(crate) fn order(&mut self, key: Key, pending: Pending) {
        if let Some(task) = self.table.tasks.get_mut(key) {
            task.orders.push_back(pending);
        }
        self.run_orders(key);
    }

    fn run_orders(&mut self, key: Key) {
        while let Some(task) = self.table.tasks.get_mut(key) {
            let Some(next) = task.orders.front() else { break };
            let shared = next.order.is_shared();
            if task.alone || (!shared && task.shared > 0) {
                break;
            }
            let Some(pending) = task.orders.pop_front() else { break };
            if shared {
                task.shared += 1;
            } else {
                task.alone = true;
            }
            self.start_order(key, pending);
        }
    }

    fn release(&mut self, key: Key, shared: bool) {
        if let Some(task) = self.table.tasks.get_mut(key) {
            if shared {
                task.shared = task.shared.saturating_sub(1);
            } else {
                task.alone = task.deleting.is_some();
            }
        }
        self.run_orders(key);
    }

    /// Starts to carry out the next order.
    fn start_order(&mut self, key: Key, pending: Pending) {
        match self.start_worker(key, &pending) {
            Ok((executor, streams)) => {
                let running = Running { executor, task: key, pending, streams };
                if let Err(e) = self.work.add(running, &self.poll) {
                    self.log.warn(&format!("watch a worker: epoll_ctl: {e}"));
                }
            }
            Err(failure) => {
                let shared = pending.order.is_shared();
                self.fail(key, pending, failure);
                self.release(key, shared);
            }
        }
    }

    fn start_worker(&self, key: Key, pending: &Pending) -> Result<(Executor, Option<NewStreams>), Failure> {
        let gone = || Failure::not_found("container not created: not found");
        let task = self.table.tasks.get(key).ok_or_else(gone)?;
        let place =
            Place { id: &task.id, namespace: &self.about.namespace, bundle: &task.bundle, root: &task.root };
        let plain = |job: &dyn Fn() -> Result<Done, Failure>| {
            Ok((Executor::Worker(Worker::spawn(Some(&[]), job)?), None))
        };
        match &pending.order {
            Order::Create(ask) if !ask.checkpoint.is_empty() => plain(&|| saved::prepare(place, ask)),
            Order::Restore(ask) => {
                let options = Options::read(ask.options.as_ref())?;
                self.start_create(task, |ends, logger| saved::restore(place, ask, &options, ends, logger))
            }
            Order::Checkpoint(ask) => plain(&|| saved::checkpoint(place, ask)),
            Order::Create(ask) => {
                let options = Options::read(ask.options.as_ref())?;
                self.start_create(task, |ends, logger| jobs::create(place, ask, &options, ends, logger))
            }
            Order::Exec(process) => self.start_exec(place, task, *process),
            Order::Start => plain(&|| jobs::start(place)),
            Order::Pause => plain(&|| jobs::pause(place)),
            Order::Resume => plain(&|| jobs::resume(place)),
            Order::Update(resources) => plain(&|| jobs::update(place, resources)),
            Order::SignalAll(signal) => plain(&|| jobs::signal_all(place, *signal)),
            Order::Delete => plain(&|| jobs::delete(place, Delete::Stopped)),
            Order::Clean(_) => plain(&|| jobs::delete(place, Delete::Force)),
        }
    }

    /// Starts a worker that makes a container, with the streams of its process.
    fn start_create(
        &self,
        task: &Task,
        job: impl FnOnce(Ends, Option<LoggerEnds>) -> Result<Done, Failure>,
    ) -> Result<(Executor, Option<NewStreams>), Failure> {
        let (ends, logger, streams) = self.plumb(task.init, task.owner)?;
        let needed: Vec<RawFd> =
            ends.fds().into_iter().chain(logger.iter().flat_map(LoggerEnds::fds)).collect();
        // The closure owns the process's ends, so that they are closed on this side: else the server would keep the pipes open.
        let worker = Worker::spawn(Some(&needed), move || job(ends, logger))?;
        Ok((Executor::Worker(worker), Some(streams)))
    }

    /// Starts an exec: clones the process, or starts a worker if something must wait for it.
    fn start_exec(
        &self,
        place: Place<'_>,
        task: &Task,
        process: Key,
    ) -> Result<(Executor, Option<NewStreams>), Failure> {
        let gone = || Failure::not_found("process does not exist: not found");
        let spec = &self.table.processes.get(process).ok_or_else(gone)?.spec;
        let (ends, logger, streams) = self.plumb(process, task.owner)?;
        let prepared = exec::prepare(exec::handle(task, place)?, spec, ends)?;
        let executor = if logger.is_none() && prepared.is_unattended() {
            prepared.begin()?
        } else {
            // The descriptors of the handle are not known here.
            Executor::Worker(Worker::spawn(None, move || jobs::exec(place, prepared, logger))?)
        };
        Ok((executor, Some(streams)))
    }

    /// Opens the streams of a process that is about to be made.
    fn plumb(
        &self,
        process: Key,
        owner: (u32, u32),
    ) -> Result<(Ends, Option<LoggerEnds>, NewStreams), Failure> {
        let none = Streams::default();
        let streams = self.table.processes.get(process).map_or(&none, |process| &process.streams);
        let mut plumbing = streams.open(owner.0, owner.1)?;
        let ends = std::mem::replace(&mut plumbing.ends, Ends::Terminal);
        let logger = plumbing.logger.take();
        Ok((ends, logger, NewStreams { process, plumbing }))
    }

    /// Reads the report of a running order, if it is ready.
    pub(crate) fn read_report(&mut self, key: Key) {
        let Some(running) = self.work.take_ready(key, &self.poll) else { return };
        let Running { executor, task, pending, streams } = running;
        let shared = pending.order.is_shared();
        match executor.report() {
            Ok(done) => self.finish(task, pending, streams, done),
            Err(failure) => self.fail(task, pending, failure),
        }
        self.release(task, shared);
    }

    /// Reads all reports that are ready.
    pub(crate) fn read_reports(&mut self) {
        for key in self.work.keys() {
            self.read_report(key);
        }
    }

    fn finish(&mut self, key: Key, pending: Pending, streams: Option<NewStreams>, mut done: Done) {
        for warning in &done.report.warnings {
            self.log.warn(warning);
        }
        let answer = match pending.order {
            Order::Create(ask) => self.created(key, *ask, streams, done),
            Order::Restore(_) => self.restored(key, streams, done),
            Order::Checkpoint(ask) => {
                self.publish(Event::Checkpointed(TaskCheckpointed {
                    container_id: ask.id,
                    checkpoint: ask.path,
                }));
                Empty {}.encode_to_vec()
            }
            Order::Start => {
                let init = self.table.tasks.get(key).map_or(0, |task| task.init);
                self.started(key, init)
            }
            Order::Exec(process) => {
                self.adopt(process, streams, &mut done);
                self.started(key, process)
            }
            Order::Pause => self.set_paused(key, true),
            Order::Resume => self.set_paused(key, false),
            Order::Delete => {
                // If it killed a container that was not started, the exit is reported first.
                self.reap();
                self.finish_delete(key, pending.caller);
                return;
            }
            Order::Clean(failure) => {
                self.discard(key);
                if let Some(caller) = pending.caller {
                    self.answer(caller, Err(failure));
                }
                return;
            }
            Order::Update(_) | Order::SignalAll(_) => Empty {}.encode_to_vec(),
        };
        if let Some(caller) = pending.caller {
            self.answer(caller, Ok(answer));
        }
    }

    /// A container was removed. If that killed its process, the process may still be a child of the worker that made it, which has
    /// reported but not ended yet. Its exit follows when it is a child of this server.
    fn finish_delete(&mut self, key: Key, caller: Option<Caller>) {
        let Some(task) = self.table.tasks.get_mut(key) else { return };
        let is_reaped = self.table.processes.get(task.init).is_none_or(|init| init.pidfd.is_none());
        match caller {
            Some(caller) if !is_reaped => task.deleting = Some(caller),
            caller => self.delete_task(key, caller),
        }
    }

    fn fail(&mut self, key: Key, pending: Pending, failure: Failure) {
        let mut caller = pending.caller;
        match pending.order {
            Order::Create(_) if failure.code == Code::Internal => {
                // The worker died, perhaps before it was done.
                let order = Order::Clean(failure);
                if let Some(task) = self.table.tasks.get_mut(key) {
                    task.orders.push_front(Pending { order, caller });
                }
                return;
            }
            Order::Create(_) | Order::Clean(_) => self.discard(key),
            Order::Start | Order::Restore(_) => self.not_started(key, None),
            Order::Exec(process) => self.not_started(key, Some(process)),
            Order::SignalAll(_) if caller.is_none() => self.log.warn(&failure.message),
            Order::Delete => {
                // The caller may try again.
                if let Some(caller) = caller.take() {
                    self.answer(caller, Err(failure));
                }
                return;
            }
            _ => {}
        }
        if let Some(caller) = caller {
            self.answer(caller, Err(failure));
        }
    }

    /// Removes a container that was never made from the table.
    fn discard(&mut self, key: Key) {
        let Some(task) = self.table.tasks.get(key) else { return };
        let (init, execs) = (task.init, task.execs.clone());
        self.remove_task(key, init, &execs);
    }

    /// Registers a new container: its first process, its cgroup and the watch for kills by the memory limit.
    fn register_container(&mut self, key: Key, streams: Option<NewStreams>, done: &mut Done) {
        let Some(task) = self.table.tasks.get_mut(key) else { return };
        let init = task.init;
        task.cgroup = cgroup_paths(std::mem::take(&mut done.report.cgroups));
        self.adopt(init, streams, done);
        if let Some(fd) = done.fds.oom.take() {
            self.watch_oom(key, fd);
        }
    }

    /// `Start` has restored the container.
    fn restored(&mut self, key: Key, streams: Option<NewStreams>, mut done: Done) -> Vec<u8> {
        self.register_container(key, streams, &mut done);
        let Some(task) = self.table.tasks.get_mut(key) else { return Vec::new() };
        let init = task.init;
        task.saved = None;
        self.started(key, init)
    }

    fn created(
        &mut self,
        key: Key,
        ask: CreateTaskRequest,
        streams: Option<NewStreams>,
        mut done: Done,
    ) -> Vec<u8> {
        let Some(task) = self.table.tasks.get_mut(key) else { return Vec::new() };
        task.lives.made(done.report.owns_pids);
        task.saved = (!ask.checkpoint.is_empty()).then(|| Box::new(ask.clone()));
        self.register_container(key, streams, &mut done);
        let pid = number(done.report.pid);
        self.publish(Event::Create(TaskCreate {
            container_id: ask.id,
            bundle: ask.bundle,
            rootfs: ask.rootfs,
            io: Some(TaskIo {
                stdin: ask.stdin,
                stdout: ask.stdout,
                stderr: ask.stderr,
                terminal: ask.terminal,
            }),
            checkpoint: ask.checkpoint,
            pid,
        }));
        CreateTaskResponse { pid }.encode_to_vec()
    }

    fn watch_oom(&mut self, key: Key, fd: OwnedFd) {
        let watch = oom::OomWatch::new(fd);
        let interest = if watch.is_urgent() { Interest::Urgent } else { Interest::Read };
        if let Err(e) = self.poll.add(&watch, interest, Token::Oom(key)) {
            self.log.warn(&format!("watch for kills by the memory limit: epoll_ctl: {e}"));
            return;
        }
        if let Some(task) = self.table.tasks.get_mut(key) {
            task.oom = Some(watch);
        }
    }

    /// Registers a process that a worker has made. Its descriptors are taken from `done`.
    fn adopt(&mut self, key: Key, streams: Option<NewStreams>, done: &mut Done) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        process.pid = done.report.pid;
        process.pidfd = done.fds.pidfd.take();
        process.terminal = done.fds.terminal.take();
        process.spec = Vec::new();
        let pid = done.report.logger;
        process.logger = done.fds.logger.take().map(|pidfd| Logger { pid, pidfd, terminated: false });
        if let Some(streams) = streams.filter(|streams| streams.process == key) {
            self.connect_streams(key, streams.plumbing);
        }
    }

    fn started(&mut self, task: Key, process: Key) -> Vec<u8> {
        let pid = self.table.processes.get(process).map_or(0, |process| number(process.pid));
        if let Some(about) = self.table.tasks.get_mut(task) {
            let acts = about.lives.started(process, true);
            self.act(task, acts);
        }
        StartResponse { pid }.encode_to_vec()
    }

    fn not_started(&mut self, key: Key, exec: Option<Key>) {
        if let Some(task) = self.table.tasks.get_mut(key) {
            let acts = task.lives.started(exec.unwrap_or(task.init), false);
            self.act(key, acts);
        }
    }

    fn set_paused(&mut self, key: Key, paused: bool) -> Vec<u8> {
        if let Some(task) = self.table.tasks.get_mut(key) {
            task.paused = paused;
            let container_id = task.id.clone();
            self.publish(if paused {
                Event::Paused(TaskPaused { container_id })
            } else {
                Event::Resumed(TaskResumed { container_id })
            });
        }
        Empty {}.encode_to_vec()
    }
}

/// The cgroups in a worker's report.
fn cgroup_paths(dirs: Vec<CgroupDir>) -> CgroupPaths {
    match dirs.first() {
        None => CgroupPaths::None,
        Some(only) if only.controller.is_empty() => CgroupPaths::V2(only.path.clone().into()),
        Some(_) => CgroupPaths::V1(dirs.into_iter().map(|dir| (dir.controller, dir.path.into())).collect()),
    }
}
