//! Syncs while layers are being unpacked, so that the final sync has little left to write.
//!
//! By itself the kernel starts to write only when much more data is dirty than an image has. On the benchmark's image this saves
//! a second. Durability does not depend on it.

use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::error::{Doing, Result};

/// Compressed bytes between two syncs.
const SYNC_INTERVAL: u64 = 96 << 20;

/// Counts the bytes read, and syncs in a separate thread after each interval.
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
    /// Syncs the file system of `handle`.
    pub(super) fn new(handle: &'a File) -> Self {
        Self { handle, state: Mutex::default(), wake: Condvar::new() }
    }

    /// Adds to the number of compressed bytes read.
    pub(super) fn advance(&self, count: u64) {
        let mut state = self.state();
        state.read += count;
        if state.read >= SYNC_INTERVAL {
            self.wake.notify_one();
        }
    }

    /// Makes [`Flusher::run`] return.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.wake.notify_one();
    }

    /// Syncs after each interval, until [`Flusher::end`].
    ///
    /// # Errors
    /// Those of syncfs(2). It reports a failed write only once, so an error here must be treated like one of the final sync.
    pub(super) fn run(&self) -> Result<()> {
        loop {
            let state = self.state();
            let waiting = self.wake.wait_while(state, |state| state.read < SYNC_INTERVAL && !state.ended);
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
