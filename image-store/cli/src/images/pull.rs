//! `pull`, also on behalf of `run` and `create`.

use image_store::store::{Record, Source};
use image_store::{Reference, Store};

use super::platform;
use super::registry::{client, first_of, registries, untagged};
use crate::cli::Args;
use crate::failure::Result;
use crate::output::line;
use crate::progress::Shown;
use crate::{interrupt, places};

/// `pull NAME`
pub(crate) fn pull(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    if args.has("all-tags") {
        return pull_all(args, &store);
    }
    let record = fetch(args, &store)?;
    platform::warn(args, &record)?;
    line(record.name.as_deref().unwrap_or_default());
    Ok(0)
}

/// `pull -a NAME`: every tag that the repository has now.
fn pull_all(args: &Args, store: &Store) -> Result<u8> {
    untagged(&args.positional[0])?;
    let (name, tags) = first_of(&args.positional[0], |reference| {
        Ok((reference.repository(), client(args, reference.domain())?.tags(reference)?))
    })?;
    for tag in tags {
        let record = fetch_one(args, store, &Reference::parse(&format!("{name}:{tag}"))?)?;
        line(record.name.as_deref().unwrap_or_default());
    }
    Ok(0)
}

/// Pulls the image that the first argument names.
pub(crate) fn fetch(args: &Args, store: &Store) -> Result<Record> {
    first_of(&args.positional[0], |reference| fetch_one(args, store, reference))
}

/// Finds an image in the store by a name as users type it, under any of the full names that it may mean.
pub(crate) fn find_named(store: &Store, text: &str) -> Result<Option<Record>> {
    for reference in registries()?.candidates(text)? {
        if let Some(record) = store.find(&reference)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

fn fetch_one(args: &Args, store: &Store, reference: &Reference) -> Result<Record> {
    let quiet = args.has("quiet");
    let client = client(args, reference.domain())?;
    let image = client.find(reference)?;
    if !quiet {
        eprintln!("{}: pulling from {}", reference.familiar(), image.host());
    }
    let progress = Shown::new(quiet, "Pulling");
    let platform = platform::wanted(args)?;
    let before = store.find(reference)?;
    let names = std::slice::from_ref(reference);
    let ingest = |source: &dyn Source| store.ingest(source, &image.descriptor, &platform, names, &progress);
    let record = interrupt::watched(&image, ingest)?;
    if !quiet {
        eprintln!("Digest: {}", record.target.digest);
        let same = before.is_some_and(|before| before.manifest.digest == record.manifest.digest);
        let status = if same { "Image is up to date for" } else { "Downloaded newer image for" };
        eprintln!("Status: {status} {}", reference.familiar());
    }
    Ok(record)
}
