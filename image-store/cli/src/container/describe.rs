//! Details of a container, for `inspect`.

use image_store::Store;
use image_store::store::ContainerRecord;
use image_store::time::rfc3339;
use libcontainer::Container;
use libcontainer::spec::Spec;
use serde_json::{Value, json};

use super::find::{oom_killed, running};
use super::record::{Mounted, Restart, Run};
use super::state::state;
use crate::failure::{Result, invalid};
use crate::places;

const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container in the form of `docker container inspect`, with config.json in `Spec`.
pub(crate) fn describe(store: &Store, container: &ContainerRecord) -> Result<Value> {
    let run = Run::of(container);
    let state = state(container, run.as_ref());
    let directory = places::container(store, &container.id);
    let mut described = json!({
        "Id": container.id,
        "Created": i64::try_from(container.created).map(rfc3339).unwrap_or_default(),
        "Image": container.image_id,
        "Driver": "overlay",
        "Platform": "linux",
        "GraphDriver": { "Name": "overlay", "Data": {
            "UpperDir": directory.upper(), "WorkDir": directory.work(),
        }},
        "HostnamePath": directory.etc("hostname"),
        "HostsPath": directory.etc("hosts"),
        "ResolvConfPath": directory.etc("resolv.conf"),
        "LogPath": directory.log(),
        "State": described_state(container, run.as_ref(), state),
    });
    if let (Some(run), Some(fields)) = (&run, described.as_object_mut()) {
        let command = run.command();
        fields.insert("Name".into(), json!(format!("/{}", run.name)));
        fields.insert("Path".into(), json!(command.first()));
        fields.insert("Args".into(), json!(command.get(1..)));
        fields.insert("RestartCount".into(), json!(run.restarts));
        fields.insert("Config".into(), config(container, run));
        fields.insert("HostConfig".into(), host_config(run));
        fields.insert("Mounts".into(), run.volumes.iter().map(mount).collect());
        fields.insert("NetworkSettings".into(), json!({ "Networks": {}, "Ports": {} }));
        fields.insert("Spec".into(), sorted(&run.spec)?);
    }
    Ok(described)
}

fn described_state(container: &ContainerRecord, run: Option<&Run>, state: &str) -> Value {
    let time = |time: Option<&String>| time.cloned().unwrap_or_else(|| NEVER.to_owned());
    let live = running(&container.id).map(|(live, _)| live);
    json!({
        "Status": state,
        "Running": (state == "running" || state == "paused"),
        "Paused": state == "paused",
        "Restarting": false,
        "Dead": false,
        "OOMKilled": live.as_ref().map_or_else(|| run.is_some_and(|run| run.oom_killed), oom_killed),
        "Pid": live.as_ref().map_or(0, Container::pid),
        "ExitCode": exit_code(run, state),
        "Error": run.map(|run| run.error.clone()).unwrap_or_default(),
        "StartedAt": time(run.and_then(|run| run.started.as_ref())),
        "FinishedAt": time(run.and_then(|run| run.finished.as_ref())),
    })
}

/// Docker's form has a number in any case: 0 while there is no exit, and 255 for one whose status nobody knows.
fn exit_code(run: Option<&Run>, state: &str) -> i32 {
    let unknown = if state == "exited" { 255 } else { 0 };
    run.and_then(|run| run.exit_code).unwrap_or(unknown)
}

fn config(container: &ContainerRecord, run: &Run) -> Value {
    let process = run.spec.process().as_ref();
    json!({
        "Hostname": run.spec.hostname(),
        "User": run.user,
        "Tty": run.terminal,
        "OpenStdin": run.interactive,
        "StdinOnce": run.input_once,
        "Env": process.and_then(|process| process.env().as_ref()),
        "Cmd": run.command(),
        "WorkingDir": process.map(|process| process.cwd()),
        "Image": container.image,
        "Labels": run.labels,
        "StopSignal": run.stop_signal,
        "StopTimeout": run.stop_timeout,
    })
}

fn host_config(run: &Run) -> Value {
    let linux = run.spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    let cpu = resources.and_then(|resources| resources.cpu().as_ref());
    let pids = resources.and_then(|resources| resources.pids().as_ref());
    json!({
        "AutoRemove": run.remove,
        "NetworkMode": run.network,
        "Privileged": run.privileged,
        "ReadonlyRootfs": run.spec.root().as_ref().and_then(|root| root.readonly()),
        "RestartPolicy": { "Name": restart_name(run) },
        "LogConfig": { "Type": if run.log { "json-file" } else { "none" } },
        "Memory": memory.and_then(|memory| memory.limit()).unwrap_or(0),
        "MemorySwap": memory.and_then(|memory| memory.swap()).unwrap_or(0),
        "CpuQuota": cpu.and_then(|cpu| cpu.quota()).unwrap_or(0),
        "CpuPeriod": cpu.and_then(|cpu| cpu.period()).unwrap_or(0),
        "CpuShares": cpu.and_then(|cpu| cpu.shares()).unwrap_or(0),
        "PidsLimit": pids.map(|pids| pids.limit()),
        "CgroupParent": linux.and_then(|linux| linux.cgroups_path().as_ref()),
    })
}

/// config.json, with its sets of capabilities in order.
fn sorted(spec: &Spec) -> Result<Value> {
    let mut spec = serde_json::to_value(spec).map_err(|e| invalid(e.to_string()))?;
    let sets = spec.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    }
    Ok(spec)
}

fn restart_name(run: &Run) -> &'static str {
    match run.restart {
        Restart::No => "no",
        Restart::OnFailure(_) => "on-failure",
        Restart::Always => "always",
    }
}

fn mount(mounted: &Mounted) -> Value {
    json!({
        "Type": if mounted.name.is_empty() { "bind" } else { "volume" },
        "Name": mounted.name,
        "Source": mounted.source,
        "Destination": mounted.target,
        "RW": !mounted.read_only,
        "Propagation": mounted.propagation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_whose_status_nobody_knows_is_no_success() {
        let run = |code| Run { exit_code: code, ..Run::default() };
        for (code, state, expected) in [
            (None, "exited", 255),
            (Some(0), "exited", 0),
            (Some(3), "exited", 3),
            (None, "running", 0),
            (None, "created", 0),
        ] {
            assert_eq!(exit_code(Some(&run(code)), state), expected, "{code:?} {state}");
        }
        assert_eq!(exit_code(None, "created"), 0);
    }
}
