//! Orders for workers: queued for each container, so that what changes it happens one after the other, and what comes of them.

use super::calls::number;
use super::exec::Hand;
use super::poll::{Interest, Token};
use super::slots::Key;
use super::streams::{Ends, LoggerEnds, Plumbing, Streams};
use super::table::{Caller, Logger, Order, Pending, Task};
use super::worker::{CgroupFolder, Done, Worker};
use super::{Server, exec, jobs, oom, saved};
use crate::wire::code::{Code, Failure};
use crate::wire::events::{Event, TaskCheckpointed, TaskCreate, TaskIo, TaskPaused, TaskResumed};
use crate::wire::options::Options;
use crate::wire::task::{CreateTaskRequest, CreateTaskResponse, StartResponse};
use crate::wire::types::Empty;
use libcontainer::{CgroupPaths, Delete};
use prost::Message;
use std::os::fd::{OwnedFd, RawFd};

/// A worker, what it does and what is kept for its return.
#[derive(Debug)]
pub(crate) struct Employed {
    hand: Hand,
    task: Key,
    pending: Pending,
    kept: Option<Kept>,
}

/// This side of the streams of a process that is being made.
#[derive(Debug)]
pub(crate) struct Kept {
    process: Key,
    plumbing: Plumbing,
}

impl Server {
    /// Gives an order. It is carried out when those before it are.
    pub(crate) fn order(&mut self, key: Key, pending: Pending) {
        if let Some(task) = self.table.tasks.get_mut(key) {
            task.orders.push_back(pending);
        }
        self.go_on_with_orders(key);
    }

    fn go_on_with_orders(&mut self, key: Key) {
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
            self.employ(key, pending);
        }
    }

    fn release(&mut self, key: Key, shared: bool) {
        if let Some(task) = self.table.tasks.get_mut(key) {
            if shared {
                task.shared = task.shared.saturating_sub(1);
            } else {
                task.alone = task.parting.is_some();
            }
        }
        self.go_on_with_orders(key);
    }

    /// Hires a worker for an order whose turn it is.
    fn employ(&mut self, key: Key, pending: Pending) {
        match self.hire(key, &pending) {
            Ok((hand, kept)) => {
                let token = Token::Worker(self.workers.next_key());
                if let Err(e) = self.poll.add(&hand, hand.interest(), token) {
                    self.log.warn(&format!("watch a worker: epoll_ctl: {e}"));
                }
                self.workers.insert(Employed { hand, task: key, pending, kept });
            }
            Err(failure) => {
                let shared = pending.order.is_shared();
                self.fail(key, pending, failure);
                self.release(key, shared);
            }
        }
    }

    fn hire(&self, key: Key, pending: &Pending) -> Result<(Hand, Option<Kept>), Failure> {
        let gone = || Failure::not_found("container not created: not found");
        let task = self.table.tasks.get(key).ok_or_else(gone)?;
        let place =
            jobs::Place { id: &task.id, namespace: &self.namespace, bundle: &task.bundle, root: &task.root };
        let plain = |job: &dyn Fn() -> Result<Done, Failure>| {
            Ok((Hand::Worker(Worker::employ(Some(&[]), job)?), None))
        };
        match &pending.order {
            Order::Create(ask) if !ask.checkpoint.is_empty() => plain(&|| saved::prepare(place, ask)),
            Order::Restore(ask) => {
                let options = Options::read(ask.options.as_ref())?;
                self.hire_for_create(task, |ends, logger| saved::restore(place, ask, &options, ends, logger))
            }
            Order::Checkpoint(ask) => plain(&|| saved::checkpoint(place, ask)),
            Order::Create(ask) => {
                let options = Options::read(ask.options.as_ref())?;
                self.hire_for_create(task, |ends, logger| jobs::create(place, ask, &options, ends, logger))
            }
            Order::Exec(process) => self.hire_for_exec(place, task, *process),
            Order::Start => plain(&|| jobs::start(place)),
            Order::Pause => plain(&|| jobs::pause(place)),
            Order::Resume => plain(&|| jobs::resume(place)),
            Order::Update(resources) => plain(&|| jobs::update(place, resources)),
            Order::SignalAll(signal) => plain(&|| jobs::signal_all(place, *signal)),
            Order::Delete => plain(&|| jobs::delete(place, Delete::Stopped)),
            Order::Clean(_) => plain(&|| jobs::delete(place, Delete::Force)),
        }
    }

    /// A worker that makes a container, with the streams of its process: their ends go with it.
    fn hire_for_create(
        &self,
        task: &Task,
        job: impl FnOnce(Ends, Option<LoggerEnds>) -> Result<Done, Failure>,
    ) -> Result<(Hand, Option<Kept>), Failure> {
        let (ends, logger, kept) = self.plumb(task.init, task.owner)?;
        let needed: Vec<RawFd> =
            ends.fds().into_iter().chain(logger.iter().flat_map(LoggerEnds::fds)).collect();
        // This side's copies of the process's ends go with the closure: else it would keep its own pipes open.
        let worker = Worker::employ(Some(&needed), move || job(ends, logger))?;
        Ok((Hand::Worker(worker), Some(kept)))
    }

    /// The process itself, or a worker where somebody has to wait for it.
    fn hire_for_exec(
        &self,
        place: jobs::Place<'_>,
        task: &Task,
        process: Key,
    ) -> Result<(Hand, Option<Kept>), Failure> {
        let gone = || Failure::not_found("process does not exist: not found");
        let spec = &self.table.processes.get(process).ok_or_else(gone)?.spec;
        let (ends, logger, kept) = self.plumb(process, task.owner)?;
        let prepared = exec::prepare(exec::handle(task, place)?, spec, ends)?;
        let hand = if logger.is_none() && prepared.is_unattended() {
            prepared.begin()?
        } else {
            // Which descriptors the handle has is the library's business.
            Hand::Worker(Worker::employ(None, move || jobs::exec(place, prepared, logger))?)
        };
        Ok((hand, Some(kept)))
    }

    /// The streams of a process that is about to be made.
    fn plumb(&self, process: Key, owner: (u32, u32)) -> Result<(Ends, Option<LoggerEnds>, Kept), Failure> {
        let none = Streams::default();
        let streams = self.table.processes.get(process).map_or(&none, |process| &process.streams);
        let mut plumbing = streams.open(owner.0, owner.1)?;
        let ends = std::mem::replace(&mut plumbing.ends, Ends::Terminal);
        let logger = plumbing.logger.take();
        Ok((ends, logger, Kept { process, plumbing }))
    }

    /// A worker, or a process on its way, has something to say.
    pub(crate) fn hear(&mut self, key: Key) {
        if !self.workers.get(key).is_some_and(|employed| employed.hand.is_ready()) {
            return;
        }
        let Some(Employed { hand, task, pending, kept }) = self.workers.remove(key) else { return };
        self.poll.remove(&hand);
        self.ending_workers.extend(hand.pid());
        let shared = pending.order.is_shared();
        match hand.report() {
            Ok(done) => self.finish(task, pending, kept, done),
            Err(failure) => self.fail(task, pending, failure),
        }
        self.release(task, shared);
    }

    /// All workers that have something to say are heard now.
    pub(crate) fn hear_all(&mut self) {
        for key in self.workers.keys() {
            self.hear(key);
        }
    }

    fn finish(&mut self, key: Key, pending: Pending, kept: Option<Kept>, mut done: Done) {
        for warning in &done.report.warnings {
            self.log.warn(warning);
        }
        let answer = match pending.order {
            Order::Create(ask) => self.created(key, *ask, kept, done),
            Order::Restore(_) => self.restored(key, kept, done),
            Order::Checkpoint(ask) => {
                self.tell(Event::Checkpointed(TaskCheckpointed {
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
                self.adopt(process, kept, &mut done);
                self.started(key, process)
            }
            Order::Pause => self.set_paused(key, true),
            Order::Resume => self.set_paused(key, false),
            Order::Delete => {
                // A created container was killed by it: its exit comes first.
                self.reap();
                self.part(key, pending.caller);
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

    /// A container is removed. Its process, if it was killed only now, may still be a child of the worker that made it: one that has
    /// reported, but not ended yet. Then its exit comes when it is this server's child.
    fn part(&mut self, key: Key, caller: Option<Caller>) {
        let Some(task) = self.table.tasks.get_mut(key) else { return };
        let is_reaped = self.table.processes.get(task.init).is_none_or(|init| init.pidfd.is_none());
        match caller {
            Some(caller) if !is_reaped => task.parting = Some(caller),
            caller => self.forget_task(key, caller),
        }
    }

    fn fail(&mut self, key: Key, pending: Pending, failure: Failure) {
        let mut caller = pending.caller;
        match pending.order {
            Order::Create(_) if failure.code == Code::Internal => {
                // The worker died, perhaps half-way.
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
                // Another attempt is possible; nobody else waits for this one.
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

    /// A container that was never made is forgotten.
    fn discard(&mut self, key: Key) {
        let Some(task) = self.table.tasks.get(key) else { return };
        let (init, execs) = (task.init, task.execs.clone());
        self.remove_task(key, init, &execs);
    }

    /// The first process, its cgroup and what watches over that become the server's.
    fn settle_in(&mut self, key: Key, kept: Option<Kept>, done: &mut Done) {
        let Some(task) = self.table.tasks.get_mut(key) else { return };
        let init = task.init;
        task.cgroup = accounted(std::mem::take(&mut done.report.cgroups));
        self.adopt(init, kept, done);
        if done.report.oom
            && let Some(fd) = done.fds.pop()
        {
            self.watch_oom(key, fd);
        }
    }

    /// `Start` has made the process.
    fn restored(&mut self, key: Key, kept: Option<Kept>, mut done: Done) -> Vec<u8> {
        self.settle_in(key, kept, &mut done);
        let Some(task) = self.table.tasks.get_mut(key) else { return Vec::new() };
        let init = task.init;
        task.saved = None;
        self.started(key, init)
    }

    fn created(&mut self, key: Key, ask: CreateTaskRequest, kept: Option<Kept>, mut done: Done) -> Vec<u8> {
        let Some(task) = self.table.tasks.get_mut(key) else { return Vec::new() };
        task.lives.made(done.report.owns_pids);
        task.saved = (!ask.checkpoint.is_empty()).then(|| Box::new(ask.clone()));
        self.settle_in(key, kept, &mut done);
        let pid = number(done.report.pid);
        self.tell(Event::Create(TaskCreate {
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

    /// A process that a worker has made becomes the server's. Its descriptors leave `done`.
    fn adopt(&mut self, key: Key, kept: Option<Kept>, done: &mut Done) {
        let mut fds = std::mem::take(&mut done.fds);
        let logger = if done.report.logger != 0 { fds.pop() } else { None };
        let mut fds = fds.into_iter();
        let (pidfd, terminal) = (fds.next(), if done.report.terminal { fds.next() } else { None });
        done.fds = fds.collect();
        let Some(process) = self.table.processes.get_mut(key) else { return };
        process.pid = done.report.pid;
        process.pidfd = pidfd;
        process.terminal = terminal;
        process.spec = Vec::new();
        let pid = done.report.logger;
        process.logger = logger.map(|pidfd| Logger { pid, pidfd, told: false });
        if let Some(kept) = kept.filter(|kept| kept.process == key) {
            self.connect_streams(key, kept.plumbing);
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
            self.tell(if paused {
                Event::Paused(TaskPaused { container_id })
            } else {
                Event::Resumed(TaskResumed { container_id })
            });
        }
        Empty {}.encode_to_vec()
    }
}

/// What a worker's report says of cgroups.
fn accounted(folders: Vec<CgroupFolder>) -> CgroupPaths {
    match folders.first() {
        None => CgroupPaths::None,
        Some(only) if only.controller.is_empty() => CgroupPaths::V2(only.path.clone().into()),
        Some(_) => CgroupPaths::V1(
            folders.into_iter().map(|folder| (folder.controller, folder.path.into())).collect(),
        ),
    }
}
