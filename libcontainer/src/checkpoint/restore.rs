//! Making a container from a checkpoint: what `create` makes before its process, a dry run that makes the mount points, and CRIU, which
//! makes the processes. Each thing made is undone in reverse when a later one fails.

use super::criu::{Criu, Session, Surroundings, above_streams, quiet};
use super::dump::{both_ways, config, key_of, must_be_root};
use super::images::Folder;
use super::rpc::{self, Kind, Notice, Request};
use super::{RestoreOptions, files, mounts, pages};
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Dir};
use crate::container::Container;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fault;
use crate::id::ContainerId;
use crate::launch::hooks::{self, NoWatch, Place};
use crate::launch::{self, Job, settings};
use crate::plan::namespaces::{self, CGROUP, MOUNT, NET, PID, TIME};
use crate::plan::{self, ContainerFacts, Open, ProcessPlan, c_string};
use crate::process::Stdio;
use crate::runtime::{CreateOptions, Reserved, Runtime};
use crate::state::dir::StateDir;
use crate::state::{self, Record, Status};
use crate::sys::fs::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS};
use crate::sys::pidfd::{self, Child};
use crate::watch::{self, HookWatch};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

const LOG: &CStr = c"restore.log";

/// See [`Runtime::restore`].
pub(crate) fn restore(
    runtime: &Runtime,
    id: &ContainerId,
    bundle: &Bundle,
    mut options: RestoreOptions,
) -> Result<Container> {
    must_be_root("restore")?;
    let config = config(options.config.as_deref(), &annotations(bundle))?;
    let criu = Criu::find()?;
    let images = Folder::open(&options.image)?;
    images.check()?;
    let descriptors = images.descriptors()?;
    // Those of lazy pages come from elsewhere.
    if !options.lazy_pages {
        pages::check(&images, page_size()?)?;
    }
    let work = options.work.as_deref().map(Folder::make).transpose()?;
    work.as_ref().unwrap_or(&images).forget_work()?;

    let mut create = CreateOptions::new(std::mem::replace(&mut options.stdio, Stdio::Inherit));
    create.systemd_cgroup = options.systemd_cgroup;
    let Reserved { undo, lock, mut record, plan } = runtime.reserve(id, bundle, &create)?;
    let folder = record.cgroup.open()?;
    let mut watch = HookWatch {
        record: &record,
        spec_hooks: None,
        devices: folder.as_ref().zip(plan.cgroup.devices.as_ref()),
    };
    let mut request = rpc::Options {
        ext_mnt: rehearse(&plan.process, folder.as_ref(), &mut watch)?,
        config_file: config,
        ..request(&record, &options)?
    };
    fault::point();
    let terminal = matches!(create.stdio, Stdio::Terminal);
    let stdio = if terminal { quiet()? } else { create.stdio };
    if let Some(gid) = root_group(&plan.facts) {
        images.let_pass(gid)?;
    }
    let mut handed = namespaces(&plan.process, &mut request)?;
    let null = above_streams(files::null()?)?;
    request.inherit_fd.extend(files::replaced(&descriptors, terminal, &null));
    handed.push(null);
    let around = Surroundings {
        stdio,
        cgroup: &record.cgroup.clone(),
        cgroup_dir: folder.as_ref(),
        create: Some(&plan.process),
        handed,
    };
    let session = criu.start(around)?;
    request.cg_root = cgroups_of(session.pid)?;
    let root = settings::open_root_of(session.process.as_fd())?;
    let log = work.as_ref().unwrap_or(&images);
    let images_seen = images.seen_from(root.as_fd())?;
    request.images_dir_fd = images_seen.as_raw_fd();
    let work_seen = work.as_ref().map(|work| work.seen_from(root.as_fd())).transpose()?;
    request.work_dir_fd = work_seen.as_ref().map(AsRawFd::as_raw_fd);
    let birth = Birth { record: &mut record, dir: undo.dir()?, bundle, process: None, terminal: None };
    let (process, terminal) = converse(session, request, birth).map_err(|e| match e.kind() {
        ErrorKind::Os if e.errno().is_none() => e.wrap(log.errors(LOG)).wrap("criu restore"),
        _ => e.wrap("criu restore"),
    })?;
    fault::point();
    let running = record.hook_state(Status::Running, record.pid);
    let poststart = record.hooks.as_ref().and_then(|hooks| hooks.poststart().as_deref());
    hooks::run("poststart", poststart, &running, &Place::Host { bundle: &record.bundle })?;
    drop(lock);
    let dir = undo.disarm()?;
    Ok(Container::restored(
        id.clone(),
        dir,
        record,
        (process.keep(), terminal),
        plan.warnings,
        (runtime.shared_host(), folder),
    ))
}

/// The group on the host that is 0 in the container's own user namespace.
fn root_group(facts: &ContainerFacts) -> Option<u32> {
    let maps = facts.maps.as_ref()?;
    maps.gids.iter().find(|map| map.inside == 0).map(|map| map.outside)
}

fn page_size() -> Result<u64> {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).map_err(std::io::Error::from);
    Ok(size.context("sysconf")?.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096))
}

fn annotations(bundle: &Bundle) -> std::collections::BTreeMap<String, String> {
    bundle.spec.annotations().clone().unwrap_or_default().into_iter().collect()
}

/// Makes the mount points, and tells what is mounted there: the host's trees by the places that they really have in the root.
fn rehearse(
    plan: &ProcessPlan,
    dir: Option<&Dir>,
    watch: &mut HookWatch<'_>,
) -> Result<Vec<rpc::ExternalMount>> {
    let record = watch.record;
    let job = Job { cgroup_dir: dir, ..Job::new(plan::restore::dry_run(plan), quiet()?, &record.cgroup) };
    let launched = launch::launch(job, watch)?;
    let host = settings::open_root_of(launched.process()?)?;
    let path = c_string("root.path", record.rootfs.as_os_str().as_bytes())?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let root = fs::openat2(host.as_fd(), &path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        .with_context(|| format!("open {path:?}"))?;
    let (binds, nodes) = (plan::restore::bind_mounts(plan), plan::restore::nodes(plan));
    mounts::to_restore(root.as_fd(), binds, nodes)
}

fn request(record: &Record, options: &RestoreOptions) -> Result<rpc::Options> {
    let root = record.rootfs.to_str().map(str::to_owned);
    let root = root.ok_or_else(|| Error::unsupported("root.path: CRIU takes paths in UTF-8 only"))?;
    Ok(rpc::Options {
        root: Some(root),
        log_file: Some(LOG.to_string_lossy().into_owned()),
        evasive_devices: Some(true),
        // The process becomes a child of the caller, as one that `create` makes.
        rst_sibling: Some(true),
        tcp_established: Some(options.tcp_established),
        ext_unix_sk: Some(options.external_unix_sockets),
        shell_job: Some(options.shell_job),
        file_locks: Some(options.file_locks),
        auto_dedup: Some(options.auto_dedup),
        lazy_pages: Some(options.lazy_pages),
        manage_cgroups_mode: Some(options.cgroups.number()),
        lsm_profile: options.lsm_profile.clone(),
        lsm_mount_context: options.lsm_mount_context.clone(),
        ..both_ways()
    })
}

/// The namespaces that are joined: network and pid namespaces by descriptors, which CRIU inherits, the others by their paths.
fn namespaces(plan: &ProcessPlan, request: &mut rpc::Options) -> Result<Vec<OwnedFd>> {
    let mut handed = Vec::new();
    for open in &plan.opens {
        let Open::Namespace { path, flag, .. } = open else { continue };
        let name = namespaces::name_of(*flag);
        match *flag {
            NET | PID => {
                let fd = above_streams(settings::open_namespace(path, *flag, false)?)?;
                request.inherit_fd.push(rpc::InheritFd { key: key_of(*flag).to_owned(), fd: fd.as_raw_fd() });
                handed.push(fd);
            }
            MOUNT | CGROUP => {
                let message =
                    format!("linux.namespaces: CRIU can not restore into a {name} namespace that is there");
                return Err(Error::unsupported(message));
            }
            _ => {
                let file = path.to_str().map(str::to_owned);
                let file = file.ok_or_else(|| Error::unsupported(format!("{path:?}: not UTF-8")))?;
                request.join_ns.push(rpc::JoinNamespace { ns: name.to_owned(), file });
            }
        }
    }
    Ok(handed)
}

/// Where CRIU is, which is in the container's cgroup: the saved cgroups become this one and those below it.
fn cgroups_of(pid: i32) -> Result<Vec<rpc::CgroupRoot>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers.to_owned(), path.to_owned()))
    };
    let each = text.lines().filter_map(line).flat_map(|(controllers, path)| {
        let names: Vec<String> = controllers.split(',').map(str::to_owned).collect();
        names.into_iter().map(move |name| rpc::CgroupRoot { controllers: Some(name), path: path.clone() })
    });
    Ok(each.collect())
}

/// The conversation with CRIU up to its end: the restored process and the master of its terminal.
fn converse(
    session: Session,
    options: rpc::Options,
    mut birth: Birth<'_>,
) -> Result<(Child, Option<OwnedFd>)> {
    let request = Request { kind: Kind::Restore as i32, options: Some(options), ..Request::default() };
    let response = session.ask(&request, &mut |notice, fd| birth.follow(notice, fd))?;
    let pid = response.restore.map_or(0, |restored| restored.pid);
    let Some(process) = birth.process.filter(|_| pid == birth.record.pid) else {
        let message = format!("CRIU reports process {pid}, but restored another one or none");
        return Err(Error::new(ErrorKind::Os, message));
    };
    match session.end()?.code() {
        0 => Ok((process, birth.terminal)),
        code => Err(Error::new(ErrorKind::Os, format!("criu ended with status {code}"))),
    }
}

/// A restored container on its way: what CRIU's notices ask for.
struct Birth<'a> {
    record: &'a mut Record,
    dir: &'a StateDir,
    bundle: &'a Bundle,
    /// Once it is restored.
    process: Option<Child>,
    terminal: Option<OwnedFd>,
}

impl Birth<'_> {
    fn follow(&mut self, notice: &Notice, fd: Option<OwnedFd>) -> Result<()> {
        fault::point();
        let pid = notice.pid.unwrap_or(0);
        match notice.script.as_deref().unwrap_or_default() {
            "setup-namespaces" => self.run_hooks(pid),
            "orphan-pts-master" => {
                self.terminal = fd;
                Ok(())
            }
            "post-restore" => self.save(pid),
            _ => Ok(()),
        }
    }

    /// As at a create, but for the hooks in the container, whose root isn't there yet.
    fn run_hooks(&self, pid: i32) -> Result<()> {
        let hooks = self.bundle.spec.hooks().as_ref();
        hooks.map_or(Ok(()), |hooks| watch::run_host_hooks(self.record, hooks, pid))
    }

    /// All processes are there, and stopped until CRIU lets them go.
    fn save(&mut self, pid: i32) -> Result<()> {
        let process = pidfd::open(pid).with_context(|| format!("pidfd_open: restored process {pid}"))?;
        self.process = Some(Child::new(process));
        let clock = |who: &str| {
            let path = format!("/proc/{who}/ns/time");
            std::fs::metadata(&path).map(|meta| meta.ino()).ok()
        };
        // CRIU makes a time namespace, in which the clocks go on where they were.
        if clock(&pid.to_string()) != clock("self") {
            self.record.facts.namespaces |= TIME;
        }
        if self.record.facts.namespaces & NET != 0 && self.record.joined & NET == 0 {
            self.raise_loopback()?;
        }
        self.record.owner = state::owner::name(nix::unistd::geteuid().as_raw());
        self.record.pid = pid;
        self.record.start_time = state::alive::start_time(pid)?;
        self.record.restored = true;
        self.dir.save(self.record)
    }

    /// An empty network namespace has its `lo` down; a container's has it up.
    fn raise_loopback(&self) -> Result<()> {
        let job = Job {
            target: self.process.as_ref().map(|fd| fd.as_fd()),
            ..Job::new(plan::restore::loopback(), quiet()?, &Cgroup::None)
        };
        launch::launch(job, &mut NoWatch).map(drop)
    }
}
