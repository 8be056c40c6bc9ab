//! The only room with `unsafe`: one thin wrapper for each system call that the launch path needs.
//!
//! Policy: one unsafe block for each call, with the precondition of *that* call and why it holds. Wrappers take `BorrowedFd`,
//! `&CStr` and typed flags, and return `OwnedFd` or `()`. Nothing here allocates, so all of it may run between clone and exec.

#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod errno;

pub(crate) use errno::{Errno, SysResult, ret};
