//! The only module of this crate with `unsafe`: thin wrappers of system calls for which `nix` has no safe ones.
//!
//! Descriptors come in as `BorrowedFd` and go out as `OwnedFd`. This module does not know what they are for.

#![allow(unsafe_code)]

pub(crate) mod inherit;
pub(crate) mod loopback;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod terminal;
