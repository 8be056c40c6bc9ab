//! `--format`: the Go templates that are used with Docker: fields, `json`, `index`, `len`, `join`, `split`, `lower`,
//! `upper`, `title`, `slice`, `println`, `printf`, comparisons, pipes, parentheses, variables, `if`, `range`, `with`; `table`
//! at the start, the escapes `\t` and `\n`. No I/O.

mod expression;
mod functions;

use image_store::ErrorKind;
use serde_json::Value;

use expression::{Expression, Scope};

use crate::failure::{Failure, Result};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    body: Vec<Piece>,
    pub(crate) table: bool,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Show(Expression),
    /// `{{$name := pipeline}}`
    Set(String, Expression),
    If(Expression, Vec<Piece>, Vec<Piece>),
    With(Expression, Vec<Piece>, Vec<Piece>),
    /// Names of the variables for key and value, if any.
    Range(Vec<String>, Expression, Vec<Piece>, Vec<Piece>),
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorKind::Invalid, format!("format: {message}"))
}

/// A text or an expression in double braces.
#[derive(Debug)]
enum Token<'t> {
    Text(&'t str),
    Action(&'t str),
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>> {
    let mut all = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) =
            after.split_once("}}").ok_or_else(|| invalid(format!("{text:?}: unclosed \"{{{{\"")))?;
        let (action, left) = action.strip_prefix("- ").map_or((action, false), |rest| (rest, true));
        let (action, right) = action.strip_suffix(" -").map_or((action, false), |rest| (rest, true));
        let before = if trim { before.trim_start() } else { before };
        all.push(Token::Text(if left { before.trim_end() } else { before }));
        all.push(Token::Action(action.trim()));
        (rest, trim) = (after, right);
    }
    all.push(Token::Text(if trim { rest.trim_start() } else { rest }));
    Ok(all)
}

/// The end of a block.
#[derive(PartialEq, Eq)]
enum End<'t> {
    Done,
    Other(&'t str),
    Text,
}

fn block<'t>(tokens: &mut std::slice::Iter<'_, Token<'t>>) -> Result<(Vec<Piece>, End<'t>)> {
    let mut pieces = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                pieces.push(Piece::Text((*text).to_owned()));
                continue;
            }
            Token::Action(action) => *action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
        match word {
            "end" => return Ok((pieces, End::Done)),
            "else" => return Ok((pieces, End::Other(rest.trim()))),
            "if" | "with" | "range" => pieces.push(branch(word, rest, tokens)?),
            _ if action.starts_with("/*") => {}
            _ => match action.split_once(":=").filter(|(name, _)| name.trim().starts_with('$')) {
                Some((name, value)) => {
                    pieces.push(Piece::Set(name.trim().to_owned(), Expression::parse(value)?));
                }
                None => pieces.push(Piece::Show(Expression::parse(action)?)),
            },
        }
    }
    Ok((pieces, End::Text))
}

fn branch(word: &str, head: &str, tokens: &mut std::slice::Iter<'_, Token<'_>>) -> Result<Piece> {
    let (body, end) = block(tokens)?;
    let unended = || invalid(format!("{{{{{word} {head}}}}}: missing {{{{end}}}}"));
    let otherwise = match end {
        End::Done => Vec::new(),
        End::Text => return Err(unended()),
        // `else if` ends with the same `end` as the `if` before it.
        End::Other(rest) => match rest.strip_prefix("if ") {
            Some(condition) => vec![branch("if", condition, tokens)?],
            None => match block(tokens)? {
                (pieces, End::Done) => pieces,
                _ => return Err(unended()),
            },
        },
    };
    let (names, value) = match head.split_once(":=").filter(|_| word == "range") {
        Some((names, value)) => (names.split(',').map(|name| name.trim().to_owned()).collect(), value),
        None => (Vec::new(), head),
    };
    let value = Expression::parse(value)?;
    Ok(match word {
        "if" => Piece::If(value, body, otherwise),
        "with" => Piece::With(value, body, otherwise),
        _ => Piece::Range(names, value, body, otherwise),
    })
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (table, body) = match text.strip_prefix("table ") {
            Some(body) => (true, body),
            None => (false, text),
        };
        let body = match body {
            "json" => "{{json .}}".to_owned(),
            other => other.replace("\\t", "\t").replace("\\n", "\n"),
        };
        let tokens = tokens(&body)?;
        let (body, end) = block(&mut tokens.iter())?;
        if end != End::Text {
            return Err(invalid(format!("{text:?}: {{{{end}}}} or {{{{else}}}} without a block")));
        }
        Ok(Self { body, table })
    }

    /// Executes the template. A missing field is an error, because it is probably mistyped.
    pub(crate) fn fill(&self, value: &Value) -> Result<String> {
        let mut text = String::new();
        fill(&self.body, value, &mut Scope::new(value), &mut text)?;
        Ok(text)
    }

    /// The heads of a table, from the names of the fields.
    pub(crate) fn heads(&self, known: &dyn Fn(&str) -> String) -> String {
        let head = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Show(expression) => expression.field().map(known).unwrap_or_default(),
            _ => String::new(),
        };
        self.body.iter().map(head).collect()
    }
}

fn fill(pieces: &[Piece], dot: &Value, scope: &mut Scope, text: &mut String) -> Result<()> {
    let depth = scope.depth();
    for piece in pieces {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Show(expression) => text.push_str(&functions::plain(&expression.value(dot, scope)?)),
            Piece::Set(name, expression) => {
                let value = expression.value(dot, scope)?;
                scope.set(name, value);
            }
            Piece::If(condition, body, otherwise) => {
                let body = if functions::truth(&condition.value(dot, scope)?) { body } else { otherwise };
                fill(body, dot, scope, text)?;
            }
            Piece::With(expression, body, otherwise) => {
                let value = expression.value(dot, scope)?;
                if functions::truth(&value) {
                    fill(body, &value, scope, text)?;
                } else {
                    fill(otherwise, dot, scope, text)?;
                }
            }
            Piece::Range(names, expression, body, otherwise) => {
                let items = functions::items(expression.value(dot, scope)?)?;
                if items.is_empty() {
                    fill(otherwise, dot, scope, text)?;
                }
                for (key, value) in items {
                    match &names[..] {
                        [] => {}
                        [one] => scope.set(one, value.clone()),
                        [first, second, ..] => {
                            scope.set(first, key);
                            scope.set(second, value.clone());
                        }
                    }
                    fill(body, &value, scope, text)?;
                }
            }
        }
    }
    scope.back_to(depth);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in_as_docker_does() {
        let value = serde_json::json!({"ID": "abc", "Config": {"Cmd": ["a", "b"], "Labels": {"x.y": "z"}}, "N": null,
            "Mounts": [{"Name": "m", "RW": true}, {"Name": "n", "RW": false}], "Size": 3, "Empty": []});
        for (template, wanted) in [
            ("{{.ID}}", "abc"),
            (r"{{ .ID }}\t{{.Config.Cmd}}", "abc\t[a b]"),
            ("{{json .Config.Cmd}}", r#"["a","b"]"#),
            (r#"{{index .Config.Labels "x.y"}}"#, "z"),
            ("plain", "plain"),
            ("{{.N}}", "<no value>"),
            ("{{.Config.Labels}}", "map[x.y:z]"),
            ("{{(index .Mounts 1).Name}}", "n"),
            ("{{range .Mounts}}{{.Name}},{{end}}", "m,n,"),
            ("{{range $i, $m := .Mounts}}{{$i}}{{$m.Name}}{{$.ID}} {{end}}", "0mabc 1nabc "),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}", "x.y=z"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .Empty}}a{{else if eq .ID \"abc\"}}b{{else}}c{{end}}", "b"),
            ("{{with .N}}x{{else}}y{{end}}{{with .Config}}{{.Cmd}}{{end}}", "y[a b]"),
            ("{{join .Config.Cmd \"-\"}} {{.ID | upper | printf \"%s!\"}}", "a-b ABC!"),
            ("{{len .Mounts}} {{slice .ID 0 2}} {{title .ID}} {{println .Size}}", "2 ab Abc 3\n"),
            (
                "{{if and .ID (not .N)}}yes{{end}} {{or .N .ID}} {{gt .Size 2}} {{ne .ID \"x\"}}",
                "yes abc true true",
            ),
            ("{{$x := .ID}}{{$x}} {{- /* remark */}}", "abc"),
            ("a {{- .ID -}} b", "aabcb"),
            ("{{range split \"a:b\" \":\"}}{{.}};{{end}}", "a;b;"),
        ] {
            assert_eq!(Template::parse(template).unwrap().fill(&value).unwrap(), wanted, "{template}");
        }
        assert_eq!(
            Template::parse(r"table {{.ID}}\t{{.Config.Cmd}}").unwrap().heads(&str::to_uppercase),
            "ID\tCMD"
        );
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        let value = serde_json::json!({"ID": "abc"});
        for bad in [
            "{{range .x}}",
            "{{.ID",
            "{{end}}",
            "{{nonsense .ID}}",
            "{{.ID | }}",
            "{{\"open}}",
            "{{(.ID}}",
            "{{if}}x{{end}}",
            "{{}}",
        ] {
            assert!(Template::parse(bad).and_then(|t| t.fill(&value)).is_err(), "{bad}");
        }
        for bad in ["{{.Nothing}}", "{{index .ID 0}}", "{{range .ID}}x{{end}}", "{{$y}}", "{{slice .ID 2 9}}"]
        {
            assert!(Template::parse(bad).unwrap().fill(&value).is_err(), "{bad}");
        }
    }
}
