//! `stop`, `restart` and `kill`.

use std::time::Duration;

use image_store::{ErrorKind, Store};
use libcontainer::{Container, Signal, Status};

use super::each::each;
use crate::cli::Args;
use crate::container::find::{exits_within, find, live, running};
use crate::container::locks::Supervisor;
use crate::container::record::Run;
use crate::engine::client::attach::started;
use crate::engine::client::outcome::{Outcome, lost};
use crate::engine::options;
use crate::engine::supervisor::spawn;
use crate::failure::{Failure, Result, invalid};
use crate::places;

const PAUSE: Duration = Duration::from_millis(10);

/// How often to look whether the supervisor has recorded an end.
const POLLS: u32 = 3000;

fn seconds(args: &Args) -> Result<Option<u64>> {
    let parse = |text: &str| {
        text.parse().map_err(|_| invalid(format!("--time {text:?}: must be a number of seconds")))
    };
    args.get("time").map(parse).transpose()
}

/// `stop CONTAINER...`
pub(crate) fn stop(args: &Args) -> Result<u8> {
    let (time, signal) = (seconds(args)?, args.get("signal").map(options::signal).transpose()?);
    each(args, |store, text| halt(store, text, time, signal.as_deref()))
}

/// Stops a container, and waits until its end is recorded.
fn halt(store: &Store, text: &str, time: Option<u64>, signal: Option<&str>) -> Result<()> {
    let container = find(store, text)?;
    let run = Run::of(&container);
    let own = run.as_ref().map_or("TERM", |run| &run.stop_signal);
    let signal = Signal::parse(signal.unwrap_or(own))?;
    let time = time.or_else(|| run.as_ref()?.stop_timeout).unwrap_or(10);
    end_for_good(store, &container.id, signal, time)
}

/// Tells the supervisor not to restart the container.
fn no_restart(store: &Store, id: &str) {
    let _ = std::fs::write(places::container(store, id).stopping(), b"");
}

/// Stops a container and waits until the supervisor has recorded that, also if it was about to restart it.
pub(crate) fn end_for_good(store: &Store, id: &str, signal: Signal, seconds: u64) -> Result<()> {
    let supervisor = Supervisor::of(store, id);
    no_restart(store, id);
    for _ in 0..POLLS {
        // In this order, so that a container that is started after the second look was seen with its supervisor.
        let there = supervisor.is_running();
        match running(id) {
            Some((_, Status::Creating | Status::Created)) if there => {}
            Some((live, status)) => {
                if status == Status::Paused {
                    live.resume()?;
                }
                // Again, since a supervisor that has just started ignores what it was told before.
                no_restart(store, id);
                end(&live, signal, seconds)?;
            }
            None if !there => return Ok(()),
            None => {}
        }
        std::thread::sleep(PAUSE);
    }
    Err(Failure::new(ErrorKind::Busy, format!("container {id}: its supervisor did not record its exit")))
}

/// Sends the signal, waits, then sends SIGKILL.
fn end(container: &Container, signal: Signal, seconds: u64) -> Result<()> {
    let kill = |signal: Signal| match container.kill(signal) {
        // It may have exited by itself.
        Err(error) if !exits_within(container, 0) => Err(Failure::from(error)),
        _ => Ok(()),
    };
    kill(signal)?;
    if !exits_within(container, seconds) {
        kill(Signal::KILL)?;
        if !exits_within(container, 10) {
            return Err(Failure::new(
                ErrorKind::Busy,
                format!("container {}: did not exit after SIGKILL", container.id()),
            ));
        }
    }
    Ok(())
}

/// Waits until the supervisor, if there is one, has recorded the end.
fn wait_for_supervisor(supervisor: &Supervisor) {
    for _ in 0..POLLS {
        if !supervisor.is_running() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// `kill CONTAINER...`
pub(crate) fn kill(args: &Args) -> Result<u8> {
    let text = options::signal(args.get("signal").unwrap_or("KILL"))?;
    let signal = Signal::parse(&text)?;
    each(args, |store, text| {
        let (container, live, status) = live(store, text)?;
        let supervisor = Supervisor::of(store, &container.id);
        if signal == Signal::KILL {
            no_restart(store, &container.id);
        }
        live.kill(signal)?;
        if signal == Signal::KILL {
            // A frozen process (cgroup v1) dies when it is thawed.
            if status == Status::Paused {
                let _ = live.resume();
            }
            wait_for_supervisor(&supervisor);
        }
        Ok(())
    })
}

/// `restart CONTAINER...`
pub(crate) fn restart(args: &Args) -> Result<u8> {
    let time = seconds(args)?;
    each(args, |store, text| {
        halt(store, text, time, None)?;
        let id = find(store, text)?.id;
        let mut socket = spawn(store, &id, None)?;
        match started(&mut socket)? {
            Some(Outcome::Failed(_, why)) => Err(Failure::new(ErrorKind::Os, why)),
            Some(Outcome::Lost) => Err(lost(&id)),
            _ => Ok(()),
        }
    })
}
