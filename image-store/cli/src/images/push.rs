//! `push`.

use image_store::store::Record;
use image_store::{ErrorKind, Reference, Store};

use super::registry::{client, untagged};
use crate::cli::Args;
use crate::failure::{Failure, Result, invalid};
use crate::output::line;
use crate::places;
use crate::progress::Shown;

/// `push IMAGE [NAME]`
pub(crate) fn push(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    if args.has("all-tags") {
        return push_all(args, &store);
    }
    let record = store.resolve(&args.positional[0])?;
    let target = match args.positional.get(1) {
        Some(name) => Reference::parse(name)?,
        None => record.reference().ok_or_else(|| {
            invalid(format!("image {:?}: has no tag: give a target NAME[:TAG]", args.positional[0]))
        })?,
    };
    push_one(args, &store, &record, &target)
}

/// `push -a NAME`
fn push_all(args: &Args, store: &Store) -> Result<u8> {
    let name = untagged(&args.positional[0])?;
    if let Some(other) = args.positional.get(1) {
        return Err(invalid(format!("{other:?}: must not be given with --all-tags")));
    }
    let images =
        store.images()?.into_iter().filter_map(|record| record.reference().map(|name| (record, name)));
    let images: Vec<_> = images
        .filter(|(_, known)| known.repository() == name.repository() && known.tag().is_some())
        .collect();
    if images.is_empty() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            format!("image {:?}: no such image", name.familiar_name()),
        ));
    }
    for (record, target) in &images {
        push_one(args, store, record, target)?;
    }
    Ok(0)
}

fn push_one(args: &Args, store: &Store, record: &Record, target: &Reference) -> Result<u8> {
    let quiet = args.has("quiet");
    if !quiet {
        eprintln!("The push refers to repository [{}]", target.repository());
    }
    let progress = Shown::new(quiet, "Pushing");
    let pushed = client(args, target.domain())?.push(store, record, target, &progress)?;
    let tag = target.tag().unwrap_or("none");
    line(&if quiet {
        target.to_string()
    } else {
        format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size)
    });
    Ok(0)
}
