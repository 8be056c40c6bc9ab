//! `prune` of images.

use image_store::store::Record;

use super::list;
use super::names::familiar;
use crate::cli::Args;
use crate::confirm::{confirmed, report};
use crate::failure::Result;
use crate::filter::{Filters, has_label};
use crate::places;

/// The filters of `prune`.
pub(crate) const PRUNE_KEYS: &[&str] = &["label=NAME[=VALUE]", "label!=NAME[=VALUE]"];

/// `prune`
pub(crate) fn prune(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, |key, value| Ok((key == "label", value.to_owned())))?;
    let store = places::store(args)?;
    let warning = match args.has("all") {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !confirmed(args, warning)? {
        return Ok(0);
    }
    let wanted = |record: &Record| {
        let labels = list::labels(&store, record);
        // An image whose config cannot be read may have any label: it is kept.
        filters.fit(|(there, label)| labels.as_ref().is_ok_and(|labels| has_label(labels, label) == *there))
    };
    let collected = store.prune(args.has("all"), wanted)?;
    store.empty_trash()?;
    let (ids, names): (Vec<_>, Vec<_>) =
        collected.images.iter().partition(|image| image.starts_with("sha256:"));
    let names = names.into_iter().map(|name| format!("untagged: {}", familiar(name)));
    let layers = collected.layers.iter().map(|layer| format!("deleted: {layer}"));
    let gone: Vec<String> =
        names.chain(ids.into_iter().map(|id| format!("deleted: {id}"))).chain(layers).collect();
    report("Deleted Images", &gone, collected.bytes);
    Ok(0)
}

/// `empty-trash`, hidden: removes what is no longer needed and deletes what is in the trash. Runs in the background.
pub(crate) fn empty_trash(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    store.collect()?;
    store.empty_trash()?;
    Ok(0)
}
