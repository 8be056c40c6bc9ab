//! Arrays of C strings in the form that execve(2) takes, built before the clone.

use std::ffi::CString;
use std::fmt;

/// A null-terminated array of C strings, with room reserved for strings that are found later (`HOME`).
pub(crate) struct CStrArray {
    strings: Vec<CString>,
    /// The strings, `spare` null pointers, and the null pointer at the end, which nothing overwrites.
    pointers: Vec<*const libc::c_char>,
}

// SAFETY: its pointers lead to its own strings, which stay where they are and do not change, or to a string that `set_spare` was given.
unsafe impl Send for CStrArray {}
// SAFETY: as above; a spare place is filled through `&mut` only.
unsafe impl Sync for CStrArray {}

impl CStrArray {
    /// Builds the array; `spare` pointers are left null in front of the terminator.
    pub(crate) fn new(strings: Vec<CString>, spare: usize) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.resize(strings.len() + spare + 1, std::ptr::null());
        CStrArray { strings, pointers }
    }

    pub(crate) fn strings(&self) -> &[CString] {
        &self.strings
    }

    /// The number of places reserved for strings that are found later.
    pub(crate) fn spare(&self) -> usize {
        self.pointers.len().saturating_sub(self.strings.len()).saturating_sub(1)
    }

    /// Puts a NUL-terminated string into the first spare place, if there is one. It must live until the exec.
    pub(crate) fn set_spare(&mut self, string: *const libc::c_char) {
        let first = self.strings.len();
        if self.spare() > 0
            && let Some(place) = self.pointers.get_mut(first)
        {
            *place = string;
        }
    }

    /// The null-terminated array for execve(2).
    pub(super) fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

impl Clone for CStrArray {
    fn clone(&self) -> Self {
        CStrArray::new(self.strings.clone(), self.spare())
    }
}

impl PartialEq for CStrArray {
    fn eq(&self, other: &Self) -> bool {
        self.strings == other.strings
    }
}
impl Eq for CStrArray {}

impl fmt::Debug for CStrArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.strings.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_goes_into_a_spare_place_and_never_over_the_terminator() {
        for (spare, nulls) in [(0, 1), (1, 1), (2, 2)] {
            let mut array = CStrArray::new(vec![c"A=1".into(), c"B=2".into()], spare);
            assert_eq!((array.strings().len(), array.spare(), array.pointers.len()), (2, spare, 3 + spare));
            array.set_spare(c"HOME=/".as_ptr());
            assert!(array.pointers.last().unwrap().is_null());
            assert_eq!(array.pointers.iter().filter(|p| p.is_null()).count(), nulls, "{spare}");
            assert_eq!(array.clone().pointers.iter().filter(|p| p.is_null()).count(), spare + 1);
        }
    }
}
