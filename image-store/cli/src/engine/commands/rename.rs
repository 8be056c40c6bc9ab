//! `rename`.

use image_store::ErrorKind;

use crate::cli::Args;
use crate::container::find::find;
use crate::container::locks::lock_names;
use crate::container::record::Run;
use crate::engine::options::name;
use crate::failure::{Failure, Result};
use crate::places;

/// `rename CONTAINER NAME`
pub(crate) fn rename(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let wanted = name(&args.positional[1])?;
    let _names = lock_names(&store)?;
    let id = find(&store, &args.positional[0])?.id;
    if find(&store, &wanted).is_ok_and(|other| Run::of(&other).is_some_and(|run| run.name == wanted)) {
        return Err(Failure::new(
            ErrorKind::Exists,
            format!("container {wanted:?}: already exists: remove it, or choose another name"),
        ));
    }
    Run::change(&store, &id, |run| run.name = wanted)?;
    Ok(0)
}
