//! The way into the program on libc, for architectures without an entry point in bare.rs. It must not know what the program
//! does.
use core::ffi::{c_char, c_int};

use super::Words;

/// What libc calls. Not std's main function: that would have ignored SIGPIPE, for the program too.
///
/// # Safety
/// Only libc calls it, with the arrays that the kernel made.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(argc: c_int, argv: *mut *const c_char, envp: *mut *const c_char) -> c_int {
    // SAFETY: these are the process's own arrays, which stay for ever, and nobody else uses them
    let words = unsafe { Words::new(argv, usize::try_from(argc).unwrap_or(0), envp) };
    super::exit(crate::run(words))
}

/// # Safety
/// Pointers among the arguments must be good for what the call does with them.
pub(super) unsafe fn syscall(number: usize, args: [usize; 5]) -> usize {
    let number = libc::c_long::try_from(number).unwrap_or(-1);
    // SAFETY: the caller's promise
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    if result != -1 {
        return isize::try_from(result).unwrap_or(0).cast_unsigned();
    }
    let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    isize::try_from(error).unwrap_or(1).wrapping_neg().cast_unsigned()
}
