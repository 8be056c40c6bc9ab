//! The way into the program on std and libc, for architectures without an entry point in bare.rs. It must not know what
//! the program does.
use std::ffi::{CString, OsString, c_char};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;

use super::Words;

/// What std's `main` calls.
pub(crate) fn enter() -> ! {
    let args: Vec<OsString> = std::env::args_os().collect();
    let argc = args.len();
    let variable = |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let argv = array(args.into_iter().map(OsString::into_vec));
    let envp = array(std::env::vars_os().map(variable));
    // SAFETY: both arrays were leaked just now, and nobody else knows them
    let words = unsafe { Words::new(argv, argc, envp) };
    super::exit(crate::run(words))
}

fn array(strings: impl Iterator<Item = Vec<u8>>) -> *mut *const c_char {
    let strings = strings.map(|s| CString::new(s).unwrap_or_default().into_raw().cast_const());
    strings.chain([ptr::null()]).collect::<Vec<_>>().leak().as_mut_ptr()
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
