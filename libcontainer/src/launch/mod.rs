//! Carries out a plan.
use crate::error::Result;
use crate::process::{ExitStatus, Signal};
use std::os::fd::BorrowedFd;
mod child;
mod copy_up;
mod fds;
mod frame;
pub(crate) fn wait(_pidfd: BorrowedFd<'_>) -> Result<ExitStatus> { todo!() }
pub(crate) fn signal(_pidfd: BorrowedFd<'_>, _signal: Signal) -> Result<()> { todo!() }
