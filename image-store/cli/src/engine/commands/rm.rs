//! `rm` and `container prune`.

use image_store::{ErrorKind, Store};
use libcontainer::{Signal, Status};

use super::stop::end_for_good;
use crate::cli::Args;
use crate::confirm::{confirmed, report};
use crate::container::find::{Found, clean, damaged, look_up, running};
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
    let containers = store.containers()?;
    for (id, error) in &containers.damaged {
        // Its labels are unknown.
        eprintln!("knarr-image: {}", damaged(id, error));
        failed = true;
    }
    for container in containers.intact {
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
    let (id, run) = match look_up(store, text)? {
        Found::Intact(container) => (container.id.clone(), Run::of(&container)),
        Found::Damaged(id, _) if force => (id, None),
        Found::Damaged(id, error) => return Err(damaged(&id, &error)),
    };
    if is_being_created(store, &id) {
        let message = format!("container {text:?}: is being created: wait, or interrupt that command");
        return Err(Failure::new(ErrorKind::Busy, message));
    }
    if force {
        end_for_good(store, &id, Signal::KILL, 10)?;
    } else if is_busy(store, &id) {
        let paused = running(&id).is_some_and(|(_, status)| status == Status::Paused);
        let state = if paused { "paused" } else { "running" };
        let message = format!("container {text:?}: is {state}: stop it, or use --force");
        return Err(Failure::new(ErrorKind::Busy, message));
    }
    clean(&id);
    let removed = match run {
        Some(run) => remove_record(store, &id, &run, volumes),
        None => store.remove_container(&id).map_err(Failure::from),
    };
    match removed {
        // Its supervisor removed it first, with --rm.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether a command is creating it right now. Otherwise it is unfinished because that command was killed.
fn is_being_created(store: &Store, id: &str) -> bool {
    // In this order: the command first finishes the record.
    let there = Supervisor::of(store, id).is_running();
    there && store.container(id).is_ok_and(|container| Run::of(&container).is_some_and(|run| run.unfinished))
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
