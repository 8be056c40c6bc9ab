//! `wait`.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use image_store::Store;
use libcontainer::ExitStatus;

use crate::cli::Args;
use crate::container::find::{find, running};
use crate::container::locks::Supervisor;
use crate::container::record::Run;
use crate::engine::client::attach::started;
use crate::engine::client::outcome::Outcome;
use crate::failure::{Result, invalid};
use crate::output::line;
use crate::places;

const PAUSE: Duration = Duration::from_millis(10);
/// How long to wait for a process before the next look whether it is still the container's.
const LOOK: Duration = Duration::from_secs(1);

/// `wait CONTAINER...`: prints exit statuses.
pub(crate) fn wait(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match wait_one(&store, text) {
            Ok(code) => line(&code.to_string()),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    Ok(u8::from(failed))
}

fn wait_one(store: &Store, text: &str) -> Result<i32> {
    let id = find(store, text)?.id;
    let mut kept = None;
    if running(&id).is_some() {
        // The supervisor tells the status even of a container that is removed at once.
        let path = places::socket(&id)?;
        if let Ok(mut socket) = UnixStream::connect(&path) {
            while let Ok(outcome) = started(&mut socket) {
                match outcome {
                    Some(Outcome::Ended(code)) => return Ok(code),
                    Some(_) => break,
                    None => {}
                }
            }
        }
        // Without its supervisor, the kernel may tell how it ends, if it is asked before that.
        while let Some((live, _)) = running(&id) {
            match live.wait_timeout(LOOK) {
                Ok(status) => kept = status.or(kept),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
    // It has exited, but that may not be recorded yet.
    let supervisor = Supervisor::of(store, &id);
    loop {
        let there = supervisor.is_running();
        if let Some(code) = Run::require(&find(store, &id)?)?.exit_code {
            return Ok(code);
        }
        if !there {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let why = || {
        invalid(format!(
            "container {text:?}: no exit code: it was never started, or its supervisor was killed"
        ))
    };
    kept.map(|status: ExitStatus| status.code()).ok_or_else(why)
}
