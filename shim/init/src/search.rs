//! The search for a program: its possible paths by PATH, one after the other. This module does not access files.
use core::ffi::CStr;

/// The longest path that the kernel takes, including the terminating zero.
const MAX_PATH: usize = 4096;
/// The default of PATH, as in C libraries.
pub const DEFAULT: &[u8] = b"/bin:/usr/bin";

/// A buffer for a path.
#[derive(Debug)]
pub struct Name([u8; MAX_PATH]);

impl Name {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self([0; MAX_PATH])
    }

    /// `dir/program`, or `program` if the directory is empty, which in PATH is the working directory. `None` if that is
    /// longer than the kernel takes.
    pub fn join(&mut self, dir: &[u8], program: &[u8]) -> Option<&CStr> {
        let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        let mut len = 0;
        for part in [dir, slash, program, b"\0"] {
            self.0.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        CStr::from_bytes_with_nul(self.0.get(..len)?).ok()
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::new()
    }
}

/// The directories to search for a program: only the working directory if its name has a slash.
pub fn directories<'a>(program: &[u8], path: Option<&'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    let path = if program.contains(&b'/') { b"" } else { path.unwrap_or(DEFAULT) };
    path.split(|b| *b == b':')
}

/// Whether the search continues after an error of execve(2): another directory may have the program.
pub fn may_continue(error: u32) -> bool {
    use linux_raw_sys::errno::{EACCES, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ESTALE, ETIMEDOUT};
    [ENOENT, ENOTDIR, EACCES, ENAMETOOLONG, ESTALE, ENODEV, ETIMEDOUT].contains(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(program: &str, path: Option<&str>) -> Vec<String> {
        let mut name = Name::new();
        directories(program.as_bytes(), path.map(str::as_bytes))
            .filter_map(|f| name.join(f, program.as_bytes()).map(|n| n.to_string_lossy().into_owned()))
            .collect()
    }

    #[test]
    fn path_is_searched_in_its_order_and_a_slash_ends_the_search() {
        assert_eq!(names("sh", Some("/a:/b/c")), ["/a/sh", "/b/c/sh"]);
        assert_eq!(names("sh", None), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(names("sh", Some("/a::b:")), ["/a/sh", "sh", "b/sh", "sh"]);
        assert_eq!(names("./sh", Some("/a")), ["./sh"]);
        assert_eq!(names("/bin/sh", None), ["/bin/sh"]);
        assert_eq!(names("sh", Some("")), ["sh"]);
    }

    #[test]
    fn a_path_that_is_too_long_is_none() {
        let long = "x".repeat(MAX_PATH - 4);
        assert_eq!(names(&long, Some("/a:/ab")).len(), 1);
    }

    #[test]
    fn only_errors_of_one_directory_continue_the_search() {
        assert_eq!([2, 13, 20].map(may_continue), [true; 3]);
        assert_eq!([8, 12, 7, 26].map(may_continue), [false; 4]);
    }
}
