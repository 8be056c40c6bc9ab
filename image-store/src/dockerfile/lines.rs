//! The instructions in the text of a Dockerfile: comments, continued lines, parser directives, flags. No I/O.

use crate::error::{Error, Result};

/// An instruction as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// All of it, with continued lines joined.
    pub(super) text: String,
    /// Its name, in upper case.
    pub(super) name: String,
    /// The `--flags` before its arguments.
    pub(super) flags: Vec<String>,
    /// What follows its name, flags included.
    pub(super) whole: String,
    /// What follows its flags.
    pub(super) rest: String,
}

/// Splits `text` into instructions; returns the character that escapes, too: `\`, or that of `# escape=`.
pub(super) fn statements(text: &str) -> Result<(char, Vec<Statement>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape_directive(text)?;
    let mut found = Vec::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    while let Some(first) = lines.next() {
        let (start, mut goes_on) = continued(first.trim_start(), escape);
        let mut joined = start.to_owned();
        while goes_on {
            let Some(next) = lines.next() else { break };
            // Comments and empty lines do not end a continued line.
            if next.trim().is_empty() {
                continue;
            }
            let part;
            (part, goes_on) = continued(next, escape);
            joined.push_str(part);
        }
        if !joined.trim().is_empty() {
            found.push(statement(joined.trim(), escape));
        }
    }
    Ok((escape, found))
}

/// The line without an escape character at its end, and whether it had one; two of them are none.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

/// The character in `# escape=`, one of the directives that may come first.
fn escape_directive(text: &str) -> Result<char> {
    let mut seen: Vec<String> = Vec::new();
    for line in text.lines() {
        let directive = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('='));
        let Some((name, value)) = directive else { break };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if !["check", "escape", "syntax"].contains(&name.as_str()) {
            break;
        }
        if seen.contains(&name) {
            return Err(Error::invalid(format!("directive {name:?}: given more than once")));
        }
        match (name.as_str(), value) {
            ("escape", "`") => return Ok('`'),
            ("escape", "\\") => return Ok('\\'),
            ("escape", _) => {
                return Err(Error::invalid(format!(
                    "directive \"escape={value}\": must be a backslash or backtick"
                )));
            }
            _ => seen.push(name),
        }
    }
    Ok('\\')
}

/// Parses an instruction on one line.
pub(super) fn statement(text: &str, escape: char) -> Statement {
    let (name, whole) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (flags, rest) = flags(whole.trim(), escape);
    Statement {
        text: text.to_owned(),
        name: name.to_ascii_uppercase(),
        flags,
        whole: whole.trim().to_owned(),
        rest: rest.to_owned(),
    }
}

/// Splits off leading words that begin with `--`, without their quotes; `--` alone ends them.
fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let (mut flags, mut rest) = (Vec::new(), text);
    while rest.starts_with("--") {
        let (mut flag, mut quote, mut end) = (String::new(), None, rest.len());
        let mut characters = rest.char_indices();
        while let Some((at, c)) = characters.next() {
            match quote {
                None if c.is_whitespace() => {
                    end = at;
                    break;
                }
                None if c == '"' || c == '\'' => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ if c == escape => flag.extend(characters.next().map(|(_, c)| c)),
                _ => flag.push(c),
            }
        }
        rest = rest[end..].trim_start();
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest)
}

/// Splits at spaces outside quotes; quotes and escapes stay in the words.
pub(super) fn raw_words(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            // In single quotes nothing is escaped. At the end of the text there is nothing to escape.
            _ if c == escape && quote != Some('\'') => match characters.next() {
                Some(next) => word.extend([c, next]),
                None => break,
            },
            _ => {}
        }
        if c != escape || quote == Some('\'') {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_continued_and_comments_are_left_out() {
        for (text, expected) in [
            ("ENV A=1", &["ENV A=1"][..]),
            ("  env A=1  ", &["env A=1"]),
            ("ENV A=1 \\\n  B=2\nUSER x", &["ENV A=1   B=2", "USER x"]),
            ("ENV A=1 \\  \t\nB=2", &["ENV A=1 B=2"]),
            ("ENV A=1 \\\n# no\n\n  # no\nB=2", &["ENV A=1 B=2"]),
            ("CMD a\\\\\nUSER x", &["CMD a\\\\", "USER x"]),
            ("CMD a \\", &["CMD a"]),
            ("\\\nCMD a", &["CMD a"]),
            ("# syntax=docker/dockerfile:1\n# escape=`\nCMD a `\n b\\", &["CMD a  b\\"]),
            ("CMD a\n# escape=`\nCMD b \\\nc", &["CMD a", "CMD b c"]),
            ("\u{feff}# escape = `\r\nCMD a `\r\nb\r\n", &["CMD a b"]),
            ("CMD echo # kept", &["CMD echo # kept"]),
            ("", &[]),
            (" \n#\n\n", &[]),
        ] {
            let found: Vec<_> = statements(text).unwrap().1.into_iter().map(|found| found.text).collect();
            assert_eq!(found, expected, "{text:?}");
        }
        for bad in ["# escape=x\nCMD a", "# escape=", "# syntax=a\n# syntax=b\n"] {
            assert!(statements(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn flags_come_before_the_arguments() {
        for (text, flags, rest) in [
            ("H CMD x", &[][..], "CMD x"),
            ("H --a=1 --b CMD --c", &["--a=1", "--b"], "CMD --c"),
            ("H --a=\"x y\" CMD", &["--a=x y"], "CMD"),
            ("H --a=x\\ y CMD", &["--a=x y"], "CMD"),
            ("H -- --a", &[], "--a"),
            ("H -a", &[], "-a"),
            ("H --a", &["--a"], ""),
            ("H", &[], ""),
        ] {
            let found = statement(text, '\\');
            assert_eq!((found.name.as_str(), found.rest.as_str()), ("H", rest), "{text}");
            assert_eq!(found.flags, flags, "{text}");
        }
    }

    #[test]
    fn words_end_at_spaces_outside_quotes() {
        for (text, expected) in [
            ("a=1 b=2", &["a=1", "b=2"][..]),
            ("a=\"x y\"  b='\"z w'", &["a=\"x y\"", "b='\"z w'"]),
            ("a=x\\ y b", &["a=x\\ y", "b"]),
            ("a=\"x\\\" y\" b", &["a=\"x\\\" y\"", "b"]),
            ("a='x\\' b", &["a='x\\'", "b"]),
            ("a\\", &["a"]),
            ("", &[]),
        ] {
            assert_eq!(raw_words(text, '\\'), expected, "{text}");
        }
    }
}
