//! Volumes: directories of the store that outlive containers. `volume create|inspect|ls|prune|rm`.

use std::collections::BTreeMap;

use image_store::store::ContainerRecord;
use image_store::{Error, ErrorKind, Result, Store};
use regex_lite::Regex;
use serde_json::{Value, json};

use super::inspect::bytes;
use super::options::invalid;
use super::record::{NamesLock, lock_names, recall};
use crate::args::Args;
use crate::commands::filter::{Filters, boolean, has_label, refused};
use crate::commands::prune::{confirmed, report};
use crate::output::{inspected, line, rows};

/// What `volume ls` filters by.
pub(super) const KEYS: &[&str] =
    &["dangling=true|false", "driver=NAME", "label=NAME[=VALUE]", "name=PATTERN"];

/// What `volume prune` filters by.
pub(super) const PRUNE_KEYS: &[&str] = &["all=true|false", "label=NAME[=VALUE]", "label!=NAME[=VALUE]"];

/// The driver of all volumes.
const DRIVER: &str = "local";

/// A volume as filters see it.
#[derive(Debug)]
struct Known {
    name: String,
    /// Not what an earlier version let an image put in the place of one.
    sound: bool,
    /// By a container, running or not.
    used: bool,
    anonymous: bool,
    labels: BTreeMap<String, String>,
}

impl Known {
    /// All volumes, sorted by name.
    fn all(store: &Store) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for name in store.volume_names()? {
            match Self::of(store, name) {
                // Removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => all.push(other?),
            }
        }
        Ok(all)
    }

    fn of(store: &Store, name: String) -> Result<Self> {
        let used = !users(store, &name)?.is_empty();
        // What is no volume, but lies in the place of one, is listed, and only removed by its name.
        let (sound, anonymous) = match store.volume(&name) {
            Err(error) if error.kind() == ErrorKind::Invalid => (false, false),
            other => (true, other?.anonymous),
        };
        // There is nothing yet that gives a volume labels.
        Ok(Self { name, sound, used, anonymous, labels: BTreeMap::new() })
    }
}

#[derive(Debug)]
enum Filter {
    Dangling(bool),
    Driver(String),
    Label(String),
    NotLabel(String),
    Name(Regex),
    /// Whether named volumes are meant, too.
    All(bool),
}

impl Filter {
    fn parse(key: &str, value: &str) -> Result<Self> {
        match key {
            "dangling" => boolean(key, value).map(Self::Dangling),
            "driver" => Ok(Self::Driver(value.to_owned())),
            "label" => Ok(Self::Label(value.to_owned())),
            "label!" => Ok(Self::NotLabel(value.to_owned())),
            "name" => pattern(key, value).map(Self::Name),
            "all" => boolean(key, value).map(Self::All),
            _ => Err(refused(key, value, "of a key that volumes have")),
        }
    }

    fn fits(&self, volume: &Known) -> bool {
        match self {
            Self::Dangling(wanted) => volume.used != *wanted,
            Self::Driver(wanted) => wanted == DRIVER,
            Self::Label(wanted) => has_label(&volume.labels, wanted),
            Self::NotLabel(unwanted) => !has_label(&volume.labels, unwanted),
            Self::Name(pattern) => pattern.is_match(&volume.name),
            Self::All(named) => *named || volume.anonymous,
        }
    }
}

/// A regular expression that a name must match somewhere, as Docker has it.
pub(super) fn pattern(key: &str, value: &str) -> Result<Regex> {
    Regex::new(value).map_err(|e| refused(key, value, &format!("a regular expression: {e}")))
}

/// `volume create [VOLUME]`: an existing one is as good.
pub(super) fn create(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let name = match args.positional.first() {
        Some(name) => super::options::volume_name(name, name)?,
        None => crate::commands::random_id()?,
    };
    store.create_volume(&name, args.positional.is_empty())?;
    line(&name);
    Ok(0)
}

/// `volume inspect VOLUME...`: goes on after an error.
pub(super) fn inspect(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let mut found = Vec::new();
    for name in &args.positional {
        match store.volume(name) {
            Ok(volume) => found.push(describe(&store, &volume.name)),
            Err(error) => eprintln!("knarr-image: {error}"),
        }
    }
    let failed = found.len() < args.positional.len();
    inspected(args, found)?;
    Ok(u8::from(failed))
}

fn describe(store: &Store, name: &str) -> Value {
    let place = store.volume_path(name);
    json!({ "Name": name, "Driver": DRIVER, "Mountpoint": place, "Scope": "local", "Labels": {} })
}

/// `volume ls`
pub(super) fn list(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, Filter::parse)?;
    let store = crate::commands::store(args)?;
    let known = Known::all(&store)?;
    let shown = known.iter().filter(|volume| filters.fit(|filter| filter.fits(volume)));
    if args.has("quiet") {
        shown.for_each(|volume| line(&volume.name));
        return Ok(0);
    }
    let values: Vec<Value> = shown.map(|volume| describe(&store, &volume.name)).collect();
    rows(args, &[("DRIVER", "Driver"), ("VOLUME NAME", "Name")], &values)?;
    Ok(0)
}

/// `volume rm VOLUME...`: goes on after an error.
pub(super) fn rm(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let mut failed = false;
    for name in &args.positional {
        let removed = lock_names(&store).and_then(|names| remove(&store, name, &names));
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound && args.has("force") => line(name),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
            Ok(()) => line(name),
        }
    }
    crate::commands::empty_trash_later(&store);
    Ok(u8::from(failed))
}

/// `volume prune`: anonymous volumes that no container uses, or with `--all` named ones, too. Goes on after an error.
pub(super) fn prune(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, Filter::parse)?;
    if args.has("all") && filters.of("all").next().is_some() {
        return Err(invalid("volume prune: --all and --filter all= exclude each other: leave one out"));
    }
    let named = args.has("all") || filters.of("all").any(|filter| matches!(filter, Filter::All(true)));
    let store = crate::commands::store(args)?;
    let kind = if named { "all" } else { "anonymous" };
    if !confirmed(args, &format!("{kind} local volumes not used by at least one container"))? {
        return Ok(0);
    }
    let (mut removed, mut freed, mut failed) = (Vec::new(), 0, false);
    for volume in Known::all(&store)? {
        let meant = volume.sound && !volume.used && (named || volume.anonymous);
        if !meant || !filters.fit(|filter| filter.fits(&volume)) {
            continue;
        }
        let size = bytes(&store.volume_path(&volume.name));
        match lock_names(&store).and_then(|names| remove(&store, &volume.name, &names)) {
            Ok(()) => {
                removed.push(volume.name);
                freed += size;
            }
            // A container has just taken it, or somebody has removed it.
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    crate::commands::empty_trash_later(&store);
    report("Deleted Volumes", &removed, freed);
    Ok(u8::from(failed))
}

/// The containers that have a volume. One whose record another version wrote may have any; those that the library made have
/// none.
fn users(store: &Store, name: &str) -> Result<Vec<ContainerRecord>> {
    let uses = |container: &ContainerRecord| match recall(container) {
        Some(run) => run.volumes.iter().any(|mounted| mounted.name == name),
        None => !container.extra.is_null(),
    };
    Ok(store.containers()?.into_iter().filter(uses).collect())
}

/// Removes a volume that no container has. Nobody gets one meanwhile, for that takes the same lock.
fn remove(store: &Store, name: &str, _names: &NamesLock) -> Result<()> {
    if let Some(user) = users(store, name)?.first() {
        let id = &user.id[..user.id.len().min(12)];
        let message = match recall(user) {
            Some(_) => format!("volume {name:?}: container {id} has it"),
            None => format!("volume {name:?}: container {id} may have it: its record is of another version"),
        };
        return Err(Error::new(ErrorKind::Busy, message));
    }
    store.remove_volume(name)
}

/// Removes a volume if no container has it and it is still there.
pub(super) fn remove_unused(store: &Store, name: &str, names: &NamesLock) -> Result<()> {
    match remove(store, name, names) {
        Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(key: &str, value: &str, volume: &Known) -> bool {
        Filter::parse(key, value).unwrap().fits(volume)
    }

    #[test]
    fn filters_fit_or_do_not() {
        let volume = Known {
            name: "web-data".to_owned(),
            sound: true,
            used: false,
            anonymous: false,
            labels: BTreeMap::new(),
        };
        for (key, value, wanted) in [
            ("name", "data", true),
            ("name", "^web", true),
            ("name", "^data", false),
            ("name", "^web-data$", true),
            ("name", "tmp", false),
            ("name", "(web|db)-.*", true),
            ("dangling", "true", true),
            ("dangling", "0", false),
            ("driver", "local", true),
            ("driver", "loc", false),
            ("label", "a", false),
            ("label!", "a", true),
            ("all", "true", true),
            ("all", "false", false),
        ] {
            assert_eq!(fits(key, value, &volume), wanted, "{key}={value}");
        }
        let volume = Known { anonymous: true, used: true, ..volume };
        assert!(fits("all", "false", &volume) && fits("dangling", "false", &volume));
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for (key, value) in [("dangling", "perhaps"), ("all", ""), ("name", "(")] {
            let error = Filter::parse(key, value).unwrap_err().to_string();
            assert!(error.contains(&format!("invalid filter '{key}={value}'")), "{error}");
        }
    }

    #[test]
    fn every_key_of_the_tables_is_understood() {
        for key in KEYS.iter().chain(PRUNE_KEYS).map(|key| key.split_once('=').unwrap().0) {
            assert!(Filter::parse(key, "true").is_ok(), "{key}");
        }
    }
}
