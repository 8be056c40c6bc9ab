//! `logs`.

use std::time::Duration;

use crate::cli::Args;
use crate::container::find::{find, running};
use crate::container::locks::Supervisor;
use crate::engine::log::{Entry, Reader};
use crate::failure::{Result, invalid};
use crate::places;

/// `logs CONTAINER`
pub(crate) fn logs(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let id = find(&store, &args.positional[0])?.id;
    let path = places::container(&store, &id).log();
    let bound = |flag: &str| args.get(flag).map(moment).transpose();
    let (since, until) = (bound("since")?, bound("until")?);
    let tail = match args.get("tail") {
        None | Some("all") => None,
        Some(text) => {
            Some(text.parse::<usize>().map_err(|_| invalid(format!("--tail {text:?}: must be a number")))?)
        }
    };
    if !path.exists() {
        // No output yet.
        return Ok(0);
    }
    let mut reader = Reader::open(&path)?;
    let fits = |entry: &Entry| {
        since.as_ref().is_none_or(|since| entry.time >= *since)
            && until.as_ref().is_none_or(|until| entry.time <= *until)
    };
    let mut all = Vec::new();
    while let Some(entry) = reader.next()? {
        if fits(&entry) {
            all.push(entry);
        }
    }
    let skip = tail.map_or(0, |tail| all.len().saturating_sub(tail));
    all.iter().skip(skip).for_each(|entry| show(args, entry));
    let supervisor = Supervisor::of(&store, &id);
    while args.has("follow") {
        // The last output is logged after the exit.
        let alive = supervisor.is_running() || running(&id).is_some();
        while let Some(entry) = reader.next()? {
            show(args, &entry);
        }
        if !alive {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(0)
}

fn show(args: &Args, entry: &Entry) {
    let time = if args.has("timestamps") { format!("{} ", entry.time) } else { String::new() };
    let text = format!("{time}{}", entry.log);
    if entry.stream == "stderr" { eprint!("{text}") } else { crate::output::print(&text) }
}

/// A time in the format of the log, from RFC 3339, seconds since the epoch, or a duration before now (`10m`, `1h30m`).
fn moment(text: &str) -> Result<String> {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let ago = || {
        let (mut total, mut rest) = (0_u64, text);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let factor = match rest.as_bytes()[digits] {
                b'h' => 3600,
                b'm' => 60,
                b's' => 1,
                _ => return None,
            };
            total = total.checked_add(rest[..digits].parse::<u64>().ok()?.checked_mul(factor)?)?;
            rest = &rest[digits + 1..];
        }
        (!text.is_empty()).then(|| now.saturating_sub(total))
    };
    let seconds = text.parse::<u64>().ok().or_else(ago).and_then(|seconds| i64::try_from(seconds).ok());
    let seconds = seconds.or_else(|| image_store::time::parse_rfc3339(text));
    let seconds =
        seconds.ok_or_else(|| invalid(format!("{text:?}: must be a time or a duration such as 10m")))?;
    Ok(image_store::time::rfc3339(seconds).trim_end_matches('Z').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_durations() {
        assert_eq!(moment("0").unwrap(), "1970-01-01T00:00:00");
        assert_eq!(moment("2026-11-21T06:35:00Z").unwrap(), "2026-11-21T06:35:00");
        assert!(moment("1h30m").is_ok() && moment("10").is_ok());
        for bad in ["", "x", "1x", "h", "1h2"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
