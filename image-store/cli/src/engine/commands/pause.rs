//! `pause` and `unpause`.

use image_store::Result;

use super::each::each;
use crate::cli::Args;
use crate::container::find::live;
use crate::failure::from_runtime;

/// `pause CONTAINER...`
pub(crate) fn pause(args: &Args) -> Result<u8> {
    each(args, |store, text| live(store, text)?.1.pause().map_err(|e| from_runtime(&e)))
}

/// `unpause CONTAINER...`
pub(crate) fn unpause(args: &Args) -> Result<u8> {
    each(args, |store, text| live(store, text)?.1.resume().map_err(|e| from_runtime(&e)))
}
