//! Carries out a plan: the parent's straight line around one clone3, and the frames that come back.
//!
//! It knows plans and cgroups, not the specification and not the state directory. Whatever fails, the child is killed and reaped
//! before the error goes up.

mod child;
mod copy_up;
mod fds;
mod frame;
pub(crate) mod hooks;
mod idmap;
pub(crate) mod settings;

use crate::cgroup::{Cgroup, Dir, SubPaths};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fault;
use crate::plan::step::{Gate, Slot, Source, Step};
use crate::plan::{Open, ParentSettings, ProcessPlan};
use crate::process::Stdio;
use crate::signal;
use crate::sys::pidfd::{self, Child};
use crate::sys::{self, Errno, clone, sock};
use fds::FdTable;
use frame::{Call, Frame};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long a child may take from a sibling's failure to its own end, in milliseconds.
const FORK_PATIENCE: i32 = 10_000;

/// What is launched.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) plan: ProcessPlan,
    pub(crate) stdio: Stdio,
    pub(crate) cgroup: &'a Cgroup,
    /// The same, open, on v2.
    pub(crate) cgroup_dir: Option<&'a Dir>,
    /// Sub-cgroups to join instead of the cgroup itself (exec).
    pub(crate) sub_cgroups: SubPaths,
    /// The socket that `start` will connect to.
    pub(crate) start: Option<OwnedFd>,
    /// The process whose namespaces are joined.
    pub(crate) target: Option<BorrowedFd<'a>>,
    /// Descriptors above 2 for the first free slots.
    pub(crate) handed: Vec<OwnedFd>,
    /// Return as soon as the process exists, if it needs nothing from its parent before its last gate.
    pub(crate) return_early: bool,
}

impl<'a> Job<'a> {
    /// A process with these streams in this cgroup, and nothing else.
    pub(crate) fn new(plan: ProcessPlan, stdio: Stdio, cgroup: &'a Cgroup) -> Self {
        Job {
            plan,
            stdio,
            cgroup,
            cgroup_dir: None,
            sub_cgroups: SubPaths::default(),
            start: None,
            target: None,
            handed: Vec::new(),
            return_early: false,
        }
    }

    /// All of it is one clone, before which nothing is opened and after which the parent has nothing to do.
    pub(crate) fn is_unattended(&self) -> bool {
        needs_no_parent(&self.plan) && self.plan.opens.is_empty() && self.sub_cgroups.is_empty()
    }
}

/// A child between clone and exec. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Launched {
    plan: ProcessPlan,
    pid: i32,
    pidfd: Option<Child>,
    sync: OwnedFd,
    terminal: Option<OwnedFd>,
    /// This child will go on in a sibling of itself, whose pid it has yet to tell.
    forking: bool,
    /// The child was not led to its last gate: it may still be on its way.
    unled: bool,
    /// It has the word to pass its last gate.
    released: bool,
    /// The descriptors of the launch that the parent needs too: user namespaces of mounts inside the root.
    fds: FdTable,
}

/// What the parent does while the child waits at the gate `Hooks`, and with a seccomp listener.
pub(crate) trait Watch {
    /// The process is there; it can not run its program before its last gate.
    fn cloned(&mut self) -> Result<()> {
        Ok(())
    }
    /// The root is assembled and the old root still there.
    fn hooks(&mut self, pid: i32, process: BorrowedFd<'_>) -> Result<()>;
    /// The filter is installed; the listener must reach its agent before the child goes on.
    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()>;
}

/// Clones the child and leads it to its last gate, or to its exec when its plan has no such gate.
pub(crate) fn launch(job: Job<'_>, watch: &mut dyn Watch) -> Result<Launched> {
    let mut plan = job.plan;
    let mut fds = FdTable::new(plan.slots);
    prepare(&plan, job.target, &mut fds)?;
    let (parent_end, child_end) = sock::pair().context("socketpair")?;
    let mut place = |slot, fd| fds.set_above_stdio(slot, fd).context("fcntl(F_DUPFD_CLOEXEC)");
    place(Slot::SYNC, child_end)?;
    if let Some(start) = job.start {
        place(Slot::START, start)?;
    }
    for (number, fd) in (Slot::FIRST_FREE..).zip(job.handed) {
        place(Slot(number), fd)?;
    }
    place(Slot::CREATOR, pidfd::open(std::process::id().cast_signed()).context("pidfd_open")?)?;
    if let Some(target) = job.target {
        place(Slot::TARGET, target.try_clone_to_owned().context("fcntl(F_DUPFD_CLOEXEC)")?)?;
    }
    let stdio = streams(job.stdio)?;
    let sub = !job.sub_cgroups.is_empty();
    let below = if plan.clone_into_cgroup && sub { job.cgroup.clone_fd_sub(&job.sub_cgroups)? } else { None };
    let into = match (plan.clone_into_cgroup, &below) {
        (false, _) => None,
        (true, Some(below)) => Some(below.as_fd()),
        (true, None) => job.cgroup_dir.map(Dir::fd),
    };
    let mut cloned = clone_child(&mut plan, &mut fds, &stdio, into, job.target);
    if let (Err(e), Some(target), false) = (&cloned, job.target, sub)
        && e.errno() == Some(libc::EBUSY)
    {
        // The container has moved its processes to a cgroup below its own: join them there.
        let beside = job.cgroup.clone_fd_of(target)?;
        cloned = clone_child(&mut plan, &mut fds, &stdio, beside.as_ref().map(|fd| fd.as_fd()), job.target);
    }
    let (pid, process) = cloned.map_err(|e| match e.errno() {
        // It hands out controllers, so that only cgroups below it may hold processes. In words that callers of runc match.
        Some(libc::EBUSY) if into.is_some() => e.wrap("adding pid of the new process to cgroups"),
        _ => e,
    })?;
    drop(stdio);
    // The child's end of the socket must have no other holder: its end is how the parent hears of the child's.
    fds.retain(|slot| plan.child.iter().any(|step| maps_inside(step, slot)));
    let forking = plan.child.iter().any(|s| matches!(s, Step::Fork { .. }));
    let unled = job.return_early && needs_no_parent(&plan);
    let mut child = Launched {
        plan,
        pid,
        pidfd: Some(process),
        sync: parent_end,
        terminal: None,
        fds,
        forking,
        unled,
        released: false,
    };
    fault::point();
    watch.cloned()?;
    if unled {
        return Ok(child);
    }
    let attach = |pid: i32| match (&into, sub) {
        (Some(_), _) => Ok(()),
        (None, _) => job.cgroup.attach_sub(pid, &job.sub_cgroups),
    };
    child.lead(&attach, watch)?;
    Ok(child)
}

/// The only word that the child waits for is the last one.
fn needs_no_parent(plan: &ProcessPlan) -> bool {
    let asks = |step: &Step| match step {
        Step::Wait(gate) => *gate != Gate::Start,
        Step::Fork { .. } | Step::Console { .. } => true,
        Step::Bind { source: Source::InsideMapped { .. }, .. } => true,
        Step::Seccomp { listener, .. } => *listener,
        _ => false,
    };
    !plan.child.iter().any(asks) && plan.parent == ParentSettings::default()
}

fn maps_inside(step: &Step, slot: Slot) -> bool {
    matches!(step, Step::Bind { source: Source::InsideMapped { userns, .. }, .. } if *userns == slot)
}

/// Opens what the plan wants opened.
fn prepare(plan: &ProcessPlan, target: Option<BorrowedFd<'_>>, fds: &mut FdTable) -> Result<()> {
    for open in &plan.opens {
        let (slot, fd) = match open {
            Open::Namespace { slot, path, flag, foreign } => {
                (*slot, settings::open_namespace(path, *flag, *foreign)?)
            }
            Open::TargetRoot => {
                let target =
                    target.ok_or_else(|| Error::new(ErrorKind::Os, "no process to take the root of"))?;
                (Slot::ROOT, settings::open_root_of(target)?)
            }
            Open::Tree { slot, path, recursive, idmap, idmap_recursive } => {
                let map = idmap.and_then(|slot| fds.get(slot));
                match idmap::open_tree(path, *recursive, map, *idmap_recursive)? {
                    Some(tree) => (*slot, tree),
                    None => continue,
                }
            }
            Open::Overlay { slot, overlay } => (*slot, overlay.mount()?),
            Open::UserNamespace { slot, maps } => (*slot, idmap::user_namespace(maps)?),
        };
        fds.set_above_stdio(slot, fd).context("fcntl(F_DUPFD_CLOEXEC)")?;
    }
    Ok(())
}

fn streams(stdio: Stdio) -> Result<[Option<OwnedFd>; 3]> {
    let Stdio::Fds { stdin, stdout, stderr } = stdio else { return Ok([None, None, None]) };
    let above = |fd: OwnedFd| sys::fs::dup_above(fd.as_fd(), 3).map(Some).context("fcntl(F_DUPFD_CLOEXEC)");
    Ok([above(stdin)?, above(stdout)?, above(stderr)?])
}

/// The one clone. Signals are blocked around it, so that no handler of the caller runs in the child.
fn clone_child(
    plan: &mut ProcessPlan,
    fds: &mut FdTable,
    stdio: &[Option<OwnedFd>; 3],
    cgroup: Option<BorrowedFd<'_>>,
    target: Option<BorrowedFd<'_>>,
) -> Result<(i32, Child)> {
    let flags = plan.clone_flags;
    let fault = fault::of_child();
    let pids = target.filter(|_| plan.clone_into_pids);
    let blocked = clone::BlockedSignals::new().context("pthread_sigmask")?;
    let (steps, exec) = (plan.child.as_slice(), &mut plan.exec);
    let run = move || {
        child::run(child::Child::new(steps, exec, fds, stdio, fault));
    };
    let spawn = || clone::spawn(flags, cgroup, run).map_err(|e| clone_error(e, flags));
    let parent = match pids {
        Some(target) => with_pids_of(target, spawn),
        None => spawn(),
    };
    drop(blocked);
    parent
}

/// Spawns while children of this thread, and of this thread only, are made in the pid namespace of `target`.
fn with_pids_of(
    target: BorrowedFd<'_>,
    spawn: impl FnOnce() -> Result<(i32, Child)>,
) -> Result<(i32, Child)> {
    const FILE: &CStr = c"/proc/thread-self/ns/pid_for_children";
    let pids = libc::CLONE_NEWPID as u64;
    let own = sys::fs::openat_following(sys::fs::CWD, FILE, libc::O_RDONLY)
        .with_context(|| format!("open {FILE:?}"))?;
    sys::process::join(target, pids).context("setns: the container's pid namespace")?;
    let spawned = spawn();
    let Err(e) = sys::process::setns(own.as_fd(), pids) else { return spawned };
    drop(spawned);
    let lost = "this thread can not come back from the container's pid namespace: what it starts from now on would be in there";
    Err(Error::os("setns", e.into()).wrap(lost))
}

fn clone_error(e: Errno, flags: u64) -> Error {
    let error = Error::os("clone3", e.into()).wrap("create the container's process");
    match e.0 {
        libc::ENOSPC | libc::EUSERS => error.hint("a limit in /proc/sys/user is reached, or namespaces are nested too deep"),
        libc::EAGAIN => error.hint("the cgroup's or the user's limit of processes is reached"),
        libc::EPERM if flags & libc::CLONE_NEWUSER as u64 != 0 => {
            error.hint("user namespaces are not allowed here: see kernel.unprivileged_userns_clone and apparmor_restrict_unprivileged_userns")
        }
        libc::EPERM => error.hint("namespaces need root, or a user namespace in linux.namespaces"),
        _ => error,
    }
}

impl Launched {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Hangs up when the child's program runs or the child has ended.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.sync.as_fd()
    }

    /// Follows a child without a gate to its exec.
    pub(crate) fn follow(&mut self, watch: &mut dyn Watch) -> Result<()> {
        self.lead(&|_| Ok(()), watch)
    }

    pub(crate) fn process(&self) -> Result<BorrowedFd<'_>> {
        self.pidfd
            .as_ref()
            .map(|fd| fd.as_fd())
            .ok_or_else(|| Error::new(ErrorKind::Os, "the process is gone"))
    }

    /// Serves the child up to its last gate.
    fn lead(&mut self, attach: &dyn Fn(i32) -> Result<()>, watch: &mut dyn Watch) -> Result<()> {
        let mut settled = false;
        let mut waiting = None;
        loop {
            match self.next()? {
                Event::Gate(gate) => waiting = Some(gate),
                Event::Pid(pid) => self.adopt(pid)?,
                Event::Listener(number) => self.deliver(number, watch)?,
                Event::Executed => return Ok(()),
            }
            // A gate of the forked child may be heard before its pid.
            fault::point();
            match waiting.filter(|_| !self.forking) {
                Some(Gate::Mapped) => {
                    waiting = None;
                    settings::before_join(&self.plan.parent, self.pid)?;
                    attach(self.pid)?;
                    if let Some(maps) = &self.plan.joined_maps {
                        idmap::compare(self.pid, maps)?;
                    }
                    if let Some(maps) = &self.plan.maps {
                        idmap::write(self.pid, maps)?;
                    }
                    self.go_on()?;
                }
                Some(Gate::Settings) => {
                    waiting = None;
                    settings::apply(&self.plan.parent, self.pid)?;
                    settled = true;
                    self.go_on()?;
                }
                Some(Gate::Hooks) => {
                    waiting = None;
                    watch.hooks(self.pid, self.process()?)?;
                    self.go_on()?;
                }
                Some(Gate::Start) if self.released => waiting = None,
                Some(Gate::Start) if settled => return Ok(()),
                Some(Gate::Start) => return settings::apply(&self.plan.parent, self.pid),
                None => {}
            }
        }
    }

    /// Lets the child pass its last gate, and follows it to its exec.
    pub(crate) fn execute(&mut self, watch: &mut dyn Watch) -> Result<()> {
        match self.go_on() {
            // It has failed before its last gate; what it said of that is still to be read.
            Err(e) if self.unled && e.errno() == Some(libc::EPIPE) => {}
            other => other?,
        }
        self.released = true;
        if self.unled {
            // Nothing is to be answered on the way, so one wake-up at its end is enough.
            pidfd::hung_up(self.sync.as_fd(), -1).context("poll")?;
        }
        self.follow(watch)
    }

    /// The child is no longer ours to kill: pid, pidfd and terminal. One that waits to be started does so from here on by itself.
    pub(crate) fn release(mut self) -> Result<(i32, OwnedFd, Option<OwnedFd>)> {
        if self.gated() && !self.released {
            self.go_on()?;
        }
        let process = self.pidfd.take().ok_or_else(|| Error::new(ErrorKind::Os, "the process is gone"))?;
        Ok((self.pid, process.keep(), self.terminal.take()))
    }

    fn go_on(&self) -> Result<()> {
        sock::send(self.sync.as_fd(), b"g").context("write to the child")
    }

    fn deliver(&self, number: i32, watch: &mut dyn Watch) -> Result<()> {
        let listener = pidfd::getfd(self.process()?, number).context("pidfd_getfd: seccomp listener")?;
        watch.listener(self.pid, listener)?;
        self.go_on()
    }

    /// The first child has handed over to a sibling of itself and ended.
    fn adopt(&mut self, pid: i32) -> Result<()> {
        let process = Child::new(pidfd::open(pid).context("pidfd_open")?);
        if let Some(first) = self.pidfd.replace(process) {
            signal::wait_for(first)?;
        }
        self.pid = pid;
        self.forking = false;
        Ok(())
    }

    /// The plan ends at a gate that the program of another call opens.
    fn gated(&self) -> bool {
        self.plan.child.iter().any(|s| matches!(s, Step::Wait(Gate::Start)))
    }

    /// Waits for a message. A first child that was killed at its fork leaves a sibling which waits for ever, its end of the socket
    /// open.
    fn heed_fork(&self) -> Result<()> {
        let (word, ended) =
            pidfd::either_readable(self.sync.as_fd(), self.process()?).context("poll: the child")?;
        // What it has said, it has said before its end.
        if word || !ended || pidfd::readable(self.sync.as_fd(), 0).context("poll: the child")? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Os, "the process ended before its program was executed: at its fork"))
    }

    fn next(&mut self) -> Result<Event> {
        if self.forking {
            self.heed_fork()?;
        }
        let mut buffer = [0u8; Frame::SIZE];
        let (n, fd) = sock::receive(self.sync.as_fd(), &mut buffer).context("recvmsg from the child")?;
        if n == 0 {
            return self.ended();
        }
        match Frame::decode(buffer.get(..n).unwrap_or_default()) {
            Some(Frame::Gate(number)) => match Gate::from_number(number) {
                Some(gate) => Ok(Event::Gate(gate)),
                None => Err(Error::new(ErrorKind::Os, "the child waits at a gate that is not there")),
            },
            Some(Frame::Pid(pid)) => Ok(Event::Pid(pid)),
            Some(Frame::Listener(number)) => Ok(Event::Listener(number)),
            Some(Frame::Terminal) => {
                self.terminal = fd;
                self.next()
            }
            Some(Frame::MapIds { userns, recursive }) => {
                let userns = self.fds.get(Slot(userns));
                let (Some(tree), Some(userns)) = (fd, userns) else {
                    return Err(Error::new(ErrorKind::Os, "the child asks for an id map without a tree"));
                };
                idmap::map_ids(tree.as_fd(), recursive, userns)
                    .map_err(|e| e.wrap("map ids of a mount source inside the root"))?;
                self.go_on()?;
                self.next()
            }
            Some(Frame::Failed { step, call, errno, arg }) => {
                Err(explain(&self.plan, step, call, errno, arg))
            }
            None => Err(Error::new(ErrorKind::Os, "the child sent a frame that is none")),
        }
    }

    /// The socket is closed: the exec has happened, or the child has died.
    fn ended(&mut self) -> Result<Event> {
        let process = self.process()?;
        // A process that was killed may have run its program or not; its status tells that it was killed either way.
        if self.released || !self.gated() && !self.forking {
            return Ok(Event::Executed);
        }
        let status = signal::wait(process)?;
        self.pidfd = None;
        Err(Error::new(ErrorKind::Os, format!("the process ended before its program was executed: {status}")))
    }
}

impl Launched {
    /// A sibling's failure may be heard before its pid. The first child, which tells that, ends by itself.
    fn meet_sibling(&mut self) {
        let Ok(first) = self.process() else { return };
        if !matches!(signal::ends_within(first, FORK_PATIENCE), Ok(true)) {
            return;
        }
        let mut buffer = [0u8; Frame::SIZE];
        while self.forking && matches!(pidfd::readable(self.sync.as_fd(), 0), Ok(true)) {
            match sock::receive(self.sync.as_fd(), &mut buffer) {
                Ok((n @ 1.., _)) => {
                    if let Some(Frame::Pid(pid)) = Frame::decode(buffer.get(..n).unwrap_or_default()) {
                        let _ = self.adopt(pid);
                    }
                }
                _ => return,
            }
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.forking {
            self.meet_sibling();
        }
    }
}

enum Event {
    Gate(Gate),
    Pid(i32),
    Listener(i32),
    Executed,
}

/// Reads what the child of another process says after its last gate: nothing more when the exec has worked. The plan is gone by
/// then; what can still fail is the filter and the exec.
pub(crate) fn follow_start(
    sync: BorrowedFd<'_>,
    program: &str,
    mut listener: impl FnMut(i32) -> Result<()>,
) -> Result<()> {
    loop {
        let mut buffer = [0u8; Frame::SIZE];
        let (n, _) = sock::receive(sync, &mut buffer).context("recvmsg from the child")?;
        match Frame::decode(buffer.get(..n).unwrap_or_default()) {
            None if n == 0 => return Ok(()),
            Some(Frame::Listener(number)) => {
                listener(number)?;
                sock::send(sync, b"g").context("write to the child")?;
            }
            Some(Frame::Failed { call: Call::Exec, errno, .. }) => return Err(Error::exec(program, errno)),
            Some(Frame::Failed { call, errno, .. }) => {
                return Err(Error::os(call.name(), Errno(errno).into()).wrap("prepare the process"));
            }
            _ => return Err(Error::new(ErrorKind::Os, "the child sent a frame that is none")),
        }
    }
}

/// A child's frame in words. The texts for programs that are missing are those that callers of runc match.
fn explain(plan: &ProcessPlan, number: u32, call: Call, errno: i32, arg: i32) -> Error {
    let Some(step) = plan.child.get(number as usize) else {
        return Error::os(call.name(), Errno(errno).into()).wrap("prepare the process");
    };
    let name = plan.exec.argv.strings().first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    match (step, call) {
        (Step::FindProgram, Call::Find) => Error::find_program(&name, errno),
        (Step::Exec, Call::Exec) => Error::exec(&name, errno),
        _ => {
            let what = crate::plan::describe::failure(step, call.name(), arg);
            let error =
                Error::os(call.name(), Errno(errno).into()).wrap(format!("{what} (step {})", number + 1));
            let error = error.wrap("error during container init");
            match crate::plan::describe::hint(step, errno) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
    }
}
