//! `images`: the list of images.

use std::collections::BTreeMap;

use image_store::store::Record;
use image_store::time::parse_rfc3339;
use image_store::{Reference, Store};
use serde_json::{Value, json};

use crate::cli::Args;
use crate::failure::Result;
use crate::filter::{Filters, boolean, has_label, refused};
use crate::output::{ago, line, rows, size};
use crate::places;

/// The filters of `images`.
pub(crate) const KEYS: &[&str] =
    &["before=IMAGE", "dangling=true|false", "label=NAME[=VALUE]", "reference=PATTERN", "since=IMAGE"];

/// `images [NAME]`
pub(crate) fn images(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let mut records = store.images()?;
    records.sort_by_key(|record| std::cmp::Reverse(record.created.as_deref().and_then(parse_rfc3339)));
    let filters = Filters::parse(args, |key, value| filter(&store, key, value))?;
    let named = args.positional.first().map(|pattern| Filter::Reference(pattern.clone()));
    let named = |record: &Record| named.as_ref().is_none_or(|filter| filter.fits(&store, record));
    records.retain(|record| named(record) && filters.fit(|filter| filter.fits(&store, record)));
    if args.has("quiet") {
        let mut seen = Vec::new();
        for record in &records {
            if !seen.contains(&&record.id) {
                line(if args.has("no-trunc") { record.id.as_str() } else { record.id.short() });
                seen.push(&record.id);
            }
        }
        return Ok(0);
    }
    let values: Vec<_> = records.iter().map(|record| row(record, args.has("no-trunc"))).collect();
    let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
    if args.has("digests") {
        columns.push(("DIGEST", "Digest"));
    }
    columns.extend([("IMAGE ID", "ID"), ("CREATED", "CreatedSince"), ("SIZE", "Size")]);
    rows(args, &columns, &values)?;
    Ok(0)
}

fn row(record: &Record, whole: bool) -> Value {
    let reference = record.reference();
    let none = || "<none>".to_owned();
    let id = if whole { record.id.as_str() } else { record.id.short() };
    json!({
        "Repository": reference.as_ref().map_or_else(none, Reference::familiar_name),
        "Tag": reference.as_ref().and_then(|r| r.tag().map(str::to_owned)).unwrap_or_else(none),
        "Digest": record.target.digest.as_str(),
        "ID": id,
        "CreatedSince": ago(record.created.as_deref().and_then(parse_rfc3339)),
        "CreatedAt": record.created,
        "Size": size(record.size),
        "VirtualSize": size(record.size),
        "Platform": record.platform,
    })
}

enum Filter {
    Dangling(bool),
    Reference(String),
    Label(String),
    /// Created before, or after, a time in seconds since the epoch.
    Before(i64),
    Since(i64),
}

fn filter(store: &Store, key: &str, value: &str) -> Result<Filter> {
    let time = |image: &str| store.resolve(image).map(|record| created(&record));
    match key {
        "dangling" => boolean(key, value).map(Filter::Dangling),
        "reference" => Ok(Filter::Reference(value.to_owned())),
        "label" => Ok(Filter::Label(value.to_owned())),
        "before" => Ok(Filter::Before(time(value)?)),
        "since" => Ok(Filter::Since(time(value)?)),
        _ => Err(refused(key, value, "a field of images")),
    }
}

fn created(record: &Record) -> i64 {
    record.created.as_deref().and_then(parse_rfc3339).unwrap_or(0)
}

/// The labels of an image's config.
pub(crate) fn labels(store: &Store, record: &Record) -> Result<BTreeMap<String, String>> {
    let (config, _) = store.config(record)?;
    Ok(config.config.and_then(|config| config.labels).unwrap_or_default())
}

impl Filter {
    fn fits(&self, store: &Store, record: &Record) -> bool {
        match self {
            Self::Label(wanted) => labels(store, record).is_ok_and(|labels| has_label(&labels, wanted)),
            Self::Before(time) => created(record) < *time,
            Self::Since(time) => created(record) > *time,
            Self::Dangling(wanted) => record.name.is_none() == *wanted,
            Self::Reference(pattern) => record.reference().is_some_and(|name| {
                // A name as users type it, or else a pattern for the short name.
                let same = Reference::parse_untagged(pattern).is_ok_and(|typed| {
                    typed.repository() == name.repository()
                        && typed.tag().is_none_or(|tag| name.tag() == Some(tag))
                });
                same || glob(pattern, &name.familiar_name()) || glob(pattern, &name.familiar())
            }),
        }
    }
}

/// Matches a pattern: `*` is any text without `/`, `?` one character.
fn glob(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let tail = rest.as_str();
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.take_while(|at| !text[..*at].contains('/')).any(|at| glob(tail, &text[at..]))
        }
        Some(wanted) => {
            let mut characters = text.chars();
            characters.next().is_some_and(|c| c == wanted || wanted == '?')
                && glob(rest.as_str(), characters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, text, fits) in [
            ("al*", "alpine", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("?lpine:3*", "alpine:3.4", true),
            ("alp", "alpine", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
