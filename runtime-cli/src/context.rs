//! The global flags, as every command gets them.

use crate::failure::Failure;
use crate::log::Log;
use goflags::Parsed;
use libcontainer::{Container, ContainerId, Runtime};
use std::path::PathBuf;

/// The global flags.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The name the command goes by: `knarr`, or `runc` when it was called so.
    pub(crate) program: &'static str,
    /// The directory of the containers' states.
    pub(crate) root: PathBuf,
    /// Whether the caller chose `root`.
    pub(crate) root_given: bool,
    pub(crate) systemd_cgroup: bool,
    /// `--rootless`; `None` is auto.
    pub(crate) rootless: Option<bool>,
    pub(crate) log: &'a Log,
}

impl Context<'_> {
    pub(crate) fn runtime(&self) -> Result<Runtime, Failure> {
        Ok(Runtime::open(&self.root)?)
    }

    /// The container named by the first positional argument.
    pub(crate) fn container(&self, parsed: &Parsed) -> Result<Container, Failure> {
        let id = ContainerId::new(parsed.positional(0))?;
        Ok(self.runtime()?.load(&id)?)
    }
}
