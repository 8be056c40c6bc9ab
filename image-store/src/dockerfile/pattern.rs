//! The patterns of `${name#pattern}`: `*` for any characters, `?` for one. No I/O.

use super::limit::check_length;
use crate::error::{Error, Result};

/// Largest number of steps of a comparison, which is the product of three lengths at worst; it takes about a second.
const MAX_STEPS: usize = 1 << 25;

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
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) if it takes too many steps, as for the others.
    pub(super) fn without_start(&self, text: &str, longest: bool) -> Result<String> {
        let text: Vec<char> = text.chars().collect();
        let end = fits(&self.0, &text, longest, &mut 0)?.unwrap_or(0);
        Ok(text[end..].iter().collect())
    }

    /// `text` without its shortest or longest end that fits.
    pub(super) fn without_end(&self, text: &str, longest: bool) -> Result<String> {
        let reversed: Vec<char> = text.chars().rev().collect();
        let parts: Vec<Part> = self.0.iter().rev().copied().collect();
        let end = fits(&parts, &reversed, longest, &mut 0)?.unwrap_or(0);
        Ok(reversed[end..].iter().rev().collect())
    }

    /// `text` with `word` in place of the first part that fits, or of all.
    pub(super) fn replace(&self, text: &str, word: &str, all: bool) -> Result<String> {
        let text: Vec<char> = text.chars().collect();
        let (mut out, mut at, mut done, mut steps) = (String::new(), 0, false, 0);
        while at < text.len() {
            let found = if done && !all { None } else { fits(&self.0, &text[at..], true, &mut steps)? };
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
            check_length(&out)?;
        }
        Ok(out)
    }
}

/// The length of the shortest or longest start of `text` that fits. Counts the steps.
fn fits(parts: &[Part], text: &[char], longest: bool, steps: &mut usize) -> Result<Option<usize>> {
    // The lengths that the parts so far may have.
    let mut lengths = vec![0];
    for part in parts {
        let Some(first) = lengths.first().copied() else { return Ok(None) };
        *steps += if *part == Part::Any { text.len() - first } else { lengths.len() };
        if *steps > MAX_STEPS {
            return Err(Error::limit("a pattern takes too long to compare: shorten it or the variable"));
        }
        lengths = match part {
            Part::Any => (first..=text.len()).collect(),
            Part::One => lengths.into_iter().filter(|at| *at < text.len()).map(|at| at + 1).collect(),
            Part::Just(c) => {
                lengths.into_iter().filter(|at| text.get(*at) == Some(c)).map(|at| at + 1).collect()
            }
        };
    }
    Ok(if longest { lengths.last().copied() } else { lengths.first().copied() })
}
