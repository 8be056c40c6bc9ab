//! Makes a container from a checkpoint: what `create` makes before its process, a dry run that makes the mount points, and CRIU, which
//! makes the processes. What was made is undone in reverse when a later step fails.

use super::criu::{Criu, Session, Surroundings, move_above_stdio, null_stdio};
use super::dump::{both_ways, config, key_of, must_be_root};
use super::images::ImageDir;
use super::rpc::{self, Kind, Notice, Request};
use super::{RestoreOptions, files, mounts, pages};
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Dir};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::launch::hooks::{self, NoWatch, Place};
use crate::launch::{self, Job, settings, streams};
use crate::plan::namespaces::{self, CGROUP, MOUNT, NET, PID, TIME};
use crate::plan::{self, ContainerFacts, Open, ProcessPlan, c_string};
use crate::process::Stdio;
use crate::reserve::Reserved;
use crate::state::dir::StateDir;
use crate::state::{self, Record, Status};
use crate::sys::fs::{RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS};
use crate::sys::openat2;
use crate::sys::pidfd::{self, Child};
use crate::watch::{self, HookWatch};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

const LOG: &CStr = c"restore.log";

/// A checkpoint whose images were checked.
pub(crate) struct Checkpoint {
    criu: Criu,
    config: Option<String>,
    images: ImageDir,
    /// What the first process had open as descriptors 0, 1 and 2.
    descriptors: Vec<String>,
    /// The directory of CRIU's log and other files, if not that of the images.
    work: Option<ImageDir>,
}

/// A container whose processes were restored and are running.
pub(crate) struct Restored {
    pub(crate) dir: StateDir,
    pub(crate) record: Box<Record>,
    pub(crate) process: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) warnings: Vec<String>,
    pub(crate) cgroup_dir: Option<Dir>,
}

impl Checkpoint {
    /// Checks the checkpoint, CRIU and the options, and removes the log of an earlier restore.
    pub(crate) fn open(bundle: &Bundle, options: &RestoreOptions) -> Result<Self> {
        must_be_root("restore")?;
        let config = config(options.config.as_deref(), &annotations(bundle))?;
        let criu = Criu::find()?;
        let images = ImageDir::open(&options.image)?;
        images.check()?;
        let descriptors = images.descriptors()?;
        // Lazy pages come from elsewhere.
        if !options.lazy_pages {
            pages::check(&images, page_size()?)?;
        }
        let work = options.work.as_deref().map(ImageDir::make).transpose()?;
        work.as_ref().unwrap_or(&images).remove_work()?;
        Ok(Checkpoint { criu, config, images, descriptors, work })
    }

    /// Restores it as the container that was reserved. If that fails, the reservation is undone.
    pub(crate) fn restore(
        self,
        reserved: Reserved,
        bundle: &Bundle,
        options: RestoreOptions,
    ) -> Result<Restored> {
        let Checkpoint { criu, config, images, descriptors, work } = self;
        let Reserved { undo, dir, mut record, plan } = reserved;
        let cgroup_dir = record.cgroup.open()?;
        let mut watch = HookWatch {
            record: &record,
            dir: None,
            spec_hooks: None,
            devices: cgroup_dir.as_ref().zip(plan.cgroup.devices.as_ref()),
        };
        let mut request = rpc::Options {
            ext_mnt: dry_mount(&plan.process, cgroup_dir.as_ref(), &mut watch)?,
            config_file: config,
            ..request(&record, &options)?
        };
        fault::point();
        let terminal = matches!(options.stdio, Stdio::Terminal);
        let stdio = if terminal { null_stdio()? } else { options.stdio };
        if let Some(gid) = root_group(&plan.facts) {
            images.let_pass(gid)?;
        }
        let mut handed = namespaces(&plan.process, &mut request)?;
        let null = files::null()?;
        let null = move_above_stdio(streams::unchangeable(null.as_fd()).unwrap_or(null))?;
        request.inherit_fd.extend(files::replaced(&descriptors, terminal, &null));
        handed.push(null);
        let around = Surroundings {
            stdio,
            cgroup: &record.cgroup.clone(),
            cgroup_dir: cgroup_dir.as_ref(),
            create: Some(&plan.process),
            handed,
        };
        let session = criu.start(around)?;
        dir.note_process(session.pid)?;
        request.cg_root = cgroups_of(session.pid)?;
        let root = settings::open_root_of(session.process.as_fd())?;
        let log = work.as_ref().unwrap_or(&images);
        let images_seen = images.seen_from(root.as_fd())?;
        request.images_dir_fd = images_seen.as_raw_fd();
        let work_seen = work.as_ref().map(|work| work.seen_from(root.as_fd())).transpose()?;
        request.work_dir_fd = work_seen.as_ref().map(AsRawFd::as_raw_fd);
        let restoring = Restoring { record: &mut record, dir: &dir, bundle, process: None, terminal: None };
        let (process, terminal) = converse(session, request, restoring).map_err(|e| {
            let e = if e.is_from_criu() { e.wrap(log.errors(LOG)) } else { e };
            e.wrap("criu restore")
        })?;
        fault::point();
        let running = record.hook_state(Status::Running, record.pid);
        let poststart = record.hooks.as_ref().and_then(|hooks| hooks.poststart().as_deref());
        let place = Place::Host { bundle: &record.bundle, process: None };
        undo.unlocked(&dir, || hooks::run("poststart", poststart, &running, &place))?;
        let process = process.keep();
        Ok(Restored { dir, record, process, terminal, warnings: plan.warnings, cgroup_dir })
    }
}

/// The host's id of group 0 in the container's own user namespace.
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

/// Makes the mount points, and returns the host's trees that are mounted there, by their real places in the root.
fn dry_mount(
    plan: &ProcessPlan,
    dir: Option<&Dir>,
    watch: &mut HookWatch<'_>,
) -> Result<Vec<rpc::ExternalMount>> {
    let record = watch.record;
    let job =
        Job { cgroup_dir: dir, ..Job::new(plan::restore::dry_run(plan), null_stdio()?, &record.cgroup) };
    let launched = launch::launch(job, watch)?;
    let host = settings::open_root_of(launched.process())?;
    let path = c_string("root.path", record.rootfs.as_os_str().as_bytes())?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let root = openat2::open(host.as_fd(), &path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        .with_context(|| format!("open {path:?}"))?;
    let (binds, nodes) = (plan::restore::bind_mounts(plan), plan::restore::nodes(plan));
    mounts::to_restore(root.as_fd(), binds, nodes)
}

fn request(record: &Record, options: &RestoreOptions) -> Result<rpc::Options> {
    let root = record.rootfs.to_str().map(str::to_owned);
    let root = root.ok_or_else(|| Error::unsupported("root.path: CRIU accepts only paths in UTF-8"))?;
    Ok(rpc::Options {
        root: Some(root),
        log_file: Some(LOG.to_string_lossy().into_owned()),
        evasive_devices: Some(true),
        // The process becomes a child of the caller, as with `create`.
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
                let fd = move_above_stdio(settings::open_namespace(path, *flag, false)?)?;
                request.inherit_fd.push(rpc::InheritFd { key: key_of(*flag).to_owned(), fd: fd.as_raw_fd() });
                handed.push(fd);
            }
            MOUNT | CGROUP => {
                let message =
                    format!("linux.namespaces: CRIU can't restore into an existing {name} namespace");
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

/// The cgroups that CRIU is in, which are the container's: they and those below them take the place of the saved ones.
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
    mut restoring: Restoring<'_>,
) -> Result<(Child, Option<OwnedFd>)> {
    let request = Request { kind: Kind::Restore as i32, options: Some(options), ..Request::default() };
    let criu = session.process.as_fd();
    let response = session.ask(&request, &mut |notice, fd| restoring.follow(notice, fd, criu))?;
    let pid = response.restore.map_or(0, |restored| restored.pid);
    let Some(process) = restoring.process.filter(|_| pid == restoring.record.pid) else {
        let message = format!("CRIU reports process {pid}, but restored another one or none");
        return Err(Error::criu(message));
    };
    match session.end()?.code() {
        0 => Ok((process, restoring.terminal)),
        code => Err(Error::criu(format!("criu exited with status {code}"))),
    }
}

/// A container that is being restored: does what CRIU's notices ask for.
struct Restoring<'a> {
    record: &'a mut Record,
    dir: &'a StateDir,
    bundle: &'a Bundle,
    /// Once it is restored.
    process: Option<Child>,
    terminal: Option<OwnedFd>,
}

impl Restoring<'_> {
    fn follow(&mut self, notice: &Notice, fd: Option<OwnedFd>, criu: BorrowedFd<'_>) -> Result<()> {
        fault::point();
        let pid = notice.pid.unwrap_or(0);
        match notice.script.as_deref().unwrap_or_default() {
            "setup-namespaces" => self.run_hooks(pid, criu),
            "orphan-pts-master" => {
                self.terminal = fd;
                Ok(())
            }
            "post-restore" => self.save(pid),
            _ => Ok(()),
        }
    }

    /// As in a create, except the hooks in the container, whose root doesn't exist yet. They end with CRIU, which `delete` kills.
    fn run_hooks(&self, pid: i32, criu: BorrowedFd<'_>) -> Result<()> {
        let hooks = self.bundle.spec.hooks().as_ref();
        hooks.map_or(Ok(()), |hooks| watch::run_host_hooks(self.record, hooks, pid, criu))
    }

    /// All processes exist, and are stopped until CRIU resumes them.
    fn save(&mut self, pid: i32) -> Result<()> {
        let process = pidfd::open(pid).with_context(|| format!("pidfd_open: restored process {pid}"))?;
        self.process = Some(Child::new(process));
        let clock = |who: &str| {
            let path = format!("/proc/{who}/ns/time");
            std::fs::metadata(&path).map(|meta| meta.ino()).ok()
        };
        // CRIU makes a time namespace, in which the clocks continue from their saved values.
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
        self.dir.save(self.record)?;
        self.dir.forget_process();
        Ok(())
    }

    /// `lo` is down in a new network namespace; in a container's it is up.
    fn raise_loopback(&self) -> Result<()> {
        let job = Job {
            target: self.process.as_ref().map(|fd| fd.as_fd()),
            ..Job::new(plan::restore::loopback(), null_stdio()?, &Cgroup::None)
        };
        launch::launch(job, &mut NoWatch).map(drop)
    }
}
