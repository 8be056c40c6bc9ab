//! `volume create|inspect|ls|prune|rm`: volumes are directories of the store that outlive containers.

use std::collections::BTreeMap;

use image_store::{ErrorKind, Store};
use regex_lite::Regex;
use serde_json::{Value, json};

use crate::cli::Args;
use crate::confirm::{confirmed, report};
use crate::container::locks::lock_names;
use crate::container::usage::bytes;
use crate::container::volumes::{remove, users};
use crate::engine::options::volume_name;
use crate::failure::{Result, invalid};
use crate::filter::{Filters, boolean, has_label, pattern, refused};
use crate::output::{inspected, line, rows};
use crate::{places, random, trash};

/// The filters of `volume ls`.
pub(crate) const KEYS: &[&str] =
    &["dangling=true|false", "driver=NAME", "label=NAME[=VALUE]", "name=PATTERN"];

/// The filters of `volume prune`.
pub(crate) const PRUNE_KEYS: &[&str] = &["all=true|false", "label=NAME[=VALUE]", "label!=NAME[=VALUE]"];

/// The driver of all volumes.
const DRIVER: &str = "local";

/// A volume as filters see it.
#[derive(Debug)]
struct Volume {
    name: String,
    /// A directory, and not what an image could put in its place with an earlier version.
    sound: bool,
    /// By a container, running or not.
    used: bool,
    anonymous: bool,
    labels: BTreeMap<String, String>,
}

impl Volume {
    /// All volumes, sorted by name.
    fn all(store: &Store) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for name in store.volume_names()? {
            match Self::of(store, name) {
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => all.push(other?),
            }
        }
        Ok(all)
    }

    fn of(store: &Store, name: String) -> Result<Self> {
        let used = !users(store, &name)?.is_empty();
        // What is not a volume, but in the place of one, is listed, and removed only by its name.
        let (sound, anonymous) = match store.volume(&name) {
            Err(error) if error.kind() == ErrorKind::NotAVolume => (false, false),
            other => (true, other?.anonymous),
        };
        // Volumes cannot have labels yet.
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
    /// Whether to include named volumes.
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
            _ => Err(refused(key, value, "a field of volumes")),
        }
    }

    fn fits(&self, volume: &Volume) -> bool {
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

/// `volume create [VOLUME]`: succeeds if it exists.
pub(crate) fn create(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let name = match args.positional.first() {
        Some(name) => volume_name(name, name)?,
        None => random::id()?,
    };
    store.create_volume(&name, args.positional.is_empty())?;
    line(&name);
    Ok(0)
}

/// `volume inspect VOLUME...`: continues after an error.
pub(crate) fn inspect(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
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
pub(crate) fn list(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, Filter::parse)?;
    let store = places::store(args)?;
    let volumes = Volume::all(&store)?;
    let shown = volumes.iter().filter(|volume| filters.fit(|filter| filter.fits(volume)));
    if args.has("quiet") {
        shown.for_each(|volume| line(&volume.name));
        return Ok(0);
    }
    let values: Vec<Value> = shown.map(|volume| describe(&store, &volume.name)).collect();
    rows(args, &[("DRIVER", "Driver"), ("VOLUME NAME", "Name")], &values)?;
    Ok(0)
}

/// `volume rm VOLUME...`: continues after an error.
pub(crate) fn rm(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
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
    trash::empty_later(&store);
    Ok(u8::from(failed))
}

/// `volume prune`: anonymous volumes that no container uses, with `--all` also named ones. Continues after an error.
pub(crate) fn prune(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, Filter::parse)?;
    if args.has("all") && filters.of("all").next().is_some() {
        return Err(invalid("volume prune: --all and --filter all= are mutually exclusive"));
    }
    let named = args.has("all") || filters.of("all").any(|filter| matches!(filter, Filter::All(true)));
    let store = places::store(args)?;
    let kind = if named { "all" } else { "anonymous" };
    if !confirmed(args, &format!("{kind} local volumes not used by at least one container"))? {
        return Ok(0);
    }
    let (mut removed, mut freed, mut failed) = (Vec::new(), 0, false);
    for volume in Volume::all(&store)? {
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
            // A container uses it now, or it was removed.
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    trash::empty_later(&store);
    report("Deleted Volumes", &removed, freed);
    Ok(u8::from(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(key: &str, value: &str, volume: &Volume) -> bool {
        Filter::parse(key, value).unwrap().fits(volume)
    }

    #[test]
    fn filters_fit_or_do_not() {
        let volume = Volume {
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
        let volume = Volume { anonymous: true, used: true, ..volume };
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
