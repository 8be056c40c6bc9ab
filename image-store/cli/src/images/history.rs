//! `history`.

use image_store::time::parse_rfc3339;
use serde_json::json;

use crate::cli::Args;
use crate::failure::Result;
use crate::output::{ago, line, rows, size};
use crate::places;

/// `history IMAGE`
pub(crate) fn history(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let record = store.resolve(&args.positional[0])?;
    let (config, _) = store.config(&record)?;
    let sizes = store.layer_sizes(&record)?;
    let mut sizes = sizes.into_iter();
    let whole = args.has("no-trunc");
    let mut values = Vec::new();
    for step in config.history.unwrap_or_default() {
        let bytes = if step.empty_layer == Some(true) { 0 } else { sizes.next().unwrap_or(0) };
        let by: String = step.created_by.clone().unwrap_or_default().replace(['\n', '\t'], " ");
        let short = if by.chars().count() > 45 {
            format!("{}…", by.chars().take(44).collect::<String>())
        } else {
            by.clone()
        };
        values.push(json!({
            "ID": "<missing>",
            "CreatedSince": ago(step.created.as_deref().and_then(parse_rfc3339)),
            "CreatedAt": step.created,
            "CreatedBy": if whole { by } else { short },
            "Size": size(bytes),
            "Comment": step.comment.unwrap_or_default(),
        }));
    }
    values.reverse();
    if let Some(top) = values.first_mut() {
        top["ID"] = if whole { record.id.as_str() } else { record.id.short() }.into();
    }
    if args.has("quiet") {
        values.iter().for_each(|value| line(value["ID"].as_str().unwrap_or_default()));
        return Ok(0);
    }
    let columns = [
        ("IMAGE", "ID"),
        ("CREATED", "CreatedSince"),
        ("CREATED BY", "CreatedBy"),
        ("SIZE", "Size"),
        ("COMMENT", "Comment"),
    ];
    rows(args, &columns, &values)?;
    Ok(0)
}
