//! A container: one short function for each operation, which loads, checks the status, acts and saves.

mod delete;
mod lock;
mod wait;

pub use delete::{Delete, DeleteError};

use crate::cgroup::{Cgroup, CgroupPaths, Dir, OomWatch, Stats, SubPaths};
use crate::checkpoint::CheckpointOptions;
use crate::checkpoint::restore::Restored;
use crate::error::{Context, Error, ErrorKind, Result, Stage};
use crate::exec::PreparedExec;
use crate::fault;
use crate::host::SharedHost;
use crate::id::ContainerId;
use crate::launch::hooks::{self, Place};
use crate::launch::{self, Job, Launched};
use crate::plan::seccomp::Filter;
use crate::plan::{self, ExecInputs, ProcessPlan};
use crate::process::{ExecOptions, ExecProcess, Started};
use crate::signal::{self, ExitStatus, Signal, Watched};
use crate::state::dir::StateDir;
use crate::state::{self, Operation, Record, SeccompRecord, State, Status, allowed};
use crate::sys::cstr::CStrArray;
use crate::sys::{pidfd, sock};
use crate::watch::{HookWatch, send_listener};
use lock::status;
use oci_spec::runtime::{Hook, Hooks, LinuxResources, Process as ProcessSpec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use wait::{First, not_running};

/// How long `delete` waits for a killed process to exit.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to a container: returned by [`Runtime::create`](crate::Runtime::create), or later by [`Runtime::load`](crate::Runtime::load).
///
/// Its status is computed on every request, and other processes can change it at any time. Dropping the handle leaves the container as
/// it is, unless it was created with `start_here` and not started. Operations that change it wait for each other (flock(2) on its
/// state directory).
#[derive(Debug)]
pub struct Container {
    id: ContainerId,
    dir: StateDir,
    record: Box<Record>,
    first: First,
    started: Started,
    terminal: Option<OwnedFd>,
    warnings: Vec<String>,
    /// Created with `start_here`, and not started yet.
    waiting: Option<Box<Launched>>,
    host: SharedHost,
    /// Its directory in the v2 tree and its filter, once they were needed.
    cgroup_dir: OnceLock<Option<Dir>>,
    filter: OnceLock<Option<Filter>>,
}

/// What a handle keeps of the container's process.
pub(crate) struct Held {
    process: OwnedFd,
    terminal: Option<OwnedFd>,
    waiting: Option<Box<Launched>>,
}

impl Held {
    /// `start_here`: only this handle will start the child; else any process can.
    pub(crate) fn new(mut launched: Launched, start_here: bool) -> Result<Self> {
        if start_here {
            let process = launched.process().try_clone_to_owned().context("fcntl(F_DUPFD_CLOEXEC)")?;
            return Ok(Held {
                process,
                terminal: launched.take_terminal(),
                waiting: Some(Box::new(launched)),
            });
        }
        let (_, process, terminal) = launched.release()?;
        Ok(Held { process, terminal, waiting: None })
    }
}

impl Container {
    pub(crate) fn made(
        id: ContainerId,
        dir: StateDir,
        record: Box<Record>,
        held: Held,
        warnings: Vec<String>,
        (host, cgroup_dir): (SharedHost, Option<Dir>),
    ) -> Self {
        let Held { process, terminal, waiting } = held;
        let (first, cgroup_dir) = (First::Process(Watched::new(process)), cgroup_dir.into());
        let (started, filter) = (Started::default(), OnceLock::new());
        Container { id, dir, record, first, started, terminal, warnings, waiting, host, cgroup_dir, filter }
    }

    /// One that is running already.
    pub(crate) fn restored(id: ContainerId, restored: Restored, host: SharedHost) -> Self {
        let Restored { dir, record, process, terminal, warnings, cgroup_dir } = restored;
        let held = Held { process, terminal, waiting: None };
        Container::made(id, dir, record, held, warnings, (host, cgroup_dir))
    }

    pub(crate) fn load(root: &Path, id: &ContainerId, host: SharedHost) -> Result<Self> {
        let dir = StateDir::open(root, id)?;
        let record = dir.load().map(Box::new).map_err(|e| match e.kind() {
            ErrorKind::NotFound => state::dir::no_container(),
            _ => e,
        })?;
        let alive = state::alive::open(record.pid, record.start_time)?;
        Ok(Container {
            id: id.clone(),
            dir,
            record,
            first: First::found(alive)?,
            started: Started::default(),
            terminal: None,
            warnings: Vec::new(),
            waiting: None,
            host,
            cgroup_dir: OnceLock::new(),
            filter: OnceLock::new(),
        })
    }

    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The state of the container, with its current status.
    ///
    /// # Errors
    /// `Os` when the kernel's files can't be read.
    pub fn state(&self) -> Result<State> {
        if self.record.pid != 0 {
            return Ok(self.record.state(status(&self.record)?));
        }
        // A create in progress holds the lock; one that died does not.
        let Some(_lock) = self.dir.try_lock()? else { return Ok(self.record.state(Status::Creating)) };
        let record = self.dir.load()?;
        Ok(record.state(status(&record)?))
    }

    /// The pid of the container's first process in the caller's pid namespace, also after its exit; 0 before it exists.
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// Takes the master of the terminal of a container created with `Stdio::Terminal`; `None` on a second call.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// The pidfd of the container's process, for poll(2); `None` if it was reaped before this handle was created.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.first {
            First::Process(process) => Some(process.as_fd()),
            First::Gone(_) => None,
        }
    }

    /// Warnings for the user about problems that were tolerated during `create`.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Lets the container's process run its program. If a startContainer or poststart hook fails, the container is stopped. While poststart
    /// hooks run, which may take long, it is running, and others may change and delete it.
    ///
    /// # Errors
    /// `WrongState` unless the container is created; otherwise the reason why the program could not be executed, or a hook's failure.
    pub fn start(&mut self) -> Result<()> {
        let waiting = self.waiting.take();
        // Nobody else can have started one that waits for this handle.
        let lock = if waiting.is_some() { self.dir.lock()? } else { self.lock()? };
        match waiting {
            Some(launched) => self.start_own(*launched),
            None => self.start_waiting(),
        }
        .map_err(|e| e.at(Stage::Prepare))?;
        let running = self.record.hook_state(Status::Running, self.record.pid);
        let place = Place::Host { bundle: &self.record.bundle, process: None };
        // They may take long: meanwhile others may change or delete the container, which is running.
        drop(lock);
        self.run_hooks("poststart", Hooks::poststart, &running, &place).map_err(|e| match self.dir.lock() {
            Ok(_lock) => self.stopped_by(e),
            // It was deleted, and another may have its cgroup.
            Err(_) => e,
        })
    }

    /// Starts the child that this handle has created.
    fn start_own(&self, mut launched: Launched) -> Result<()> {
        self.run_start_container()?;
        let mut watch = HookWatch { record: &self.record, dir: None, spec_hooks: None, devices: None };
        launched.execute(&mut watch)?;
        launched.release().map(drop)
    }

    /// Starts the process that listens in the state directory.
    fn start_waiting(&self) -> Result<()> {
        let waiting = if self.pidfd().is_some() { self.dir.connect()? } else { None };
        let Some(waiting) = waiting else {
            allowed(Operation::Start, status(&self.record)?)?;
            let why = "cannot start the container: it is already being started, or only its creator can start it (as with `run`)";
            return Err(Error::new(ErrorKind::WrongState, why));
        };
        // It can't answer while it is frozen.
        if self.frozen()? {
            allowed(Operation::Start, Status::Paused)?;
        }
        self.run_start_container().map_err(|e| self.stopped_by(e))?;
        fault::point();
        sock::send(waiting.as_fd(), b"g").context("write to the container's process")?;
        fault::point();
        let program =
            self.record.process.args().as_ref().and_then(|args| args.first()).map_or("", String::as_str);
        launch::follow_start(waiting.as_fd(), program, |number| {
            let process = self.process()?;
            let listener = pidfd::getfd(process, number).context("pidfd_getfd: seccomp listener")?;
            send_listener(&self.record, self.record.pid, listener)
        })?;
        fault::point();
        self.dir.forget_start();
        fault::point();
        Ok(())
    }

    /// Kills all processes after the failure of a hook (runtime-spec, "Lifecycle" 7 and 9), which it returns. The first one is left to be
    /// reaped by its parent.
    fn stopped_by(&self, failure: Error) -> Error {
        let mut errors = vec![failure];
        let mut note = |result: Result<()>| errors.extend(result.err());
        if let Some(process) = self.pidfd() {
            let _ = pidfd::send_signal(process, libc::SIGKILL);
        }
        if !self.record.has_own_pids() && self.record.cgroup != Cgroup::None {
            note(self.record.cgroup.kill(Signal::KILL));
        }
        note(self.must_end());
        Error::join(errors).unwrap_or_else(|| Error::died("after a hook"))
    }

    /// Whether `start` runs hooks in the container's namespaces: then the program should have called `protect_program` before.
    pub fn has_start_hooks(&self) -> bool {
        has_hooks(self.record.hooks.as_ref(), Hooks::start_container)
    }

    /// startContainer hooks are programs of the container: they get the user, capabilities and filter of its process, and its
    /// environment unless they have their own.
    fn run_start_container(&self) -> Result<()> {
        if !has_hooks(self.record.hooks.as_ref(), Hooks::start_container) {
            return Ok(());
        }
        let plan = |hook: &Hook| self.hook_plan(hook);
        let place = Place::Inside { process: self.process()?, cgroup: &self.record.cgroup, plan: &plan };
        let state = self.record.hook_state(Status::Created, self.record.inside(self.record.pid));
        self.run_hooks("startContainer", Hooks::start_container, &state, &place)
    }

    fn hook_plan(&self, hook: &Hook) -> Result<ProcessPlan> {
        let (path, argv) = hooks::program(hook)?;
        let mut process = self.record.process.clone();
        process.set_terminal(Some(false)).set_args(Some(vec![hook.path().to_string_lossy().into_owned()]));
        if let Some(env) = hook.env().as_ref().filter(|env| !env.is_empty()) {
            process.set_env(Some(env.clone()));
        }
        // A filter with a listener would wait for an agent, which only knows containers and execs.
        let filter = self.filter()?.filter(|filter| !filter.listener);
        let mut plan = self.process_plan(&process, filter.cloned(), 0, None)?;
        plan.exec.candidates = vec![path];
        plan.exec.argv = CStrArray::new(argv, 0);
        Ok(plan)
    }

    fn run_hooks(
        &self,
        kind: &str,
        which: fn(&Hooks) -> &Option<Vec<Hook>>,
        state: &str,
        place: &Place<'_>,
    ) -> Result<()> {
        hooks::run(kind, self.record.hooks.as_ref().and_then(|h| which(h).as_deref()), state, place)
    }

    /// The container's own process description, as a base for further processes.
    pub fn process_spec(&self) -> &ProcessSpec {
        &self.record.process
    }

    /// Runs a further process in the container. Capabilities, `noNewPrivileges`, limits, labels, umask, scheduler, I/O priority, CPU affinity and
    /// `oomScoreAdj` that are missing in `process` are inherited from the container's own ([`Container::process_spec`]); environment,
    /// working directory and user are not.
    ///
    /// # Errors
    /// `WrongState` when the container is stopped or paused; `InvalidSpec`; the reason why the program could not be executed.
    pub fn exec(&self, process: &ProcessSpec, options: ExecOptions) -> Result<ExecProcess> {
        self.prepare_exec(process, options)?.run()
    }

    /// Checks and plans a further process, without running it: see [`PreparedExec`].
    ///
    /// # Errors
    /// As `exec`, except those of running it.
    pub fn prepare_exec(&self, process: &ProcessSpec, options: ExecOptions) -> Result<PreparedExec<'_>> {
        let operation = Operation::Exec { ignore_paused: options.ignore_paused };
        let target = self.alive()?;
        if target.is_none() {
            allowed(operation, self.state()?.status)?;
        }
        let target = target.ok_or_else(not_running)?;
        if self.frozen()? {
            allowed(operation, Status::Paused)?;
        }
        let filter = self.filter()?.cloned();
        let plan = self.process_plan(process, filter, options.preserve_fds, options.open_files)?;
        let job = Job {
            cgroup_dir: self.cgroup_dir()?,
            sub_cgroups: SubPaths::parse(&options.cgroup)?,
            target: Some(target),
            ..Job::new(plan, options.stdio, &self.record.cgroup)
        };
        let watch = HookWatch { record: &self.record, dir: None, spec_hooks: None, devices: None };
        Ok(PreparedExec { job, watch, started: self.started.clone() })
    }

    /// The cgroup's directory, on v2, if it still exists.
    fn cgroup_dir(&self) -> Result<Option<&Dir>> {
        Ok(kept(&self.cgroup_dir, || self.record.cgroup.open_present())?.as_ref())
    }

    fn frozen(&self) -> Result<bool> {
        self.cgroup_dir()?.map_or_else(|| self.record.cgroup.is_frozen(), Dir::is_frozen)
    }

    /// The container's seccomp filter, compiled by `create`.
    fn filter(&self) -> Result<Option<&Filter>> {
        let load = |saved: &SeccompRecord| {
            let (bpf, listener) = (self.dir.load_filter()?, saved.listener.is_some());
            Ok(Filter { bpf, flags: saved.flags, listener, warnings: Vec::new() })
        };
        let filter = kept(&self.filter, || self.record.seccomp.as_ref().map(load).transpose())?;
        Ok(filter.as_ref())
    }

    fn process_plan(
        &self,
        process: &ProcessSpec,
        seccomp: Option<Filter>,
        preserve_fds: u32,
        open_files: Option<(u64, u64)>,
    ) -> Result<ProcessPlan> {
        plan::exec(ExecInputs {
            id: self.id.as_str(),
            host: self.host.get()?,
            process,
            base: &self.record.process,
            container: &self.record.facts,
            seccomp,
            preserve_fds,
            open_files,
        })
        .map(|plan| plan.process)
        .map_err(|e| e.at(Stage::Plan))
    }

    /// Sends a signal to the container's first process. SIGKILL goes to all its processes if it has no pid namespace of its own, since
    /// the others would otherwise survive.
    ///
    /// # Errors
    /// `WrongState` (`container not running`) when the process has exited.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let all = signal == Signal::KILL
            && !self.record.has_own_pids()
            && !self.record.cgroup.processes()?.is_empty();
        if all {
            self.kill_all(signal)?;
        }
        let sent =
            self.process().and_then(|process| signal::send(process, signal)).map_err(|e| match e.kind() {
                ErrorKind::NotFound => not_running(),
                _ => e,
            });
        match sent {
            // It was killed with the others, or had ended before them.
            Err(e) if all && e.kind() == ErrorKind::WrongState => return Ok(()),
            other => other?,
        }
        if signal == Signal::KILL { self.record.cgroup.let_die() } else { Ok(()) }
    }

    /// Sends a signal to every process in the container's cgroup; it is not an error if there is none.
    ///
    /// # Errors
    /// `Os` when the cgroup can't be read.
    pub fn kill_all(&self, signal: Signal) -> Result<()> {
        self.record.cgroup.kill(signal)
    }

    /// Fails if the first process has left its cgroup, as it may do where it sees the host's: whatever is done to the cgroup would not be
    /// done to the container.
    fn must_be_in_cgroup(&self, record: &Record) -> Result<()> {
        if record.cgroup == Cgroup::None || record.cgroup.processes()?.contains(&record.pid) {
            return Ok(());
        }
        let why = format!(
            "the container's first process has left its cgroup {}",
            record.cgroup.freezer().unwrap_or_default().display()
        );
        Err(Error::new(ErrorKind::WrongState, why))
    }

    /// Pauses all processes of the container.
    ///
    /// # Errors
    /// `WrongState` unless the container is running or created.
    pub fn pause(&self) -> Result<()> {
        let (_lock, record) = self.locked()?;
        allowed(Operation::Pause, status(&record)?)?;
        self.must_be_in_cgroup(&record)?;
        record.cgroup.freeze()
    }

    /// Resumes all processes of the container.
    ///
    /// # Errors
    /// `WrongState` (`container not paused`) unless the container is paused.
    pub fn resume(&self) -> Result<()> {
        let (_lock, record) = self.locked()?;
        allowed(Operation::Resume, status(&record)?)?;
        record.cgroup.thaw()
    }

    /// Changes the container's limits; fields that are missing are unchanged. If one can't be set, those already set are reverted.
    ///
    /// # Errors
    /// `WrongState` when the container is stopped; `InvalidSpec`; `Os`.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<()> {
        let _lock = self.lock()?;
        allowed(Operation::Update, status(&self.record)?)?;
        self.must_be_in_cgroup(&self.record)?;
        let host = self.host.get()?;
        let old = self.record.resources.clone().unwrap_or_default();
        let merged = plan::cgroup::merge(&old, resources);
        let limits = plan::cgroup::limits(&merged, &host.cgroup)?;
        let before = self.record.cgroup.values(&limits)?;
        if let Err(e) = self.record.cgroup.apply(&limits) {
            self.record.cgroup.put_back(&before);
            if let Ok(before) = plan::cgroup::limits(&old, &host.cgroup) {
                let _ = self.record.cgroup.apply(&before);
            }
            return Err(e);
        }
        self.record.resources = Some(merged);
        self.dir.save(&self.record)
    }

    /// Saves the container's processes to a directory, from which [`Runtime::restore`](crate::Runtime::restore) restores them, on this or
    /// another host. The processes are then killed, which leaves a stopped container, unless `leave_running` or `pre_dump` is set.
    ///
    /// Needs CRIU (`criu` in the caller's PATH, 3.17 or newer) and root on the host.
    ///
    /// # Errors
    /// `WrongState` unless the container is running or paused; `NotFound` without CRIU; `Permission` if the caller isn't the host's root;
    /// `Unsupported` for what CRIU can't save; `Os` with the errors that CRIU has logged. The container then continues as before.
    pub fn checkpoint(&self, options: CheckpointOptions) -> Result<()> {
        let (_lock, record) = self.locked()?;
        allowed(Operation::Checkpoint, status(&record)?)?;
        crate::checkpoint::dump::dump(&record, self.process()?, options)
    }

    /// The pids of all processes of the container, in the caller's pid namespace.
    ///
    /// # Errors
    /// `Os` when the cgroup can't be read. `WrongState` when its first process has left the cgroup, and has no pid namespace of its own,
    /// which would tell its processes from others.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut pids = self.record.cgroup.processes()?;
        if pids.contains(&self.record.pid) || self.alive()?.is_none() {
            return Ok(pids);
        }
        // Without a cgroup (rootless), or after it was left, its pid namespace distinguishes them.
        if self.record.cgroup != Cgroup::None && !self.record.has_own_pids() {
            self.must_be_in_cgroup(&self.record)?;
        }
        pids.extend(state::alive::in_pid_namespace_of(self.record.pid)?);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The container's resource usage; all zero without a cgroup (rootless).
    ///
    /// # Errors
    /// `NotFound` when the cgroup no longer exists, `Os` when it can't be read.
    pub fn stats(&self) -> Result<Stats> {
        self.record.cgroup.stats()
    }

    /// The paths of the container's cgroup.
    pub fn cgroup(&self) -> CgroupPaths {
        self.record.cgroup.paths()
    }

    /// Watches for processes that the kernel kills because of the container's memory limit; `None` where its memory isn't accounted. Earlier kills
    /// are in [`Stats::oom_kills`].
    ///
    /// # Errors
    /// `NotFound` when the cgroup no longer exists, `Os` when it can't be opened.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        self.record.cgroup.watch_oom()
    }

    /// Deletes the container: its processes, cgroups and state. Returns the exit status of its first process if it is known: if that was a
    /// child of the caller, or if the kernel keeps it (see [`Container::wait`]). Children of the caller in the container are reaped.
    ///
    /// Parts that no longer exist are not an error: after a failure, call this again, with the handle that the error contains or with
    /// another. While a process doesn't exit (for ten seconds) or keeps a cgroup busy (EBUSY), the state is kept for that second call, and
    /// poststop hooks are not run.
    ///
    /// # Errors
    /// `WrongState` when the container is running and `how` isn't `Force`; otherwise all failures of the removal, together.
    pub fn delete(mut self, how: Delete) -> Result<Option<ExitStatus>, DeleteError> {
        self.remove(how).map_err(|error| DeleteError { error, container: Box::new(self) })
    }

    fn remove(&mut self, how: Delete) -> Result<Option<ExitStatus>> {
        let lock = match how {
            Delete::Stopped => self.lock()?,
            Delete::Force => match self.lock_by_force()? {
                Some(lock) => lock,
                None => return Ok(None),
            },
        };
        if how == Delete::Stopped && self.pidfd().is_some() {
            allowed(Operation::Delete, status(&self.record)?)?;
        }
        let mut errors = Vec::new();
        let mut note = |result: Result<()>| errors.extend(result.err());
        fault::point();
        if let Some(process) = self.pidfd() {
            let _ = pidfd::send_signal(process, libc::SIGKILL);
        }
        fault::point();
        // Without a pid namespace of its own, or with a frozen cgroup, the signal alone doesn't end all its processes. If a create died
        // before it had a process, its cgroup may belong to another container: nothing is killed there, and only an empty one is
        // removed. Without a cgroup (rootless) the pid namespace ends the others with the first process.
        if self.record.pid != 0 && self.record.cgroup != Cgroup::None && !self.record.cgroup.remove_empty() {
            note(self.record.cgroup.kill(Signal::KILL));
        }
        let ended = self.must_end();
        // Reaps those that are children of the caller; others are reaped by their parents.
        self.started.reap();
        let exit = if ended.is_ok() { self.try_wait().ok().flatten() } else { None };
        let alive = ended.is_err();
        note(ended);
        fault::point();
        let removed = self.record.cgroup.remove();
        let held = alive || matches!(&removed, Err(e) if e.errno() == Some(libc::EBUSY));
        note(removed);
        fault::point();
        if held {
            // By a process that hasn't ended yet. Another call can finish this one as long as the state exists.
            return Error::join(errors).map_or(Ok(exit), Err);
        }
        note(self.dir.remove());
        fault::point();
        drop(lock);
        let stopped = self.record.hook_state(Status::Stopped, 0);
        // A failed hook is reported, and the others are run (runtime-spec, "Lifecycle" 13).
        let poststop = self.record.hooks.as_ref().and_then(|hooks| hooks.poststop().as_deref());
        let place = Place::Host { bundle: &self.record.bundle, process: None };
        note(hooks::run_all("poststop", poststop, &stopped, &place));
        Error::join(errors).map_or(Ok(exit), Err)
    }
}

/// The value that is kept in `place`, made on the first call.
fn kept<T>(place: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match place.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(place.get_or_init(|| value))
        }
    }
}

pub(crate) fn has_hooks(hooks: Option<&Hooks>, which: fn(&Hooks) -> &Option<Vec<Hook>>) -> bool {
    hooks.is_some_and(|h| which(h).as_ref().is_some_and(|list| !list.is_empty()))
}
