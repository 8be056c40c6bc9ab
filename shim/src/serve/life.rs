//! The life of a container's processes, and the order in which it is reported. Pure: events in, acts out.
//!
//! containerd relies on the order. A start is reported before the exit, although the process may end before `Start` is answered; the exit
//! of a container's first process is reported last, after those of all its execs. This module does not know descriptors, connections or
//! messages.

use super::slots::Key;
use crate::wire::code::{Code, Failure};
use std::time::SystemTime;

/// The phase of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A worker is making the container.
    Making,
    /// It waits for `Start`, or is an exec that is only registered.
    Made,
    /// A worker is starting it.
    Starting,
    /// Its program runs.
    Running,
    /// It has ended and that was reported.
    Stopped,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its code, or 128 plus its signal.
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

/// An action. They are done in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Report that it has started.
    ReportStart(Key),
    /// Report its exit, and answer the callers of Wait.
    ReportExit(Key),
    /// Kill the other processes: the first one has ended, and there is no pid namespace that ends with it.
    KillRest,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    key: Key,
    phase: Phase,
    exit: Option<Exit>,
}

/// The processes of one container.
#[derive(Debug)]
pub(crate) struct Lives {
    init: Life,
    execs: Vec<Life>,
    /// The first process is the first of a pid namespace, so that its end ends all others.
    owns_pids: bool,
}

impl Lives {
    pub(crate) fn new(init: Key) -> Self {
        let init = Life { key: init, phase: Phase::Making, exit: None };
        Lives { init, execs: Vec::new(), owns_pids: false }
    }

    fn life(&self, key: Key) -> Option<&Life> {
        if self.init.key == key {
            return Some(&self.init);
        }
        self.execs.iter().find(|life| life.key == key)
    }

    fn life_mut(&mut self, key: Key) -> Option<&mut Life> {
        if self.init.key == key {
            return Some(&mut self.init);
        }
        self.execs.iter_mut().find(|life| life.key == key)
    }

    pub(crate) fn phase(&self, key: Key) -> Phase {
        self.life(key).map_or(Phase::Stopped, |life| life.phase)
    }

    /// The exit of a process, once it was reported.
    pub(crate) fn exit(&self, key: Key) -> Option<Exit> {
        self.life(key).filter(|life| life.phase == Phase::Stopped)?.exit
    }

    /// Whether the first process has ended, reported or not.
    pub(crate) fn init_is_gone(&self) -> bool {
        self.init.exit.is_some()
    }

    /// The container is made.
    pub(crate) fn made(&mut self, owns_pids: bool) {
        self.owns_pids = owns_pids;
        self.init.phase = Phase::Made;
    }

    /// An exec is registered.
    pub(crate) fn add_exec(&mut self, key: Key) {
        self.execs.push(Life { key, phase: Phase::Made, exit: None });
    }

    pub(crate) fn remove_exec(&mut self, key: Key) {
        self.execs.retain(|life| life.key != key);
    }

    /// `Start` was called.
    pub(crate) fn starting(&mut self, key: Key) -> Result<(), Failure> {
        if key != self.init.key {
            let refusal = match self.init.phase {
                _ if self.init.exit.is_some() => Some("container's init process is not running"),
                Phase::Making | Phase::Made => Some("container is not started"),
                _ => None,
            };
            if let Some(why) = refusal {
                return Err(Failure::failed_precondition(format!("start exec: {why}")));
            }
        }
        let life = self.life_mut(key).ok_or_else(|| Failure::not_found("process does not exist"))?;
        let refusal = match life.phase {
            Phase::Made if life.exit.is_none() => {
                life.phase = Phase::Starting;
                return Ok(());
            }
            Phase::Making => "a container that is being created",
            Phase::Starting => "a process that is being started",
            Phase::Running => "a running process",
            Phase::Made | Phase::Stopped => "a stopped process",
        };
        Err(Failure::new(Code::FailedPrecondition, format!("cannot start {refusal}")))
    }

    /// `Start` has finished.
    pub(crate) fn started(&mut self, key: Key, well: bool) -> Vec<Act> {
        let mut acts = Vec::new();
        if let Some(life) = self.life_mut(key) {
            life.phase = if well { Phase::Running } else { Phase::Made };
            if well {
                acts.push(Act::ReportStart(key));
            }
        }
        self.report_exits(key, &mut acts);
        acts
    }

    /// A process has ended.
    pub(crate) fn exited(&mut self, key: Key, exit: Exit) -> Vec<Act> {
        let mut acts = Vec::new();
        if let Some(life) = self.life_mut(key) {
            life.exit.get_or_insert(exit);
        }
        if key == self.init.key && !self.owns_pids {
            acts.push(Act::KillRest);
        }
        self.report_exits(key, &mut acts);
        acts
    }

    /// Reports the exits that may be reported after a change of `key`.
    fn report_exits(&mut self, key: Key, acts: &mut Vec<Act>) {
        if key != self.init.key
            && let Some(life) = self.life_mut(key)
        {
            report_exit(life, acts);
        }
        let busy = |life: &Life| matches!(life.phase, Phase::Starting | Phase::Running);
        if !self.execs.iter().any(busy) {
            report_exit(&mut self.init, acts);
        }
    }
}

fn report_exit(life: &mut Life, acts: &mut Vec<Act>) {
    if life.exit.is_some() && matches!(life.phase, Phase::Made | Phase::Running) {
        life.phase = Phase::Stopped;
        acts.push(Act::ReportExit(life.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    const INIT: Key = 1;

    fn exit(status: u32) -> Exit {
        Exit { status, at: UNIX_EPOCH }
    }

    fn running(owns_pids: bool) -> Lives {
        let mut lives = Lives::new(INIT);
        lives.made(owns_pids);
        lives.starting(INIT).unwrap();
        assert_eq!(lives.started(INIT, true), [Act::ReportStart(INIT)]);
        lives
    }

    fn with_exec(owns_pids: bool, key: Key) -> Lives {
        let mut lives = running(owns_pids);
        lives.add_exec(key);
        lives.starting(key).unwrap();
        assert_eq!(lives.started(key, true), [Act::ReportStart(key)]);
        lives
    }

    #[test]
    fn the_start_is_reported_before_the_exit_of_a_process_that_ended_first() {
        let mut lives = Lives::new(INIT);
        lives.made(true);
        lives.starting(INIT).unwrap();
        assert_eq!(lives.exited(INIT, exit(7)), []);
        assert_eq!(lives.phase(INIT), Phase::Starting);
        assert_eq!(lives.started(INIT, true), [Act::ReportStart(INIT), Act::ReportExit(INIT)]);
        assert_eq!(lives.exit(INIT), Some(exit(7)));
    }

    #[test]
    fn a_start_that_failed_is_not_reported_but_the_exit_is() {
        let mut lives = Lives::new(INIT);
        lives.made(true);
        lives.starting(INIT).unwrap();
        assert_eq!(lives.started(INIT, false), []);
        assert_eq!(lives.exited(INIT, exit(1)), [Act::ReportExit(INIT)]);
        let mut lives = Lives::new(INIT);
        lives.made(true);
        lives.starting(INIT).unwrap();
        assert_eq!(lives.exited(INIT, exit(1)), []);
        assert_eq!(lives.started(INIT, false), [Act::ReportExit(INIT)]);
    }

    #[test]
    fn the_first_process_is_reported_last() {
        let mut lives = with_exec(true, 2);
        assert_eq!(lives.exited(INIT, exit(137)), []);
        assert_eq!(lives.exit(INIT), None);
        assert!(lives.init_is_gone());
        assert_eq!(lives.exited(2, exit(137)), [Act::ReportExit(2), Act::ReportExit(INIT)]);
    }

    #[test]
    fn an_exec_that_is_being_started_delays_the_exit_even_if_it_fails() {
        let mut lives = running(true);
        lives.add_exec(2);
        lives.starting(2).unwrap();
        assert_eq!(lives.exited(INIT, exit(0)), []);
        assert_eq!(lives.started(2, false), [Act::ReportExit(INIT)]);
        assert_eq!(lives.phase(2), Phase::Made);
    }

    #[test]
    fn an_exec_that_is_only_registered_delays_nothing() {
        let mut lives = running(true);
        lives.add_exec(2);
        assert_eq!(lives.exited(INIT, exit(0)), [Act::ReportExit(INIT)]);
        assert!(lives.starting(2).is_err());
    }

    #[test]
    fn without_a_pid_namespace_the_rest_is_killed() {
        let mut lives = with_exec(false, 2);
        assert_eq!(lives.exited(INIT, exit(0)), [Act::KillRest]);
        assert_eq!(lives.exited(2, exit(137)), [Act::ReportExit(2), Act::ReportExit(INIT)]);
        let mut lives = with_exec(false, 2);
        assert_eq!(lives.exited(2, exit(3)), [Act::ReportExit(2)]);
    }

    #[test]
    fn a_process_starts_once_and_in_order() {
        let mut lives = Lives::new(INIT);
        lives.add_exec(2);
        assert!(lives.starting(INIT).is_err(), "while it is being made");
        lives.made(true);
        assert!(lives.starting(2).is_err(), "before the container is started");
        lives.starting(INIT).unwrap();
        assert!(lives.starting(INIT).is_err(), "twice");
        lives.started(INIT, true);
        assert!(lives.starting(INIT).is_err(), "a running one");
        assert_eq!(lives.starting(3).unwrap_err().code, Code::NotFound);
        lives.exited(INIT, exit(0));
        assert!(lives.starting(INIT).is_err(), "a stopped one");
    }

    #[test]
    fn an_exit_is_reported_once() {
        let mut lives = running(true);
        assert_eq!(lives.exited(INIT, exit(5)), [Act::ReportExit(INIT)]);
        assert_eq!(lives.exited(INIT, exit(6)), []);
        assert_eq!(lives.exit(INIT), Some(exit(5)));
    }

    #[test]
    fn a_process_killed_before_its_start_is_reported_too() {
        let mut lives = Lives::new(INIT);
        lives.made(true);
        assert_eq!(lives.exited(INIT, exit(137)), [Act::ReportExit(INIT)]);
        assert_eq!(lives.starting(INIT).unwrap_err().code, Code::FailedPrecondition);
    }
}
