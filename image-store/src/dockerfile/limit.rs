//! The limit of words. No I/O.

use crate::error::{Error, Result};

/// Longest word in bytes: the kernel takes no longer arguments and variables (`MAX_ARG_STRLEN`).
pub(super) const WORD_LIMIT: usize = 128 << 10;

/// Refuses words that are too long.
pub(super) fn check_length(word: &str) -> Result<()> {
    if word.len() > WORD_LIMIT {
        return Err(Error::limit(format!("longer than {WORD_LIMIT} bytes")));
    }
    Ok(())
}
