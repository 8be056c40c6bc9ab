//! Paths in fixed buffers, for between clone and exec, and the names that descriptors have in procfs.

use super::{Errno, SysResult};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) const PATH_MAX: usize = 4096;

/// A path in a fixed buffer, always NUL-terminated.
pub(crate) struct StackPath {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl StackPath {
    pub(crate) fn new(text: &[u8]) -> SysResult<Self> {
        let mut path = StackPath { bytes: [0; PATH_MAX], length: 0 };
        path.append(text)?;
        Ok(path)
    }

    pub(crate) fn append(&mut self, text: &[u8]) -> SysResult<()> {
        let end =
            self.length.checked_add(text.len()).filter(|e| *e < PATH_MAX).ok_or(Errno(libc::ENAMETOOLONG))?;
        self.bytes.get_mut(self.length..end).ok_or(Errno(libc::ENAMETOOLONG))?.copy_from_slice(text);
        self.length = end;
        if let Some(terminator) = self.bytes.get_mut(end) {
            *terminator = 0;
        }
        Ok(())
    }

    pub(crate) fn as_cstr(&self) -> SysResult<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno(libc::ENAMETOOLONG))
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn byte(&self, at: usize) -> Option<u8> {
        self.text().get(at).copied()
    }

    pub(crate) fn component_end(&self, start: usize) -> usize {
        let rest = self.text().get(start..).unwrap_or_default();
        start + rest.iter().position(|b| *b == b'/').unwrap_or(rest.len())
    }

    pub(crate) fn rest_is_empty(&self, from: usize) -> bool {
        self.text().get(from..).unwrap_or_default().iter().all(|b| *b == b'/')
    }

    pub(crate) fn prefix(&self, end: usize) -> SysResult<StackPath> {
        StackPath::new(self.text().get(..end).unwrap_or_default())
    }

    pub(crate) fn component(&self, start: usize, end: usize) -> SysResult<StackPath> {
        StackPath::new(self.text().get(start..end).unwrap_or_default())
    }

    pub(super) fn ends_in_slash(&self) -> bool {
        self.text().last() == Some(&b'/')
    }

    /// Removes the text between two positions, and the slashes after it if nothing comes before.
    pub(super) fn remove(&mut self, from: usize, to: usize) -> SysResult<()> {
        let mut path = StackPath::new(self.text().get(..from).unwrap_or_default())?;
        let rest = self.text().get(to..).unwrap_or_default();
        let slashes = if from == 0 { rest.iter().take_while(|b| **b == b'/').count() } else { 0 };
        path.append(rest.get(slashes..).unwrap_or_default())?;
        *self = path;
        Ok(())
    }

    /// Replaces the component by the target of the symlink that it names; an absolute target starts at the root again.
    pub(crate) fn substitute(&mut self, start: usize, end: usize, target: &[u8]) -> SysResult<()> {
        let before = if target.first() == Some(&b'/') { 0 } else { start };
        let mut path = StackPath::new(self.text().get(..before).unwrap_or_default())?;
        path.append(target)?;
        path.append(self.text().get(end..).unwrap_or_default())?;
        *self = path;
        Ok(())
    }
}

/// `/proc/self/fd/N`: for calls that take no descriptor. Only where the host's procfs is at /proc: before the pivot.
pub(crate) fn of_fd(fd: BorrowedFd<'_>) -> SysResult<StackPath> {
    numbered(b"/proc/self/fd/", fd.as_raw_fd())
}

/// `prefix` and a number, in decimal.
pub(crate) fn numbered(prefix: &[u8], number: i32) -> SysResult<StackPath> {
    let mut digits = [0u8; 12];
    let mut at = digits.len();
    let mut number = number.unsigned_abs();
    loop {
        at = at.saturating_sub(1);
        if let Some(place) = digits.get_mut(at) {
            *place = b'0'.saturating_add((number % 10) as u8);
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let mut path = StackPath::new(prefix)?;
    path.append(digits.get(at..).unwrap_or_default())?;
    Ok(path)
}
