//! Commands that do the same to several containers.

use image_store::Store;

use crate::cli::Args;
use crate::failure::Result;
use crate::output::line;
use crate::places;

/// Does something to each named container, also after an error, and prints the names of those it worked for.
pub(crate) fn each(args: &Args, mut act: impl FnMut(&Store, &str) -> Result<()>) -> Result<u8> {
    let store = places::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match act(&store, text) {
            Ok(()) => line(text),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    Ok(u8::from(failed))
}
