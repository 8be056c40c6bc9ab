//! What all prunes share: the question before, the report after.

use std::io::{BufRead, Write as _};

use image_store::Result;

use crate::args::Args;
use crate::output::{line, print, size};

/// Whether to go on: `--force`, or a person who is asked says so. As with Docker, a refusal is no failure.
pub(crate) fn confirmed(args: &Args, warning: &str) -> Result<bool> {
    if args.has("force") {
        return Ok(true);
    }
    print(&format!("WARNING! This will remove {warning}.\nAre you sure you want to continue? [y/N] "));
    let _ = std::io::stdout().flush();
    Ok(agrees(std::io::stdin().lock())?)
}

/// Whether the first line is a yes; the end of input is none.
fn agrees(input: impl BufRead) -> std::io::Result<bool> {
    let mut answer = Vec::new();
    input.take(64).read_until(b'\n', &mut answer)?;
    let answer = answer.trim_ascii();
    Ok(answer.eq_ignore_ascii_case(b"y") || answer.eq_ignore_ascii_case(b"yes"))
}

/// What went, below a title, and how many bytes were freed.
pub(crate) fn report(title: &str, removed: &[String], bytes: u64) {
    if !removed.is_empty() {
        line(&format!("{title}:\n{}\n", removed.join("\n")));
    }
    line(&format!("Total reclaimed space: {}", size(bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, yes) in [
            ("y\n", true),
            ("Y", true),
            ("yes\n", true),
            (" YES \r\n", true),
            ("y\ny\ny\n", true),
            ("", false),
            ("\n", false),
            ("n\ny\n", false),
            ("no\n", false),
            ("yep\n", false),
            ("\u{ff}\n", false),
        ] {
            assert_eq!(agrees(answer.as_bytes()).unwrap(), yes, "{answer:?}");
        }
        assert!(!agrees([b'y'; 200].as_slice()).unwrap());
    }
}
