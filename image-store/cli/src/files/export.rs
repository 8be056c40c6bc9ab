//! `export` and `commit`: a root file system as a tar, a container as an image.

use std::io::{BufWriter, Write as _};

use super::{pause, root};
use crate::cli::Args;
use crate::container::find;
use crate::failure::{Failure, Result};
use crate::images::changes::composition;
use crate::output::line;
use crate::{archive_output, interrupt, places};

/// `export CONTAINER|IMAGE`
pub(crate) fn export(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let root = root::mounted(&store, &args.positional[0], false)?;
    archive_output::write_to(args, |output| {
        Ok(store.export(&root, BufWriter::with_capacity(256 << 10, output))?.flush()?)
    })?;
    Ok(0)
}

/// `commit CONTAINER [NAME]`
pub(crate) fn commit(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let composition = composition(args, args.positional.get(1))?;
    let id = find::id_of(&store, &args.positional[0])?;
    let record = interrupt::deferred(|going| {
        let pause = args.get("pause") != Some("false");
        let _paused = if pause { pause::Paused::begin(&id, going)? } else { None };
        Ok::<_, Failure>(store.commit(&id, &composition, going)?)
    })?;
    line(record.id.as_str());
    Ok(0)
}
