//! Messages on standard error.
use knarr_init::Line;

use crate::sys;

/// A message that begins with the program's name.
pub(crate) fn message() -> Line {
    let mut line = Line::empty();
    line.text("knarr-init: ");
    line
}

/// Prints a message.
pub(crate) fn print(line: &mut Line) {
    sys::write(2, line.end());
}
