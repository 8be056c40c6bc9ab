//! The entry point of the program on libc, for architectures without one in bare.rs.
use core::ffi::{c_char, c_int};

use super::Words;

/// The main function for libc. That of std would ignore SIGPIPE, for the program too.
///
/// # Safety
/// Only for libc, with the arrays of the kernel.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(argc: c_int, argv: *mut *const c_char, envp: *mut *const c_char) -> c_int {
    // SAFETY: these are the process's arrays, which live as long as it and have no other user
    let words = unsafe { Words::new(argv, usize::try_from(argc).unwrap_or(0), envp) };
    super::exit(crate::run(words))
}

/// # Safety
/// Pointers among the arguments must be valid for the call.
pub(super) unsafe fn syscall(number: usize, args: [usize; 5]) -> usize {
    let number = libc::c_long::try_from(number).unwrap_or(-1);
    // SAFETY: by the contract of this function
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    if result != -1 {
        return isize::try_from(result).unwrap_or(0).cast_unsigned();
    }
    let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    isize::try_from(error).unwrap_or(1).wrapping_neg().cast_unsigned()
}
