//! `rm`: containers and the volumes that were made for them alone.

use std::collections::BTreeMap;

use image_store::{Error, ErrorKind, Result, Store};
use libcontainer::Signal;

use super::control::end_for_good;
use super::inspect::written;
use super::record::{Parent, Run, clean, find, known, lock_names, recall, running};
use crate::args::Args;
use crate::commands::filter::{Filters, has_label};
use crate::commands::prune::{confirmed, report};
use crate::output::line;

/// What `container prune` filters by.
pub(super) const PRUNE_KEYS: &[&str] = &["label=NAME[=VALUE]", "label!=NAME[=VALUE]"];

/// `rm CONTAINER...`: goes on after an error.
pub(crate) fn rm(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
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
    crate::commands::empty_trash_later(&store);
    Ok(u8::from(failed))
}

/// `container prune`: all that do not run. Goes on after an error.
pub(crate) fn prune(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, |key, value| Ok((key == "label", value.to_owned())))?;
    let store = crate::commands::store(args)?;
    if !confirmed(args, "all stopped containers")? {
        return Ok(0);
    }
    let (mut removed, mut freed, mut failed) = (Vec::new(), 0, false);
    for container in store.containers()? {
        // What the labels of a container are that another version made is not known.
        let labels = if container.extra.is_null() {
            Ok(BTreeMap::new())
        } else {
            known(&container).map(|run| run.labels)
        };
        let labels = match labels {
            Ok(labels) => labels,
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
            // About to be started again.
            Err(error) if error.kind() == ErrorKind::Busy => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    crate::commands::empty_trash_later(&store);
    report("Deleted Containers", &removed, freed);
    Ok(u8::from(failed))
}

fn remove(store: &Store, text: &str, force: bool, volumes: bool) -> Result<()> {
    let container = find(store, text)?;
    if force {
        end_for_good(store, &container.id, Signal::KILL, 10)?;
    } else if is_busy(store, &container.id) {
        let message = format!("container {text:?}: is running: stop it, or force");
        return Err(Error::new(ErrorKind::Busy, message));
    }
    clean(&container.id);
    let removed = match recall(&container) {
        Some(run) => remove_record(store, &container.id, &run, volumes),
        None => store.remove_container(&container.id),
    };
    match removed {
        // Its parent was faster, with --rm.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether it runs, or will again; a parent that is leaving is given the time for it.
fn is_busy(store: &Store, id: &str) -> bool {
    let parent = Parent::of(store, id);
    for _ in 0..50 {
        let there = parent.is_there();
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

/// Takes a container's record and layer away, and with `volumes` those nobody else uses.
pub(super) fn remove_record(store: &Store, id: &str, run: &Run, volumes: bool) -> Result<()> {
    store.remove_container(id)?;
    let own: Vec<_> = run.volumes.iter().filter(|mounted| volumes && mounted.anonymous).collect();
    if own.is_empty() {
        return Ok(());
    }
    let names = lock_names(store)?;
    own.iter().try_for_each(|mounted| super::volumes::remove_unused(store, &mounted.name, &names))
}
