//! `start`.

use image_store::Store;

use crate::cli::Args;
use crate::container::find::{find, running};
use crate::container::record::Run;
use crate::engine::client::attach::{Ends, attach, started};
use crate::engine::client::outcome::{Outcome, conclude, failed, lost};
use crate::engine::supervisor::spawn;
use crate::failure::{Result, invalid};
use crate::output::line;
use crate::places;

/// `start CONTAINER...`
pub(crate) fn start(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let watched = args.has("attach") || args.has("interactive");
    if watched && args.positional.len() > 1 {
        return Err(invalid("start: cannot attach to more than one container"));
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
    let container = find(store, text)?;
    let run = Run::require(&container)?;
    if running(&container.id).is_some() {
        line(text);
        return Ok(0);
    }
    let mut socket = spawn(store, &container.id, None)?;
    if watched {
        let stdin = run.interactive && args.has("interactive");
        let ends = Ends { stdin, ..Ends::all(args, run.terminal)? };
        return conclude(&container.id, attach(socket, ends, false)?);
    }
    match started(&mut socket)? {
        Some(Outcome::Failed(_, why)) => Ok(failed(1, &why)),
        Some(Outcome::Lost) => Err(lost(&container.id)),
        _ => {
            line(text);
            Ok(0)
        }
    }
}
