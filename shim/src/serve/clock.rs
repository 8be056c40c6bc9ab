//! The server's times: alarms, idleness and the end. Without a pending alarm the server is not woken.

use super::slots::Key;
use std::time::Instant;

/// An action that is due later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Give memory back to the kernel.
    Idle,
    /// Check whether the outputs of a process that has ended have a reader.
    CheckReaders(Key),
    /// Stop waiting for the streams of a process that is to be deleted.
    Drain(Key),
    /// Check whether the server is still needed: no client is connected.
    Unconnected,
    /// Kill a logger that did not end when it was asked to.
    KillLogger(Key),
}

/// The times of the server's loop.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) alarms: Alarms,
    /// Nothing has happened for a while: memory is to be given back before the next wait.
    pub(crate) is_idle: bool,
    /// When to end in any case.
    pub(crate) end: Option<Instant>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock { alarms: Alarms::new(), is_idle: false, end: None }
    }
}

#[derive(Debug)]
pub(crate) struct Alarms(Vec<(Instant, Alarm)>);

impl Alarms {
    pub(crate) fn new() -> Self {
        Alarms(Vec::new())
    }

    /// Sets an alarm, in place of an earlier one of the same kind and key.
    pub(crate) fn replace(&mut self, at: Instant, alarm: Alarm) {
        self.cancel(alarm);
        self.0.push((at, alarm));
    }

    pub(crate) fn cancel(&mut self, alarm: Alarm) {
        self.0.retain(|(_, other)| *other != alarm);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }

    /// Removes an alarm that is due and returns it.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Alarm> {
        let place = self.0.iter().position(|(at, _)| *at <= now)?;
        Some(self.0.swap_remove(place).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn alarms_fire_once_when_they_are_due() {
        let now = Instant::now();
        let mut alarms = Alarms::new();
        assert_eq!(alarms.next(), None);
        alarms.replace(now + Duration::from_secs(2), Alarm::Idle);
        alarms.replace(now + Duration::from_secs(1), Alarm::Drain(1));
        alarms.replace(now + Duration::from_secs(3), Alarm::Drain(1));
        assert_eq!(alarms.next(), Some(now + Duration::from_secs(2)));
        assert_eq!(alarms.take(now), None);
        let later = now + Duration::from_secs(5);
        alarms.cancel(Alarm::Idle);
        assert_eq!(alarms.take(later), Some(Alarm::Drain(1)));
        assert_eq!(alarms.take(later), None);
    }
}
