//! Memory: gives back what an idle process does not need.

/// Gives freed heap back to the kernel.
pub(crate) fn trim_heap() {
    // SAFETY: malloc_trim has no precondition; there is one thread.
    unsafe { libc::malloc_trim(0) };
}

/// Removes the program's code and constants from the resident set. They are clean pages of the program's file, which the kernel maps
/// again from the page cache when they are needed.
pub(crate) fn drop_program() {
    unsafe extern "C" {
        static __ehdr_start: u8;
        static etext: u8;
    }
    let (from, to) = ((&raw const __ehdr_start).addr(), (&raw const etext).addr());
    const PAGE: usize = 4096;
    let length = (to & !(PAGE - 1)).saturating_sub(from);
    let start = (&raw const __ehdr_start).cast_mut().cast();
    // SAFETY: the range is within the segments that the linker has made read-only, from the file's header to the end of the code,
    // which are mapped from the file and never written: MADV_DONTNEED drops nothing that is not in the file.
    unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
}

/// Gives back the pages of the stack that deeper calls have used. The kernel never does that by itself.
pub(crate) fn trim_stack() {
    const PAGE: usize = 4096;
    /// For the frames of this call and the red zone below them.
    const NEAR: usize = 2 * PAGE;
    const FAR: usize = 128 << 10;
    let here = 0u8;
    let end = ((&raw const here).addr() & !(PAGE - 1)) - NEAR;
    let start = (end - FAR) as *mut libc::c_void;
    // SAFETY: the range is below all frames in use, and nothing there is read before it is written again. There is one thread, and no
    // signal handler runs on its stack. If the stack is shorter, nothing else is mapped there (MIN_GAP of mm/mmap.c is 128 MB): then the
    // call handles what exists and fails with ENOMEM.
    unsafe { libc::madvise(start, FAR, libc::MADV_DONTNEED) };
}
