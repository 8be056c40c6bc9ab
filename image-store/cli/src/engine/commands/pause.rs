//! `pause` and `unpause`.

use super::each::each;
use crate::cli::Args;
use crate::container::find::{id_of, live, resume_abandoned};
use crate::failure::{Failure, Result};

/// `pause CONTAINER...`
pub(crate) fn pause(args: &Args) -> Result<u8> {
    each(args, |store, text| live(store, text)?.1.pause().map_err(Failure::from))
}

/// `unpause CONTAINER...`
pub(crate) fn unpause(args: &Args) -> Result<u8> {
    each(args, |store, text| {
        if resume_abandoned(&id_of(store, text)?) {
            return Ok(());
        }
        live(store, text)?.1.resume().map_err(Failure::from)
    })
}
