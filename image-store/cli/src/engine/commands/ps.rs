//! `ps`: containers, newest first.

use image_store::store::ContainerRecord;
use image_store::time::{parse_rfc3339, rfc3339};
use image_store::{Reference, Store};
use regex_lite::Regex;
use serde_json::{Value, json};

use crate::cli::Args;
use crate::container::find::damaged;
use crate::container::record::{Mounted, Run};
use crate::container::state::state;
use crate::container::usage::written;
use crate::failure::{Result, invalid};
use crate::filter::{Filters, has_label, pattern, refused};
use crate::output::{ago, line, rows, since, size};
use crate::places;

/// The filters of `ps`.
pub(crate) const KEYS: &[&str] = &[
    "ancestor=IMAGE",
    "exited=STATUS",
    "id=ID",
    "label=NAME[=VALUE]",
    "name=PATTERN",
    "status=STATE",
    "volume=VOLUME|PATH",
];

/// Docker's names of states, some of which do not occur here.
const STATES: &[&str] = &["created", "dead", "exited", "paused", "removing", "restarting", "running"];

/// `ps`
pub(crate) fn ps(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let filters = Filters::parse(args, Filter::parse)?;
    let by_state = ["status", "exited"].iter().any(|key| filters.of(key).next().is_some());
    let mut last = match args.get("last") {
        Some(text) => text.parse().map_err(|_| invalid(format!("--last {text:?}: must be a number")))?,
        None if args.has("latest") => 1,
        None => usize::MAX,
    };
    let all = args.has("all") || by_state || last != usize::MAX;
    let mut values = Vec::new();
    let containers = store.containers()?;
    for (id, error) in &containers.damaged {
        eprintln!("knarr-image: warning: {}", damaged(id, error));
    }
    for container in containers.intact.into_iter().rev() {
        let run = Run::of(&container);
        let state = state(&container, run.as_ref());
        let shown = all || ["running", "paused"].contains(&state);
        let wanted = filters.fit(|filter| filter.fits(&container, run.as_ref(), state));
        if !shown || !wanted || last == 0 {
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

#[derive(Debug)]
enum Filter {
    Id(String),
    Name(Regex),
    Label(String),
    Status(String),
    Exited(i32),
    Ancestor(String),
    Volume(String),
}

impl Filter {
    fn parse(key: &str, value: &str) -> Result<Self> {
        let text = value.to_owned();
        match key {
            "id" => Ok(Self::Id(text)),
            "name" => pattern(key, value).map(Self::Name),
            "label" => Ok(Self::Label(text)),
            "status" if STATES.contains(&value) => Ok(Self::Status(text)),
            "status" => Err(refused(key, value, &format!("one of {}", STATES.join(", ")))),
            "exited" => value.parse().map(Self::Exited).map_err(|_| refused(key, value, "an exit status")),
            "ancestor" => Ok(Self::Ancestor(text)),
            "volume" => Ok(Self::Volume(text)),
            _ => Err(refused(key, value, "a field of containers")),
        }
    }

    fn fits(&self, container: &ContainerRecord, run: Option<&Run>, state: &str) -> bool {
        match self {
            Self::Id(start) => container.id.starts_with(start),
            // Docker's names begin with a slash.
            Self::Name(pattern) => run.is_some_and(|run| {
                pattern.is_match(&run.name) || pattern.is_match(&format!("/{}", run.name))
            }),
            Self::Label(wanted) => run.is_some_and(|run| has_label(&run.labels, wanted)),
            Self::Status(wanted) => state == wanted,
            Self::Exited(code) => state == "exited" && run.and_then(|run| run.exit_code) == Some(*code),
            Self::Volume(wanted) => {
                run.is_some_and(|run| run.volumes.iter().any(|m| m.name == *wanted || m.target == *wanted))
            }
            Self::Ancestor(image) => {
                let same = Reference::parse(image).is_ok_and(|name| name.to_string() == container.image);
                same || container.image_id.hex().starts_with(image.trim_start_matches("sha256:"))
            }
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
    let command = run.map(|run| run.command().join(" ")).unwrap_or_default();
    let short = if command.chars().count() > 20 {
        format!("{}…", command.chars().take(19).collect::<String>())
    } else {
        command.clone()
    };
    let created = i64::try_from(container.created).ok();
    let labels = run.map(|run| run.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>());
    let mounts = run.map(|run| {
        let name = |m: &Mounted| if m.name.is_empty() { m.source.clone() } else { m.name.clone() };
        run.volumes.iter().map(name).collect::<Vec<_>>()
    });
    let bytes = || written(store, container);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> (ContainerRecord, Run) {
        let hex = "ab".repeat(32);
        let record = json!({
            "id": format!("0123{}", &hex[..60]), "image": "docker.io/library/box:1", "image_id": format!("sha256:{hex}"),
            "manifest": { "mediaType": "", "digest": format!("sha256:{hex}"), "size": 0 }, "layers": [], "blobs": [], "created": 0, "extra": null,
        });
        let run = Run { name: "web-1".to_owned(), exit_code: Some(3), ..Run::default() };
        (serde_json::from_value(record).unwrap(), run)
    }

    #[test]
    fn filters_fit_or_do_not() {
        let (record, mut run) = container();
        run.labels.insert("tier".to_owned(), "front".to_owned());
        for (key, value, wanted) in [
            ("id", "0123a", true),
            ("id", "a", false),
            ("name", "web", true),
            ("name", "^web-1$", true),
            ("name", "^/web", true),
            ("name", "^web$", false),
            ("name", "^(db|web)-[0-9]+$", true),
            ("label", "tier", true),
            ("label", "tier=back", false),
            ("status", "exited", true),
            ("status", "running", false),
            ("exited", "3", true),
            ("exited", "0", false),
            ("ancestor", "box:1", true),
            ("ancestor", "box:2", false),
            ("ancestor", "abab", true),
            ("volume", "data", false),
        ] {
            let filter = Filter::parse(key, value).unwrap();
            assert_eq!(filter.fits(&record, Some(&run), "exited"), wanted, "{key}={value}");
        }
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for (key, value) in [("status", "sleeping"), ("status", ""), ("exited", "many"), ("name", "[")] {
            let error = Filter::parse(key, value).unwrap_err().to_string();
            assert!(error.contains(&format!("invalid filter '{key}={value}'")), "{error}");
        }
    }

    #[test]
    fn every_key_of_the_table_is_understood() {
        for key in KEYS.iter().map(|key| key.split_once('=').unwrap().0) {
            let value = match key {
                "status" => "created",
                _ => "1",
            };
            assert!(Filter::parse(key, value).is_ok(), "{key}");
        }
    }
}
