//! `search` and `tags`: what a registry has.

use image_store::Reference;
use serde_json::{Value, json};

use super::registry::client;
use crate::cli::Args;
use crate::failure::{Result, invalid};
use crate::filter::{Filters, boolean, refused};
use crate::output::{line, rows};

/// A filter of `search`.
enum Wanted {
    Stars(u64),
    Official(bool),
}

/// `search TERM`
pub(crate) fn search(args: &Args) -> Result<u8> {
    let filters = Filters::parse(args, |key, value| match key {
        "stars" => value.parse().map(Wanted::Stars).map_err(|_| refused(key, value, "a number")),
        _ => boolean(key, value).map(Wanted::Official),
    })?;
    let limit = args.get("limit").unwrap_or("25");
    let limit = limit.parse().map_err(|_| invalid(format!("--limit {limit:?}: must be a number")))?;
    let term = &args.positional[0];
    let host = term.split('/').next().unwrap_or_default();
    let mut found = client(args, host)?.search(term, limit)?;
    found.retain(|result| {
        filters.fit(|filter| match filter {
            Wanted::Stars(least) => result.stars >= *least,
            Wanted::Official(wanted) => result.official == *wanted,
        })
    });
    let whole = args.has("no-trunc");
    let values: Vec<Value> = found
        .iter()
        .map(|result| {
            let description = result.description.clone().unwrap_or_default().replace('\n', " ");
            let short = |text: &str| format!("{}…", text.chars().take(44).collect::<String>());
            let whole = whole || description.chars().count() <= 45;
            let description = if whole { description } else { short(&description) };
            let official = if result.official { "[OK]" } else { "" };
            json!({ "Name": result.name, "Description": description, "StarCount": result.stars.to_string(), "IsOfficial": official })
        })
        .collect();
    let columns = [
        ("NAME", "Name"),
        ("DESCRIPTION", "Description"),
        ("STARS", "StarCount"),
        ("OFFICIAL", "IsOfficial"),
    ];
    rows(args, &columns, &values)?;
    Ok(0)
}

/// `tags NAME`
pub(crate) fn tags(args: &Args) -> Result<u8> {
    let repository = Reference::parse_untagged(&args.positional[0])?;
    client(args, repository.domain())?.tags(&repository)?.iter().for_each(|tag| line(tag));
    Ok(0)
}
