//! Memory: giving back what an idle process does not need.

/// Gives freed heap back to the kernel.
pub(crate) fn trim_heap() {
    // SAFETY: malloc_trim has no precondition; there is one thread.
    unsafe { libc::malloc_trim(0) };
}

/// Takes the program's own code and constants out of the resident set. They are clean pages of the program's file: what is needed
/// comes back from the page cache by itself.
pub(crate) fn forget_program() {
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
