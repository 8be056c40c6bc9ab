//! An allocator for test binaries that ends the process with status 99 when it is used between clone and exec: glibc's would only
//! hang, and only if another thread held its lock at that time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

static ARMED: AtomicBool = AtomicBool::new(false);

/// From here on this process, a new child, must not allocate.
pub(crate) fn arm() {
    ARMED.store(true, Ordering::Relaxed);
}

fn check() {
    if ARMED.load(Ordering::Relaxed) {
        let message = b"tripwire: allocation between clone and exec\n";
        // SAFETY: `message` is valid for its length.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        // SAFETY: _exit has no precondition.
        unsafe { libc::_exit(99) };
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

#[cfg(test)]
mod tests {
    use super::super::{clone, pidfd};
    use std::os::fd::AsFd;

    fn end_of(child: impl FnOnce()) -> (i32, i32) {
        let (_, process) = clone::spawn(0, None, child).unwrap();
        pidfd::wait(process.as_fd(), 0).unwrap().unwrap()
    }

    #[test]
    fn a_child_that_allocates_or_frees_ends_with_status_99() {
        let early = Box::new(1);
        assert_eq!(end_of(|| drop(std::hint::black_box(Box::new(5)))), (libc::CLD_EXITED, 99));
        assert_eq!(end_of(|| drop(std::hint::black_box(early))), (libc::CLD_EXITED, 99));
        assert_eq!(end_of(|| drop(std::hint::black_box(format!("{}", 5)))), (libc::CLD_EXITED, 99));
        assert_eq!(end_of(|| clone::exit(7)), (libc::CLD_EXITED, 7));
    }
}
