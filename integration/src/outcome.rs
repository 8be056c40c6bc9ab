//! How a test ends: well, failed with a reason and a place, or skipped with a reason.
//!
//! Tests use `?` on everything; any error becomes a failure that names the line of the `?`.
//! The checks are functions with `#[track_caller]`, so that a failure names the test's line, not this file.

use std::fmt::{Debug, Display};
use std::panic::Location;

/// What a test returns.
pub type Outcome = Result<(), Stop>;

/// Why a test did not end well.
#[derive(Debug)]
pub enum Stop {
    /// Something is wrong with the runtime (or with the test).
    Failed(String),
    /// The machine lacks something; the reason is printed and the test counts as ignored.
    Skipped(String),
}

impl<E: std::error::Error> From<E> for Stop {
    #[track_caller]
    fn from(error: E) -> Self {
        Stop::Failed(format!("{error}\n    at {}", Location::caller()))
    }
}

/// A failure with this reason.
#[track_caller]
pub fn fail<T>(why: impl Display) -> Result<T, Stop> {
    Err(Stop::Failed(format!("{why}\n    at {}", Location::caller())))
}

/// A skip with this reason.
pub fn skip<T>(why: impl Display) -> Result<T, Stop> {
    Err(Stop::Skipped(why.to_string()))
}

/// Fails unless `got` is `want`.
#[track_caller]
pub fn eq<A: Debug + PartialEq<B>, B: Debug>(got: A, want: B, what: impl Display) -> Outcome {
    if got == want {
        return Ok(());
    }
    Err(Stop::Failed(format!("{what}:\n    got  {got:?}\n    want {want:?}\n    at {}", Location::caller())))
}

/// Fails unless `text` contains `part`.
#[track_caller]
pub fn has(text: impl AsRef<str>, part: impl AsRef<str>) -> Outcome {
    let (text, part) = (text.as_ref(), part.as_ref());
    if text.contains(part) {
        return Ok(());
    }
    Err(Stop::Failed(format!("{part:?} is not in:\n{text}\n    at {}", Location::caller())))
}

/// Fails if `text` contains `part`.
#[track_caller]
pub fn hasnt(text: impl AsRef<str>, part: impl AsRef<str>) -> Outcome {
    let (text, part) = (text.as_ref(), part.as_ref());
    if !text.contains(part) {
        return Ok(());
    }
    Err(Stop::Failed(format!("{part:?} should not be in:\n{text}\n    at {}", Location::caller())))
}

/// Fails with `why` unless `condition` holds.
#[track_caller]
pub fn yes(condition: bool, why: impl Display) -> Outcome {
    if condition {
        return Ok(());
    }
    Err(Stop::Failed(format!("{why}\n    at {}", Location::caller())))
}
