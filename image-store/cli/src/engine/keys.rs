//! Detach keys: the sequence typed at a terminal that detaches it from a container, which keeps running. No I/O.

use crate::failure::{Result, invalid};

/// A sequence, and how many of its keys have been typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl Default for DetachKeys {
    /// Ctrl-p Ctrl-q.
    fn default() -> Self {
        Self { keys: vec![16, 17], typed: 0 }
    }
}

impl DetachKeys {
    /// `ctrl-p,ctrl-q`, `a,b`, `ctrl-@`; empty for none.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            invalid(format!("--detach-keys {text:?}: must be letters or ctrl-LETTER, separated by commas"))
        };
        let key = |word: &str| match (word.strip_prefix("ctrl-").map(str::as_bytes), word.as_bytes()) {
            (Some([c @ b'a'..=b'z']), _) => Ok(c - b'a' + 1),
            (Some([b'@']), _) => Ok(0),
            (Some([c @ (b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Ok(c - b'@'),
            (None, [c]) if c.is_ascii_graphic() => Ok(*c),
            _ => Err(wrong()),
        };
        let keys = text.split(',').filter(|_| !text.is_empty()).map(key).collect::<Result<_>>()?;
        Ok(Self { keys, typed: 0 })
    }

    /// The input for the container, and whether the sequence is complete. The beginning of a sequence is held back until another key
    /// follows.
    pub(crate) fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    self.typed = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.typed]);
            self.typed = usize::from(self.keys.first() == Some(byte));
            if self.typed == 0 || self.keys.len() == 1 {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_sequence_leaves() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"abc"), (b"abc".to_vec(), false));
        assert_eq!(keys.filter(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(keys.filter(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11x"), (vec![], true));
        let mut other = DetachKeys::parse("q,ctrl-x").unwrap();
        assert_eq!(other.filter(b"q\x18"), (vec![], true));
        assert_eq!(DetachKeys::parse("").unwrap().filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
        for bad in ["ctrl-", "ctrl-P", "ab", ",", "ctrl-é"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }
}
