//! The patterns of `${name#pattern}`: `*` for any characters, `?` for one. No I/O.

/// A pattern.
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Just(char),
}

impl Pattern {
    /// Parses a pattern; `escape` makes the next character an ordinary one.
    pub(super) fn new(text: &str, escape: char) -> Self {
        let (mut parts, mut characters) = (Vec::new(), text.chars());
        while let Some(c) = characters.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                c if c == escape => Part::Just(characters.next().unwrap_or(c)),
                c => Part::Just(c),
            });
        }
        Self(parts)
    }

    /// `text` without its shortest or longest start that fits.
    pub(super) fn without_start(&self, text: &str, longest: bool) -> String {
        let text: Vec<char> = text.chars().collect();
        let end = fits(&self.0, &text, longest).unwrap_or(0);
        text[end..].iter().collect()
    }

    /// `text` without its shortest or longest end that fits.
    pub(super) fn without_end(&self, text: &str, longest: bool) -> String {
        let reversed: Vec<char> = text.chars().rev().collect();
        let parts: Vec<Part> = self.0.iter().rev().copied().collect();
        let end = fits(&parts, &reversed, longest).unwrap_or(0);
        reversed[end..].iter().rev().collect()
    }

    /// `text` with `word` in place of the first part that fits, or of all.
    pub(super) fn replace(&self, text: &str, word: &str, all: bool) -> String {
        let text: Vec<char> = text.chars().collect();
        let (mut out, mut at, mut done) = (String::new(), 0, false);
        while at < text.len() {
            let found = if done && !all { None } else { fits(&self.0, &text[at..], true) };
            match found.filter(|length| *length > 0) {
                Some(length) => {
                    out.push_str(word);
                    at += length;
                    done = true;
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }
}

/// The length of the shortest or longest start of `text` that fits.
fn fits(parts: &[Part], text: &[char], longest: bool) -> Option<usize> {
    // The lengths that the parts so far may have.
    let mut lengths = vec![0];
    for part in parts {
        lengths = match part {
            Part::Any => (*lengths.first()?..=text.len()).collect(),
            Part::One => lengths.into_iter().filter(|at| *at < text.len()).map(|at| at + 1).collect(),
            Part::Just(c) => {
                lengths.into_iter().filter(|at| text.get(*at) == Some(c)).map(|at| at + 1).collect()
            }
        };
    }
    if longest { lengths.last().copied() } else { lengths.first().copied() }
}
