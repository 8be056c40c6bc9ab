//! The flags of `commit` and `import` that describe the new image.

use image_store::dockerfile;
use image_store::store::Composition;
use image_store::{ErrorKind, Reference};

use crate::cli::Args;
use crate::failure::{Failure, Result};

/// From `--change`, `--message`, `--author`, the name, and SOURCE_DATE_EPOCH.
pub(crate) fn composition(args: &Args, name: Option<&String>) -> Result<Composition> {
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => Some(text.parse().map_err(|_| {
            Failure::new(
                ErrorKind::Invalid,
                format!("SOURCE_DATE_EPOCH {text:?}: must be a number of seconds"),
            )
        })?),
        Err(_) => None,
    };
    Ok(Composition {
        name: name.map(|name| Reference::parse(name)).transpose()?,
        author: args.get("author").map(str::to_owned),
        comment: args.get("message").map(str::to_owned),
        created_by: None,
        epoch,
        // One text: a line may be continued in the next flag, as in Docker.
        changes: dockerfile::parse(&args.all("change").collect::<Vec<_>>().join("\n"))?,
        compression: None,
    })
}
