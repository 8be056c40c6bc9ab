//! Volumes: folders of the store that outlive containers. `volume create|ls|inspect|rm|prune`.

use image_store::{Error, ErrorKind, Result, Store};
use serde_json::{Value, json};

use super::options::invalid;
use super::record::recall;
use crate::args::Args;
use crate::output::{inspected, line, rows};

/// `volume ACTION [NAME...]`
pub(crate) fn volume(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let names = &args.positional[1..];
    match args.positional[0].as_str() {
        "create" => create(&store, names.first()),
        "ls" | "list" => list(args, &store),
        "inspect" => inspect(args, &store, names),
        "rm" | "remove" => each(names, |name| remove(&store, name, args.has("force"))),
        "prune" => prune(&store),
        other => Err(invalid(format!("volume {other:?}: is none of create, ls, inspect, rm, prune"))),
    }
}

fn each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut failed = false;
    for name in names {
        match act(name) {
            Ok(()) => line(name),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    Ok(u8::from(failed))
}

fn create(store: &Store, name: Option<&String>) -> Result<u8> {
    let anonymous = name.is_none();
    let name = match name {
        Some(name) => super::options::volume_name(name, name)?,
        None => crate::commands::random_id()?,
    };
    store.create_volume(&name, anonymous)?;
    line(&name);
    Ok(0)
}

/// The IDs of containers that have a volume.
fn users(store: &Store, name: &str) -> Result<Vec<String>> {
    let uses = |run: super::record::Run| run.volumes.iter().any(|mounted| mounted.name == name);
    let containers = store.containers()?.into_iter().filter(|c| recall(c).is_some_and(uses));
    Ok(containers.map(|container| container.id).collect())
}

fn list(args: &Args, store: &Store) -> Result<u8> {
    let names = store.volume_names()?;
    if args.has("quiet") {
        names.iter().for_each(|name| line(name));
        return Ok(0);
    }
    let values: Vec<Value> = names.iter().map(|name| describe(store, name)).collect();
    rows(args, &[("DRIVER", "Driver"), ("VOLUME NAME", "Name")], &values)?;
    Ok(0)
}

fn describe(store: &Store, name: &str) -> Value {
    json!({ "Name": name, "Driver": "local", "Mountpoint": store.root().join("volumes").join(name), "Scope": "local", "Labels": {} })
}

fn inspect(args: &Args, store: &Store, names: &[String]) -> Result<u8> {
    let known = store.volume_names()?;
    let mut found = Vec::new();
    let mut failed = false;
    for name in names {
        if known.contains(name) {
            found.push(describe(store, name));
        } else {
            eprintln!("knarr-image: volume {name:?}: does not exist");
            failed = true;
        }
    }
    inspected(args, found)?;
    Ok(u8::from(failed))
}

fn remove(store: &Store, name: &str, force: bool) -> Result<()> {
    if !store.volume_names()?.iter().any(|known| known == name) {
        if force {
            return Ok(());
        }
        return Err(Error::new(ErrorKind::NotFound, format!("volume {name:?}: does not exist")));
    }
    if let Some(user) = users(store, name)?.first() {
        let message = format!("volume {name:?}: container {} has it", &user[..user.len().min(12)]);
        return Err(Error::new(ErrorKind::Busy, message));
    }
    match store.remove_volume(name) {
        // Of two that end at once, the other was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a volume if no container has it and it is still there.
pub(super) fn remove_unused(store: &Store, name: &str) -> Result<()> {
    match remove(store, name, true) {
        Err(error) if error.kind() == ErrorKind::Busy => Ok(()),
        other => other,
    }
}

fn prune(store: &Store) -> Result<u8> {
    for name in store.volume_names()? {
        if users(store, &name)?.is_empty() {
            remove(store, &name, true)?;
            line(&name);
        }
    }
    Ok(0)
}
