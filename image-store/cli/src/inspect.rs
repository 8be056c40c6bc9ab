//! `inspect`: details of images and containers.

use image_store::{ErrorKind, Store};
use serde_json::Value;

use crate::cli::Args;
use crate::container::find;
use crate::failure::{Failure, Result};
use crate::output::inspected;
use crate::{container, images, places};

/// `inspect IMAGE|CONTAINER...`; with a `kind`, only images or only containers.
pub(crate) fn inspect(args: &Args, kind: Option<&str>) -> Result<u8> {
    let store = places::store(args)?;
    let mut found = Vec::new();
    let mut failed = false;
    for text in &args.positional {
        let described = if args.has("remote") {
            images::describe::describe_remote(args, text)
        } else {
            inspect_one(&store, text, kind)
        };
        match described {
            Ok(value) => found.push(value),
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    inspected(args, found)?;
    Ok(u8::from(failed))
}

/// If a container and an image have the same name, it is the container, as in Docker.
fn inspect_one(store: &Store, text: &str, kind: Option<&str>) -> Result<Value> {
    let container = || {
        let container = store.container(&find::id_of(store, text)?)?;
        container::describe::describe(store, &container)
    };
    let image = || images::describe::describe(store, &store.resolve(text)?);
    let missing = |error: &Failure| error.kind() == ErrorKind::NotFound;
    match kind {
        Some("container") => container(),
        Some("image") => image(),
        None => match container() {
            Err(error) if missing(&error) => image().map_err(|error| match missing(&error) {
                true => Failure::new(ErrorKind::NotFound, format!("{text:?}: no such container or image")),
                false => error,
            }),
            other => other,
        },
        Some(other) => {
            Err(Failure::new(ErrorKind::Invalid, format!("--type {other:?}: must be image or container")))
        }
    }
}
