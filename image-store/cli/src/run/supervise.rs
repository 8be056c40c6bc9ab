//! The parent of a container: a process of its own, so that whoever started the container may leave. It makes the container
//! in a mount namespace of its own, keeps its output, lets others watch, notes its end, and starts it again if that is
//! wanted.
//!
//! The root file system is mounted here alone: the host's list of mounts never shows it, and it is gone with the container
//! whatever happens to us.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio as Piped;
use std::time::Duration;

use image_store::store::ContainerRecord;
use image_store::{Error, ErrorKind, Result, Store};
use libcontainer::{Bundle, CreateOptions, Delete, ExecOptions, Signal, Stdio};
use rustix::fs::{FileType, FlockOperation, Mode};
use rustix::mount::{MoveMountFlags, move_mount};
use serde_json::json;

use super::frames::{Frame, Inbox, Stream};
use super::log::{Log, now};
use super::options::{Restart, invalid};
use super::record::{self, Run, change, container_id, folder, from_runtime, known, running, runtime};
use super::relay::{Process, Relay, nonblocking};
use super::rootless::{Holds, own_program};
use crate::args::Args;

/// Docker's codes: a failure of its own, a program that can not be run, one that is not there.
const FAILURE: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NO_PROGRAM: u8 = 127;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) fn code_of(error: &Error) -> u8 {
    let text = error.to_string();
    match text.starts_with("exec:") || text.contains(": exec:") {
        true if text.contains("not found") || text.contains("no such file") => NO_PROGRAM,
        true => NOT_EXECUTABLE,
        false => FAILURE,
    }
}

/// Starts the parent of a container, or of a further process in it, and returns the owner's end of the line to it.
pub(super) fn spawn(store: &Store, id: &str, process: Option<&serde_json::Value>) -> Result<UnixStream> {
    let failed = |e: std::io::Error| Error::from(e).context("start the container's parent");
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = own_program();
    command.args(["--root".as_ref(), store.root().as_os_str(), "supervise".as_ref(), id.as_ref()]);
    command.args(process.map(|_| "exec"));
    command.stdin(OwnedFd::from(theirs)).stdout(Piped::null()).stderr(Piped::null());
    command.spawn().map_err(failed)?;
    if let Some(process) = process {
        let mut bytes = Vec::new();
        Frame::Input(process.to_string().into_bytes()).encode(&mut bytes);
        std::io::Write::write_all(&mut ours, &bytes).map_err(failed)?;
    }
    Ok(ours)
}

/// `supervise ID [exec]`, hidden. Whoever starts it is at the other end of its standard input.
pub(crate) fn supervise(args: &Args) -> Result<u8> {
    // Signals of the terminal are for those who watch. When this is the second run of the program, it is so already.
    let _ = rustix::process::setsid();
    libcontainer::protect_program(std::env::args_os()).map_err(|e| from_runtime(&e))?;
    let owner = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null").map_err(Error::from)?;
    rustix::stdio::dup2_stdin(&null).map_err(Error::from)?;
    let mut owner = owner;
    let id = &args.positional[0];
    let further = args.positional.get(1).is_some_and(|kind| kind == "exec");
    let process = if further { Some(first_input(&mut owner)?) } else { None };
    // From here on there is somebody to tell what goes wrong.
    let mut relay = Relay::new(owner)?;
    let ready = crate::commands::store(args).and_then(|store| Ok((store, Holds::note()?)));
    let result = match (&ready, process) {
        (Ok((store, _)), Some(process)) => exec(store, &mut relay, &process, id),
        (Ok((store, _)), None) => serve(store, id, &mut relay),
        (Err(error), _) => Err(Error::new(error.kind(), error.to_string())),
    };
    // Who hears of the end finds nothing of us.
    drop(ready);
    relay.finish(&last(&result));
    Ok(0)
}

fn last(result: &Result<i32>) -> Frame {
    match result {
        Ok(code) => Frame::Ended(*code),
        Err(error) => Frame::Failed(code_of(error), error.to_string()),
    }
}

/// From start to end, as often as the container is started again.
fn serve(store: &Store, id: &str, relay: &mut Relay) -> Result<i32> {
    let place = folder(store, id);
    let _lock = lock(&place.join("lock"), id)?;
    record::clean(id);
    let container = store.container(id)?;
    let run = known(&container)?;
    let stopping = place.join("stopping");
    let _ = std::fs::remove_file(&stopping);
    let checked = run.volumes.iter().try_for_each(|volume| volume.check(store));
    let attached = checked.and_then(|()| attach_root(store, &container, &place.join("rootfs")));
    let result = attached.and_then(|()| {
        let (mut times, mut pause) = (0, FIRST_PAUSE);
        loop {
            let code = once(store, &container, &run, relay)?;
            let again = match run.restart {
                Restart::No => false,
                Restart::Always => true,
                Restart::OnFailure(most) => code != 0 && (most == 0 || times < most),
            };
            if !again || !wait_unless(&stopping, pause) {
                return Ok(code);
            }
            times += 1;
            pause = (pause * 2).min(LONGEST_PAUSE);
            change(store, id, |run| run.restarts = times)?;
        }
    });
    if run.remove {
        // Whoever empties the trash is in our mount namespace, and must not find the container's root in it.
        let _ = rustix::mount::unmount(place.join("rootfs"), rustix::mount::UnmountFlags::DETACH);
        super::remove::remove_record(store, id, &run, true)?;
        crate::commands::empty_trash_later(store);
    } else if let Err(error) = &result {
        let (code, why) = (i32::from(code_of(error)), error.to_string());
        change(store, id, |run| (run.exit_code, run.error) = (Some(code), why))?;
    }
    result
}

/// Only one parent at a time; the last one may still be leaving.
fn lock(path: &Path, id: &str) -> Result<File> {
    for _ in 0..250 {
        if let Ok(file) = record::lock(path, FlockOperation::NonBlockingLockExclusive) {
            return Ok(file);
        }
        if running(id).is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::new(ErrorKind::Busy, format!("container {id}: is running already")))
}

/// `false`: somebody stopped the container.
fn wait_unless(stopping: &Path, pause: Duration) -> bool {
    let end = std::time::Instant::now() + pause;
    while std::time::Instant::now() < end {
        if stopping.exists() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    !stopping.exists()
}

/// Makes the container, runs it to its end, takes it away.
fn once(store: &Store, container: &ContainerRecord, run: &Run, relay: &mut Relay) -> Result<i32> {
    let id = &container.id;
    let mut spec = run.spec.clone();
    for (kind, other) in &run.joins {
        let (live, _) =
            running(other).ok_or_else(|| invalid(format!("--{kind} container:{other}: is not running")))?;
        let name = if kind == "network" { "net" } else { kind };
        let joined = json!({ "type": kind, "path": format!("/proc/{}/ns/{name}", live.pid()) });
        spec["linux"]["namespaces"].as_array_mut().iter_mut().for_each(|list| list.push(joined.clone()));
    }
    let spec = serde_json::from_value(spec).map_err(|e| invalid(format!("config.json: {e}")))?;
    let (stdio, mut pipes) = plumbing(store, id, run.terminal, run.interactive)?;
    let bundle = Bundle::new(folder(store, id), spec);
    let made = runtime()?.create(&container_id(id)?, &bundle, CreateOptions::new(stdio));
    let mut made = made.map_err(|e| from_runtime(&e))?;
    made.warnings().iter().for_each(|text| relay.say(&Frame::Warning(text.clone())));
    pipes.terminal(made.take_terminal())?;
    let socket = Listening::open(id)?;
    let result = made.start().map_err(|e| from_runtime(&e)).and_then(|()| {
        change(store, id, |run| {
            (run.started, run.finished, run.exit_code) = (Some(now()), None, None);
            run.error.clear();
        })?;
        let log = run.log.then(|| Log::open(&folder(store, id).join("log"))).transpose()?;
        relay.listen(socket.listener()?, log)?;
        relay.say(&Frame::Started);
        let kill = |number: i32| drop(Signal::from_number(number).map(|signal| made.kill(signal)));
        let mut process = pipes.process(made.pidfd(), &kill, run.input_once)?;
        relay.run(&mut process)
    });
    let code = result.and_then(|()| made.wait().map(|status| status.code()).map_err(|e| from_runtime(&e)));
    // Noted before the state goes, for whoever sees it gone looks here.
    let noted = match &code {
        Ok(code) => change(store, id, |run| (run.finished, run.exit_code) = (Some(now()), Some(*code))),
        Err(_) => Ok(()),
    };
    let deleted = made.delete(Delete::Force).map_err(|e| from_runtime(&e));
    drop(socket);
    let code = code?;
    noted.and(deleted)?;
    Ok(code)
}

/// A further process in a running container.
fn exec(store: &Store, relay: &mut Relay, bytes: &[u8], id: &str) -> Result<i32> {
    let wanted: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let process = wanted["process"].to_string();
    let (process, _) = libcontainer::parse_process(process.as_bytes()).map_err(|e| from_runtime(&e))?;
    let (container, _) = running(id).ok_or_else(|| invalid(format!("container {id}: is not running")))?;
    let (stdio, mut pipes) =
        plumbing(store, id, process.terminal() == Some(true), wanted["interactive"] == true)?;
    let mut made = container.exec(&process, ExecOptions::new(stdio)).map_err(|e| from_runtime(&e))?;
    pipes.terminal(made.take_terminal())?;
    relay.say(&Frame::Started);
    let pidfd = made.as_fd().try_clone_to_owned()?;
    let kill = |number: i32| drop(Signal::from_number(number).map(|signal| made.kill(signal)));
    let mut process = pipes.process(Some(pidfd.as_fd()), &kill, true)?;
    relay.run(&mut process)?;
    made.wait().map(|status| status.code()).map_err(|e| from_runtime(&e))
}

/// Reads one frame and not a byte more.
fn first_input(owner: &mut UnixStream) -> Result<Vec<u8>> {
    let mut inbox = Inbox::default();
    let mut byte = [0];
    loop {
        owner.read_exact(&mut byte).map_err(|e| Error::from(e).context("hear what to run"))?;
        inbox.push(&byte);
        match inbox.next()? {
            Some(Frame::Input(bytes)) => return Ok(bytes),
            Some(_) => return Err(invalid("exec: is told something else than what to run")),
            None => {}
        }
    }
}

/// Our ends of a process's streams.
#[derive(Default)]
struct Pipes {
    input: Option<File>,
    outputs: Vec<(Stream, File)>,
    terminal: Option<File>,
}

fn plumbing(store: &Store, id: &str, terminal: bool, interactive: bool) -> Result<(Stdio, Pipes)> {
    if terminal {
        return Ok((Stdio::Terminal, Pipes::default()));
    }
    let pipe = || std::io::pipe().map_err(|e| Error::from(e).context("pipe"));
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    let (stdin, input): (OwnedFd, _) = if interactive {
        let (stdin, input) = pipe()?;
        (stdin.into(), Some(File::from(OwnedFd::from(input))))
    } else {
        (null(&folder(store, id))?.into(), None)
    };
    let file = |reader: std::io::PipeReader| File::from(OwnedFd::from(reader));
    let outputs = vec![(Stream::Stdout, file(out)), (Stream::Stderr, file(err))];
    let stdio = Stdio::Fds { stdin, stdout: stdout.into(), stderr: stderr.into() };
    Ok((stdio, Pipes { input, outputs, terminal: None }))
}

/// A null device of the container's own: root of a container could change the mode and owner of the host's, which all others
/// use. Where none can be made or opened, in a user namespace for instance, the host's cannot be changed either.
fn null(place: &Path) -> Result<File> {
    let path = place.join(format!("null-{}", std::process::id()));
    let (mode, number) = (Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 3));
    let made = rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, mode, number);
    let own = made.map_err(std::io::Error::from).and_then(|()| {
        let opened = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666));
        let opened = opened.and_then(|()| File::open(&path));
        std::fs::remove_file(&path).and(opened)
    });
    own.or_else(|_| File::open("/dev/null")).map_err(|e| Error::from(e).context("open \"/dev/null\""))
}

impl Pipes {
    fn terminal(&mut self, master: Option<OwnedFd>) -> Result<()> {
        if let Some(master) = master.map(File::from) {
            self.outputs = vec![(Stream::Stdout, master.try_clone()?)];
            self.input = Some(master.try_clone()?);
            self.terminal = Some(master);
        }
        Ok(())
    }

    fn process<'a>(
        self,
        pidfd: Option<std::os::fd::BorrowedFd<'a>>,
        kill: &'a dyn Fn(i32),
        input_once: bool,
    ) -> Result<Process<'a>> {
        let pidfd = pidfd.ok_or_else(|| invalid("the process has ended before it was watched"))?;
        if let Some(input) = &self.input {
            nonblocking(input)?;
        }
        let Self { input, outputs, terminal } = self;
        Ok(Process { pidfd, kill, input, outputs, terminal, input_once, input_ends: false })
    }
}

/// The socket others come to; its name goes with this.
struct Listening(std::path::PathBuf);

impl Listening {
    fn open(id: &str) -> Result<Self> {
        let path = record::socket(id)?;
        let _ = std::fs::remove_file(&path);
        Ok(Self(path))
    }

    fn listener(&self) -> Result<UnixListener> {
        UnixListener::bind(&self.0).map_err(|e| Error::from(e).context(format!("bind {:?}", self.0)))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
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
