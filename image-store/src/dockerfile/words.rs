//! Words as a Dockerfile's instructions have them: quotes are removed, escapes resolved, variables replaced. No I/O.

use std::cell::Cell;

use super::limit::check_length;
use super::pattern::Pattern;
use crate::error::{Error, Result};

/// Largest depth of `${A:-${B:-...}}`.
const MAX_DEPTH: usize = 50;

/// What words are expanded with.
pub(super) struct Scope<'a> {
    pub(super) escape: char,
    /// `NAME=value`
    pub(super) variables: &'a [String],
    /// How many bytes all words may have together.
    pub(super) left: &'a Cell<u64>,
}

impl Scope<'_> {
    /// The text as one word.
    pub(super) fn word(&self, text: &str) -> Result<String> {
        Ok(self.expand(text)?.text)
    }

    /// The text as words: what a variable is replaced by is split at its spaces, unless it is quoted.
    pub(super) fn words(&self, text: &str) -> Result<Vec<String>> {
        Ok(self.expand(text)?.split())
    }

    fn expand(&self, text: &str) -> Result<Expanded> {
        let mut rest = Rest { characters: text.chars().collect(), at: 0, depth: 0 };
        let found = self.until(None, false, &mut rest)?;
        let left = self.left.get().checked_sub(found.text.len() as u64);
        self.left.set(left.ok_or_else(|| Error::limit("all words together are too long"))?);
        Ok(found)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut pairs = self.variables.iter().filter_map(|line| line.split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Expands up to the character `end`, which is consumed, or to the end of the text. In patterns, escapes are kept.
    fn until(&self, end: Option<char>, in_pattern: bool, rest: &mut Rest) -> Result<Expanded> {
        let mut out = Expanded::default();
        while let Some(c) = rest.next() {
            match c {
                c if Some(c) == end => return Ok(out),
                '\'' => loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(c) => out.quoted(c),
                        None => return Err(unterminated('\'')),
                    }
                },
                '"' => self.double_quoted(rest, &mut out)?,
                '$' => out.variable(&self.dollar(rest)?)?,
                c if c == self.escape => {
                    if in_pattern {
                        out.quoted(c);
                    }
                    rest.next().into_iter().for_each(|c| out.quoted(c));
                }
                c => out.plain(c),
            }
            out.check()?;
        }
        end.map_or(Ok(out), |end| Err(unterminated(end)))
    }

    fn double_quoted(&self, rest: &mut Rest, out: &mut Expanded) -> Result<()> {
        out.in_word = true;
        while let Some(c) = rest.next() {
            match c {
                '"' => return Ok(()),
                '$' => self.dollar(rest)?.chars().for_each(|c| out.quoted(c)),
                c if c == self.escape => match rest.peek() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        rest.at += 1;
                        out.quoted(next);
                    }
                    Some(_) => out.quoted(c),
                    None => {}
                },
                c => out.quoted(c),
            }
            out.check()?;
        }
        Err(unterminated('"'))
    }

    /// What a `$` and the following characters are replaced by.
    fn dollar(&self, rest: &mut Rest) -> Result<String> {
        if rest.peek() != Some('{') {
            let name = rest.name();
            return Ok(if name.is_empty() {
                "$".into()
            } else {
                self.value(&name).unwrap_or_default().into()
            });
        }
        rest.at += 1;
        rest.depth += 1;
        if rest.depth > MAX_DEPTH {
            return Err(Error::limit(format!("\"${{\" nested more than {MAX_DEPTH} times")));
        }
        let name = rest.name();
        let value = self.value(&name);
        let replaced = match rest.next() {
            _ if name.is_empty() => return Err(Error::invalid("\"${\" without a name")),
            Some('}') => value.unwrap_or_default().to_owned(),
            Some('/') => self.replace(value.unwrap_or_default(), rest)?,
            Some(sign @ ('#' | '%')) => self.trim(value.unwrap_or_default(), sign, rest)?,
            Some(':') => {
                let sign = rest.next();
                self.choose(&name, value.filter(|value| !value.is_empty()), sign, rest, "empty or not set")?
            }
            sign => self.choose(&name, value, sign, rest, "not set")?,
        };
        rest.depth -= 1;
        Ok(replaced)
    }

    /// `${name-word}`, `${name+word}`, `${name?word}`
    fn choose(
        &self,
        name: &str,
        value: Option<&str>,
        sign: Option<char>,
        rest: &mut Rest,
        missing: &str,
    ) -> Result<String> {
        let sign = sign.ok_or_else(|| unterminated('}'))?;
        if !"-+?".contains(sign) {
            return Err(Error::invalid(format!("\"${{{name}{sign}\": unknown modifier {sign:?}")));
        }
        let word = self.until(Some('}'), false, rest)?.text;
        match (sign, value) {
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('?', None) if word.is_empty() => Err(Error::invalid(format!("variable {name:?}: {missing}"))),
            ('?', None) => Err(Error::invalid(format!("variable {name:?}: {word}"))),
            (_, value) => Ok(value.unwrap_or_default().to_owned()),
        }
    }

    /// `${name#pattern}` and `${name%pattern}`: without the shortest start or end that fits; if doubled, the longest.
    fn trim(&self, value: &str, sign: char, rest: &mut Rest) -> Result<String> {
        let word = self.until(Some('}'), true, rest)?.text;
        let (longest, word) = word.strip_prefix(sign).map_or((false, word.as_str()), |word| (true, word));
        let pattern = Pattern::new(word, self.escape);
        if sign == '#' { pattern.without_start(value, longest) } else { pattern.without_end(value, longest) }
    }

    /// `${name/pattern/word}`, and for all that fit `${name//pattern/word}`.
    fn replace(&self, value: &str, rest: &mut Rest) -> Result<String> {
        let all = rest.peek() == Some('/');
        rest.at += usize::from(all);
        let pattern = self.until(Some('/'), true, rest)?.text;
        let word = self.until(Some('}'), false, rest)?.text;
        Pattern::new(&pattern, self.escape).replace(value, &word, all)
    }
}

fn unterminated(end: char) -> Error {
    Error::invalid(format!("missing {end}"))
}

/// The characters that are left.
struct Rest {
    characters: Vec<char>,
    at: usize,
    depth: usize,
}

impl Rest {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    /// A variable's name: letters, digits and underscores; digits only; or one of the shell's special characters.
    fn name(&mut self) -> String {
        let first = self.peek();
        if let Some(special) = first.filter(|c| "@*#?-$!".contains(*c)) {
            self.at += 1;
            return special.into();
        }
        let digits = first.is_some_and(|c| c.is_ascii_digit());
        let fits = |c: char| if digits { c.is_ascii_digit() } else { c.is_alphanumeric() || c == '_' };
        let name: String = self.characters[self.at..].iter().take_while(|c| fits(**c)).collect();
        self.at += name.chars().count();
        name
    }
}

/// The result, as one word and as several.
#[derive(Default)]
struct Expanded {
    text: String,
    words: Vec<String>,
    word: String,
    in_word: bool,
}

impl Expanded {
    /// A character that may end a word.
    fn plain(&mut self, c: char) {
        if !c.is_whitespace() {
            return self.quoted(c);
        }
        self.text.push(c);
        if std::mem::take(&mut self.in_word) {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn quoted(&mut self, c: char) {
        self.text.push(c);
        self.word.push(c);
        self.in_word = true;
    }

    fn variable(&mut self, value: &str) -> Result<()> {
        value.chars().for_each(|c| self.plain(c));
        self.check()
    }

    fn check(&self) -> Result<()> {
        check_length(&self.text)
    }

    fn split(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::super::limit::WORD_LIMIT;
    use super::*;

    fn scope(escape: char) -> (char, Vec<String>) {
        let pairs = ["A=value", "E=", "P=/usr/bin:/bin", "S=80 443", "F=a.tar.gz", "STAR=x*y"];
        (escape, pairs.iter().map(|&pair| pair.to_owned()).collect())
    }

    fn word(text: &str) -> Result<String> {
        let (escape, variables) = scope('\\');
        Scope { escape, variables: &variables, left: &Cell::new(1 << 20) }.word(text)
    }

    #[test]
    fn words_expand_as_in_a_dockerfile() {
        for (text, expected) in [
            ("plain", "plain"),
            ("\"a b\"", "a b"),
            ("'a $A \\b'", "a $A \\b"),
            ("a\"b c\"'d'e", "ab cde"),
            ("a\\ b\\$A\\\"", "a b$A\""),
            ("\"\\\" \\$A \\\\ \\n\"", "\" $A \\ \\n"),
            ("end\\", "end"),
            ("$A", "value"),
            ("${A}s", "values"),
            ("$As", ""),
            ("\"$A\"", "value"),
            ("/opt/x:$P", "/opt/x:/usr/bin:/bin"),
            ("$N", ""),
            ("$", "$"),
            ("$/x", "$/x"),
            ("a$", "a$"),
            ("$1a", "a"),
            ("$$A", "A"),
            ("\\\\$A", "\\value"),
            // Modifiers.
            ("${N:-x y}", "x y"),
            ("${N-x}", "x"),
            ("${E:-x}", "x"),
            ("${E-x}", ""),
            ("${A:-x}", "value"),
            ("${A:+x}", "x"),
            ("${E:+x}", ""),
            ("${E+x}", "x"),
            ("${N+x}", ""),
            ("${A:?x}", "value"),
            ("${E?x}", ""),
            ("${N:-${M:-$A}}", "value"),
            ("${N:-'}'}", "}"),
            ("${N:-\\}}", "}"),
            // Patterns.
            ("${F%.*}", "a.tar"),
            ("${F%%.*}", "a"),
            ("${F#*.}", "tar.gz"),
            ("${F##*.}", "gz"),
            ("${F#b}", "a.tar.gz"),
            ("${STAR#x\\*}", "y"),
            ("${F#\\*}", "a.tar.gz"),
            ("${P/bin/sbin}", "/usr/sbin:/bin"),
            ("${P//bin/sbin}", "/usr/sbin:/sbin"),
            ("${P//b?n/x}", "/usr/x:/x"),
            ("${P/:*/}", "/usr/bin"),
            ("${N/a/b}", ""),
        ] {
            assert_eq!(word(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_complete_is_refused() {
        for bad in [
            "\"a", "'a", "${A", "${", "${}", "${:x}", "${{A}}", "${A:", "${A:-x", "${A!x}", "${A:#x}",
            "${A/x", "${A/x/y",
        ] {
            assert_eq!(word(bad).unwrap_err().kind(), crate::ErrorKind::Invalid, "{bad}");
        }
        for (text, message) in [
            ("${N?}", "variable \"N\": not set"),
            ("${E:?}", "variable \"E\": empty or not set"),
            ("${N:?give it}", "variable \"N\": give it"),
        ] {
            assert_eq!(word(text).unwrap_err().to_string(), message, "{text}");
        }
        let deep = "${N:-".repeat(100_000);
        assert_eq!(word(&deep).unwrap_err().kind(), crate::ErrorKind::Limit);
        assert_eq!(word(&"$P".repeat(20_000)).unwrap_err().kind(), crate::ErrorKind::Limit);
    }

    #[test]
    fn what_takes_too_long_is_refused() {
        let variables = [format!("L={}", "a".repeat(WORD_LIMIT))];
        let pattern = "*b".repeat(1000);
        for text in [
            format!("${{L#{}}}", "*".repeat(1000)),
            format!("${{L%{}}}", "?*".repeat(1000)),
            format!("${{L//{pattern}/x}}"),
            "${L//a/bbb}".to_owned(),
            format!("${{L#{}}}", "${L//*b/x}"),
        ] {
            let scope = Scope { escape: '\\', variables: &variables, left: &Cell::new(1 << 20) };
            let error = scope.word(&text).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Limit, "{text}: {error}");
        }
        let scope = Scope { escape: '\\', variables: &variables, left: &Cell::new(WORD_LIMIT as u64 + 1) };
        assert_eq!(scope.word("$L").unwrap().len(), WORD_LIMIT);
        assert_eq!(scope.word("$L").unwrap_err().to_string(), "all words together are too long");
    }

    #[test]
    fn only_variables_outside_quotes_are_split() {
        let (escape, variables) = scope('\\');
        let left = Cell::new(1 << 20);
        let scope = Scope { escape, variables: &variables, left: &left };
        for (text, expected) in [
            ("$S", &["80", "443"][..]),
            ("$S/udp", &["80", "443/udp"]),
            ("\"$S\"", &["80 443"]),
            ("a $E b", &["a", "b"]),
            ("$N", &[]),
        ] {
            assert_eq!(scope.words(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn the_escape_character_may_be_a_backtick() {
        let (escape, variables) = scope('`');
        let left = Cell::new(1 << 20);
        let scope = Scope { escape, variables: &variables, left: &left };
        assert_eq!(scope.word("C:\\x`$A\"`$\"").unwrap(), "C:\\x$A$");
    }
}
