//! `rm` and `container prune`.

use image_store::{ErrorKind, Store};
use libcontainer::{Signal, Status};

use super::stop::end_for_good;
use crate::cli::Args;
use crate::confirm::{confirmed, report};
use crate::container::find::{clean, find, running};
use crate::container::locks::Supervisor;
use crate::container::record::Run;
use crate::container::usage::written;
use crate::container::volumes::remove_record;
use crate::failure::{Failure, Result};
use crate::filter::{Filters, has_label};
use crate::output::line;
use crate::{places, trash};

/// The filters of `container prune`.
pub(crate) const PRUNE_KEYS: &[&str] = &["label=NAME[=VALUE]", "label!=NAME[=VALUE]"];

/// `rm CONTAINER...`: continues after an error.
pub(crate) fn rm(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match remove(&store, text, args.has("force"), args.has("volumes")) {
            Ok(()) => line(text),
            Err(error) if error.kind() == ErrorKind::NotFound && args.has("force") => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    trash::empty_later(&store);
    Ok(u8::from(failed))
}

/// `container prune`: all that are not running. Continues after an error.
pub(crate) fn prune(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, |key, value| Ok((key == "label", value.to_owned())))?;
    let store = places::store(args)?;
    if !confirmed(args, "all stopped containers")? {
        return Ok(0);
    }
    let (mut removed, mut freed, mut failed) = (Vec::new(), 0, false);
    for container in store.containers()? {
        let labels = match container.remembered::<Run>() {
            Ok(run) => run.map(|run| run.labels).unwrap_or_default(),
            // The labels of a container that another version made are unknown.
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
                continue;
            }
        };
        let wanted = filters.fit(|(there, label)| has_label(&labels, label) == *there);
        if !wanted || running(&container.id).is_some() {
            continue;
        }
        let size = written(&store, &container);
        match remove(&store, &container.id, false, false) {
            Ok(()) => {
                removed.push(container.id);
                freed += size;
            }
            // About to be restarted.
            Err(error) if error.kind() == ErrorKind::Busy => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    trash::empty_later(&store);
    report("Deleted Containers", &removed, freed);
    Ok(u8::from(failed))
}

fn remove(store: &Store, text: &str, force: bool, volumes: bool) -> Result<()> {
    let container = find(store, text)?;
    if force {
        end_for_good(store, &container.id, Signal::KILL, 10)?;
    } else if is_busy(store, &container.id) {
        let paused = running(&container.id).is_some_and(|(_, status)| status == Status::Paused);
        let state = if paused { "paused" } else { "running" };
        let message = format!("container {text:?}: is {state}: stop it, or use --force");
        return Err(Failure::new(ErrorKind::Busy, message));
    }
    clean(&container.id);
    let removed = match Run::of(&container) {
        Some(run) => remove_record(store, &container.id, &run, volumes),
        None => store.remove_container(&container.id).map_err(Failure::from),
    };
    match removed {
        // Its supervisor removed it first, with --rm.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether it is running, or will be restarted. Waits for a supervisor that is exiting.
fn is_busy(store: &Store, id: &str) -> bool {
    let supervisor = Supervisor::of(store, id);
    for _ in 0..50 {
        let there = supervisor.is_running();
        if running(id).is_some() {
            return true;
        }
        if !there {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    true
}
