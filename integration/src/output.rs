//! What the test program prints.
#![allow(clippy::print_stdout)]

use std::io::Write as _;

/// A line for the reader, at once.
pub fn say(line: &str) {
    println!("{line}");
    drop(std::io::stdout().flush());
}
