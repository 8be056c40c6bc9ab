//! An idle server gives back memory: freed heap, unused stack, and the pages of its program.

use crate::sys::memory;
use std::time::Duration;

/// The time from the last event to idleness.
pub(crate) const AFTER: Duration = Duration::from_secs(1);

/// Gives memory back.
pub(crate) fn tidy() {
    memory::trim_heap();
    memory::trim_stack();
    // Last: code that runs afterwards comes back into memory.
    memory::drop_program();
}
