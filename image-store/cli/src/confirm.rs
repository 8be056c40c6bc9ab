//! The question before a prune, and the report after it.

use std::io::{BufRead, Write as _};

use crate::cli::Args;
use crate::failure::Result;
use crate::output::{line, print, size};

/// Whether to prune: with `--force`, or if the user says yes. As in Docker, a no is not a failure.
pub(crate) fn confirmed(args: &Args, warning: &str) -> Result<bool> {
    if args.has("force") {
        return Ok(true);
    }
    print(&format!("WARNING! This will remove {warning}.\nAre you sure you want to continue? [y/N] "));
    let _ = std::io::stdout().flush();
    Ok(agrees(std::io::stdin().lock())?)
}

/// Whether the first line says yes.
fn agrees(input: impl BufRead) -> std::io::Result<bool> {
    let mut answer = Vec::new();
    input.take(64).read_until(b'\n', &mut answer)?;
    let answer = answer.trim_ascii();
    Ok(answer.eq_ignore_ascii_case(b"y") || answer.eq_ignore_ascii_case(b"yes"))
}

/// Prints what was removed, below a title, and how many bytes were freed.
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
    fn only_yes_confirms() {
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
