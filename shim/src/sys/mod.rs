//! The only room of this crate with `unsafe`: one thin wrapper a system call that `nix` has no safe one for.
//!
//! Descriptors come in as `BorrowedFd` and go out as `OwnedFd`. It must not know what any of them is for.

#![allow(unsafe_code)]

pub(crate) mod inherit;
pub(crate) mod loopback;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod terminal;
