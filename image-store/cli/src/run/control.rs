//! Commands on containers that are there: stop, kill, pause, restart, wait, rename, logs, top.

use std::time::Duration;

use image_store::{Error, ErrorKind, Result, Store};
use libcontainer::{Container, Signal, Status};

use super::log::Reader;
use super::options::{invalid, name};
use super::record::{Parent, change, find, folder, from_runtime, known, live, lock_names, recall, running};
use crate::args::Args;
use crate::output::line;

const PAUSE: Duration = Duration::from_millis(10);
/// So many pauses are enough for a parent to note an end.
const PATIENCE: u32 = 3000;

/// Does the same to each container that is named, goes on after an error, prints the names of those it worked for.
fn each(args: &Args, mut act: impl FnMut(&Store, &str) -> Result<()>) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match act(&store, text) {
            Ok(()) => line(text),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    Ok(u8::from(failed))
}

fn seconds(args: &Args) -> Result<Option<u64>> {
    let parse =
        |text: &str| text.parse().map_err(|_| invalid(format!("--time {text:?}: is no count of seconds")));
    args.get("time").map(parse).transpose()
}

/// `stop CONTAINER...`
pub(crate) fn stop(args: &Args) -> Result<u8> {
    let (time, signal) = (seconds(args)?, args.get("signal").map(super::options::signal).transpose()?);
    each(args, |store, text| halt(store, text, time, signal.as_deref()))
}

/// Asks, waits, insists, and waits until the end is noted.
fn halt(store: &Store, text: &str, time: Option<u64>, signal: Option<&str>) -> Result<()> {
    let container = find(store, text)?;
    let run = recall(&container);
    let own = run.as_ref().map_or("TERM", |run| &run.stop_signal);
    let signal = Signal::parse(signal.unwrap_or(own)).map_err(|e| from_runtime(&e))?;
    let time = time.or_else(|| run.as_ref()?.stop_timeout).unwrap_or(10);
    end_for_good(store, &container.id, signal, time)
}

/// Tells the container's parent that its end is wanted.
fn no_restart(store: &Store, id: &str) {
    let _ = std::fs::write(folder(store, id).join("stopping"), b"");
}

/// Ends the container and waits until its parent has noted that, also when that was about to start it again.
pub(super) fn end_for_good(store: &Store, id: &str, signal: Signal, seconds: u64) -> Result<()> {
    let parent = Parent::of(store, id);
    no_restart(store, id);
    for _ in 0..PATIENCE {
        // In this order: what is started after the look at the container is seen with its parent.
        let there = parent.is_there();
        match running(id) {
            Some((_, Status::Creating | Status::Created)) if there => {}
            Some((live, status)) => {
                if status == Status::Paused {
                    live.resume().map_err(|e| from_runtime(&e))?;
                }
                // Again, for a parent that has only begun forgets what it was told before.
                no_restart(store, id);
                end(&live, signal, seconds)?;
            }
            None if !there => return Ok(()),
            None => {}
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::new(ErrorKind::Busy, format!("container {id}: its parent does not note its end")))
}

/// Asks, waits, then insists.
fn end(container: &Container, signal: Signal, seconds: u64) -> Result<()> {
    let gone = |container: &Container, seconds: u64| -> bool {
        let Some(pidfd) = container.pidfd() else { return true };
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(pidfd, rustix::event::PollFlags::IN)];
        let limit =
            rustix::event::Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    };
    let kill = |signal: Signal| match container.kill(signal) {
        // It may have ended by itself.
        Err(error) if !gone(container, 0) => Err(from_runtime(&error)),
        _ => Ok(()),
    };
    kill(signal)?;
    if !gone(container, seconds) {
        kill(Signal::KILL)?;
        if !gone(container, 10) {
            return Err(Error::new(ErrorKind::Busy, format!("container {}: does not end", container.id())));
        }
    }
    Ok(())
}

/// Gives the container's parent, if there is one, the time to note its end.
fn settle(parent: &Parent) {
    for _ in 0..PATIENCE {
        if !parent.is_there() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// `kill CONTAINER...`
pub(crate) fn kill(args: &Args) -> Result<u8> {
    let text = super::options::signal(args.get("signal").unwrap_or("KILL"))?;
    let signal = Signal::parse(&text).map_err(|e| from_runtime(&e))?;
    each(args, |store, text| {
        let (container, live, status) = live(store, text)?;
        let parent = Parent::of(store, &container.id);
        if signal == Signal::KILL {
            no_restart(store, &container.id);
        }
        live.kill(signal).map_err(|e| from_runtime(&e))?;
        if signal == Signal::KILL {
            // What is frozen (cgroup v1) dies when it thaws.
            if status == Status::Paused {
                let _ = live.resume();
            }
            settle(&parent);
        }
        Ok(())
    })
}

/// `pause CONTAINER...`
pub(crate) fn pause(args: &Args) -> Result<u8> {
    each(args, |store, text| live(store, text)?.1.pause().map_err(|e| from_runtime(&e)))
}

/// `unpause CONTAINER...`
pub(crate) fn unpause(args: &Args) -> Result<u8> {
    each(args, |store, text| live(store, text)?.1.resume().map_err(|e| from_runtime(&e)))
}

/// `restart CONTAINER...`
pub(crate) fn restart(args: &Args) -> Result<u8> {
    let time = seconds(args)?;
    each(args, |store, text| {
        halt(store, text, time, None)?;
        let id = find(store, text)?.id;
        let mut socket = super::supervise::spawn(store, &id, None)?;
        match super::attach::started(&mut socket)? {
            Some(super::Outcome::Failed(_, why)) => Err(Error::new(ErrorKind::Os, why)),
            Some(super::Outcome::Lost) => Err(super::lost(&id)),
            _ => Ok(()),
        }
    })
}

/// `wait CONTAINER...`: prints codes instead of names.
pub(crate) fn wait(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match wait_one(&store, text) {
            Ok(code) => line(&code.to_string()),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    Ok(u8::from(failed))
}

fn wait_one(store: &Store, text: &str) -> Result<i32> {
    let id = find(store, text)?.id;
    if running(&id).is_some() {
        // Its parent tells everybody, also of a container whose record goes with it.
        let path = super::record::socket(&id)?;
        if let Ok(mut socket) = std::os::unix::net::UnixStream::connect(&path) {
            while let Ok(outcome) = super::attach::started(&mut socket) {
                match outcome {
                    Some(super::Outcome::Ended(code)) => return Ok(code),
                    Some(_) => break,
                    None => {}
                }
            }
        }
        while let Some((live, _)) = running(&id) {
            let _ = live.wait();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // The end comes before it is noted.
    let parent = Parent::of(store, &id);
    loop {
        let there = parent.is_there();
        if let Some(code) = known(&find(store, &id)?)?.exit_code {
            return Ok(code);
        }
        if !there {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Err(invalid(format!("container {text:?}: has not been started, or nobody saw its end")))
}

/// `rename CONTAINER NAME`
pub(crate) fn rename(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let wanted = name(&args.positional[1])?;
    let _names = lock_names(&store)?;
    let id = find(&store, &args.positional[0])?.id;
    if find(&store, &wanted).is_ok_and(|other| recall(&other).is_some_and(|run| run.name == wanted)) {
        return Err(Error::new(ErrorKind::Exists, format!("container {wanted:?}: exists already")));
    }
    change(&store, &id, |run| run.name = wanted)?;
    Ok(0)
}

/// `logs CONTAINER`
pub(crate) fn logs(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let id = find(&store, &args.positional[0])?.id;
    let path = folder(&store, &id).join("log");
    let bound = |flag: &str| args.get(flag).map(moment).transpose();
    let (since, until) = (bound("since")?, bound("until")?);
    let tail = match args.get("tail") {
        None | Some("all") => None,
        Some(text) => {
            Some(text.parse::<usize>().map_err(|_| invalid(format!("--tail {text:?}: is no number")))?)
        }
    };
    if !path.exists() {
        // Nothing was written yet.
        return Ok(0);
    }
    let mut reader = Reader::open(&path)?;
    let fits = |entry: &super::log::Entry| {
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
    let parent = Parent::of(&store, &id);
    while args.has("follow") {
        // What was written last is logged after the end.
        let alive = parent.is_there() || running(&id).is_some();
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

fn show(args: &Args, entry: &super::log::Entry) {
    let time = if args.has("timestamps") { format!("{} ", entry.time) } else { String::new() };
    let text = format!("{time}{}", entry.log);
    if entry.stream == "stderr" { eprint!("{text}") } else { crate::output::print(&text) }
}

/// RFC 3339, seconds since the epoch, or how long ago (`10m`, `1h30m`), as the log's times are written.
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
        seconds.ok_or_else(|| invalid(format!("{text:?}: is neither a time nor a duration such as 10m")))?;
    Ok(image_store::time::rfc3339(seconds).trim_end_matches('Z').to_owned())
}

/// `top CONTAINER`
pub(crate) fn top(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let (_, live, _) = live(&store, &args.positional[0])?;
    let mut cells = vec![["UID", "PID", "PPID", "STATE", "CMD"].map(str::to_owned).to_vec()];
    for pid in live.processes().map_err(|e| from_runtime(&e))? {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()).unwrap_or("?").to_owned()
        };
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ").trim_end().to_owned();
        let command = if command.is_empty() { format!("[{}]", field("Name")) } else { command };
        cells.push(vec![field("Uid"), pid.to_string(), field("PPid"), field("State"), command]);
    }
    crate::output::print(&crate::output::table(&cells));
    Ok(0)
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
