//! A runtime: a directory of states and the facts about this host. It creates containers and loads existing ones.
//!
//! `create` goes from top to bottom: plan, reserve, launch, save. If a step fails, the earlier ones are undone in reverse order.

use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::checkpoint::RestoreOptions;
use crate::checkpoint::restore::Checkpoint;
use crate::container::{Container, Held, has_hooks};
use crate::error::{Context, Error, ErrorKind, Object, Result, Stage};
use crate::fault;
use crate::host::{Host, SharedHost};
use crate::id::ContainerId;
use crate::launch::{self, Job};
use crate::plan::{Plan, PlanOptions};
use crate::process::Stdio;
use crate::reserve::{self, Request, Reserved};
use crate::state::dir::StateDir;
use crate::state::{self, State};
use crate::watch::HookWatch;
use oci_spec::runtime::Hooks;
use std::path::{Path, PathBuf};

/// The directory with the states of all containers, and the host. Cheap to open; can be shared between threads.
#[derive(Debug)]
pub struct Runtime {
    root: PathBuf,
    host: SharedHost,
}

/// The containers of a state directory.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// Those whose state can be read.
    pub states: Vec<State>,
    /// The others, and why theirs can't.
    pub unreadable: Vec<(ContainerId, Error)>,
}

/// How a container is created.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreateOptions {
    /// The streams of the container's process.
    pub stdio: Stdio,
    /// Use MS_MOVE and chroot instead of pivot_root: for roots on an initramfs. Less safe.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Pass this many descriptors from 3 on to the process.
    pub preserve_fds: u32,
    /// `cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Continue without a cgroup where the caller lacks permission for one and neither a path nor limits are specified. `None`: only
    /// when the caller isn't the host's root.
    pub rootless_cgroups: Option<bool>,
    /// Only the returned `Container` will start it, no other process. This saves work: `create` may return while the process is still
    /// being prepared, and `start` then reports what `create` would have reported. Dropping the `Container` before `start` kills the process.
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

    /// Sets [`no_pivot`](CreateOptions::no_pivot).
    pub fn no_pivot(mut self, yes: bool) -> Self {
        self.no_pivot = yes;
        self
    }

    /// Sets [`no_new_keyring`](CreateOptions::no_new_keyring).
    pub fn no_new_keyring(mut self, yes: bool) -> Self {
        self.no_new_keyring = yes;
        self
    }

    /// Sets [`preserve_fds`](CreateOptions::preserve_fds).
    pub fn preserve_fds(mut self, count: u32) -> Self {
        self.preserve_fds = count;
        self
    }

    /// Sets [`systemd_cgroup`](CreateOptions::systemd_cgroup).
    pub fn systemd_cgroup(mut self, yes: bool) -> Self {
        self.systemd_cgroup = yes;
        self
    }

    /// Sets [`rootless_cgroups`](CreateOptions::rootless_cgroups).
    pub fn rootless_cgroups(mut self, allowed: Option<bool>) -> Self {
        self.rootless_cgroups = allowed;
        self
    }

    /// Sets [`start_here`](CreateOptions::start_here).
    pub fn start_here(mut self, yes: bool) -> Self {
        self.start_here = yes;
        self
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
    /// A runtime with its states in `state_root`, which the first `create` creates.
    ///
    /// # Errors
    /// `Os` if `state_root` is relative and the current directory does not exist.
    pub fn open(state_root: impl AsRef<Path>) -> Result<Self> {
        let root = state_root.as_ref();
        let root = std::path::absolute(root)
            .with_context(|| format!("state root {root:?}"))
            .map_err(|e| e.about(Object::StateRoot))?;
        Ok(Runtime { root, host: SharedHost::default() })
    }

    /// The facts about this host.
    ///
    /// # Errors
    /// `Os` when the host can't be probed (no /proc).
    pub fn host(&self) -> Result<&Host> {
        self.host.get()
    }

    /// The plan of `create`, without carrying it out; needs no privileges.
    ///
    /// # Errors
    /// `InvalidSpec` and `Unsupported` as `create`.
    pub fn plan(&self, id: &ContainerId, bundle: &Bundle, options: &CreateOptions) -> Result<Plan> {
        let request = Request { id, bundle, options: options.plan_options() };
        reserve::plan(self.host()?, &request, None).map(|(plan, _)| plan)
    }

    /// Creates a container, up to the point where its process waits for `start`.
    ///
    /// # Errors
    /// `Exists`, `InvalidSpec`, `Unsupported`, `Permission`, `NotFound`, `Os`; [`Error::stage`] says how far it got, and
    /// [`Error::object`] what was not found. The host is then as it was before.
    pub fn create(&self, id: &ContainerId, bundle: &Bundle, options: CreateOptions) -> Result<Container> {
        let host = self.host()?;
        let request = Request { id, bundle, options: options.plan_options() };
        let terminal = matches!(options.stdio, Stdio::Terminal);
        let Reserved { undo, dir, mut record, plan } =
            reserve::reserve(&self.root, host, &request, terminal)?;
        let start = if options.start_here { None } else { Some(dir.listen()?) };

        let cgroup_dir = record.cgroup.open()?;
        let mut watch = HookWatch {
            record: &record,
            dir: Some(&dir),
            spec_hooks: bundle.spec.hooks().as_ref(),
            devices: cgroup_dir.as_ref().zip(plan.cgroup.devices.as_ref()),
        };
        let job = Job {
            cgroup_dir: cgroup_dir.as_ref(),
            start,
            return_early: options.start_here && !has_hooks(record.hooks.as_ref(), Hooks::start_container),
            ..Job::new(plan.process, options.stdio, &record.cgroup)
        };
        let launched = launch::launch(job, &mut watch)
            .map_err(|e| explain_death(e, &record.cgroup).at(Stage::Prepare))?;
        record.owner = state::owner::name(host.euid);
        record.pid = launched.pid();
        record.start_time = state::alive::start_time(record.pid)?;
        fault::point();
        dir.save(&record)?;
        if bundle.spec.hooks().is_some() {
            dir.forget_process();
        }
        fault::point();
        let held = Held::new(launched, options.start_here)?;
        fault::point();
        undo.disarm();
        Ok(Container::made(id.clone(), dir, record, held, plan.warnings, (self.host.clone(), cgroup_dir)))
    }

    /// Creates a container from a checkpoint that [`Container::checkpoint`] or runc has saved. `bundle` is the one that the container
    /// was created from, or another with the same mounts and namespaces and an unchanged root. When this returns, the container is
    /// running.
    ///
    /// Needs CRIU (`criu` in the caller's PATH, 3.17 or newer) and root on the host.
    ///
    /// # Errors
    /// `Exists`, `InvalidSpec`, `Unsupported` as `create`; `NotFound` without CRIU or a checkpoint; `Os` with what CRIU has logged. The
    /// host is then as it was before.
    pub fn restore(&self, id: &ContainerId, bundle: &Bundle, options: RestoreOptions) -> Result<Container> {
        let checkpoint = Checkpoint::open(bundle, &options)?;
        let wishes = PlanOptions { systemd_cgroup: options.systemd_cgroup, ..PlanOptions::default() };
        let request = Request { id, bundle, options: wishes };
        let terminal = matches!(options.stdio, Stdio::Terminal);
        let reserved = reserve::reserve(&self.root, self.host()?, &request, terminal)?;
        let restored = checkpoint.restore(reserved, bundle, options)?;
        Ok(Container::restored(id.clone(), restored, self.host.clone()))
    }

    /// Loads an existing container, which another process may have created.
    ///
    /// # Errors
    /// `NotFound`, about the `Container` (`container does not exist`).
    pub fn load(&self, id: &ContainerId) -> Result<Container> {
        Container::load(&self.root, id, self.host.clone())
    }

    /// Removes what is left of a container whose state can't be loaded, because its `create` was killed before writing it.
    ///
    /// # Errors
    /// `Busy` while a `create` is in progress; `NotFound` when nothing is left.
    pub fn remove_remains(&self, id: &ContainerId) -> Result<()> {
        let dir = StateDir::open(&self.root, id)?;
        match dir.try_lock()? {
            // A create may have come to an end since the caller has found nothing.
            Some(_lock) if dir.load().is_err_and(|e| e.kind() == ErrorKind::NotFound) => dir.remove(),
            _ => Err(Error::new(ErrorKind::Busy, "container is being created")),
        }
    }

    /// All containers, sorted by id.
    ///
    /// # Errors
    /// `NotFound`, about the `StateRoot`, when that does not exist.
    pub fn list(&self) -> Result<Listing> {
        let entries = std::fs::read_dir(&self.root)
            .with_context(|| format!("open {:?}", self.root))
            .map_err(|e| e.about(Object::StateRoot))?;
        let mut listing = Listing::default();
        for entry in entries {
            let name = entry.with_context(|| format!("read {:?}", self.root))?.file_name();
            let Some(Ok(id)) = name.to_str().map(ContainerId::new) else { continue };
            match self.load(&id).and_then(|container| container.state()) {
                Ok(state) => listing.states.push(state),
                // It was removed meanwhile, or is being created.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => listing.unreadable.push((id, e)),
            }
        }
        listing.states.sort_by(|a, b| a.id.cmp(&b.id));
        listing.unreadable.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Ok(listing)
    }
}

/// Adds a hint to the error of a process that died before its exec, if its own memory limit killed it.
fn explain_death(error: Error, cgroup: &Cgroup) -> Error {
    if error.is_death() && cgroup.oom_killed() {
        return error.hint("the container's memory limit is too low: the process was killed (OOM)");
    }
    error
}
