//! `--format`: the part of Go's templates that people use with Docker. `{{.Field.Inner}}`, `{{json .Field}}`,
//! `{{index .Map "key"}}`, `table` in front, and `\t` and `\n` as text.

use image_store::{Error, ErrorKind, Result};
use serde_json::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    pub(crate) table: bool,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::Invalid, format!("format {text:?}: {why}"));
        let (table, body) = match text.strip_prefix("table ") {
            Some(body) => (true, body),
            None => (false, text),
        };
        let body = match body {
            "json" => "{{json .}}".to_owned(),
            other => other.replace("\\t", "\t").replace("\\n", "\n"),
        };
        let mut pieces = Vec::new();
        let mut rest = body.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            pieces.push(Piece::Text(before.to_owned()));
            let (action, after) = after.split_once("}}").ok_or_else(|| wrong("a \"{{\" without \"}}\""))?;
            pieces.push(action_piece(action.trim()).ok_or_else(|| {
                wrong("only {{.Field}}, {{json .Field}} and {{index .Map \"key\"}} are known")
            })?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self { pieces, table })
    }

    /// Fills the template in; a field that is not there is an error, as it would be a mistyped one.
    pub(crate) fn fill(&self, value: &Value) -> Result<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field { path, json } => {
                    let mut found = value;
                    for name in path {
                        found = match found {
                            Value::Object(fields) if fields.contains_key(name) => &fields[name],
                            Value::Null => &Value::Null,
                            _ => {
                                return Err(Error::new(
                                    ErrorKind::Invalid,
                                    format!("format: there is no field {name:?}"),
                                ));
                            }
                        };
                    }
                    text.push_str(&if *json { found.to_string() } else { plain(found) });
                }
            }
        }
        Ok(text)
    }

    /// The heads of a table's columns: the fields' names.
    pub(crate) fn heads(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Field { path, .. } => path.last().map(|name| name.to_uppercase()).unwrap_or_default(),
            })
            .collect()
    }
}

fn action_piece(action: &str) -> Option<Piece> {
    if let Some(rest) = action.strip_prefix("index ") {
        let (field, key) = rest.trim().split_once(' ')?;
        let mut path = field_path(field)?;
        path.push(key.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned());
        return Some(Piece::Field { path, json: false });
    }
    let (json, field) = match action.strip_prefix("json ") {
        Some(field) => (true, field.trim()),
        None => (false, action),
    };
    Some(Piece::Field { path: field_path(field)?, json })
}

fn field_path(field: &str) -> Option<Vec<String>> {
    let names = field.strip_prefix('.')?;
    if names.is_empty() {
        return Some(Vec::new());
    }
    let word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    names.split('.').map(|name| word(name).then(|| name.to_owned())).collect()
}

/// As Go prints values: lists in brackets, maps as `map[key:value]`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut pairs: Vec<_> =
                fields.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in_as_docker_does() {
        let value = serde_json::json!({"ID": "abc", "Config": {"Cmd": ["a", "b"], "Labels": {"x.y": "z"}}, "N": null});
        for (template, wanted) in [
            ("{{.ID}}", "abc"),
            (r"{{ .ID }}\t{{.Config.Cmd}}", "abc\t[a b]"),
            ("{{json .Config.Cmd}}", r#"["a","b"]"#),
            (r#"{{index .Config.Labels "x.y"}}"#, "z"),
            ("plain", "plain"),
            ("{{.N}}", "<no value>"),
            ("{{.Config.Labels}}", "map[x.y:z]"),
        ] {
            assert_eq!(Template::parse(template).unwrap().fill(&value).unwrap(), wanted, "{template}");
        }
        assert_eq!(Template::parse(r"table {{.ID}}\t{{.Config.Cmd}}").unwrap().heads(), "ID\tCMD");
        assert!(Template::parse("{{range .x}}").is_err() && Template::parse("{{.ID").is_err());
        assert!(Template::parse("{{.Nothing}}").unwrap().fill(&value).is_err());
    }
}
