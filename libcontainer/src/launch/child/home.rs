//! `HOME` of a user, from the container's own /etc/passwd: a hostile file, read through a fixed buffer and up to a limit.

use crate::rootfs::resolve;
use crate::sys::fs;
use std::os::fd::{AsFd, BorrowedFd};

/// No more of the file is read than this, in bytes.
const LIMIT: usize = 4 << 20;
const PREFIX: &[u8] = b"HOME=";

/// The variable, NUL-terminated, in place.
pub(crate) struct Home([u8; 1024]);

impl Home {
    pub(crate) const fn new() -> Self {
        Home([0; 1024])
    }

    /// Looks `uid` up in the root's /etc/passwd; without an entry, or without a readable regular file, it is `/`.
    pub(crate) fn look_up(&mut self, root: BorrowedFd<'_>, uid: u32) -> *const libc::c_char {
        let mut scan = Scan::new(uid);
        // O_NONBLOCK: a FIFO in its place must not hang us.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = resolve::open(root, c"/etc/passwd", flags)
            .ok()
            .filter(|f| fs::fstat(f.as_fd()).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFREG));
        if let Some(file) = file {
            let mut buffer = [0u8; 4096];
            let mut total: usize = 0;
            while total < LIMIT {
                let Ok(n @ 1..) = fs::read(file.as_fd(), &mut buffer) else {
                    break;
                };
                total = total.saturating_add(n);
                if buffer.get(..n).is_some_and(|bytes| bytes.iter().any(|b| scan.feed(*b))) {
                    break;
                }
            }
            scan.feed(b'\n');
        }
        self.set(scan.found().unwrap_or(b"/"))
    }

    fn set(&mut self, value: &[u8]) -> *const libc::c_char {
        self.0 = [0; 1024];
        for (place, byte) in self.0.iter_mut().take(1023).zip(PREFIX.iter().chain(value)) {
            *place = *byte;
        }
        self.0.as_ptr().cast()
    }
}

/// A scanner of passwd(5) lines, fed byte by byte: `name:password:uid:gid:gecos:home:shell`.
struct Scan {
    uid: u32,
    field: usize,
    number: Option<u64>,
    matched: bool,
    home: [u8; 1000],
    length: usize,
    done: bool,
}

impl Scan {
    fn new(uid: u32) -> Self {
        Scan { uid, field: 0, number: None, matched: false, home: [0; 1000], length: 0, done: false }
    }

    /// True once the answer is complete.
    fn feed(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.done => {}
            b'\n' => {
                if self.matched && self.field >= 5 && self.length > 0 {
                    self.done = true;
                } else {
                    *self = Scan::new(self.uid);
                }
            }
            b':' => {
                if self.field == 2 {
                    self.matched = self.number == Some(self.uid.into());
                }
                self.field = self.field.saturating_add(1);
            }
            _ => self.character(byte),
        }
        self.done
    }

    fn character(&mut self, byte: u8) {
        match self.field {
            2 => {
                let digit = if byte.is_ascii_digit() { u64::from(byte.wrapping_sub(b'0')) } else { u64::MAX };
                self.number = Some(self.number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            }
            5 => match self.home.get_mut(self.length) {
                Some(place) => {
                    *place = byte;
                    self.length = self.length.saturating_add(1);
                }
                // Too long to be a path we would hand on.
                None => self.matched = false,
            },
            _ => {}
        }
    }

    fn found(&self) -> Option<&[u8]> {
        if self.done { self.home.get(..self.length) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_of(text: &str, uid: u32) -> Option<String> {
        let mut scan = Scan::new(uid);
        let _ = text.bytes().chain(*b"\n").any(|b| scan.feed(b));
        scan.found().map(|h| String::from_utf8_lossy(h).into_owned())
    }

    #[test]
    fn the_first_line_with_the_numeric_uid_names_the_home() {
        let file = "root:x:0:0:root:/root:/bin/sh\n1000:x:7:7::/trap:/bin/sh\nu:x:1000:1000:a,b:/home/u:/bin/sh\nv:x:1000:1::/v:/s";
        let long = format!("l:x:5:5::/{}:/s", "x".repeat(2000));
        let table = [
            (file, 0, Some("/root")),
            (file, 1000, Some("/home/u")),
            (file, 8, None),
            ("x:x:1000:1::", 1000, None),
            ("x:x:1000:1::/h", 1000, Some("/h")),
            ("x:x:1000x:1::/h:/s", 1000, None),
            ("x:x::1::/h:/s", 0, None),
            ("x:x:4294967296:1::/h:/s", 0, None),
            ("garbage\n\n:::::\nx:x:3:1::/h:/s", 3, Some("/h")),
            (long.as_str(), 5, None),
        ];
        for (text, uid, home) in table {
            assert_eq!(home_of(text, uid).as_deref(), home, "{uid} in {text:?}");
        }
    }
}
