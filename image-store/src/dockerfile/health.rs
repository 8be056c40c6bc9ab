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
        let flag = flag.trim_start_matches("--");
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        if seen.contains(&name) {
            return Err(Error::invalid(format!("--{name}: given more than once")));
        }
        seen.push(name);
        let (key, parse) = match TIMES.iter().find(|(known, _)| *known == name) {
            Some((_, key)) => (*key, time as fn(&str) -> Option<i64>),
            None if name == "retries" => ("Retries", count as fn(&str) -> Option<i64>),
            None => return Err(Error::invalid(format!("unknown flag \"--{flag}\""))),
        };
        let value = value.ok_or_else(|| Error::invalid(format!("--{name}: needs a value")))?;
        let wanted = if key == "Retries" { "a number" } else { "a time of at least 1ms, such as 30s" };
        // An empty value stands for the default.
        let number = if value.is_empty() { Some(0) } else { parse(value) };
        let number = number.ok_or_else(|| Error::invalid(format!("--{name} {value:?}: must be {wanted}")))?;
        if number > 0 {
            check.insert(key.into(), number.into());
        }
    }
    Ok(check.into())
}

fn count(text: &str) -> Option<i64> {
    text.parse::<i32>().ok().filter(|number| *number >= 0).map(i64::from)
}

/// Nanoseconds from a time such as `1m30s` or `1.5h` (Go's time.ParseDuration).
fn time(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" || rest.is_empty() {
        return (rest == "0").then_some(0);
    }
    let mut sum = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        // More digits than these are below a nanosecond.
        let fraction = fraction.get(..18).unwrap_or(fraction);
        let digits = u32::try_from(fraction.len()).ok()?;
        // At most 2^64 hours.
        let part = digits_of(whole)? * factor + digits_of(fraction)? * factor / 10_i128.pow(digits);
        sum = sum.checked_add(part)?;
        rest = after;
    }
    i64::try_from(sum).ok().filter(|sum| *sum == 0 || (*sum >= SHORTEST && !text.starts_with('-')))
}

/// The number that these digits are; 0 without digits.
fn digits_of(digits: &str) -> Option<i128> {
    if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok().map(i128::from) }
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
            ("5000000000s", Some(5_000_000_000_000_000_000)),
            ("9223372036s", Some(9_223_372_036_000_000_000)),
            (".5s", Some(500_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("0", Some(0)),
            ("+0", Some(0)),
            ("-0", Some(0)),
            ("-0s", Some(0)),
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
            (".s", None),
            ("+-1s", None),
            ("99999999h", None),
            ("9223372037s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(time(text), nanoseconds, "{text}");
        }
    }
}
