//! The table of descriptors that a launch gives its child, by slot.

use crate::plan::step::Slot;
use crate::sys::{SysResult, fs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Descriptors by slot. All are above 2, so that giving the child its streams never overwrites one.
#[derive(Debug)]
pub(crate) struct FdTable(Vec<Option<OwnedFd>>);

impl FdTable {
    /// A table with room for `slots` descriptors; it never grows.
    pub(crate) fn new(slots: u16) -> Self {
        FdTable((0..slots.max(Slot::FIRST_FREE)).map(|_| None).collect())
    }

    /// Puts a descriptor into its slot and closes the previous one.
    pub(crate) fn set(&mut self, slot: Slot, fd: OwnedFd) {
        if let Some(place) = self.0.get_mut(usize::from(slot.0)) {
            *place = Some(fd);
        }
    }

    /// As `set`, moving a descriptor below 3 out of the way of the streams first.
    pub(crate) fn set_above_stdio(&mut self, slot: Slot, fd: OwnedFd) -> SysResult<()> {
        let fd = if fd.as_raw_fd() < 3 { fs::dup_above(fd.as_fd(), 3)? } else { fd };
        self.set(slot, fd);
        Ok(())
    }

    /// Closes all but those that `keep` names.
    pub(crate) fn retain(&mut self, keep: impl Fn(Slot) -> bool) {
        for (_, fd) in (0..).map(Slot).zip(&mut self.0).filter(|(slot, _)| !keep(*slot)) {
            *fd = None;
        }
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        self.0.get(usize::from(slot.0)).and_then(|fd| fd.as_ref().map(|fd| fd.as_fd()))
    }

    /// The lowest number in the table that is at least `least`.
    pub(crate) fn lowest_from(&self, least: u32) -> Option<u32> {
        self.0.iter().flatten().map(|fd| fd.as_raw_fd().cast_unsigned()).filter(|n| *n >= least).min()
    }

    pub(crate) fn take(&mut self, slot: Slot) -> Option<OwnedFd> {
        self.0.get_mut(usize::from(slot.0)).and_then(Option::take)
    }
}
