//! The command line and the environment: those of tini, catatonit and dumb-init combined, as far as they do not contradict
//! each other.
use crate::signals::{self, Rewrite};
use crate::status::Set;

/// The target of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The program.
    Child,
    /// All of its process group.
    Group,
    /// All of its process group, in its own session, as with dumb-init.
    Session,
}

/// The options for running a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The target of signals.
    pub target: Target,
    /// Whether to be a subreaper even if it may not be needed.
    pub subreaper: bool,
    /// Whether to warn about each reaped orphan.
    pub warn: bool,
    /// 0: errors, 1: warnings, 2: actions, 3: each signal.
    pub verbosity: u8,
    /// The signal at the parent's death, or 0.
    pub parent_death: u8,
    /// The seconds that other processes get to end after the program.
    pub grace: Option<u32>,
    /// Signals forwarded as others.
    pub rewrite: Rewrite,
    /// Exit statuses that are replaced by 0.
    pub zero: Set,
    /// The index of the program among the arguments; 0 if there is none.
    pub program: usize,
}

/// A parsed command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one value of it, and no heap")]
pub enum Request {
    /// Run a program.
    Run(Options),
    /// Only reap, until a signal.
    Pause(Options),
    /// Print a text to standard output.
    Say(&'static str),
}

/// An error in the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad<'a> {
    /// The letter of the option, or 0.
    pub option: u8,
    /// The error.
    pub why: &'static str,
    /// The argument.
    pub word: &'a [u8],
}

const LONG: [(&[u8], u8); 6] = [
    (b"help", b'h'),
    (b"version", b'V'),
    (b"license", b'l'),
    (b"single-child", b'c'),
    (b"rewrite", b'r'),
    (b"verbose", b'v'),
];

/// Reads the arguments, of which the first is the program's own name, and the environment.
#[inline(never)]
pub fn read<'a>(
    arg: impl Fn(usize) -> Option<&'a [u8]>,
    env: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Request, Bad<'a>> {
    let mut reader = Reader { options: defaults(arg(0).unwrap_or_default(), env), pause: false, say: None };
    let mut at = 1;
    while let Some(word) = arg(at) {
        if word == b"--" {
            at += 1;
            break;
        }
        if word.len() < 2 || word.first() != Some(&b'-') {
            break;
        }
        at += reader.word(word, arg(at + 1))?;
    }
    reader.end(at, arg(at).is_some())
}

#[inline(never)]
fn defaults<'a>(own_name: &[u8], env: impl Fn(&str) -> Option<&'a [u8]>) -> Options {
    let dumb = own_name.rsplit(|b| *b == b'/').next() == Some(b"dumb-init");
    let group = env("TINI_KILL_PROCESS_GROUP").is_some();
    let usual = if dumb { Target::Session } else { Target::Child };
    let target = match env("DUMB_INIT_SETSID") {
        Some(b"0") => Target::Child,
        Some(_) => Target::Session,
        None if group => Target::Group,
        None => usual,
    };
    let number = |name| env(name).and_then(signals::number).map(|n| n.min(3).to_le_bytes()[0]);
    let debug = if number("DUMB_INIT_DEBUG").is_some_and(|n| n > 0) { 3 } else { 1 };
    Options {
        target,
        subreaper: env("TINI_SUBREAPER").is_some(),
        warn: false,
        verbosity: number("TINI_VERBOSITY").unwrap_or(debug),
        parent_death: 0,
        grace: None,
        rewrite: Rewrite::default(),
        zero: Set::default(),
        program: 0,
    }
}

struct Reader {
    options: Options,
    pause: bool,
    say: Option<&'static str>,
}

impl Reader {
    /// Reads `--name`, `--name=value`, `-x`, `-xyz`, `-xvalue`; returns the number of arguments read.
    #[inline(never)]
    fn word<'a>(&mut self, word: &'a [u8], next: Option<&'a [u8]>) -> Result<usize, Bad<'a>> {
        let Some(long) = word.strip_prefix(b"--") else {
            return self.letters(word.get(1..).unwrap_or_default(), next);
        };
        let mut parts = long.splitn(2, |b| *b == b'=');
        let name = parts.next().unwrap_or_default();
        let Some((_, letter)) = LONG.iter().find(|(n, _)| *n == name) else {
            return Err(Bad { option: 0, why: "unknown option", word });
        };
        match (takes_value(*letter), parts.next()) {
            (true, Some(value)) => self.value(*letter, value).map(|()| 1),
            (true, None) => self.value(*letter, next.ok_or(missing(*letter))?).map(|()| 2),
            (false, Some(value)) => Err(Bad { option: *letter, why: "takes no value", word: value }),
            (false, None) => self.flag(*letter, word).map(|()| 1),
        }
    }

    #[inline(never)]
    fn letters<'a>(&mut self, letters: &'a [u8], next: Option<&'a [u8]>) -> Result<usize, Bad<'a>> {
        let mut left = letters;
        while let Some((letter, rest)) = left.split_first() {
            if !takes_value(*letter) {
                self.flag(*letter, letters)?;
            } else if rest.is_empty() {
                return self.value(*letter, next.ok_or(missing(*letter))?).map(|()| 2);
            } else {
                return self.value(*letter, rest).map(|()| 1);
            }
            left = rest;
        }
        Ok(1)
    }

    fn flag<'a>(&mut self, letter: u8, word: &'a [u8]) -> Result<(), Bad<'a>> {
        match letter {
            b'c' => self.options.target = Target::Child,
            b'g' => self.options.target = Target::Group,
            b's' => self.options.subreaper = true,
            b'v' => self.options.verbosity += u8::from(self.options.verbosity < 3),
            b'w' => self.options.warn = true,
            b'P' => self.pause = true,
            b'h' => self.say = Some(crate::messages::HELP),
            b'l' | b'L' => self.say = Some(crate::messages::LICENCE),
            b'V' => self.say = Some(crate::messages::VERSION),
            _ => return Err(Bad { option: letter, why: "unknown option", word }),
        }
        Ok(())
    }

    fn value<'a>(&mut self, letter: u8, word: &'a [u8]) -> Result<(), Bad<'a>> {
        let bad = |why| Bad { option: letter, why, word };
        match letter {
            b'e' => {
                let status = signals::number(word).and_then(|n| u8::try_from(n).ok());
                self.options.zero.add(status.ok_or(bad("must be an exit status from 0 to 255"))?);
            }
            b'p' => self.options.parent_death = signals::parse(word).ok_or(bad("must be a signal"))?,
            b'k' => {
                let seconds = signals::number(word).filter(|n| (1..=86_400).contains(n));
                self.options.grace = Some(seconds.ok_or(bad("must be a number of seconds from 1 to 86400"))?);
            }
            _ => {
                let pair = rewrite(word).ok_or(bad("must be FROM:TO, two signals"))?;
                self.options.rewrite.set(pair.0, pair.1);
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn end<'a>(mut self, at: usize, program: bool) -> Result<Request, Bad<'a>> {
        if self.options.target == Target::Session {
            // as dumb-init: in a session without a shell, nothing would continue a process that these stop
            for signal in [signals::TSTP, signals::TTIN, signals::TTOU] {
                self.options.rewrite.set_default(signal, signals::STOP);
            }
        }
        if let Some(text) = self.say {
            return Ok(Request::Say(text));
        }
        match (self.pause, program) {
            (true, false) => Ok(Request::Pause(self.options)),
            (true, true) => Err(Bad { option: b'P', why: "cannot be used with a program", word: b"" }),
            (false, false) => Err(Bad { option: 0, why: "no program given: see -h", word: b"" }),
            (false, true) => Ok(Request::Run(Options { program: at, ..self.options })),
        }
    }
}

fn takes_value(letter: u8) -> bool {
    b"ekpr".contains(&letter)
}

fn missing<'a>(letter: u8) -> Bad<'a> {
    Bad { option: letter, why: "requires a value", word: b"" }
}

fn rewrite(word: &[u8]) -> Option<(u8, u8)> {
    let (from, to) = word.split_at(word.iter().position(|b| *b == b':')?);
    let to = to.get(1..)?;
    let to = if to == b"0" { 0 } else { signals::parse(to)? };
    Some((signals::parse(from)?, to))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
