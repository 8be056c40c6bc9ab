//! Saves a container, in one sequence from the record of a running container to a directory of images.
//!
//! It changes no state: a container whose processes CRIU has ended is a stopped one, for its caller to delete.

use super::criu::{Criu, Surroundings, network_lock};
use super::images::ImageDir;
use super::rpc::{self, Kind, Request};
use super::{CheckpointOptions, files, mounts};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::launch::settings;
use crate::plan::namespaces::{self, MOUNT, NET, PID};
use crate::state::Record;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const LOG: &CStr = c"dump.log";
/// Messages, warnings, errors and what it is at: what runc asks for, too.
const LOG_LEVEL: i32 = 4;
/// The host's owner puts CRIU's configuration here.
const CONFIGS: &str = "/etc/criu";

/// Saves the container of `record`, whose first process is `process`.
pub(crate) fn dump(record: &Record, process: BorrowedFd<'_>, options: CheckpointOptions) -> Result<()> {
    check(record, &options)?;
    let config = config(options.config.as_deref(), &record.annotations)?;
    let criu = Criu::find()?;
    check_features(&criu, &options)?;
    let images = ImageDir::make(&options.image)?;
    images.check()?;
    let work = options.work.as_deref().map(ImageDir::make).transpose()?;
    let mut saving = Saving { record, process, options, config, criu, images, work };
    let paused = record.cgroup.is_frozen()?;
    let freezer = freezer(record)?;
    let frozen = freezer.is_some();
    let error = match saving.once(freezer) {
        Err(error) if frozen => error,
        result => return result.map_err(|e| e.wrap("criu dump")),
    };
    // A process in vfork(2) stops when its child has executed a program. The freezer stops them all at once, and with the child held by
    // CRIU the parent never gets there; without the freezer CRIU stops the parent before its children. Nothing has been saved yet.
    let Some(why) = saving.log().unstoppable(LOG) else { return Err(error.wrap("criu dump")) };
    if paused {
        return Err(error.wrap("criu dump").hint("resume the container first"));
    }
    record.cgroup.thaw()?;
    let again = || format!("again without the cgroup freezer, after {why:?}");
    saving.once(None).map_err(|e| e.wrap(again()).wrap("criu dump"))
}

/// A container, and where CRIU saves it.
struct Saving<'a> {
    record: &'a Record,
    process: BorrowedFd<'a>,
    options: CheckpointOptions,
    config: Option<String>,
    criu: Criu,
    images: ImageDir,
    work: Option<ImageDir>,
}

impl Saving<'_> {
    fn log(&self) -> &ImageDir {
        self.work.as_ref().unwrap_or(&self.images)
    }

    /// Lets CRIU save it, while this freezer holds all processes still.
    fn once(&mut self, freezer: Option<String>) -> Result<()> {
        self.log().remove_work()?;
        let kind = if self.options.pre_dump { Kind::PreDump } else { Kind::Dump };
        let options = self.request(freezer)?;
        let request = Request { kind: kind as i32, options: Some(options), ..Request::default() };
        let session = self.criu.start(Surroundings::host()?)?;
        let status = &mut self.options.status;
        let answer = session.ask(&request, &mut |notice, _| {
            // Whoever waits for it fetches the pages that the last answer waits for.
            if notice.script.as_deref() == Some("status-ready")
                && let Some(mut status) = status.take()
            {
                status.write_all(&[0]).context("write to the status descriptor")?;
            }
            Ok(())
        });
        answer.map_err(|e| e.wrap(self.log().errors(LOG)))?;
        // After a pre-dump it waits for another request, and calls the end of that a failure.
        session.end().map(drop)
    }

    fn request(&self, freezer: Option<String>) -> Result<rpc::Options> {
        let record = self.record;
        let mut request = rpc::Options {
            work_dir_fd: self.work.as_ref().map(ImageDir::number),
            config_file: self.config.clone(),
            freeze_cgroup: freezer,
            ..request(record, &self.options, self.images.number())
        };
        external_namespaces(record, &mut request)?;
        if !self.options.pre_dump {
            let root = settings::open_root_of(self.process)?;
            let list = format!("/proc/{}/mountinfo", record.pid);
            let list = std::fs::read_to_string(&list).with_context(|| format!("read {list:?}"))?;
            request.ext_mnt = mounts::to_save(root.as_fd(), &list, &record.binds)?;
            let outside = files::outside(record.pid, &record.cgroup.processes()?, &list)?;
            request.external.extend(outside.external);
            self.images.save_descriptors(&outside.descriptors)?;
        }
        Ok(request)
    }
}

/// Refuses what is known to fail before anything is done.
fn check(record: &Record, options: &CheckpointOptions) -> Result<()> {
    must_be_root("checkpoint")?;
    if record.facts.namespaces & MOUNT == 0 {
        return Err(Error::unsupported("cannot checkpoint a container without its own mount namespace"));
    }
    if record.seccomp.as_ref().is_some_and(|seccomp| seccomp.listener.is_some()) {
        let what = "linux.seccomp.listenerPath: CRIU cannot save a filter with a listener";
        return Err(Error::unsupported(what));
    }
    if options.lazy_pages && options.page_server.is_none() {
        return Err(Error::invalid("lazy pages: the address of a page server is required"));
    }
    if options.pre_dump && options.lazy_pages {
        return Err(Error::invalid("a pre-dump cannot have lazy pages: it saves all memory"));
    }
    let Some(parent) = &options.parent else { return Ok(()) };
    if parent.is_absolute() {
        return Err(Error::invalid(format!(
            "--parent-path {parent:?} must be relative to the image directory"
        )));
    }
    let dir = options.image.join(parent);
    let meta = std::fs::metadata(&dir).with_context(|| format!("--parent-path: stat {dir:?}"))?;
    if !meta.is_dir() {
        return Err(Error::invalid(format!("--parent-path {dir:?} is not a directory")));
    }
    Ok(())
}

pub(super) fn must_be_root(what: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let message = format!("{what} requires root on the host, as CRIU does");
    Err(Error::new(ErrorKind::Permission, message))
}

fn check_features(criu: &Criu, options: &CheckpointOptions) -> Result<()> {
    let memory = options.pre_dump || options.parent.is_some();
    if !memory && !options.lazy_pages {
        return Ok(());
    }
    let features = criu.features()?;
    if memory && features.mem_track != Some(true) {
        let what = "pre-dumps: this kernel does not track changed memory (CONFIG_MEM_SOFT_DIRTY)";
        return Err(Error::unsupported(what));
    }
    if options.lazy_pages && features.lazy_pages != Some(true) {
        return Err(Error::unsupported("lazy pages: this kernel lacks userfaultfd with events (Linux 4.11)"));
    }
    Ok(())
}

fn request(record: &Record, options: &CheckpointOptions, images: i32) -> rpc::Options {
    rpc::Options {
        images_dir_fd: images,
        pid: Some(record.pid),
        root: record.rootfs.to_str().map(str::to_owned),
        log_file: Some(LOG.to_string_lossy().into_owned()),
        leave_running: Some(options.leave_running),
        tcp_established: Some(options.tcp_established),
        tcp_skip_in_flight: Some(options.tcp_skip_in_flight),
        link_remap: Some(options.link_remap),
        ext_unix_sk: Some(options.external_unix_sockets),
        shell_job: Some(options.shell_job),
        file_locks: Some(options.file_locks),
        auto_dedup: Some(options.auto_dedup),
        lazy_pages: Some(options.lazy_pages),
        manage_cgroups_mode: Some(options.cgroups.number()),
        parent_img: options.parent.as_ref().and_then(|path| path.to_str().map(str::to_owned)),
        track_mem: options.parent.is_some().then_some(true),
        network_lock: network_lock(),
        cgroup_dump_controller: record.cgroup.hierarchies(),
        page_server: options.page_server.as_ref().map(|(address, port)| rpc::PageServer {
            address: Some(address.clone()),
            port: Some((*port).into()),
        }),
        ..both_ways()
    }
}

/// By which CRIU holds all processes still at once; without one it stops them one after the other. Cgroup v1's holds on to a process
/// that is stopped (SIGSTOP) when CRIU attaches to it, and then both wait for ever, out of reach of any signal (kernel 6.18).
fn freezer(record: &Record) -> Result<Option<String>> {
    if matches!(record.cgroup, Cgroup::V1(_)) && record.cgroup.processes()?.into_iter().any(is_stopped) {
        if record.cgroup.is_frozen()? {
            let what = "cannot checkpoint a paused container with a stopped process on cgroup v1";
            return Err(Error::unsupported(what).hint("resume it first"));
        }
        return Ok(None);
    }
    Ok(record.cgroup.freezer().and_then(|path| path.to_str().map(str::to_owned)))
}

/// Its state in /proc/PID/stat, behind the name, is T; while it is frozen too, only the function it sleeps in tells.
fn is_stopped(pid: i32) -> bool {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let stat = read("stat");
    let name = stat.iter().rposition(|byte| *byte == b')');
    name.is_some_and(|end| stat[end..].starts_with(b") T")) || read("wchan") == b"do_signal_stop"
}

/// The options that a dump and a restore share.
pub(super) fn both_ways() -> rpc::Options {
    rpc::Options {
        log_level: Some(LOG_LEVEL),
        notify_scripts: Some(true),
        orphan_pts_master: Some(true),
        manage_cgroups: Some(true),
        // The devices and addresses of a network namespace are restored by what set them up: a hook or an engine.
        empty_ns: u32::try_from(NET).ok(),
        ..rpc::Options::default()
    }
}

/// Namespaces that were joined stay when the container goes, and are there when it comes back.
fn external_namespaces(record: &Record, request: &mut rpc::Options) -> Result<()> {
    for flag in [NET, PID].into_iter().filter(|flag| record.joined & flag != 0) {
        let name = namespaces::name_of(flag);
        let path = format!("/proc/{}/ns/{name}", record.pid);
        let inode = std::fs::metadata(&path).with_context(|| format!("stat {path:?}"))?.ino();
        request.external.push(format!("{name}[{inode}]:{}", key_of(flag)));
    }
    Ok(())
}

/// The name of a joined namespace in the images: runc's.
pub(super) fn key_of(flag: u64) -> &'static str {
    if flag == NET { "extRootNetNS" } else { "extRootPidNS" }
}

/// The configuration file that CRIU is to read. One can make it run programs as root, and an annotation may come from an image: of the
/// files that annotations name those of the host's owner alone are taken.
pub(super) fn config(given: Option<&Path>, annotations: &BTreeMap<String, String>) -> Result<Option<String>> {
    let text = |path: PathBuf| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| Error::unsupported(format!("{path:?}: CRIU accepts only paths in UTF-8")))
            .map(Some)
    };
    if let Some(path) = given {
        return text(std::path::absolute(path).with_context(|| format!("configuration {path:?}"))?);
    }
    match annotations.get("org.criu.config").map(String::as_str) {
        None => {
            let default = ["knarr.conf", "runc.conf"].map(|name| Path::new(CONFIGS).join(name));
            default.into_iter().find(|path| path.exists()).map_or(Ok(None), text)
        }
        Some("") => Ok(None),
        Some(named) => {
            let path = Path::new(named);
            let own = path.parent() == Some(Path::new(CONFIGS)) && path.file_name().is_some();
            let what = || format!("annotation \"org.criu.config\": {named:?}");
            if !own {
                return Err(Error::invalid(format!("{}: only files in {CONFIGS:?} are read", what())));
            }
            let meta = std::fs::symlink_metadata(path).context("stat").with_context(what)?;
            if !meta.is_file() {
                return Err(Error::invalid(format!("{}: not a regular file", what())));
            }
            text(path.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_names_no_configuration_but_the_host_owners() {
        let with = |value: &str| config(None, &[("org.criu.config".to_owned(), value.to_owned())].into());
        assert_eq!(with("").unwrap(), None);
        for bad in
            ["/tmp/x.conf", "x.conf", "/etc/criu/../passwd", "/etc/criu/a/b", "/etc/criu/..", "/etc/criu"]
        {
            assert!(with(bad).unwrap_err().to_string().contains("only files in"), "{bad}");
        }
        assert_eq!(with("/etc/criu/none-of-this-name.conf").unwrap_err().kind(), ErrorKind::NotFound);
        let given = config(Some(Path::new("/my.conf")), &[("org.criu.config".into(), "/x".into())].into());
        assert_eq!(given.unwrap().as_deref(), Some("/my.conf"));
    }
}
