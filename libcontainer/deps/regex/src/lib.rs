//! regex-lite under the name of regex. See docs/decisions/0004-regex-lite.md.

pub use regex_lite::*;
