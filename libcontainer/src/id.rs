//! A container's id: parsed once, and then a safe path component.

use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;

/// The name of a container: 1 to 1024 characters of `[A-Za-z0-9_+.-]`, not `.` or `..`. The grammar is runc's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Parses an id.
    ///
    /// # Errors
    /// `InvalidSpec` when the text is empty, too long, `.` or `..`, or has an invalid character.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        if id.is_empty() {
            return Err(Error::invalid("container id cannot be empty"));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'.' | b'-');
        if id == "." || id == ".." || id.len() > 1024 || !id.bytes().all(allowed) {
            let shown: String = id.chars().take(64).collect();
            return Err(Error::invalid(format!("invalid container id format: {shown:?}"))
                .hint("letters, digits and _ + . - only, at most 1024, not . or .."));
        }
        Ok(ContainerId(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for ContainerId {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_single_safe_path_component() {
        let long = "x".repeat(1025);
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\n", long.as_str(), "a\0"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "web-1", "A_+.9", "...", ".x", &"x".repeat(1024)] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
    }
}
