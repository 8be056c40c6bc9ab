//! Checkpoint and restore, done by CRIU: what a caller may ask for.
//!
//! `rpc` has CRIU's messages, `criu` the conversation with it, `images` the folders on the host, `mounts` what CRIU has to be told of
//! mounts; `dump` and `restore` are the two straight lines. See docs/decisions/0023-checkpoint-by-criu.md.

mod criu;
pub(crate) mod dump;
mod files;
mod images;
mod mounts;
mod pages;
pub(crate) mod restore;
mod rpc;

use crate::error::{Error, Result};
use crate::process::Stdio;
use std::fs::File;
use std::path::PathBuf;

/// What CRIU does with cgroups (`--manage-cgroups` of criu(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CgroupMode {
    /// CRIU's own default, which is `Soft`.
    #[default]
    Default,
    /// Neither saved nor restored: processes are in the cgroup that their container gets.
    Ignore,
    /// Cgroups that are there keep their settings, others get the saved ones.
    Soft,
    /// All get the saved settings.
    Full,
    /// None may be there yet.
    Strict,
}

impl CgroupMode {
    /// The mode of this name: `soft`, `full`, `strict`, `ignore`, or the empty string for the default.
    ///
    /// # Errors
    /// `InvalidSpec` for any other.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "" => CgroupMode::Default,
            "ignore" => CgroupMode::Ignore,
            "soft" => CgroupMode::Soft,
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            other => {
                return Err(Error::invalid(format!(
                    "manage-cgroups-mode {other:?}: soft, full, strict or ignore"
                )));
            }
        })
    }

    /// `criu_cg_mode` of rpc.proto.
    fn number(self) -> i32 {
        match self {
            CgroupMode::Ignore => 0,
            CgroupMode::Soft => 3,
            CgroupMode::Full => 4,
            CgroupMode::Strict => 5,
            CgroupMode::Default => 6,
        }
    }
}

/// How a container is saved.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// The folder for the images; made (mode 0700, its parent must be there) when it is missing.
    pub image: PathBuf,
    /// The folder for CRIU's log and other files; that of the images when `None`.
    pub work: Option<PathBuf>,
    /// The folder of an earlier `pre_dump`, relative to `image`: memory that has not changed since is not saved again.
    pub parent: Option<PathBuf>,
    /// Let the container go on afterwards.
    pub leave_running: bool,
    /// Save memory only, and let the container go on: the first part of a checkpoint that stops it for a shorter time.
    pub pre_dump: bool,
    /// Save TCP connections that are open.
    pub tcp_established: bool,
    /// Leave out TCP connections that are being made.
    pub tcp_skip_in_flight: bool,
    /// Link files that were removed but are open back into the file system.
    pub link_remap: bool,
    /// Allow unix sockets whose other end is outside.
    pub external_unix_sockets: bool,
    /// Allow processes that have a terminal of the caller's session.
    pub shell_job: bool,
    /// Save file locks.
    pub file_locks: bool,
    /// Punch out of the parent's images what is saved again.
    pub auto_dedup: bool,
    /// Serve the memory from the stopped container to a restore that asks for it, instead of saving it. Needs `page_server`.
    pub lazy_pages: bool,
    /// Address and port: with `lazy_pages` where memory is served, else a page server (criu(8)) that takes it.
    pub page_server: Option<(String, u16)>,
    /// Gets one zero byte when lazy pages can be fetched.
    pub status: Option<File>,
    /// What to save of cgroups.
    pub cgroups: CgroupMode,
    /// A configuration file for CRIU, which may run programs: only one that the caller trusts. `None`: see [`RestoreOptions::config`].
    pub config: Option<PathBuf>,
}

impl CheckpointOptions {
    /// Defaults with this folder for the images.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        CheckpointOptions {
            image: image.into(),
            work: None,
            parent: None,
            leave_running: false,
            pre_dump: false,
            tcp_established: false,
            tcp_skip_in_flight: false,
            link_remap: false,
            external_unix_sockets: false,
            shell_job: false,
            file_locks: false,
            auto_dedup: false,
            lazy_pages: false,
            page_server: None,
            status: None,
            cgroups: CgroupMode::Default,
            config: None,
        }
    }
}

/// How a container is made from a checkpoint.
#[derive(Debug)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// The folder of the images. Its files are data of whoever saved them: a symbolic link among them is refused.
    pub image: PathBuf,
    /// The folder for CRIU's log and other files; that of the images when `None`.
    pub work: Option<PathBuf>,
    /// The streams: a pipe takes the place of the pipe that the process had under the same number, `Terminal` that of its terminal.
    pub stdio: Stdio,
    /// `cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Restore TCP connections.
    pub tcp_established: bool,
    /// Allow unix sockets whose other end is outside.
    pub external_unix_sockets: bool,
    /// Allow processes that have a terminal of the caller's session.
    pub shell_job: bool,
    /// Restore file locks.
    pub file_locks: bool,
    /// Punch out of the images what was read.
    pub auto_dedup: bool,
    /// Fetch memory when it is asked for, from a `criu lazy-pages` that runs with the same images.
    pub lazy_pages: bool,
    /// What to restore of cgroups.
    pub cgroups: CgroupMode,
    /// The security profile of the processes instead of the one they had, `TYPE:NAME` (`apparmor:…`, `selinux:…`).
    pub lsm_profile: Option<String>,
    /// The security context of the mounts instead of the one they had.
    pub lsm_mount_context: Option<String>,
    /// A configuration file for CRIU, which may run programs: only one that the caller trusts. `None`: the one in /etc/criu that the
    /// annotation `org.criu.config` names, or /etc/criu/knarr.conf, or /etc/criu/runc.conf.
    pub config: Option<PathBuf>,
}

impl RestoreOptions {
    /// Defaults with this folder of images and these streams.
    pub fn new(image: impl Into<PathBuf>, stdio: Stdio) -> Self {
        RestoreOptions {
            image: image.into(),
            work: None,
            stdio,
            systemd_cgroup: false,
            tcp_established: false,
            external_unix_sockets: false,
            shell_job: false,
            file_locks: false,
            auto_dedup: false,
            lazy_pages: false,
            cgroups: CgroupMode::Default,
            lsm_profile: None,
            lsm_mount_context: None,
            config: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modes_have_the_numbers_of_rpc_proto() {
        for (name, number) in [("", 6), ("ignore", 0), ("soft", 3), ("full", 4), ("strict", 5)] {
            assert_eq!(CgroupMode::parse(name).unwrap().number(), number, "{name}");
        }
        assert!(CgroupMode::parse("Soft").is_err());
    }
}
