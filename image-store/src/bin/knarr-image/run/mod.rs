//! `run`, `ps`, `rm`, `stop`: containers from images, made in this process by libcontainer.
//!
//! The root file system is mounted in a mount namespace of this process alone: the host's list of mounts never shows it,
//! and it is gone with the container whatever happens to us. A detached container has a copy of this program as its
//! parent, which keeps its output and its exit code.

mod foreground;
mod options;
mod spec;
mod user;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use image_store::copy::{Owner, Place, copy};
use image_store::store::{ContainerRecord, Record};
use image_store::{Error, ErrorKind, Reference, Result, Store};
use libcontainer::{Bundle, Container, ContainerId, CreateOptions, Delete, Runtime, Signal, Status, Stdio};
use rustix::mount::{MoveMountFlags, move_mount};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use options::FLAGS;

use crate::args::Args;
use crate::output::{ago, line, rows};

/// Docker's codes: a failure of its own, a program that can not be run, one that is not there.
const FAILURE: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NO_PROGRAM: u8 = 127;
const STATE: &str = "/run/knarr-image";

/// What a container's record remembers of how it is run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    name: String,
    /// config.json.
    spec: Value,
    terminal: bool,
    interactive: bool,
    /// The record goes when the process ends.
    remove: bool,
    stop_signal: String,
    command: String,
    /// Once it has ended.
    #[serde(default)]
    exit_code: Option<i32>,
}

fn from_runtime(error: &libcontainer::Error) -> Error {
    Error::new(ErrorKind::Os, error.to_string())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// `run IMAGE [COMMAND]`
pub(crate) fn run(args: &Args) -> Result<u8> {
    match try_run(args) {
        Err(error) => {
            eprintln!("knarr-image: {error}");
            Ok(code_of(&error))
        }
        code => code,
    }
}

fn code_of(error: &Error) -> u8 {
    let text = error.to_string();
    match text.starts_with("exec:") || text.contains(": exec:") {
        true if text.contains("not found") || text.contains("no such file") => NO_PROGRAM,
        true => NOT_EXECUTABLE,
        false => FAILURE,
    }
}

fn try_run(args: &Args) -> Result<u8> {
    libcontainer::protect_program(std::env::args_os()).map_err(|e| from_runtime(&e))?;
    let store = crate::commands::store(args)?;
    let options = options::parse(args)?;
    let record = image(&store, args)?;
    let id = crate::commands::random_id()?;
    if let Some(name) = options.name.as_ref().filter(|name| find(&store, name).is_ok()) {
        return Err(Error::new(ErrorKind::Exists, format!("container {name:?}: exists already")));
    }
    prepare(&store, &record, &id, &options, &args.positional[1..])
        .inspect_err(|_| drop(store.remove_container(&id)))?;
    if options.detach {
        return detach(&store, &id);
    }
    let code = supervise(&store, &id, None)?;
    Ok(u8::try_from(code).unwrap_or(255))
}

/// From the store, or else from its registry.
fn image(store: &Store, args: &Args) -> Result<Record> {
    match store.resolve(&args.positional[0]) {
        Err(error)
            if error.kind() == ErrorKind::NotFound && Reference::parse(&args.positional[0]).is_ok() =>
        {
            eprintln!("Unable to find image {:?} locally", args.positional[0]);
            crate::commands::pull_for_run(args, store)
        }
        other => other,
    }
}

/// Makes the writable layer, the files a container gets from us, its volumes and its config.json.
fn prepare(
    store: &Store,
    record: &Record,
    id: &str,
    options: &options::Options,
    command: &[String],
) -> Result<()> {
    let (config, _) = store.config(record)?;
    let rootfs = store.prepare(record, id, Value::Null)?;
    let view = rootfs.mount()?;
    let image = config.config.unwrap_or_default();
    let user = options.user.clone().or_else(|| image.user.clone()).unwrap_or_default();
    let user = user::resolve(&view, &user)?;
    let folder = folder(store, id);
    let hostname = options.hostname.clone().unwrap_or_else(|| id.to_owned());
    let hosts =
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n");
    let host_network = options.network == options::Network::Host;
    let resolv = if host_network {
        std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    } else {
        String::new()
    };
    for (name, content) in [("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv)]
    {
        write(&folder.join(name), content.as_bytes())?;
    }
    let volumes = volumes(store, &view, &folder, options, &image)?;
    let mut stubs = vec![("proc", true), ("sys", true), ("dev", true)];
    stubs.extend(["etc/hosts", "etc/hostname", "etc/resolv.conf"].map(|path| (path, false)));
    stubs.extend(options.tmpfs.iter().map(|(target, _)| (target.as_str(), true)));
    stubs.extend(volumes.iter().map(|bind| (bind.target.as_str(), Path::new(&bind.source).is_dir())));
    // Overlay must not see its folders twice at once.
    drop((view, rootfs));
    store.add_stubs(id, stubs)?;
    let context = spec::Context { folder: &folder, hostname: &hostname, user: &user, volumes: &volumes, id };
    let built = spec::build(&image, options, command, &context)?;
    let words: Vec<&str> =
        built["process"]["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let run = Run {
        name: options.name.clone().unwrap_or_else(|| id.to_owned()),
        command: words.join(" "),
        spec: built,
        terminal: options.terminal,
        interactive: options.interactive,
        remove: options.remove,
        stop_signal: image.stop_signal.unwrap_or_else(|| "TERM".to_owned()),
        exit_code: None,
    };
    remember(store, id, &run)
}

fn folder(store: &Store, id: &str) -> PathBuf {
    store.root().join("containers").join(id)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| Error::from(e).context(format!("write {path:?}"));
    std::fs::write(path, content).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).map_err(failed)
}

/// Bind sources and targets: named volumes, those the image asks for, filled from the image when they are new.
fn volumes(
    store: &Store,
    view: &OwnedFd,
    folder: &Path,
    options: &options::Options,
    image: &image_store::manifest::RunConfig,
) -> Result<Vec<options::Bind>> {
    let mut binds = Vec::new();
    for bind in &options.binds {
        if bind.source.starts_with('/') {
            if !Path::new(&bind.source).exists() {
                return Err(invalid(format!("volume {:?}: does not exist on the host", bind.source)));
            }
            binds.push(bind.clone());
        } else {
            let source = store.root().join("volumes").join(&bind.source);
            fill_volume(view, &source, &bind.target)?;
            binds.push(options::Bind { source: text(&source)?, ..bind.clone() });
        }
    }
    for (number, target) in image.volumes.iter().flatten().map(|(target, _)| target).enumerate() {
        let taken = binds.iter().any(|bind| bind.target == *target)
            || options.tmpfs.iter().any(|(at, _)| at == target);
        if !taken && target.starts_with('/') {
            let source = folder.join(format!("volume-{number}"));
            fill_volume(view, &source, target)?;
            binds.push(options::Bind { source: text(&source)?, target: target.clone(), read_only: false });
        }
    }
    Ok(binds)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| invalid(format!("{path:?}: is no UTF-8")))
}

/// A new volume begins as what the image has there, with its owner and mode.
fn fill_volume(view: &OwnedFd, source: &Path, target: &str) -> Result<()> {
    if source.exists() {
        return Ok(());
    }
    let failed = |e: std::io::Error| Error::from(e).context(format!("volume {source:?}"));
    std::fs::create_dir_all(source.parent().unwrap_or(source)).map_err(failed)?;
    let root = view.try_clone().map_err(failed)?;
    let copied =
        copy(&Place::root(root), target.trim_end_matches('/'), &Place::host()?, &text(source)?, Owner::Keep);
    match copied {
        Err(error) if error.kind() == ErrorKind::NotFound || error.errno() == Some(2) => {
            std::fs::create_dir(source).map_err(failed)
        }
        other => other,
    }
}

fn remember(store: &Store, id: &str, run: &Run) -> Result<()> {
    store.set_extra(id, serde_json::to_value(run).map_err(|e| invalid(e.to_string()))?)
}

fn recall(container: &ContainerRecord) -> Option<Run> {
    serde_json::from_value(container.extra.clone()).ok()
}

/// Starts a copy of this program that is the container's parent, and waits until the container runs.
fn detach(store: &Store, id: &str) -> Result<u8> {
    use std::os::unix::process::CommandExt as _;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(["--root".as_ref(), store.root().as_os_str(), "supervise".as_ref(), id.as_ref()]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command.process_group(0);
    let mut child = command.spawn().map_err(|e| Error::from(e).context("start the container's parent"))?;
    // It closes these when the container runs, or says why it does not.
    let mut said = String::new();
    if let Some(mut output) = child.stderr.take() {
        let _ = output.read_to_string(&mut said);
    }
    if !said.is_empty() {
        eprint!("{said}");
        let status = child.wait().map_err(Error::from)?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE));
    }
    line(id);
    Ok(0)
}

/// `supervise ID`, hidden: the parent of a detached container.
pub(crate) fn supervise_detached(args: &Args) -> Result<u8> {
    match try_supervise(args) {
        Err(error) => {
            eprintln!("knarr-image: {error}");
            Ok(code_of(&error))
        }
        code => code,
    }
}

fn try_supervise(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let id = &args.positional[0];
    let path = folder(&store, id).join("log");
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|e| Error::from(e).context(format!("open {path:?}")))?;
    supervise(&store, id, Some(log)).map(|_| 0)
}

/// Makes the container, runs it to its end, takes it away. With a log its output goes there.
fn supervise(store: &Store, id: &str, log: Option<File>) -> Result<i32> {
    let container = store.container(id)?;
    let mut run =
        recall(&container).ok_or_else(|| invalid(format!("container {id}: was not made by run")))?;
    let result = execute(store, &container, &run, log);
    if run.remove {
        store.remove_container(id)?;
        crate::commands::empty_trash_later(store);
    } else if let Ok(code) = &result {
        run.exit_code = Some(*code);
        remember(store, id, &run)?;
    } else {
        store.remove_container(id)?;
    }
    result
}

fn execute(store: &Store, container: &ContainerRecord, run: &Run, log: Option<File>) -> Result<i32> {
    let folder = folder(store, &container.id);
    attach_root(store, container, &folder.join("rootfs"))?;
    let spec = serde_json::from_value(run.spec.clone()).map_err(|e| invalid(format!("config.json: {e}")))?;
    let runtime = Runtime::open(STATE).map_err(|e| from_runtime(&e))?;
    let id = ContainerId::new(container.id.clone()).map_err(|e| from_runtime(&e))?;
    let detached = log.is_some();
    let stdio = stdio(run, log)?;
    let signals = foreground::Signals::block()?;
    let made = runtime.create(&id, &Bundle::new(&folder, spec), CreateOptions::new(stdio));
    let mut made = made.map_err(|e| from_runtime(&e))?;
    let result = made.start().map_err(|e| from_runtime(&e)).and_then(|()| {
        if detached {
            // The one who waits for us sees the end of our output: the container runs.
            let null = File::options().read(true).write(true).open("/dev/null").map_err(Error::from)?;
            rustix::stdio::dup2_stdout(&null).map_err(Error::from)?;
            rustix::stdio::dup2_stderr(&null).map_err(Error::from)?;
        }
        foreground::wait(&mut made, &signals, run.interactive && !detached)
    });
    let deleted = made.delete(Delete::Force).map_err(|e| from_runtime(&e));
    let code = result?;
    deleted?;
    Ok(code)
}

/// In a mount namespace of our own, which containers copy theirs from.
fn attach_root(store: &Store, container: &ContainerRecord, target: &Path) -> Result<()> {
    let root = store.container_rootfs(container)?.mount()?;
    let failed =
        |what: &str, errno: rustix::io::Errno| Error::from(errno).context(format!("{what} {target:?}"));
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::from(std::io::Error::from(errno)).context("unshare the mount namespace"))?;
    let propagation =
        rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", propagation)
        .map_err(|errno| failed("make mounts private, for", errno))?;
    match std::fs::create_dir(target) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::from(error).context(format!("mkdir {target:?}")));
        }
        _ => {}
    }
    move_mount(&root, c"", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| failed("move_mount to", errno))
}

fn stdio(run: &Run, log: Option<File>) -> Result<Stdio> {
    if run.terminal && log.is_none() {
        return Ok(Stdio::Terminal);
    }
    let null = || File::open("/dev/null").map(OwnedFd::from).map_err(Error::from);
    if let Some(log) = log {
        let stderr = log.try_clone()?;
        return Ok(Stdio::Fds { stdin: null()?, stdout: log.into(), stderr: stderr.into() });
    }
    if run.interactive {
        return Ok(Stdio::Inherit);
    }
    let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map_err(Error::from);
    Ok(Stdio::Fds {
        stdin: null()?,
        stdout: own(rustix::stdio::stdout())?,
        stderr: own(rustix::stdio::stderr())?,
    })
}

/// By ID, by the beginning of one, or by name.
fn find(store: &Store, text: &str) -> Result<ContainerRecord> {
    let all = store.containers()?;
    let named = |c: &&ContainerRecord| c.id == text || recall(c).is_some_and(|run| run.name == text);
    if let Some(container) = all.iter().find(named) {
        return Ok(container.clone());
    }
    let mut begins = all.iter().filter(|container| text.len() >= 2 && container.id.starts_with(text));
    match (begins.next(), begins.next()) {
        (Some(container), None) => Ok(container.clone()),
        (Some(_), Some(_)) => Err(invalid(format!("container {text:?}: begins the IDs of several"))),
        _ => Err(Error::new(ErrorKind::NotFound, format!("container {text:?}: does not exist"))),
    }
}

fn running(id: &str) -> Option<Container> {
    let runtime = Runtime::open(STATE).ok()?;
    let container = runtime.load(&ContainerId::new(id).ok()?).ok()?;
    let status = container.state().ok()?.status;
    (status != Status::Stopped).then_some(container)
}

/// The ID of what a person names, for the other commands.
pub(crate) fn id_of(store: &Store, text: &str) -> Result<String> {
    find(store, text).map(|container| container.id)
}

/// The root of a running container, seen through its first process: an overlay must not be mounted twice.
pub(crate) fn live_root(id: &str) -> Option<OwnedFd> {
    let container = running(id)?;
    File::open(format!("/proc/{}/root", container.pid())).ok().map(OwnedFd::from)
}

/// `ps`
pub(crate) fn ps(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let mut values = Vec::new();
    for container in store.containers()?.into_iter().rev() {
        let run = recall(&container);
        let alive = running(&container.id).is_some();
        if !alive && !args.has("all") {
            continue;
        }
        let status = match run.as_ref().and_then(|run| run.exit_code) {
            _ if alive => "Up".to_owned(),
            Some(code) => format!("Exited ({code})"),
            None => "Created".to_owned(),
        };
        let image = Reference::parse_untagged(&container.image)
            .map_or_else(|_| container.image.clone(), |name| name.familiar());
        let command = run.as_ref().map(|run| run.command.clone()).unwrap_or_default();
        let short: String = command.chars().take(20).collect();
        values.push(serde_json::json!({
            "ID": container.id,
            "Names": run.map_or_else(|| container.id.clone(), |run| run.name),
            "Image": image,
            "Command": format!("{:?}", if args.has("no-trunc") { &command } else { &short }),
            "CreatedAt": ago(i64::try_from(container.created).ok()),
            "Status": status,
        }));
    }
    if args.has("quiet") {
        values.iter().for_each(|value| line(value["ID"].as_str().unwrap_or_default()));
        return Ok(0);
    }
    let columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "CreatedAt"),
        ("STATUS", "Status"),
        ("NAMES", "Names"),
    ];
    rows(args, &columns, &values)?;
    Ok(0)
}

/// `rm CONTAINER...`: goes on after an error.
pub(crate) fn rm(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let mut failed = false;
    for text in &args.positional {
        match remove(&store, text, args.has("force")) {
            Ok(()) => line(text),
            Err(error) if error.kind() == ErrorKind::NotFound && args.has("force") => {}
            Err(error) => {
                eprintln!("knarr-image: {error}");
                failed = true;
            }
        }
    }
    crate::commands::empty_trash_later(&store);
    Ok(u8::from(failed))
}

fn remove(store: &Store, text: &str, force: bool) -> Result<()> {
    let container = find(store, text)?;
    if let Some(live) = running(&container.id) {
        if !force {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("container {text:?}: is running: stop it, or force"),
            ));
        }
        end(&live, Signal::KILL, 10)?;
        settle(&container.id);
    }
    match store.remove_container(&container.id) {
        // Its parent was faster, with --rm.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `stop CONTAINER...`
pub(crate) fn stop(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let seconds =
        args.get("time").unwrap_or("10").parse().map_err(|_| invalid("--time: is no count of seconds"))?;
    for text in &args.positional {
        let container = find(&store, text)?;
        if let Some(live) = running(&container.id) {
            let signal = recall(&container).map_or_else(|| "TERM".to_owned(), |run| run.stop_signal);
            end(&live, Signal::parse(&signal).map_err(|e| from_runtime(&e))?, seconds)?;
            settle(&container.id);
        }
        line(text);
    }
    Ok(0)
}

/// `logs CONTAINER`
pub(crate) fn logs(args: &Args) -> Result<u8> {
    let store = crate::commands::store(args)?;
    let path = folder(&store, &find(&store, &args.positional[0])?.id).join("log");
    let file = File::open(&path)
        .map_err(|e| Error::from(e).context(format!("open {path:?}: only detached containers have one")))?;
    let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        match file.read_at(&mut buffer, at).map_err(Error::from)? {
            0 => return Ok(0),
            count => {
                crate::output::print_bytes(&buffer[..count]);
                at += count as u64;
            }
        }
    }
}

/// Gives the container's parent the time to note its end; without one, a second at most.
fn settle(id: &str) {
    for _ in 0..100 {
        let known = Runtime::open(STATE)
            .is_ok_and(|runtime| ContainerId::new(id).is_ok_and(|id| runtime.load(&id).is_ok()));
        if !known {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Asks, waits, then insists.
fn end(container: &Container, signal: Signal, seconds: u64) -> Result<()> {
    let gone = |container: &Container, seconds: u64| -> bool {
        let Some(pidfd) = container.pidfd() else { return true };
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(pidfd, rustix::event::PollFlags::IN)];
        let limit =
            rustix::event::Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    };
    container.kill(signal).map_err(|e| from_runtime(&e))?;
    if !gone(container, seconds) {
        container.kill(Signal::KILL).map_err(|e| from_runtime(&e))?;
        if !gone(container, 10) {
            return Err(Error::new(ErrorKind::Busy, format!("container {}: does not end", container.id())));
        }
    }
    Ok(())
}
