//! `run` and `create`.

use std::fs::{File, remove_file};
use std::io::Write as _;

use image_store::platform::Platform;
use image_store::store::Record;
use image_store::{ErrorKind, Reference, Store};

use crate::cli::Args;
use crate::engine::client::attach::{Ends, attach, started};
use crate::engine::client::outcome::{Outcome, conclude, failed, lost};
use crate::engine::options::{self, Options};
use crate::engine::prepare::prepare;
use crate::engine::supervisor::spawn;
use crate::failure::{Result, invalid, os};
use crate::images::platform;
use crate::images::pull::{fetch, find_named};
use crate::interrupt::checked;
use crate::output::line;
use crate::places;

/// `run IMAGE [COMMAND]`
pub(crate) fn run(args: &Args) -> Result<u8> {
    match try_run(args) {
        Err(error) => {
            eprintln!("knarr-image: {error}");
            Ok(error.code())
        }
        code => code,
    }
}

fn try_run(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let (id, options) = make(args, &store)?;
    let mut socket = spawn(&store, &id, None)?;
    if options.detach {
        return match started(&mut socket)? {
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
        ..Ends::all(args, options.terminal)?
    };
    conclude(&id, attach(socket, ends, false)?)
}

/// `create IMAGE [COMMAND]`
pub(crate) fn create(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    line(&make(args, &store)?.0);
    Ok(0)
}

/// Creates a container as the command line describes it.
fn make(args: &Args, store: &Store) -> Result<(String, Options)> {
    let options = options::parse(args)?;
    // Found out before a pull, which may take long, and may be interrupted.
    if id_file(args)?.is_some() {
        forget(args);
    }
    let record = image(store, args)?;
    platform::warn(args, &record)?;
    warn_of_health_check(store, &record)?;
    let mut file = id_file(args)?;
    let id = checked(|going| {
        prepare(store, &record, &options, &args.positional[1..], going).inspect_err(|_| forget(args))
    })?;
    if let Some(file) = &mut file {
        file.write_all(id.as_bytes())?;
    }
    Ok((id, options))
}

/// Creates the file for the container's ID. An existing one belongs to another container.
fn id_file(args: &Args) -> Result<Option<File>> {
    let create = |path: &str| File::create_new(path).map_err(|e| os(e, format!("--cidfile {path:?}")));
    args.get("cidfile").map(create).transpose()
}

/// Removes the empty file for the container's ID.
fn forget(args: &Args) {
    args.get("cidfile").into_iter().for_each(|path| drop(remove_file(path)));
}

/// The image, from the store or from its registry, as `--pull` says.
fn image(store: &Store, args: &Args) -> Result<Record> {
    let name = &args.positional[0];
    let pull = args.get("pull").unwrap_or("missing");
    let found = match find_named(store, name) {
        Ok(Some(record)) => Ok(record),
        _ => store.resolve(name),
    };
    match (pull, found) {
        ("always", _) => fetch(args, store),
        ("missing", Err(error)) if error.kind() == ErrorKind::NotFound && Reference::parse(name).is_ok() => {
            eprintln!("Unable to find image {name:?} locally");
            fetch(args, store)
        }
        ("missing", Ok(record)) => fits_platform(store, args, record),
        ("missing" | "never", found) => Ok(found?),
        _ => Err(invalid(format!("--pull {pull:?}: must be always, missing or never"))),
    }
}

/// Health checks are not run yet: a user who relies on one must know.
fn warn_of_health_check(store: &Store, record: &Record) -> Result<()> {
    let check = store.config(record)?.0.config.unwrap_or_default().healthcheck;
    if check.is_some_and(|check| check.is_set()) {
        let name = record.reference().map_or_else(|| record.id.short().to_owned(), |name| name.familiar());
        eprintln!("knarr-image: warning: {name}: the image's HEALTHCHECK is not supported, and is not run");
    }
    Ok(())
}

/// Pulls an image again if it is for another platform than `--platform` says.
fn fits_platform(store: &Store, args: &Args, record: Record) -> Result<Record> {
    let Some(text) = args.get("platform") else { return Ok(record) };
    let wanted = Platform::parse(text)?;
    if Platform::parse(&record.platform).is_ok_and(|own| own == wanted) {
        return Ok(record);
    }
    fetch(args, store)
}

/// Whether `--attach` names a stream; without it, all are attached.
fn wanted(args: &Args, stream: &str) -> bool {
    args.get("attach").is_none() || args.all("attach").any(|name| name.eq_ignore_ascii_case(stream))
}
