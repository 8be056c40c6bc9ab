//! `HEALTHCHECK`: its command and its options, as an image's config has them.

use serde_json::{Map, Value, json};

use super::Command;
use super::command::command;
use crate::error::{Error, Result};

/// The shortest time in nanoseconds, apart from 0 for the default.
const SHORTEST: i64 = 1_000_000;

/// Units of time, in nanoseconds.
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Options with a time, and their names in the config.
const TIMES: &[(&str, &str)] = &[
    ("interval", "Interval"),
    ("timeout", "Timeout"),
    ("start-period", "StartPeriod"),
    ("start-interval", "StartInterval"),
];

/// The value of `Healthcheck` in an image's config. Times are in nanoseconds; what is 0 is absent.
pub(super) fn parse(flags: &[String], rest: &str) -> Result<Value> {
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim_start();
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if !rest.is_empty() || !flags.is_empty() => {
            return Err(Error::invalid("NONE takes no arguments and options"));
        }
        "NONE" => vec!["NONE".to_owned()],
        "CMD" => match command(rest)? {
            Command::Shell(line) if !line.is_empty() => vec!["CMD-SHELL".to_owned(), line],
            Command::Exec(words) if !words.is_empty() => [vec!["CMD".to_owned()], words].concat(),
            _ => return Err(Error::invalid("CMD: a command is required")),
        },
        _ => return Err(Error::invalid("must be CMD COMMAND or NONE")),
    };
    let mut check = Map::new();
    check.insert("Test".into(), json!(test));
    let mut seen = Vec::new();
    for flag in flags {
        let (name, value) = flag.trim_start_matches("--").split_once('=').unwrap_or((flag, ""));
        if seen.contains(&name) {
            return Err(Error::invalid(format!("--{name}: given more than once")));
        }
        seen.push(name);
        let (key, number) = match TIMES.iter().find(|(known, _)| *known == name) {
            Some((_, key)) => (*key, time(value)),
            None if name == "retries" => {
                ("Retries", value.parse::<i32>().ok().filter(|n| *n >= 0).map(i64::from))
            }
            None => return Err(Error::invalid(format!("unknown flag {flag:?}"))),
        };
        let wanted = if key == "Retries" { "a number" } else { "a time of at least 1ms, such as 30s" };
        let number = number.ok_or_else(|| Error::invalid(format!("--{name} {value:?}: must be {wanted}")))?;
        if number > 0 {
            check.insert(key.into(), number.into());
        }
    }
    Ok(check.into())
}

/// Nanoseconds from a time such as `1m30s` or `1.5h` (Go's time.ParseDuration).
fn time(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if text == "0" || rest.is_empty() {
        return (text == "0").then_some(0);
    }
    let mut sum = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // More digits than these are below a nanosecond.
        let fraction = fraction.get(..18).unwrap_or(fraction);
        let digits = u32::try_from(fraction.len()).ok()?;
        sum += i128::from(whole.parse::<u32>().ok()?) * factor;
        sum += i128::from(fraction.parse::<u64>().ok()?) * factor / 10_i128.pow(digits);
        rest = after;
    }
    i64::try_from(sum).ok().filter(|sum| *sum == 0 || *sum >= SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_go() {
        for (text, nanoseconds) in [
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("+1ms", Some(1_000_000)),
            ("1000us", Some(1_000_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("999us", None),
            ("-1s", None),
            ("", None),
            ("+", None),
            ("1.", None),
            ("30", None),
            ("s", None),
            ("1x", None),
            ("1..5s", None),
            ("99999999h", None),
        ] {
            assert_eq!(time(text), nanoseconds, "{text}");
        }
    }
}
