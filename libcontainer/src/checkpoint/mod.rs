//! Checkpoint and restore, done by CRIU: what a caller may ask for.
//!
//! `rpc` has CRIU's messages, `criu` the protocol, `images` the directories on the host, `mounts` what CRIU needs to know of mounts; `dump`
//! and `restore` are the two procedures. See docs/decisions/0023-checkpoint-by-criu.md.

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

/// How CRIU handles cgroups (`--manage-cgroups` of criu(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CgroupMode {
    /// CRIU's own default, which is `Soft`.
    #[default]
    Default,
    /// Neither saved nor restored: the processes get their container's cgroup.
    Ignore,
    /// Existing cgroups keep their settings, others get the saved ones.
    Soft,
    /// All get the saved settings.
    Full,
    /// None may exist yet.
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
    /// The directory for the images; created (mode 0700) if it is missing, but not its parent.
    pub image: PathBuf,
    /// The directory for CRIU's log and other files; that of the images when `None`.
    pub work: Option<PathBuf>,
    /// The directory of an earlier `pre_dump`, relative to `image`: memory that has not changed since is not saved again.
    pub parent: Option<PathBuf>,
    /// Leave the container running.
    pub leave_running: bool,
    /// Save memory only, and leave the container running, so that a later checkpoint stops it for a shorter time.
    pub pre_dump: bool,
    /// Save established TCP connections.
    pub tcp_established: bool,
    /// Skip TCP connections that are being established.
    pub tcp_skip_in_flight: bool,
    /// Link files that are open but were removed back into the file system.
    pub link_remap: bool,
    /// Allow unix sockets whose other end is outside the container.
    pub external_unix_sockets: bool,
    /// Allow processes that have a terminal of the caller's session.
    pub shell_job: bool,
    /// Save file locks.
    pub file_locks: bool,
    /// Punch holes into the parent's images where memory is saved again.
    pub auto_dedup: bool,
    /// Serve the memory from the stopped container to a restore with `lazy_pages`, instead of saving it. Needs `page_server`.
    pub lazy_pages: bool,
    /// Address and port: with `lazy_pages` where memory is served, else a page server (criu(8)) that takes it.
    pub page_server: Option<(String, u16)>,
    /// Receives one zero byte when lazy pages can be fetched.
    pub status: Option<File>,
    /// How to save cgroups.
    pub cgroups: CgroupMode,
    /// A configuration file for CRIU, which may run programs: only one that the caller trusts. `None`: see [`RestoreOptions::config`].
    pub config: Option<PathBuf>,
}

impl CheckpointOptions {
    /// Defaults with this directory for the images.
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

    /// Sets [`work`](CheckpointOptions::work).
    pub fn work(mut self, path: impl Into<PathBuf>) -> Self {
        self.work = Some(path.into());
        self
    }

    /// Sets [`parent`](CheckpointOptions::parent).
    pub fn parent(mut self, path: impl Into<PathBuf>) -> Self {
        self.parent = Some(path.into());
        self
    }

    /// Sets [`leave_running`](CheckpointOptions::leave_running).
    pub fn leave_running(mut self, yes: bool) -> Self {
        self.leave_running = yes;
        self
    }

    /// Sets [`pre_dump`](CheckpointOptions::pre_dump).
    pub fn pre_dump(mut self, yes: bool) -> Self {
        self.pre_dump = yes;
        self
    }

    /// Sets [`tcp_established`](CheckpointOptions::tcp_established).
    pub fn tcp_established(mut self, yes: bool) -> Self {
        self.tcp_established = yes;
        self
    }

    /// Sets [`tcp_skip_in_flight`](CheckpointOptions::tcp_skip_in_flight).
    pub fn tcp_skip_in_flight(mut self, yes: bool) -> Self {
        self.tcp_skip_in_flight = yes;
        self
    }

    /// Sets [`link_remap`](CheckpointOptions::link_remap).
    pub fn link_remap(mut self, yes: bool) -> Self {
        self.link_remap = yes;
        self
    }

    /// Sets [`external_unix_sockets`](CheckpointOptions::external_unix_sockets).
    pub fn external_unix_sockets(mut self, yes: bool) -> Self {
        self.external_unix_sockets = yes;
        self
    }

    /// Sets [`shell_job`](CheckpointOptions::shell_job).
    pub fn shell_job(mut self, yes: bool) -> Self {
        self.shell_job = yes;
        self
    }

    /// Sets [`file_locks`](CheckpointOptions::file_locks).
    pub fn file_locks(mut self, yes: bool) -> Self {
        self.file_locks = yes;
        self
    }

    /// Sets [`auto_dedup`](CheckpointOptions::auto_dedup).
    pub fn auto_dedup(mut self, yes: bool) -> Self {
        self.auto_dedup = yes;
        self
    }

    /// Sets [`lazy_pages`](CheckpointOptions::lazy_pages).
    pub fn lazy_pages(mut self, yes: bool) -> Self {
        self.lazy_pages = yes;
        self
    }

    /// Sets [`page_server`](CheckpointOptions::page_server).
    pub fn page_server(mut self, address: impl Into<String>, port: u16) -> Self {
        self.page_server = Some((address.into(), port));
        self
    }

    /// Sets [`status`](CheckpointOptions::status).
    pub fn status(mut self, file: File) -> Self {
        self.status = Some(file);
        self
    }

    /// Sets [`cgroups`](CheckpointOptions::cgroups).
    pub fn cgroups(mut self, mode: CgroupMode) -> Self {
        self.cgroups = mode;
        self
    }

    /// Sets [`config`](CheckpointOptions::config).
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = Some(path.into());
        self
    }
}

/// How a container is restored from a checkpoint.
#[derive(Debug)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// The directory of the images. Its files aren't trusted: a symbolic link among them is refused.
    pub image: PathBuf,
    /// The directory for CRIU's log and other files; that of the images when `None`.
    pub work: Option<PathBuf>,
    /// The streams: a pipe takes the place of the pipe that the process had under the same number, `Terminal` that of its terminal.
    pub stdio: Stdio,
    /// `cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Restore TCP connections.
    pub tcp_established: bool,
    /// Allow unix sockets whose other end is outside the container.
    pub external_unix_sockets: bool,
    /// Allow processes that have a terminal of the caller's session.
    pub shell_job: bool,
    /// Restore file locks.
    pub file_locks: bool,
    /// Punch holes into the images where they were read.
    pub auto_dedup: bool,
    /// Fetch memory when it is needed, from a `criu lazy-pages` that runs with the same images.
    pub lazy_pages: bool,
    /// How to restore cgroups.
    pub cgroups: CgroupMode,
    /// The security profile of the processes instead of their previous one, `TYPE:NAME` (`apparmor:…`, `selinux:…`).
    pub lsm_profile: Option<String>,
    /// The security context of the mounts instead of their previous one.
    pub lsm_mount_context: Option<String>,
    /// A configuration file for CRIU, which may run programs: only one that the caller trusts. `None`: the one in /etc/criu that the
    /// annotation `org.criu.config` names, or /etc/criu/knarr.conf, or /etc/criu/runc.conf.
    pub config: Option<PathBuf>,
}

impl RestoreOptions {
    /// Defaults with this directory of images and these streams.
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

    /// Sets [`work`](RestoreOptions::work).
    pub fn work(mut self, path: impl Into<PathBuf>) -> Self {
        self.work = Some(path.into());
        self
    }

    /// Sets [`systemd_cgroup`](RestoreOptions::systemd_cgroup).
    pub fn systemd_cgroup(mut self, yes: bool) -> Self {
        self.systemd_cgroup = yes;
        self
    }

    /// Sets [`tcp_established`](RestoreOptions::tcp_established).
    pub fn tcp_established(mut self, yes: bool) -> Self {
        self.tcp_established = yes;
        self
    }

    /// Sets [`external_unix_sockets`](RestoreOptions::external_unix_sockets).
    pub fn external_unix_sockets(mut self, yes: bool) -> Self {
        self.external_unix_sockets = yes;
        self
    }

    /// Sets [`shell_job`](RestoreOptions::shell_job).
    pub fn shell_job(mut self, yes: bool) -> Self {
        self.shell_job = yes;
        self
    }

    /// Sets [`file_locks`](RestoreOptions::file_locks).
    pub fn file_locks(mut self, yes: bool) -> Self {
        self.file_locks = yes;
        self
    }

    /// Sets [`auto_dedup`](RestoreOptions::auto_dedup).
    pub fn auto_dedup(mut self, yes: bool) -> Self {
        self.auto_dedup = yes;
        self
    }

    /// Sets [`lazy_pages`](RestoreOptions::lazy_pages).
    pub fn lazy_pages(mut self, yes: bool) -> Self {
        self.lazy_pages = yes;
        self
    }

    /// Sets [`cgroups`](RestoreOptions::cgroups).
    pub fn cgroups(mut self, mode: CgroupMode) -> Self {
        self.cgroups = mode;
        self
    }

    /// Sets [`lsm_profile`](RestoreOptions::lsm_profile).
    pub fn lsm_profile(mut self, label: impl Into<String>) -> Self {
        self.lsm_profile = Some(label.into());
        self
    }

    /// Sets [`lsm_mount_context`](RestoreOptions::lsm_mount_context).
    pub fn lsm_mount_context(mut self, label: impl Into<String>) -> Self {
        self.lsm_mount_context = Some(label.into());
        self
    }

    /// Sets [`config`](RestoreOptions::config).
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = Some(path.into());
        self
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
