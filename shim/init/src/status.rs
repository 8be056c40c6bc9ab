//! Exit statuses: how a program's exit determines that of `knarr-init`.

/// The program was not found (as in shells).
pub const NOT_FOUND: u8 = 127;
/// The program was found, but cannot be executed.
pub const NOT_RUN: u8 = 126;
/// Another error.
pub const TROUBLE: u8 = 1;

/// The exit status for a status of wait4(2): the program's own, or 128 plus the signal's number.
pub fn of_wait(status: u32) -> u8 {
    let signal = status & 0x7f;
    let code = if signal == 0 { status >> 8 } else { 128 + signal };
    code.to_le_bytes()[0]
}

/// The exit status after execve(2) failed with an error.
pub fn of_exec(error: u32) -> u8 {
    use linux_raw_sys::errno::{ENOENT, ENOTDIR};
    if [ENOENT, ENOTDIR].contains(&error) { NOT_FOUND } else { NOT_RUN }
}

/// A set of exit statuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set([u32; 8]);

impl Set {
    /// Adds one.
    pub fn add(&mut self, status: u8) {
        if let Some(word) = self.0.get_mut(usize::from(status >> 5)) {
            *word |= 1 << (status & 31);
        }
    }

    /// Whether it is in the set.
    pub fn has(&self, status: u8) -> bool {
        self.0.get(usize::from(status >> 5)).is_some_and(|word| word & 1 << (status & 31) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_gives_the_code_or_128_plus_the_signal() {
        for (status, want) in
            [(0, 0), (7 << 8, 7), (255 << 8, 255), (9, 137), (15, 143), (6 | 0x80, 134), (64, 192)]
        {
            assert_eq!(of_wait(status), want, "{status:#x}");
        }
    }

    #[test]
    fn a_missing_program_is_127_and_one_that_cannot_be_executed_126() {
        assert_eq!([2, 20, 13, 8, 12, 40].map(of_exec), [127, 127, 126, 126, 126, 126]);
    }

    #[test]
    fn a_set_has_what_was_added_and_nothing_else() {
        let added = [0, 1, 31, 32, 143, 255];
        let mut set = Set::default();
        added.iter().for_each(|s| set.add(*s));
        for status in 0..=255 {
            assert_eq!(set.has(status), added.contains(&status), "{status}");
        }
    }
}
