//! `attach`.

use std::os::unix::net::UnixStream;

use crate::cli::Args;
use crate::container::find::live;
use crate::container::record::Run;
use crate::engine::client;
use crate::engine::client::attach::Ends;
use crate::engine::client::outcome::conclude;
use crate::failure::{Result, os};
use crate::places;

/// `attach CONTAINER`
pub(crate) fn attach(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let (container, ..) = live(&store, &args.positional[0])?;
    let run = Run::require(&container)?;
    let path = places::socket(&container.id)?;
    let socket = UnixStream::connect(&path).map_err(|e| {
        os(
            e,
            format!("attach to {:?}: its supervisor does not respond: connect {path:?}", args.positional[0]),
        )
    })?;
    let stdin = run.interactive && !args.has("no-stdin");
    let ends = Ends { stdin, ..Ends::all(args, run.terminal)? };
    conclude(&container.id, client::attach::attach(socket, ends, true)?)
}
