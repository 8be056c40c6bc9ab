//! Signals by name and number, and the table of those that are forwarded as others. The numbers are those of x86, Arm,
//! RISC-V, s390 and POWER; the real-time signals are those of the kernel (32 to 64), of which C libraries hide the first two.

/// The last signal of the kernel.
pub const LAST: u8 = 64;
/// The first real-time signal of the kernel.
pub const FIRST_REAL_TIME: u8 = 32;
/// `SIGRTMIN` of C programs.
const RTMIN: u8 = 34;

/// The terminal was closed.
pub const HUP: u8 = 1;
/// Interrupt from the keyboard.
pub const INT: u8 = 2;
/// Kills any process.
pub const KILL: u8 = 9;
/// The alarm timer.
pub const ALRM: u8 = 14;
/// Asks a process to end.
pub const TERM: u8 = 15;
/// A child has ended.
pub const CHLD: u8 = 17;
/// Continues a stopped process.
pub const CONT: u8 = 18;
/// Stops any process.
pub const STOP: u8 = 19;
/// Stop from the keyboard.
pub const TSTP: u8 = 20;
/// A process in the background reads from the terminal.
pub const TTIN: u8 = 21;
/// A process in the background writes to the terminal.
pub const TTOU: u8 = 22;

/// Names of the signals from 1 on, without `SIG`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const OTHER_NAMES: [(&str, u8); 3] = [("IOT", 6), ("POLL", 29), ("CLD", CHLD)];

/// Parses a signal: `SIGTERM`, `TERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`.
pub fn parse(word: &[u8]) -> Option<u8> {
    if let Some(number) = number(word) {
        return u8::try_from(number).ok().filter(|n| (1..=LAST).contains(n));
    }
    let mut name = word;
    if let Some((prefix, rest)) = word.split_at_checked(3)
        && prefix.eq_ignore_ascii_case(b"SIG")
    {
        name = rest;
    }
    real_time(name).or_else(|| {
        let position = NAMES.iter().position(|n| n.as_bytes().eq_ignore_ascii_case(name));
        let other =
            || OTHER_NAMES.iter().find(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name)).map(|(_, s)| *s);
        position.and_then(|p| u8::try_from(p + 1).ok()).or_else(other)
    })
}

fn real_time(name: &[u8]) -> Option<u8> {
    let (base, rest) = name.split_at_checked(5)?;
    let (from, sign) = match base {
        _ if base.eq_ignore_ascii_case(b"RTMIN") => (RTMIN, b'+'),
        _ if base.eq_ignore_ascii_case(b"RTMAX") => (LAST, b'-'),
        _ => return None,
    };
    if rest.is_empty() {
        return Some(from);
    }
    let (first, digits) = rest.split_first()?;
    let offset = number(digits).filter(|n| *first == sign && *n <= u32::from(LAST - RTMIN))?;
    let offset = u8::try_from(offset).ok()?;
    Some(if sign == b'+' { from + offset } else { from - offset })
}

/// The name of a signal without `SIG`, if it has one.
pub fn name(signal: u8) -> Option<&'static str> {
    NAMES.get(usize::from(signal).wrapping_sub(1)).copied()
}

/// Parses a number of decimal digits only.
pub fn number(word: &[u8]) -> Option<u32> {
    let digits = || {
        word.iter().try_fold(0u32, |sum, b| {
            let digit = b.is_ascii_digit().then(|| u32::from(b - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        })
    };
    if word.is_empty() { None } else { digits() }
}

/// Replacements of signals. A signal may be replaced by none, which drops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    to: [u8; LAST as usize + 1],
}

/// In [`Rewrite`]: the signal is not replaced.
const SAME: u8 = u8::MAX;

impl Default for Rewrite {
    fn default() -> Self {
        Self { to: [SAME; LAST as usize + 1] }
    }
}

impl Rewrite {
    /// Replaces `from` by `to`; 0 drops it.
    pub fn set(&mut self, from: u8, to: u8) {
        if let Some(place) = self.to.get_mut(usize::from(from)) {
            *place = to;
        }
    }

    /// Like `set`, unless it was set before.
    pub fn set_default(&mut self, from: u8, to: u8) {
        if self.to.get(usize::from(from)) == Some(&SAME) {
            self.set(from, to);
        }
    }

    /// The signal to forward for a signal, if any.
    pub fn of(&self, signal: u8) -> Option<u8> {
        match self.to.get(usize::from(signal)) {
            Some(&SAME) | None => Some(signal),
            Some(0) => None,
            Some(to) => Some(*to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_with_and_without_sig_and_by_number() {
        for (word, want) in [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("sigterm", Some(15)),
            ("15", Some(15)),
            ("1", Some(1)),
            ("64", Some(64)),
            ("65", None),
            ("0", None),
            ("-1", None),
            ("", None),
            ("SIG", None),
            ("SIGNOPE", None),
            ("SIGSYS", Some(31)),
            ("IOT", Some(6)),
            ("SIGPOLL", Some(29)),
            ("SIGCLD", Some(17)),
            ("15 ", None),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN+30", Some(64)),
            ("RTMIN+31", None),
            ("RTMAX", Some(64)),
            ("RTMAX-1", Some(63)),
            ("RTMAX+1", None),
            ("RTMIN-1", None),
            ("RTMIN+", None),
            ("99999999999", None),
        ] {
            assert_eq!(parse(word.as_bytes()), want, "{word}");
        }
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        for signal in 1..=31 {
            assert_eq!(name(signal).map(|n| parse(n.as_bytes())), Some(Some(signal)));
        }
        assert_eq!([name(0), name(32), name(64)], [None; 3]);
    }

    #[test]
    fn a_rewritten_signal_is_another_or_none() {
        let mut rewrite = Rewrite::default();
        rewrite.set(15, 3);
        rewrite.set(1, 0);
        rewrite.set_default(15, 9);
        rewrite.set_default(20, 19);
        assert_eq!([15, 1, 20, 2, 64].map(|s| rewrite.of(s)), [Some(3), None, Some(19), Some(2), Some(64)]);
    }
}
