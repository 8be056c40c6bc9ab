//! `ps`: containers, newest first.

use image_store::store::ContainerRecord;
use image_store::time::{parse_rfc3339, rfc3339};
use image_store::{Reference, Result, Store};
use libcontainer::Status;
use serde_json::{Value, json};

use super::options::invalid;
use super::record::{Run, recall, running};
use crate::args::Args;
use crate::output::{ago, line, rows, since, size};

/// A container's state as Docker names it.
pub(super) fn state(container: &ContainerRecord, run: Option<&Run>) -> &'static str {
    match running(&container.id) {
        Some((_, Status::Paused)) => "paused",
        Some((_, Status::Creating | Status::Created)) => "created",
        Some(_) => "running",
        None if run.is_some_and(|run| run.started.is_some()) => "exited",
        None => "created",
    }
}

/// `ps`
pub(crate) fn ps(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let filters = args.all("filter").map(filter).collect::<Result<Vec<_>>>()?;
    let by_state = filters.iter().any(|(key, _)| ["status", "exited"].contains(&&**key));
    let mut last = match args.get("last") {
        Some(text) => text.parse().map_err(|_| invalid(format!("--last {text:?}: is no number")))?,
        None if args.has("latest") => 1,
        None => usize::MAX,
    };
    let all = args.has("all") || by_state || last != usize::MAX;
    let mut values = Vec::new();
    for container in store.containers()?.into_iter().rev() {
        let run = recall(&container);
        let state = state(&container, run.as_ref());
        let shown = all || ["running", "paused"].contains(&state);
        if !shown || !filters.iter().all(|filter| fits(filter, &container, run.as_ref(), state)) || last == 0
        {
            continue;
        }
        last -= 1;
        values.push(row(args, &store, &container, run.as_ref(), state));
    }
    if args.has("quiet") {
        values.iter().for_each(|value| line(value["ID"].as_str().unwrap_or_default()));
        return Ok(0);
    }
    let mut columns = vec![
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("NAMES", "Names"),
    ];
    if args.has("size") {
        columns.push(("SIZE", "Size"));
    }
    rows(args, &columns, &values)?;
    Ok(0)
}

fn filter(text: &str) -> Result<(String, String)> {
    let known = ["id", "name", "label", "status", "exited", "ancestor", "volume"];
    match text.split_once('=') {
        Some((key, value)) if known.contains(&key) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid(format!("filter {text:?}: is none of {}", known.join("=, ")))),
    }
}

fn fits(
    (key, value): &(String, String),
    container: &ContainerRecord,
    run: Option<&Run>,
    state: &str,
) -> bool {
    let label = |run: &Run| match value.split_once('=') {
        Some((name, value)) => run.labels.get(name).is_some_and(|own| own == value),
        None => run.labels.contains_key(value),
    };
    match key.as_str() {
        "id" => container.id.starts_with(value),
        "name" => run
            .is_some_and(|run| run.name.contains(value.trim_start_matches(['^', '/']).trim_end_matches('$'))),
        "label" => run.is_some_and(label),
        "status" => state == value,
        "exited" => {
            state == "exited"
                && run.and_then(|run| run.exit_code).is_some_and(|code| code.to_string() == *value)
        }
        "volume" => run.is_some_and(|run| run.volumes.iter().any(|m| m.name == *value || m.target == *value)),
        _ => {
            let same = Reference::parse(value).is_ok_and(|name| name.to_string() == container.image);
            same || container.image_id.hex().starts_with(value.trim_start_matches("sha256:"))
        }
    }
}

/// What follows `Up` or `Exited`.
fn status(run: Option<&Run>, state: &str) -> String {
    let seconds = |time: &Option<String>| time.as_deref().and_then(parse_rfc3339);
    match (state, run) {
        ("running" | "paused", run) => {
            let paused = if state == "paused" { " (Paused)" } else { "" };
            format!("Up {}{paused}", since(run.and_then(|run| seconds(&run.started))))
        }
        ("exited", Some(run)) => match run.exit_code {
            Some(code) => format!("Exited ({code}) {}", ago(seconds(&run.finished))),
            None => "Exited (unknown)".to_owned(),
        },
        _ => "Created".to_owned(),
    }
}

fn row(args: &Args, store: &Store, container: &ContainerRecord, run: Option<&Run>, state: &str) -> Value {
    let whole = args.has("no-trunc");
    let image = Reference::parse_untagged(&container.image)
        .map_or_else(|_| container.image.clone(), |name| name.familiar());
    let command = run.map(|run| run.words().join(" ")).unwrap_or_default();
    let short = if command.chars().count() > 20 {
        format!("{}…", command.chars().take(19).collect::<String>())
    } else {
        command.clone()
    };
    let created = i64::try_from(container.created).ok();
    let labels = run.map(|run| run.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>());
    let mounts = run.map(|run| {
        let name =
            |m: &super::record::Mounted| if m.name.is_empty() { m.source.clone() } else { m.name.clone() };
        run.volumes.iter().map(name).collect::<Vec<_>>()
    });
    let bytes = || super::inspect::written(store, container);
    json!({
        "ID": if whole { &container.id } else { &container.id[..container.id.len().min(12)] },
        "Names": run.map_or(&container.id, |run| &run.name),
        "Image": image,
        "Command": format!("{:?}", if whole { &command } else { &short }),
        "CreatedAt": created.map(rfc3339),
        "RunningFor": ago(created),
        "State": state,
        "Status": status(run, state),
        "Labels": labels.unwrap_or_default().join(","),
        "Mounts": mounts.unwrap_or_default().join(","),
        "Networks": run.map(|run| run.network.clone()).unwrap_or_default(),
        "Ports": "",
        "LocalVolumes": run.map_or(0, |run| run.volumes.iter().filter(|m| !m.name.is_empty()).count()).to_string(),
        "Size": if args.has("size") { size(bytes()) } else { String::new() },
    })
}
