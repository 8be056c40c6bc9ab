//! Where a program may be found: the names that PATH gives it, one after the other. It must not know the disk.
use core::ffi::CStr;

/// The longest name that the kernel takes, with the zero at its end.
const LONGEST: usize = 4096;
/// PATH when there is none, as in C libraries.
pub const DEFAULT: &[u8] = b"/bin:/usr/bin";

/// Room for a name.
#[derive(Debug)]
pub struct Name([u8; LONGEST]);

impl Name {
    /// Empty room.
    pub const fn new() -> Self {
        Self([0; LONGEST])
    }

    /// `folder/program`, or `program` if the folder is empty (which PATH means to be the working directory).
    /// Nothing if that is longer than the kernel takes.
    pub fn join(&mut self, folder: &[u8], program: &[u8]) -> Option<&CStr> {
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        let mut len = 0;
        for part in [folder, slash, program, b"\0"] {
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

/// The folders in which a program is looked for: none but the working directory if its name has a slash.
pub fn folders<'a>(program: &[u8], path: Option<&'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    let path = if program.contains(&b'/') { b"" } else { path.unwrap_or(DEFAULT) };
    path.split(|b| *b == b':')
}

/// Whether the search goes on after an error of execve(2): the next folder may have it.
pub fn goes_on(error: u32) -> bool {
    use linux_raw_sys::errno::{EACCES, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ESTALE, ETIMEDOUT};
    [ENOENT, ENOTDIR, EACCES, ENAMETOOLONG, ESTALE, ENODEV, ETIMEDOUT].contains(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(program: &str, path: Option<&str>) -> Vec<String> {
        let mut room = Name::new();
        folders(program.as_bytes(), path.map(str::as_bytes))
            .filter_map(|f| room.join(f, program.as_bytes()).map(|n| n.to_string_lossy().into_owned()))
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
    fn a_name_that_is_too_long_is_none() {
        let long = "x".repeat(LONGEST - 4);
        assert_eq!(names(&long, Some("/a:/ab")).len(), 1);
    }

    #[test]
    fn only_errors_of_one_folder_let_the_search_go_on() {
        assert_eq!([2, 13, 20].map(goes_on), [true; 3]);
        assert_eq!([8, 12, 7, 26].map(goes_on), [false; 4]);
    }
}
