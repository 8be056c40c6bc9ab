//! `exec`.

use image_store::store::ContainerRecord;
use libcontainer::spec::{Capabilities, LinuxCapabilities, Spec};
use libcontainer::{Container, Status};

use crate::cli::Args;
use crate::container::find::{live, live_root};
use crate::container::record::Run;
use crate::engine::client::attach::{Ends, attach, started};
use crate::engine::client::outcome::{Outcome, conclude, failed};
use crate::engine::frames::ExecRequest;
use crate::engine::supervisor::spawn;
use crate::engine::user::{self, User};
use crate::engine::{capabilities, config, options};
use crate::failure::{Result, invalid};
use crate::places;

/// `exec CONTAINER COMMAND`
pub(crate) fn exec(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let (container, live, status) = live(&store, &args.positional[0])?;
    if status == Status::Paused {
        return Err(invalid(format!("container {:?}: is paused: use `unpause` first", args.positional[0])));
    }
    let request = request(args, &container, &live)?;
    let mut socket = spawn(&store, &container.id, Some(&request))?;
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
fn request(args: &Args, container: &ContainerRecord, live: &Container) -> Result<ExecRequest> {
    let resolve = |text| {
        let root = live_root(&container.id)
            .ok_or_else(|| invalid(format!("container {}: has exited", live.id())))?;
        user::resolve(&root, text, &[])
    };
    let user = args.get("user").filter(|text| !text.is_empty()).map(resolve).transpose()?;
    further(args, &Run::require(container)?.spec, user.as_ref())
}

/// As [`request`], from the container's config.json and the user that `--user` names.
pub(crate) fn further(args: &Args, spec: &Spec, user: Option<&User>) -> Result<ExecRequest> {
    let process = spec.process().clone();
    let mut process = process.ok_or_else(|| invalid("the container's config.json has no process"))?;
    let mut environment = process.env().clone().unwrap_or_default();
    if args.has("tty") && !environment.iter().any(|line| line.starts_with("TERM=")) {
        environment.push("TERM=xterm".to_owned());
    }
    if let Some(user) = user {
        process.set_user(user.ids());
        config::merge(&mut environment, &[format!("HOME={}", user.home)]);
        if let Some(mut sets) = process.capabilities().clone() {
            let effective = if user.uid == 0 { sets.bounding().clone() } else { Some(Capabilities::new()) };
            sets.set_effective(effective.clone()).set_permitted(effective);
            process.set_capabilities(Some(sets));
        }
    }
    config::merge(&mut environment, &options::environment(args)?);
    process
        .set_env(Some(environment))
        .set_terminal(Some(args.has("tty")))
        .set_args(Some(args.positional[1..].to_vec()));
    if let Some(directory) = args.get("workdir").filter(|text| !text.is_empty()) {
        process.set_cwd(directory.into());
    }
    if args.has("privileged") {
        let all = Some(capabilities::set(&capabilities::capabilities(&[], &[], true))?);
        let mut sets = LinuxCapabilities::default();
        sets.set_bounding(all.clone())
            .set_effective(all.clone())
            .set_permitted(all)
            .set_inheritable(None)
            .set_ambient(None);
        process.set_capabilities(Some(sets));
    }
    Ok(ExecRequest { process, interactive: args.has("interactive") })
}
