//! An allocator for test binaries that ends the process with status 99 when it is used between clone and exec: glibc's own would
//! only hang, and only when another thread holds its lock at that moment.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

static ARMED: AtomicBool = AtomicBool::new(false);

/// From here on this process, a fresh child, must not allocate.
pub(crate) fn arm() {
    ARMED.store(true, Ordering::Relaxed);
}

fn check() {
    if ARMED.load(Ordering::Relaxed) {
        let message = b"tripwire: allocation between clone and exec\n";
        // SAFETY: `message` is valid for its length.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        super::clone::exit(99);
    }
}

struct Tripwire;

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Tripwire {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Tripwire = Tripwire;
