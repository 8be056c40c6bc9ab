//! A runtime: a state directory and the facts about this host. It makes containers and finds them again.
//!
//! `create` is one straight line: plan, reserve, cgroup, launch, save. Each thing it makes is undone in reverse when a later one
//! fails.

use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::checkpoint::RestoreOptions;
use crate::container::{Container, Held, has_hooks};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fault;
use crate::host::{Host, SharedHost};
use crate::id::ContainerId;
use crate::launch::{self, Job};
use crate::plan::step::Step;
use crate::plan::{self, Inputs, Plan, PlanOptions};
use crate::process::Stdio;
use crate::seccomp;
use crate::state::dir::{Lock, StateDir};
use crate::state::{self, Listener, RECORD_VERSION, Record, SeccompRecord, State};
use crate::watch::HookWatch;
use oci_spec::runtime::Hooks;
use std::path::{Path, PathBuf};

/// The directory of all containers' states, and the host. Cheap to open; may be shared between threads.
#[derive(Debug)]
pub struct Runtime {
    root: PathBuf,
    host: SharedHost,
}

/// How a container is made.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreateOptions {
    /// The streams of the container's process.
    pub stdio: Stdio,
    /// Use MS_MOVE and chroot instead of pivot_root: for roots on an initramfs. Less safe.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Hand on this many descriptors from 3 on.
    pub preserve_fds: u32,
    /// `cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Go on without a cgroup where the caller lacks permission for one and neither a path nor limits were asked for. `None`: tolerated
    /// when the caller is not the host's root.
    pub rootless_cgroups: Option<bool>,
    /// Only the returned `Container` will start it, no other process. Saves work: `create` may come back while the process is
    /// still on its way, and `start` reports what `create` would have. Dropping the `Container` before `start` kills the process.
    pub start_here: bool,
}

impl CreateOptions {
    /// Defaults with these streams.
    pub fn new(stdio: Stdio) -> Self {
        CreateOptions {
            stdio,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            systemd_cgroup: false,
            rootless_cgroups: None,
            start_here: false,
        }
    }

    fn plan_options(&self) -> PlanOptions {
        PlanOptions {
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            systemd_cgroup: self.systemd_cgroup,
            rootless_cgroups: self.rootless_cgroups,
        }
    }
}

impl Runtime {
    /// A runtime with its states in `state_root`, which is made by the first `create`.
    ///
    /// # Errors
    /// `Os` when `state_root` is relative and there is no current directory.
    pub fn open(state_root: impl AsRef<Path>) -> Result<Self> {
        let root = state_root.as_ref();
        let root = std::path::absolute(root).with_context(|| format!("state root {root:?}"))?;
        Ok(Runtime { root, host: SharedHost::default() })
    }

    /// The facts about this host.
    ///
    /// # Errors
    /// `Os` when the host can not be probed (no /proc).
    pub fn host(&self) -> Result<&Host> {
        self.host.get()
    }

    /// What `create` would do, without doing it and without privileges.
    ///
    /// # Errors
    /// `InvalidSpec` and `Unsupported` as `create`.
    pub fn plan(&self, id: &ContainerId, bundle: &Bundle, options: &CreateOptions) -> Result<Plan> {
        self.plan_with(id, bundle, options, None)
    }

    fn plan_with(
        &self,
        id: &ContainerId,
        bundle: &Bundle,
        options: &CreateOptions,
        filters: Option<&Path>,
    ) -> Result<Plan> {
        let host = self.host()?;
        let profile = bundle.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let inputs = Inputs {
            id: id.as_str(),
            spec: &bundle.spec,
            host,
            bundle: &bundle.path,
            options: &options.plan_options(),
            overlay: bundle.overlay.as_ref(),
            filter: profile.map(|profile| seccomp::filter(profile, host.kernel, filters)).transpose()?,
        };
        plan::create(&inputs)
    }

    /// Makes a container up to the point where its process waits for `start`.
    ///
    /// # Errors
    /// `Exists`, `InvalidSpec`, `Unsupported`, `Permission`, `Os`; the host is as before then.
    pub fn create(&self, id: &ContainerId, bundle: &Bundle, options: CreateOptions) -> Result<Container> {
        let host = self.host()?;
        let Reserved { undo, lock, mut record, plan } = self.reserve(id, bundle, &options)?;
        let start = if options.start_here { None } else { Some(undo.dir()?.listen()?) };

        let folder = record.cgroup.open()?;
        let mut watch = HookWatch {
            record: &record,
            spec_hooks: bundle.spec.hooks().as_ref(),
            devices: folder.as_ref().zip(plan.cgroup.devices.as_ref()),
        };
        let job = Job {
            cgroup_dir: folder.as_ref(),
            start,
            return_early: options.start_here && !has_hooks(record.hooks.as_ref(), Hooks::start_container),
            ..Job::new(plan.process, options.stdio, &record.cgroup)
        };
        let launched = launch::launch(job, &mut watch).map_err(|e| explain_death(e, &record.cgroup))?;
        record.owner = state::owner::name(host.euid);
        record.pid = launched.pid();
        record.start_time = state::alive::start_time(record.pid)?;
        fault::point();
        undo.dir()?.save(&record)?;
        fault::point();
        let held = Held::new(launched, options.start_here)?;
        fault::point();
        drop(lock);
        let dir = undo.disarm()?;
        Ok(Container::made(id.clone(), dir, record, held, plan.warnings, (self.host.clone(), folder)))
    }

    /// What a container has before its process: its directory, locked, its record and its cgroup.
    pub(crate) fn reserve(
        &self,
        id: &ContainerId,
        bundle: &Bundle,
        options: &CreateOptions,
    ) -> Result<Reserved> {
        // No id has an `@`.
        let mut plan = self.plan_with(id, bundle, options, Some(&self.root.join("@seccomp")))?;
        check_terminal(bundle, &options.stdio)?;
        let host = self.host()?;
        plan.warnings.splice(0..0, bundle.warnings.iter().cloned());

        let mut undo = Undo::default();
        let dir = undo.dir.insert(StateDir::reserve(&self.root, id)?);
        let lock = dir.lock()?;
        fault::point();
        let filter = plan.process.child.iter().find_map(filter_of);
        let mut record = Box::new(record(id, bundle, &plan, filter.is_some())?);
        record.cgroup = Cgroup::planned(&plan.cgroup, &host.cgroup)?;
        if let Some((bpf, flags)) = filter {
            dir.save_filter(bpf)?;
            if let Some(seccomp) = &mut record.seccomp {
                seccomp.flags = flags;
            }
        }
        fault::point();
        // From here on a crash leaves what `delete` can find.
        dir.save(&record)?;
        fault::point();
        record.cgroup =
            undo.cgroup.insert(Cgroup::create(&plan.cgroup, &record.cgroup, &host.cgroup)?).clone();
        fault::point();
        if record.cgroup == Cgroup::None && record.facts.namespaces & libc::CLONE_NEWPID as u64 == 0 {
            // In runc's words.
            plan.warnings.push(
                "creating a rootless container with no cgroup and no private pid namespace configured. Such configuration is strongly \
                 discouraged (as it is impossible to properly kill all container's processes)".into(),
            );
        }
        Ok(Reserved { undo, lock, record, plan })
    }

    /// Makes a container from a checkpoint: the one that [`Container::checkpoint`] saved, or runc. `bundle` is the one it was made from,
    /// or another with the same mounts and namespaces, and with the root as it was then. It runs when this returns.
    ///
    /// CRIU does the work (`criu` in the caller's PATH, 3.17 or newer), and it has to be the host's root who asks.
    ///
    /// # Errors
    /// `Exists`, `InvalidSpec`, `Unsupported` as `create`; `NotFound` without CRIU or a checkpoint; `Os` with what CRIU has logged. The
    /// host is as before then.
    pub fn restore(&self, id: &ContainerId, bundle: &Bundle, options: RestoreOptions) -> Result<Container> {
        crate::checkpoint::restore::restore(self, id, bundle, options)
    }

    pub(crate) fn shared_host(&self) -> SharedHost {
        self.host.clone()
    }

    /// A container that was made before, perhaps by another process.
    ///
    /// # Errors
    /// `NotFound` (`container does not exist`).
    pub fn load(&self, id: &ContainerId) -> Result<Container> {
        Container::load(&self.root, id, self.host.clone())
    }

    /// Removes what is left of a container whose state can not be loaded: a `create` that died before it had written any.
    ///
    /// # Errors
    /// `Busy` while a `create` is going on; `NotFound` when nothing is there.
    pub fn remove_remains(&self, id: &ContainerId) -> Result<()> {
        let dir = StateDir::open(&self.root, id)?;
        match dir.try_lock()? {
            Some(_lock) => dir.remove(),
            None => Err(Error::new(ErrorKind::Busy, "container is being created")),
        }
    }

    /// All containers, sorted by id. One that can not be read is left out.
    ///
    /// # Errors
    /// `NotFound` when the state directory is not there.
    pub fn list(&self) -> Result<Vec<State>> {
        let entries = std::fs::read_dir(&self.root).with_context(|| format!("open {:?}", self.root))?;
        let mut states = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("read {:?}", self.root))?.file_name();
            let Some(Ok(id)) = name.to_str().map(ContainerId::new) else { continue };
            if let Ok(state) = self.load(&id).and_then(|container| container.state()) {
                states.push(state);
            }
        }
        states.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(states)
    }
}

/// A container without a process yet.
pub(crate) struct Reserved {
    pub(crate) undo: Undo,
    pub(crate) lock: Lock,
    pub(crate) record: Box<Record>,
    pub(crate) plan: Plan,
}

/// What `create` has made so far. Dropped before `disarm`, it is taken away again, last things first. The process is not in here:
/// a `Launched` kills its own.
#[derive(Default)]
pub(crate) struct Undo {
    dir: Option<StateDir>,
    cgroup: Option<Cgroup>,
}

impl Undo {
    pub(crate) fn dir(&self) -> Result<&StateDir> {
        self.dir.as_ref().ok_or_else(|| Error::new(ErrorKind::Os, "no state directory"))
    }

    pub(crate) fn disarm(mut self) -> Result<StateDir> {
        self.cgroup = None;
        self.dir.take().ok_or_else(|| Error::new(ErrorKind::Os, "no state directory"))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.kill(crate::Signal::KILL);
            let _ = cgroup.remove();
        }
        if let Some(dir) = self.dir.take() {
            let _ = dir.remove();
        }
    }
}

fn check_terminal(bundle: &Bundle, stdio: &Stdio) -> Result<()> {
    let asked = bundle.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or(false);
    match (asked, stdio) {
        (true, Stdio::Terminal) | (false, Stdio::Inherit | Stdio::Fds { .. }) => Ok(()),
        (true, _) => Err(Error::invalid("process.terminal is true, but the streams are not Stdio::Terminal")),
        (false, Stdio::Terminal) => {
            Err(Error::invalid("process.terminal is false, but the streams are Stdio::Terminal"))
        }
    }
}

fn filter_of(step: &Step) -> Option<(&[u64], u64)> {
    match step {
        Step::Seccomp { bpf, flags, .. } => Some((bpf, *flags)),
        _ => None,
    }
}

fn record(id: &ContainerId, bundle: &Bundle, plan: &Plan, filtered: bool) -> Result<Record> {
    let spec = &bundle.spec;
    let linux = spec.linux().as_ref();
    let process = spec.process().clone().unwrap_or_default();
    let listener = linux.and_then(|l| l.seccomp().as_ref()).and_then(|s| {
        let path = s.listener_path().clone()?;
        Some(Listener { path, metadata: s.listener_metadata().clone().unwrap_or_default() })
    });
    Ok(Record {
        version: RECORD_VERSION,
        oci_version: crate::Features::SPECIFICATION.to_owned(),
        id: id.as_str().to_owned(),
        bundle: bundle.path.clone(),
        rootfs: plan::mounts::root_of(spec, &bundle.path)?,
        created: now(),
        owner: String::new(),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        pid: 0,
        start_time: 0,
        cgroup: Cgroup::None,
        facts: plan.facts.clone(),
        process,
        hooks: spec.hooks().clone(),
        seccomp: filtered.then_some(SeccompRecord { flags: 0, listener }),
        joined: plan.joined,
        binds: plan::restore::bind_mounts(&plan.process)
            .map(|(place, _)| place.to_string_lossy().into_owned())
            .collect(),
        restored: false,
        resources: linux.and_then(|l| l.resources().clone()),
    })
}

/// A process that died before its exec was perhaps killed by its own memory limit: then say so.
fn explain_death(error: Error, cgroup: &Cgroup) -> Error {
    if error.errno().is_none() && cgroup.oom_killed() {
        return error.hint("the container's memory limit is too low: the process was killed (OOM)");
    }
    error
}

/// RFC 3339, in UTC.
fn now() -> String {
    let text = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339);
    text.unwrap_or_default()
}
