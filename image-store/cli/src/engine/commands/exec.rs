//! `exec`.

use image_store::store::ContainerRecord;
use libcontainer::{Container, Status};
use serde_json::{Value, json};

use crate::cli::Args;
use crate::container::find::{live, live_root};
use crate::container::record::Run;
use crate::engine::capabilities::CAPABILITIES;
use crate::engine::client::attach::{Ends, attach, started};
use crate::engine::client::outcome::{Outcome, conclude, failed};
use crate::engine::supervisor::spawn;
use crate::engine::user::{self, User};
use crate::engine::{config, options};
use crate::failure::{Result, invalid};
use crate::places;

/// `exec CONTAINER COMMAND`
pub(crate) fn exec(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let (container, live, status) = live(&store, &args.positional[0])?;
    if status == Status::Paused {
        return Err(invalid(format!("container {:?}: is paused: unpause it first", args.positional[0])));
    }
    let process = process(args, &container, &live)?;
    let mut socket = spawn(&store, &container.id, Some(&process))?;
    if args.has("detach") {
        return match started(&mut socket)? {
            Some(Outcome::Failed(code, why)) => Ok(failed(code, &why)),
            _ => Ok(0),
        };
    }
    let ends = Ends { stdin: args.has("interactive"), ..Ends::all(args, args.has("tty"))? };
    conclude(&container.id, attach(socket, ends, false)?)
}

/// The process that `exec` starts: the container's own, as changed by the flags.
fn process(args: &Args, container: &ContainerRecord, live: &Container) -> Result<Value> {
    let resolve = |text| {
        let root =
            live_root(&container.id).ok_or_else(|| invalid(format!("container {}: has ended", live.id())))?;
        user::resolve(&root, text, &[])
    };
    let user = args.get("user").map(resolve).transpose()?;
    further(args, &Run::require(container)?.spec, user.as_ref())
}

/// As [`process`], of the container's config.json and the user that `--user` names.
pub(crate) fn further(args: &Args, spec: &Value, user: Option<&User>) -> Result<Value> {
    let mut process = spec["process"].clone();
    let mut environment: Vec<String> =
        serde_json::from_value(process["env"].clone()).map_err(|e| invalid(e.to_string()))?;
    if args.has("tty") && !environment.iter().any(|line| line.starts_with("TERM=")) {
        environment.push("TERM=xterm".to_owned());
    }
    if let Some(user) = user {
        process["user"] = json!({ "uid": user.uid, "gid": user.gid, "additionalGids": user.groups });
        config::merge(&mut environment, &[format!("HOME={}", user.home)]);
        if user.uid != 0 {
            for set in ["effective", "permitted"] {
                process["capabilities"][set] = json!([]);
            }
        } else if let Some(bounding) = process["capabilities"].get("bounding").cloned() {
            for set in ["effective", "permitted"] {
                process["capabilities"][set] = bounding.clone();
            }
        }
    }
    config::merge(&mut environment, &options::environment(args)?);
    process["env"] = json!(environment);
    if let Some(directory) = args.get("workdir") {
        process["cwd"] = json!(directory);
    }
    if args.has("privileged") {
        let all: Vec<String> = CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
        process["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    }
    process["terminal"] = json!(args.has("tty"));
    process["args"] = json!(args.positional[1..]);
    Ok(json!({ "process": process, "interactive": args.has("interactive") }))
}
