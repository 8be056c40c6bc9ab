//! What a launch needs from its caller: the hooks at their gate, the device rules of a new cgroup, a recipient for a filter's listener.
//!
//! It uses records and hooks, not the operations on a container.

use crate::cgroup::Dir;
use crate::error::{Context, Error, Internal, Result};
use crate::launch::Watch;
use crate::launch::hooks::{self, Place};
use crate::plan::devfilter::Policy;
use crate::state::dir::StateDir;
use crate::state::{Record, Status};
use crate::sys::sock;
use oci_spec::runtime::Hooks;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Serves a launch for the container of this record.
#[derive(Debug)]
pub(crate) struct HookWatch<'a> {
    pub(crate) record: &'a Record,
    /// Where the process is noted while hooks run, which may take long, for a container that is being created.
    pub(crate) dir: Option<&'a StateDir>,
    /// The hooks to run at the gate `Hooks`.
    pub(crate) spec_hooks: Option<&'a Hooks>,
    /// Restrict the devices of a new v2 cgroup.
    pub(crate) devices: Option<(&'a Dir, &'a Policy)>,
}

impl Watch for HookWatch<'_> {
    /// The kernel verifies a device program while the child mounts: both happen at the same time.
    fn cloned(&mut self) -> Result<()> {
        self.devices.map_or(Ok(()), |(dir, policy)| dir.restrict_devices(policy))
    }

    fn hooks(&mut self, pid: i32, process: BorrowedFd<'_>) -> Result<()> {
        let Some(hooks) = self.spec_hooks else { return Ok(()) };
        self.dir.map_or(Ok(()), |dir| dir.note_process(pid))?;
        run_host_hooks(self.record, hooks, pid, process)?;
        let namespaces = self.record.facts.namespaces;
        let place =
            Place::Container { process, namespaces, cgroup: &self.record.cgroup, root: &self.record.rootfs };
        let state = self.record.hook_state(Status::Creating, self.record.inside(pid));
        hooks::run("createContainer", hooks.create_container().as_deref(), &state, &place)
    }

    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()> {
        send_listener(self.record, pid, listener)
    }
}

/// Runs the prestart and createRuntime hooks: those of the host, while the container is being created, and no longer than `process`
/// lives: its own, or CRIU's, which makes it.
pub(crate) fn run_host_hooks(
    record: &Record,
    hooks: &Hooks,
    pid: i32,
    process: BorrowedFd<'_>,
) -> Result<()> {
    let state = record.hook_state(Status::Creating, pid);
    let place = Place::Host { bundle: &record.bundle, process: Some(process) };
    #[allow(deprecated)]
    hooks::run("prestart", hooks.prestart().as_deref(), &state, &place)?;
    hooks::run("createRuntime", hooks.create_runtime().as_deref(), &state, &place)
}

/// Sends the listener of SCMP_ACT_NOTIFY to its agent (runtime-spec, "containerProcessState").
pub(crate) fn send_listener(record: &Record, pid: i32, listener: OwnedFd) -> Result<()> {
    let Some(agent) = record.seccomp.as_ref().and_then(|s| s.listener.as_ref()) else {
        return Err(Error::invalid(
            "linux.seccomp.listenerPath: must be set for a filter with SCMP_ACT_NOTIFY",
        ));
    };
    let state: serde_json::Value =
        serde_json::from_str(&record.hook_state(Status::Creating, record.pid.max(pid)))
            .map_err(|e| Internal::Encode("the state", e))?;
    let message = serde_json::json!({
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": agent.metadata,
        "state": state,
    });
    let stream = std::os::unix::net::UnixStream::connect(&agent.path).with_context(|| {
        format!("failed to connect with seccomp agent specified in the seccomp profile: {:?}", agent.path)
    })?;
    sock::send_fd(stream.as_fd(), message.to_string().as_bytes(), listener.as_fd())
        .context("sendmsg to the seccomp agent")
}
