//! Memory: giving back what an idle process does not need.

/// Gives freed heap back to the kernel.
pub(crate) fn trim_heap() {
    // SAFETY: malloc_trim has no precondition; there is one thread.
    unsafe { libc::malloc_trim(0) };
}

/// Takes the program's own code and constants, `from` to `to`, out of the resident set. They are clean pages of the program's
/// file: what is needed comes back from the page cache by itself.
pub(crate) fn forget_file_pages(from: usize, to: usize) {
    // SAFETY: the caller passes a mapping of a file that is never written (the text segment of /proc/self/maps, not writable):
    // MADV_DONTNEED drops nothing that is not in the file.
    unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(from), to.saturating_sub(from), libc::MADV_DONTNEED) };
}
