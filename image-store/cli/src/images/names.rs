//! `tag` and `rmi`: the names of images.

use image_store::store::{Collected, ContainerRecord, Record};
use image_store::{ErrorKind, Reference, Store};

use crate::cli::Args;
use crate::container::find;
use crate::failure::{Failure, Result};
use crate::output::line;
use crate::{places, trash};

/// `tag IMAGE NAME`
pub(crate) fn tag(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let record = store.resolve(&args.positional[0])?;
    let name = Reference::parse(&args.positional[1])?;
    if name.digest().is_some() {
        return Err(Failure::new(
            ErrorKind::Invalid,
            format!("name {:?}: cannot tag with a digest", args.positional[1]),
        ));
    }
    store.tag(&record, &name)?;
    Ok(0)
}

/// `rmi IMAGE...`: continues after an error, as in Docker.
pub(crate) fn rmi(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match remove(&store, text, args.has("force")) {
            Ok(collected) if !args.has("quiet") => report(&collected),
            Ok(_) => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    trash::empty_later(&store);
    Ok(u8::from(failed))
}

/// By its name, an image loses that name; by its ID, the image is removed if it has only one name or with `--force`.
fn remove(store: &Store, text: &str, force: bool) -> Result<Collected> {
    let record = store.resolve(text)?;
    let by_name =
        Reference::parse(text).is_ok_and(|name| store.find(&name).is_ok_and(|found| found.is_some()));
    let names: Vec<Record> = store.images()?.into_iter().filter(|other| other.id == record.id).collect();
    if force && (!by_name || names.len() == 1) {
        refuse_running(store, text, &record)?;
    }
    if by_name || names.len() == 1 {
        return Ok(store.unname(&record, force)?);
    }
    if !force {
        let message =
            format!("image {text:?}: has {} tags: remove them one by one, or use --force", names.len());
        return Err(Failure::new(ErrorKind::Busy, message));
    }
    let mut all = Collected::default();
    for name in names {
        let collected = store.unname(&name, true)?;
        all.images.extend(collected.images);
        all.layers.extend(collected.layers);
    }
    Ok(all)
}

/// As in Docker, not even by force is an image removed that a container runs on.
fn refuse_running(store: &Store, text: &str, record: &Record) -> Result<()> {
    let runs =
        |container: &ContainerRecord| container.image_id == record.id && find::is_running(&container.id);
    match store.containers()?.intact.into_iter().find(runs) {
        Some(container) => Err(Failure::new(
            ErrorKind::Busy,
            format!("image {text:?}: in use by running container {}: stop it first", container.id),
        )),
        None => Ok(()),
    }
}

fn report(collected: &Collected) {
    for image in &collected.images {
        line(&format!("Untagged: {}", familiar(image)));
    }
    collected.layers.iter().for_each(|layer| line(&format!("Deleted: {layer}")));
}

/// An image's name as users write it.
pub(crate) fn familiar(image: &str) -> String {
    Reference::parse_untagged(image).map_or_else(|_| image.to_owned(), |name| name.familiar())
}
