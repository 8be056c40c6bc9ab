//! The parent's side of a launch: reads the child's messages and answers them, from the clone to the exec.
//!
//! Whatever fails, the child is killed and reaped before the error is returned.

use super::fds::FdTable;
use super::frame::{Call, Frame};
use super::phase::{Action, Event, Phase, Request};
use super::spawn::Spawned;
use super::{Watch, failure, idmap, settings};
use crate::cgroup::{Cgroup, SubPaths};
use crate::error::{Context, Error, Internal, Result};
use crate::fault;
use crate::plan::ProcessPlan;
use crate::plan::step::{Gate, Slot, Step};
use crate::signal;
use crate::state::alive;
use crate::sys::pidfd::{self, Child};
use crate::sys::sock;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long to wait for the child's end of the socket to close before the next look at the child itself, in milliseconds, at first and at
/// most.
const SLICES: (i32, i32) = (10, 100);

/// How long a first child may take from its sibling's failure to its own end, in milliseconds.
const FORK_TIMEOUT: i32 = 10_000;

/// A child between clone and exec. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Launched {
    plan: ProcessPlan,
    pid: i32,
    process: Child,
    sync: OwnedFd,
    terminal: Option<OwnedFd>,
    phase: Phase,
    /// The descriptors of the launch that the parent needs too: user namespaces of mounts inside the root.
    fds: FdTable,
}

/// The cgroup that the clone has not put the child into.
#[derive(Clone, Copy)]
pub(super) struct Join<'a> {
    pub(super) cgroup: &'a Cgroup,
    pub(super) below: &'a SubPaths,
    /// The container's first process, for one that is there already.
    pub(super) init: Option<BorrowedFd<'a>>,
}

impl Launched {
    pub(super) fn new(plan: ProcessPlan, spawned: Spawned, fds: FdTable) -> Self {
        let Spawned { pid, process, sync } = spawned;
        let forks = plan.child.iter().any(|step| matches!(step, Step::Fork { .. }));
        let phase = Phase::first(forks, waits_at(&plan, Gate::Start));
        Launched { plan, pid, process, sync, terminal: None, phase, fds }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    pub(crate) fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Hangs up when the child's program runs or the child has ended.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.sync.as_fd()
    }

    /// Serves the child up to its last gate, or to its exec if it has none.
    pub(super) fn serve(&mut self, join: Option<Join<'_>>, watch: &mut dyn Watch) -> Result<()> {
        loop {
            let event = self.receive()?;
            if event != Event::Closed {
                fault::point();
            }
            let action = self.advance(event)?;
            if let Event::Pid(pid) = event {
                self.adopt(pid)?;
            }
            match action {
                Action::Read => {}
                Action::Answer(request) => self.answer(request, join, watch)?,
                Action::LetGo => self.let_go()?,
                Action::Stop if waits_at(&self.plan, Gate::Settings) => return Ok(()),
                Action::Stop => return settings::apply(&self.plan.parent, self.pid),
                Action::Executed => return Ok(()),
                Action::Died => return Err(Error::died(signal::peek(self.process())?)),
            }
        }
    }

    /// Serves a child that nothing keeps from its exec any more.
    pub(crate) fn follow(&mut self, watch: &mut dyn Watch) -> Result<()> {
        self.serve(None, watch)
    }

    /// Lets the child pass its last gate, and serves it up to its exec.
    pub(crate) fn execute(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let early = self.phase == Phase::Preparing;
        match self.release_gate() {
            // It has failed before its last gate; its report of that is still to be read.
            Err(e) if early && e.errno() == Some(libc::EPIPE) => {}
            other => other?,
        }
        if early {
            // It makes no requests on its way, so it is enough to wake up once, at the end.
            self.await_events(0)?;
        }
        self.follow(watch)
    }

    /// The pid, the pidfd and the terminal of the child, which is no longer killed. One that waits at its last gate passes it.
    pub(crate) fn release(mut self) -> Result<(i32, OwnedFd, Option<OwnedFd>)> {
        self.release_gate()?;
        Ok((self.pid, self.process.keep(), self.terminal))
    }

    fn release_gate(&mut self) -> Result<()> {
        match self.advance(Event::Release)? {
            Action::LetGo => self.let_go(),
            _ => Ok(()),
        }
    }

    fn advance(&mut self, event: Event) -> Result<Action> {
        let Some((phase, action)) = self.phase.next(event) else {
            return Err(malformed(format!("{event:?} while {:?}", self.phase)));
        };
        self.phase = phase;
        Ok(action)
    }

    fn answer(&mut self, request: Request, join: Option<Join<'_>>, watch: &mut dyn Watch) -> Result<()> {
        match request {
            Request::Gate(Gate::Mapped) => {
                settings::before_join(&self.plan.parent, self.pid)?;
                if let Some(Join { cgroup, below, init }) = join {
                    cgroup.attach_sub(self.pid, below, init)?;
                }
                if let Some(maps) = &self.plan.joined_maps {
                    idmap::compare(self.pid, maps)?;
                }
                if let Some(maps) = &self.plan.maps {
                    idmap::write(self.pid, maps)?;
                }
            }
            Request::Gate(Gate::Settings) => settings::apply(&self.plan.parent, self.pid)?,
            Request::Gate(Gate::Hooks) => watch.hooks(self.pid, self.process())?,
            Request::Gate(Gate::Start) => {}
            Request::Listener(number) => {
                let listener =
                    pidfd::getfd(self.process(), number).context("pidfd_getfd: seccomp listener")?;
                watch.listener(self.pid, listener)?;
            }
        }
        self.let_go()
    }

    fn let_go(&self) -> Result<()> {
        sock::send(self.sync.as_fd(), b"g").context("write to the child")
    }

    /// The child's next message that concerns the phase.
    fn receive(&mut self) -> Result<Event> {
        loop {
            if !self.await_message()? {
                return Ok(Event::Closed);
            }
            let mut buffer = [0u8; Frame::SIZE];
            let (n, fd) = sock::receive(self.sync.as_fd(), &mut buffer).context("recvmsg from the child")?;
            if n == 0 {
                return Ok(Event::Closed);
            }
            match Frame::decode(buffer.get(..n).unwrap_or_default()) {
                Some(Frame::Gate(number)) => {
                    let gate = Gate::from_number(number);
                    let gate = gate.ok_or_else(|| malformed(format!("gate {number}")))?;
                    return Ok(Event::Request(Request::Gate(gate)));
                }
                Some(Frame::Pid(pid)) => return Ok(Event::Pid(pid)),
                Some(Frame::Listener(number)) => return Ok(Event::Request(Request::Listener(number))),
                Some(Frame::Terminal) => self.terminal = fd,
                Some(Frame::MapIds { userns, recursive }) => self.map_ids(fd, Slot(userns), recursive)?,
                Some(Frame::Failed { step, call, errno, arg }) => {
                    return Err(failure::of_step(&self.plan, step, call, errno, arg));
                }
                None => return Err(malformed(format!("{n} bytes"))),
            }
        }
    }

    /// Waits for a message or the end of the socket; false if neither will come.
    fn await_message(&self) -> Result<bool> {
        if self.await_events(libc::POLLIN)?
            || pidfd::readable(self.sync.as_fd(), 0).context("poll: the child")?
        {
            return Ok(true);
        }
        // A first child that was killed while it forked leaves a sibling that waits forever.
        if matches!(self.phase, Phase::Forking { .. }) {
            Err(Error::died("while forking"))
        } else {
            Ok(false)
        }
    }

    /// Waits until the socket has one of these events or hangs up. False when the child has ended or executed its program without that:
    /// it has sent all that it will, and its end of the socket is open in another process. A thread of the caller that forks at the
    /// moment of the clone gives its child a copy, until that executes a program or ends.
    fn await_events(&self, events: i16) -> Result<bool> {
        let mut slice = SLICES.0;
        loop {
            let timeout = if self.phase == Phase::Released { slice } else { -1 };
            let ready = pidfd::first_of((self.sync.as_fd(), events), self.process(), timeout);
            match ready.context("poll: the child")? {
                (true, _) => return Ok(true),
                (false, true) => return Ok(false),
                (false, false) if alive::has_executed(self.pid) => return Ok(false),
                (false, false) => slice = (slice * 2).min(SLICES.1),
            }
        }
    }

    /// Whether the child's program runs, or never will.
    pub(crate) fn is_decided(&self) -> Result<bool> {
        Ok(!self.is_silent()? || alive::has_executed(self.pid))
    }

    /// Whether the child's program runs, although its end of the socket is open, in another process. Nothing more is sent then.
    pub(crate) fn has_executed_silently(&self) -> Result<bool> {
        Ok(self.is_silent()? && alive::has_executed(self.pid))
    }

    /// Whether nothing is known: the socket has not hung up, and the child has not ended.
    fn is_silent(&self) -> Result<bool> {
        let ready = pidfd::first_of((self.sync.as_fd(), 0), self.process(), 0).context("poll: the child")?;
        Ok(ready == (false, false))
    }

    /// The first child has ended, and its sibling takes its place.
    fn adopt(&mut self, pid: i32) -> Result<()> {
        let sibling = Child::new(pidfd::open(pid).context("pidfd_open")?);
        let first = std::mem::replace(&mut self.process, sibling);
        self.pid = pid;
        signal::wait_for(first).map(drop)
    }

    /// After a failure: looks for a sibling whose pid has not been read yet, so that it is killed too. The first child, which sends
    /// the pid, ends by itself.
    pub(super) fn find_sibling(&mut self) {
        if !matches!(self.phase, Phase::Forking { .. })
            || !matches!(signal::ends_within(self.process(), FORK_TIMEOUT), Ok(true))
        {
            return;
        }
        let mut buffer = [0u8; Frame::SIZE];
        while matches!(pidfd::readable(self.sync.as_fd(), 0), Ok(true)) {
            let Ok((n @ 1.., _)) = sock::receive(self.sync.as_fd(), &mut buffer) else { return };
            if let Some(Frame::Pid(pid)) = Frame::decode(buffer.get(..n).unwrap_or_default()) {
                let _ = self.adopt(pid);
                return;
            }
        }
    }

    /// Maps the ids of a mount source inside the root, which takes the parent's rights.
    fn map_ids(&self, tree: Option<OwnedFd>, userns: Slot, recursive: bool) -> Result<()> {
        let (Some(tree), Some(userns)) = (tree, self.fds.get(userns)) else {
            return Err(malformed("an id map without a tree or a user namespace"));
        };
        idmap::map_ids(tree.as_fd(), recursive, userns)
            .map_err(|e| e.wrap("map ids of a mount source inside the root"))?;
        self.let_go()
    }
}

fn waits_at(plan: &ProcessPlan, gate: Gate) -> bool {
    plan.child.iter().any(|step| matches!(step, Step::Wait(at) if *at == gate))
}

fn malformed(what: impl std::fmt::Display) -> Error {
    Internal::ChildMessage(what.to_string()).into()
}

/// Reads what the child of another process sends after its last gate: nothing more if the exec has worked. Its plan isn't known here;
/// what can still fail is the filter and the exec.
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
            Some(Frame::Failed { call: Call::Exec, errno, .. }) => {
                return Err(Error::exec(program, errno));
            }
            Some(Frame::Failed { call, errno, .. }) => return Err(failure::of_call(call, errno)),
            other => return Err(malformed(format!("{other:?}"))),
        }
    }
}
