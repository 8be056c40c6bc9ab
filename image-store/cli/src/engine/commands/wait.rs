//! `wait`.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use image_store::Store;

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
        while let Some((live, _)) = running(&id) {
            let _ = live.wait();
            std::thread::sleep(Duration::from_millis(20));
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
    Err(invalid(format!(
        "container {text:?}: no exit code: it was never started, or its supervisor was killed"
    )))
}
