//! What is to happen later. With nothing pending nobody is woken.

use super::slots::Key;
use std::time::Instant;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Give memory back.
    Idle,
    /// Look whether somebody reads the outputs of a process that has ended.
    Look(Key),
    /// Stop waiting for the streams of a process that is to be deleted.
    Drain(Key),
    /// Nobody has come, or come back, although there is nothing to keep.
    Lonely,
    /// A logger does not end although it was asked to.
    KillLogger(Key),
}

#[derive(Debug)]
pub(crate) struct Alarms(Vec<(Instant, Alarm)>);

impl Alarms {
    pub(crate) fn new() -> Self {
        Alarms(Vec::new())
    }

    /// One alarm of each kind and key.
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

    /// One that is due, and no longer pending.
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
    fn alarms_ring_once_when_they_are_due() {
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
