//! Volumes: directories of the store that outlive containers. `volume create|inspect|ls|prune|rm`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image_store::{Error, ErrorKind, Result, Store};
use regex_lite::Regex;
use serde_json::{Value, json};

use super::inspect::bytes;
use super::options::invalid;
use super::record::recall;
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
    /// By a container, running or not.
    used: bool,
    anonymous: bool,
    labels: BTreeMap<String, String>,
}

impl Known {
    fn of(store: &Store, name: String) -> Result<Self> {
        let (used, anonymous) = (!users(store, &name)?.is_empty(), is_anonymous(store, &name)?);
        // There is nothing yet that gives a volume labels.
        Ok(Self { name, used, anonymous, labels: BTreeMap::new() })
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
    let path = path(&store, &name);
    std::fs::create_dir_all(&path).map_err(|e| Error::from(e).context(format!("mkdir {path:?}")))?;
    line(&name);
    Ok(0)
}

/// `volume inspect VOLUME...`
pub(super) fn inspect(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let known = all(&store)?;
    let mut found = Vec::new();
    for name in &args.positional {
        if known.contains(name) {
            found.push(describe(&store, name));
        } else {
            eprintln!("knarr-image: volume {name:?}: does not exist");
        }
    }
    let failed = found.len() < args.positional.len();
    inspected(args, found)?;
    Ok(u8::from(failed))
}

fn describe(store: &Store, name: &str) -> Value {
    json!({ "Name": name, "Driver": DRIVER, "Mountpoint": path(store, name), "Scope": "local", "Labels": {} })
}

/// `volume ls`
pub(super) fn list(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, Filter::parse)?;
    let store = crate::commands::store(args)?;
    let known = all(&store)?.into_iter().map(|name| Known::of(&store, name)).collect::<Result<Vec<_>>>()?;
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
        match remove(&store, name, args.has("force")) {
            Ok(()) => line(name),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
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
    for name in all(&store)? {
        let volume = Known::of(&store, name)?;
        let meant = !volume.used && (named || volume.anonymous);
        if !meant || !filters.fit(|filter| filter.fits(&volume)) {
            continue;
        }
        let size = bytes(&path(&store, &volume.name));
        match remove(&store, &volume.name, true) {
            Ok(()) => {
                removed.push(volume.name);
                freed += size;
            }
            // A container has just taken it.
            Err(error) if error.kind() == ErrorKind::Busy => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    report("Deleted Volumes", &removed, freed);
    Ok(u8::from(failed))
}

fn folder(store: &Store) -> PathBuf {
    store.root().join("volumes")
}

/// Where a volume's files are.
pub(super) fn path(store: &Store, name: &str) -> PathBuf {
    folder(store).join(name)
}

/// Whether a volume was made for one container, and no person has given it a name.
#[expect(clippy::unnecessary_wraps, reason = "what a volume is will be read from its record")]
fn is_anonymous(_store: &Store, name: &str) -> Result<bool> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    Ok(name.len() == 64 && name.bytes().all(digit))
}

fn all(store: &Store) -> Result<Vec<String>> {
    let folder = folder(store);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::from(error).context(format!("list {folder:?}"))),
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// The IDs of containers that have a volume.
fn users(store: &Store, name: &str) -> Result<Vec<String>> {
    let uses = |run: super::record::Run| run.volumes.iter().any(|mounted| mounted.name == name);
    let containers = store.containers()?.into_iter().filter(|c| recall(c).is_some_and(uses));
    Ok(containers.map(|container| container.id).collect())
}

fn remove(store: &Store, name: &str, force: bool) -> Result<()> {
    if !all(store)?.iter().any(|known| known == name) {
        if force {
            return Ok(());
        }
        return Err(Error::new(ErrorKind::NotFound, format!("volume {name:?}: does not exist")));
    }
    if let Some(user) = users(store, name)?.first() {
        let message = format!("volume {name:?}: container {} has it", &user[..user.len().min(12)]);
        return Err(Error::new(ErrorKind::Busy, message));
    }
    let path = path(store, name);
    match std::fs::remove_dir_all(&path) {
        // Of two that end at once, the other was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| Error::from(e).context(format!("remove {path:?}"))),
    }
}

/// Removes a volume if no container has it and it is still there.
pub(super) fn remove_unused(store: &Store, name: &str) -> Result<()> {
    match remove(store, name, true) {
        Err(error) if error.kind() == ErrorKind::Busy => Ok(()),
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
        let volume =
            Known { name: "web-data".to_owned(), used: false, anonymous: false, labels: BTreeMap::new() };
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
