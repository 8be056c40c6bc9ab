//! Syncing while layers are still being unpacked, so that the one sync that counts finds little left to write.
//!
//! The kernel by itself starts writing only when much more is dirty than an image has. On the benchmark's image this hides a
//! second of waiting for the disk behind inflating and hashing. Durability does not depend on it.

use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::error::{Doing, Result};

/// Compressed bytes between two syncs.
const STEP: u64 = 96 << 20;

/// Counts what is read, and syncs now and then in a thread of its own.
pub(super) struct Flusher<'a> {
    handle: &'a File,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    read: u64,
    ended: bool,
}

impl<'a> Flusher<'a> {
    /// For the file system that `handle` is on.
    pub(super) fn new(handle: &'a File) -> Self {
        Self { handle, state: Mutex::default(), wake: Condvar::new() }
    }

    /// So many compressed bytes more were read.
    pub(super) fn advance(&self, count: u64) {
        let mut state = self.state();
        state.read += count;
        if state.read >= STEP {
            self.wake.notify_one();
        }
    }

    /// Lets [`Flusher::run`] return.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.wake.notify_one();
    }

    /// Syncs after each step until the end.
    ///
    /// # Errors
    /// Those of syncfs(2), which tells of a failed write only once: they count as those of the last sync do.
    pub(super) fn run(&self) -> Result<()> {
        loop {
            let state = self.state();
            let waiting = self.wake.wait_while(state, |state| state.read < STEP && !state.ended);
            let mut state = waiting.unwrap_or_else(|poisoned| poisoned.into_inner());
            if state.ended {
                return Ok(());
            }
            state.read = 0;
            drop(state);
            rustix::fs::syncfs(self.handle).doing(|| "syncfs")?;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
