//! How far a launch is: what the parent knows of the child, and what it has to do next.
//!
//! Pure, so that a table can test it: `parent` reads the child's messages, asks here, and carries the answer out.

use crate::plan::step::Gate;

/// What the parent knows of the child. It doesn't depend on how the child was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The child will continue in a sibling of itself, whose pid it has yet to send. A request of the sibling that arrives before the
    /// pid is kept until then, since it is answered by pid.
    Forking { gated: bool, kept: Option<Request> },
    /// On its way to its last gate.
    Preparing,
    /// At its last gate.
    Waiting,
    /// It may execute its program: it was let through its last gate, or never had one.
    Released,
}

/// What the child waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Gate(Gate),
    /// The parent must take this descriptor of the child's: the listener of its filter.
    Listener(i32),
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Request(Request),
    /// The sibling has this pid.
    Pid(i32),
    /// The child's end of the socket is closed: its program runs, or it has ended.
    Closed,
    /// The caller wants the child to execute its program.
    Release,
}

/// What the parent does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: it waits for the next message.
    Read,
    /// It does what the child waits for, lets it continue, and waits for the next message.
    Answer(Request),
    /// It lets the child continue.
    LetGo,
    /// It returns to its caller, for the child is at its last gate.
    Stop,
    /// It returns to its caller, for the program runs.
    Executed,
    /// It reports how the child has ended.
    Died,
}

impl Phase {
    /// `forks`: the child will continue in a sibling. `gated`: it has a last gate, at which it waits for another call.
    pub(super) fn first(forks: bool, gated: bool) -> Phase {
        match (forks, gated) {
            (true, gated) => Phase::Forking { gated, kept: None },
            (false, true) => Phase::Preparing,
            (false, false) => Phase::Released,
        }
    }

    /// The next phase, and what to do; `None` for an event that can't happen in this phase.
    pub(super) fn next(self, event: Event) -> Option<(Phase, Action)> {
        use Action::{Answer, Died, Executed, LetGo, Read, Stop};
        use Phase::{Forking, Preparing, Released, Waiting};
        const START: Request = Request::Gate(Gate::Start);
        Some(match (self, event) {
            (Forking { gated, kept: None }, Event::Request(request)) => {
                (Forking { gated, kept: Some(request) }, Read)
            }
            (Forking { gated, kept }, Event::Pid(_)) => {
                let phase = Phase::first(false, gated);
                return kept.map_or(Some((phase, Read)), |request| phase.next(Event::Request(request)));
            }
            (Preparing, Event::Request(START)) => (Waiting, Stop),
            // Released before it was there.
            (Released, Event::Request(START)) => (Released, Read),
            (Preparing | Released, Event::Request(request)) => (self, Answer(request)),
            (Preparing | Waiting, Event::Release) => (Released, LetGo),
            (Released, Event::Release) => (Released, Read),
            // One that was killed may have executed its program or not: its exit status tells that it was killed either way.
            (Released, Event::Closed) => (Released, Executed),
            (Forking { .. } | Preparing | Waiting, Event::Closed) => (self, Died),
            (Forking { .. } | Waiting, Event::Request(_))
            | (Forking { .. }, Event::Release)
            | (Preparing | Waiting | Released, Event::Pid(_)) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPED: Request = Request::Gate(Gate::Mapped);
    const SETTINGS: Request = Request::Gate(Gate::Settings);
    const START: Request = Request::Gate(Gate::Start);
    const LISTENER: Request = Request::Listener(7);

    const fn forking(gated: bool, kept: Option<Request>) -> Phase {
        Phase::Forking { gated, kept }
    }

    #[test]
    fn each_event_has_its_answer_in_each_phase() {
        use Action::{Answer, Died, Executed, LetGo, Read, Stop};
        use Event::{Closed, Pid, Release};
        use Phase::{Preparing, Released, Waiting};
        let asks = Event::Request;
        let early = forking(true, Some(MAPPED));
        for (phase, event, next) in [
            (forking(true, None), asks(MAPPED), Some((early, Read))),
            (forking(false, None), asks(LISTENER), Some((forking(false, Some(LISTENER)), Read))),
            (forking(true, None), Pid(9), Some((Preparing, Read))),
            (forking(false, None), Pid(9), Some((Released, Read))),
            (forking(true, None), Closed, Some((forking(true, None), Died))),
            (forking(false, None), Closed, Some((forking(false, None), Died))),
            (forking(true, None), Release, None),
            (early, asks(SETTINGS), None),
            (early, Pid(9), Some((Preparing, Answer(MAPPED)))),
            (forking(true, Some(START)), Pid(9), Some((Waiting, Stop))),
            (forking(false, Some(LISTENER)), Pid(9), Some((Released, Answer(LISTENER)))),
            (early, Closed, Some((early, Died))),
            (Preparing, asks(MAPPED), Some((Preparing, Answer(MAPPED)))),
            (Preparing, asks(LISTENER), Some((Preparing, Answer(LISTENER)))),
            (Preparing, asks(START), Some((Waiting, Stop))),
            (Preparing, Pid(9), None),
            (Preparing, Closed, Some((Preparing, Died))),
            (Preparing, Release, Some((Released, LetGo))),
            (Waiting, asks(MAPPED), None),
            (Waiting, asks(START), None),
            (Waiting, Pid(9), None),
            (Waiting, Closed, Some((Waiting, Died))),
            (Waiting, Release, Some((Released, LetGo))),
            (Released, asks(MAPPED), Some((Released, Answer(MAPPED)))),
            (Released, asks(SETTINGS), Some((Released, Answer(SETTINGS)))),
            (Released, asks(LISTENER), Some((Released, Answer(LISTENER)))),
            (Released, asks(START), Some((Released, Read))),
            (Released, Pid(9), None),
            (Released, Closed, Some((Released, Executed))),
            (Released, Release, Some((Released, Read))),
        ] {
            assert_eq!(phase.next(event), next, "{phase:?} {event:?}");
        }
    }

    /// What the parent does about these events, from the first phase on.
    fn actions(forks: bool, gated: bool, events: &[Event]) -> Vec<Action> {
        let mut phase = Phase::first(forks, gated);
        let step = |event: &Event| {
            let (next, action) = phase.next(*event).expect("an event that can happen");
            phase = next;
            action
        };
        events.iter().map(step).collect()
    }

    #[test]
    fn whole_launches_go_from_the_clone_to_the_exec() {
        use Action::{Answer, Executed, LetGo, Read, Stop};
        use Event::{Closed, Pid, Release};
        let asks = Event::Request;
        for (what, forks, gated, events, expected) in [
            (
                "create and start",
                false,
                true,
                vec![asks(MAPPED), asks(START), Release, Closed],
                vec![Answer(MAPPED), Stop, LetGo, Executed],
            ),
            (
                "create that returned early: released before the child was at its gate",
                false,
                true,
                vec![Release, asks(START), asks(LISTENER), Closed],
                vec![LetGo, Read, Answer(LISTENER), Executed],
            ),
            (
                "exec in a sibling that is faster than its pid",
                true,
                false,
                vec![asks(MAPPED), Pid(9), asks(SETTINGS), Closed],
                vec![Read, Answer(MAPPED), Answer(SETTINGS), Executed],
            ),
            ("exec that needs nothing", false, false, vec![Closed], vec![Executed]),
        ] {
            assert_eq!(actions(forks, gated, &events), expected, "{what}");
        }
    }
}
