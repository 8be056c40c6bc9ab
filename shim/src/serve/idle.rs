//! An idle server gives back what it does not need: freed heap, stack that was used, and the pages of its own program that it has run through.

use crate::sys::memory;
use std::time::Duration;

/// How long after the last event.
pub(crate) const AFTER: Duration = Duration::from_secs(1);

/// Gives memory back.
pub(crate) fn tidy() {
    memory::trim_heap();
    memory::trim_stack();
    // Last, since it runs through code.
    memory::forget_program();
}
