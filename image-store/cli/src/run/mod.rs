//! `run`, `create`, `start`, `attach`, `exec` and their kin: containers from images, made by libcontainer.
//!
//! | file | what |
//! |---|---|
//! | `options/`, `spec`, `mounts`, `capabilities`, `seccomp`, `user` | flags and image to config.json |
//! | `prepare`, `record`, `names`, `volumes` | a container on disk |
//! | `supervise`, `relay`, `log`, `frames` | its parent, a process of its own |
//! | `attach`, `keys` | whoever watches it |
//! | `control`, `remove`, `list`, `inspect` | the other commands |
//! | `rootless` | the user namespace of those who are not root |

mod attach;
mod capabilities;
mod commands;
mod control;
mod devices;
mod frames;
#[cfg(test)]
mod golden;
mod inspect;
mod keys;
mod list;
mod log;
mod mounts;
mod names;
mod options;
mod prepare;
mod record;
mod relay;
mod remove;
pub(crate) mod rootless;
mod seccomp;
mod spec;
mod supervise;
mod user;
mod volumes;

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use image_store::store::Record;
use image_store::{Error, ErrorKind, Reference, Result, Store};
use serde_json::json;

pub(crate) use commands::COMMANDS;
pub(crate) use control::{kill, logs, pause, rename, restart, stop, top, unpause, wait};
pub(crate) use inspect::describe;
pub(crate) use list::ps;
use options::FLAGS;
pub(crate) use record::{id_of, live_root};
pub(crate) use remove::{prune, rm};
pub(crate) use supervise::supervise;

use crate::args::Args;
use crate::output::line;
use attach::{Ends, Outcome};
use keys::DetachKeys;
use options::invalid;

/// Docker's code for a failure of its own.
const FAILURE: u8 = 125;

/// `run IMAGE [COMMAND]`
pub(crate) fn run(args: &Args) -> Result<u8> {
    match try_run(args) {
        Err(error) => {
            eprintln!("knarr-image: {error}");
            Ok(FAILURE)
        }
        code => code,
    }
}

fn try_run(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let (id, options) = make(args, &store)?;
    let mut socket = supervise::spawn(&store, &id, None)?;
    if options.detach {
        return match attach::started(&mut socket)? {
            Some(Outcome::Failed(code, why)) => Ok(failed(code, &why)),
            Some(Outcome::Lost) => Err(lost(&id)),
            _ => {
                line(&id);
                Ok(0)
            }
        };
    }
    let ends = Ends {
        stdin: options.interactive && wanted(args, "STDIN"),
        stdout: wanted(args, "STDOUT"),
        stderr: wanted(args, "STDERR"),
        terminal: options.terminal,
        signals: args.get("sig-proxy") != Some("false"),
        keys: detach_keys(args)?,
    };
    conclude(&id, attach::attach(socket, ends, false)?)
}

/// Whether `--attach` asks for a stream; without it, all are meant.
fn wanted(args: &Args, stream: &str) -> bool {
    args.get("attach").is_none() || args.all("attach").any(|name| name.eq_ignore_ascii_case(stream))
}

fn detach_keys(args: &Args) -> Result<DetachKeys> {
    args.get("detach-keys").map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse)
}

fn failed(code: u8, why: &str) -> u8 {
    eprintln!("knarr-image: {why}");
    code
}

fn lost(id: &str) -> Error {
    Error::new(ErrorKind::Os, format!("container {id}: its parent is gone: was it killed?"))
}

/// The code to leave with.
fn conclude(id: &str, outcome: Outcome) -> Result<u8> {
    match outcome {
        Outcome::Ended(code) => Ok(u8::try_from(code).unwrap_or(255)),
        Outcome::Detached => Ok(0),
        Outcome::Failed(code, why) => Ok(failed(code, &why)),
        Outcome::Lost => Err(lost(id)),
    }
}

/// `create IMAGE [COMMAND]`
pub(crate) fn create(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    line(&make(args, &store)?.0);
    Ok(0)
}

/// Makes a container of what the command line says.
fn make(args: &Args, store: &Store) -> Result<(String, options::Options)> {
    let options = options::parse(args)?;
    let mut ids = match args.get("cidfile") {
        // Made first: an existing one is of another container.
        Some(path) => Some(
            std::fs::File::create_new(path)
                .map_err(|e| Error::from(e).context(format!("--cidfile {path:?}")))?,
        ),
        None => None,
    };
    let made = image(store, args)
        .and_then(|record| crate::commands::warn_of_platform(args, &record).map(|()| record))
        .and_then(|record| prepare::prepare(store, &record, &options, &args.positional[1..]));
    let id = made
        .inspect_err(|_| args.get("cidfile").into_iter().for_each(|path| drop(std::fs::remove_file(path))))?;
    if let Some(file) = &mut ids {
        file.write_all(id.as_bytes())?;
    }
    Ok((id, options))
}

/// From the store, or else from its registry, as `--pull` has it.
fn image(store: &Store, args: &Args) -> Result<Record> {
    let name = &args.positional[0];
    let pull = args.get("pull").unwrap_or("missing");
    let found = match crate::commands::find_named(store, name) {
        Ok(Some(record)) => Ok(record),
        _ => store.resolve(name),
    };
    match (pull, found) {
        ("always", _) => crate::commands::pull_for_run(args, store),
        ("missing", Err(error)) if error.kind() == ErrorKind::NotFound && Reference::parse(name).is_ok() => {
            eprintln!("Unable to find image {name:?} locally");
            crate::commands::pull_for_run(args, store)
        }
        ("missing", Ok(record)) => fits_platform(store, args, record),
        ("missing" | "never", found) => found,
        _ => Err(invalid(format!("--pull {pull:?}: is none of always, missing, never"))),
    }
}

/// An image for another platform than the one asked for is asked for again.
fn fits_platform(store: &Store, args: &Args, record: Record) -> Result<Record> {
    let Some(text) = args.get("platform") else { return Ok(record) };
    let wanted = image_store::platform::Platform::parse(text)?;
    if image_store::platform::Platform::parse(&record.platform).is_ok_and(|own| own == wanted) {
        return Ok(record);
    }
    crate::commands::pull_for_run(args, store)
}

/// `start CONTAINER...`
pub(crate) fn start(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let watched = args.has("attach") || args.has("interactive");
    if watched && args.positional.len() > 1 {
        return Err(invalid("start: only one container can be watched"));
    }
    let mut code = 0;
    for text in &args.positional {
        match start_one(args, &store, text, watched) {
            Ok(own) => code = own.max(code),
            Err(error) => code = failed(1, &error.to_string()),
        }
    }
    Ok(code)
}

fn start_one(args: &Args, store: &Store, text: &str, watched: bool) -> Result<u8> {
    let container = record::find(store, text)?;
    let run = record::known(&container)?;
    if record::running(&container.id).is_some() {
        line(text);
        return Ok(0);
    }
    let mut socket = supervise::spawn(store, &container.id, None)?;
    if watched {
        let stdin = run.interactive && args.has("interactive");
        let ends = Ends { stdin, ..all_ends(args, run.terminal)? };
        return conclude(&container.id, attach::attach(socket, ends, false)?);
    }
    match attach::started(&mut socket)? {
        Some(Outcome::Failed(_, why)) => Ok(failed(1, &why)),
        Some(Outcome::Lost) => Err(lost(&container.id)),
        _ => {
            line(text);
            Ok(0)
        }
    }
}

fn all_ends(args: &Args, terminal: bool) -> Result<Ends> {
    let signals = args.get("sig-proxy") != Some("false");
    Ok(Ends { stdin: true, stdout: true, stderr: true, terminal, signals, keys: detach_keys(args)? })
}

/// `attach CONTAINER`
pub(crate) fn attach(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let (container, ..) = record::live(&store, &args.positional[0])?;
    let run = record::known(&container)?;
    let path = record::socket(&container.id)?;
    let socket = UnixStream::connect(&path).map_err(|e| {
        Error::from(e).context(format!(
            "attach to {:?}: its parent does not answer: connect {path:?}",
            args.positional[0]
        ))
    })?;
    let stdin = run.interactive && !args.has("no-stdin");
    let ends = Ends { stdin, ..all_ends(args, run.terminal)? };
    conclude(&container.id, attach::attach(socket, ends, true)?)
}

/// `exec CONTAINER COMMAND`
pub(crate) fn exec(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let (container, live, status) = record::live(&store, &args.positional[0])?;
    if status == libcontainer::Status::Paused {
        return Err(invalid(format!("container {:?}: is paused: unpause it first", args.positional[0])));
    }
    let process = process(args, &container, &live)?;
    let mut socket = supervise::spawn(&store, &container.id, Some(&process))?;
    if args.has("detach") {
        return match attach::started(&mut socket)? {
            Some(Outcome::Failed(code, why)) => Ok(failed(code, &why)),
            _ => Ok(0),
        };
    }
    let ends = Ends { stdin: args.has("interactive"), ..all_ends(args, args.has("tty"))? };
    conclude(&container.id, attach::attach(socket, ends, false)?)
}

/// The process that `exec` starts: the container's own, as changed by the flags.
fn process(
    args: &Args,
    container: &image_store::store::ContainerRecord,
    live: &libcontainer::Container,
) -> Result<serde_json::Value> {
    let resolve = |text| {
        let root =
            live_root(&container.id).ok_or_else(|| invalid(format!("container {}: has ended", live.id())))?;
        user::resolve(&root, text, &[])
    };
    let user = args.get("user").map(resolve).transpose()?;
    further(args, &record::known(container)?.spec, user.as_ref())
}

/// As [`process`], of the container's config.json and the user that `--user` names.
fn further(args: &Args, spec: &serde_json::Value, user: Option<&user::User>) -> Result<serde_json::Value> {
    let mut process = spec["process"].clone();
    let mut environment: Vec<String> =
        serde_json::from_value(process["env"].clone()).map_err(|e| invalid(e.to_string()))?;
    if args.has("tty") && !environment.iter().any(|line| line.starts_with("TERM=")) {
        environment.push("TERM=xterm".to_owned());
    }
    if let Some(user) = user {
        process["user"] = json!({ "uid": user.uid, "gid": user.gid, "additionalGids": user.groups });
        spec::merge(&mut environment, &[format!("HOME={}", user.home)]);
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
    spec::merge(&mut environment, &options::environment(args)?);
    process["env"] = json!(environment);
    if let Some(folder) = args.get("workdir") {
        process["cwd"] = json!(folder);
    }
    if args.has("privileged") {
        let all: Vec<String> = capabilities::CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
        process["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    }
    process["terminal"] = json!(args.has("tty"));
    process["args"] = json!(args.positional[1..]);
    Ok(json!({ "process": process, "interactive": args.has("interactive") }))
}
