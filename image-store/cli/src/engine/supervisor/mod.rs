//! The supervisor of a container: a process of its own, so that the command that started the container can exit. It creates the
//! container in a new mount namespace, logs its output, serves clients, records its end, and restarts it if requested.
//!
//! The root file system is mounted in that namespace only: it never appears among the host's mounts, and is unmounted with the last
//! process in it, even if the supervisor is killed.

mod relay;
mod spawn;
mod streams;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image_store::store::ContainerRecord;
use image_store::{ErrorKind, Store};
use libcontainer::{Bundle, CreateOptions, Delete, ExecOptions, Signal};
use rustix::fs::FlockOperation;

pub(crate) use spawn::spawn;

use relay::Relay;

use super::config;
use super::frames::{ExecRequest, Frame, Inbox};
use super::log::{Log, now};
use crate::cli::Args;
use crate::container::find::{self, container_id, live_namespace, running, runtime};
use crate::container::locks;
use crate::container::mounts::attach;
use crate::container::record::{Restart, Run};
use crate::container::volumes::remove_record;
use crate::failure::{Failure, Result, invalid, os};
use crate::rootless::Holder;
use crate::{places, trash};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// `supervise ID [exec]`, hidden. Its standard input is a socket to the command that started it.
pub(crate) fn supervise(args: &Args) -> Result<u8> {
    // Signals of the terminal are for the clients. This fails if the program has executed itself again, where it is done already.
    let _ = rustix::process::setsid();
    libcontainer::protect_program(std::env::args_os())?;
    let owner = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let mut owner = owner;
    let id = &args.positional[0];
    let further = args.positional.get(1).is_some_and(|kind| kind == "exec");
    let process = if further { Some(first_input(&mut owner)?) } else { None };
    // From here on, errors are sent to the owner.
    let mut relay = Relay::new(owner)?;
    let result = supervised(args, id, process, &mut relay);
    relay.finish(&match result {
        Ok(code) => Frame::Ended(code),
        Err(error) => Frame::Failed(error.code(), error.to_string()),
    });
    Ok(0)
}

/// Runs the container, or the further process in it, and returns its exit status. What this holds is released before clients learn
/// of the end.
fn supervised(args: &Args, id: &str, process: Option<Vec<u8>>, relay: &mut Relay) -> Result<i32> {
    let store = places::store(args)?;
    let _holder = Holder::register()?;
    match process {
        Some(process) => exec(relay, &process, id),
        None => serve(&store, id, relay),
    }
}

/// Runs the container, again if it is restarted.
fn serve(store: &Store, id: &str, relay: &mut Relay) -> Result<i32> {
    let directory = places::container(store, id);
    let _lock = lock(&directory.lock(), id)?;
    find::clean(id);
    let container = store.container(id)?;
    let run = Run::require(&container)?;
    let stopping = directory.stopping();
    let _ = std::fs::remove_file(&stopping);
    let checked = run.volumes.iter().try_for_each(|volume| volume.check(store));
    let attached = checked.and_then(|()| attach_root(store, &container, &directory.rootfs()));
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
            Run::change(store, id, |run| run.restarts = times)?;
        }
    });
    if run.remove {
        // The process that empties the trash inherits this mount namespace, and must not see the container's root.
        let _ = rustix::mount::unmount(directory.rootfs(), rustix::mount::UnmountFlags::DETACH);
        remove_record(store, id, &run, true)?;
        find::clean(id);
        trash::empty_later(store);
    } else if let Err(error) = &result {
        let (code, why) = (i32::from(error.code()), error.to_string());
        Run::change(store, id, |run| (run.exit_code, run.error) = (Some(code), why))?;
    }
    result
}

/// Takes the lock of the only supervisor; the previous one may still be exiting.
fn lock(path: &Path, id: &str) -> Result<File> {
    for _ in 0..250 {
        if let Ok(file) = locks::lock(path, FlockOperation::NonBlockingLockExclusive) {
            return Ok(file);
        }
        if running(id).is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::new(ErrorKind::Busy, format!("container {id}: is already running")))
}

/// Waits; `false` if the container was stopped meanwhile.
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

/// Creates the container, runs it until it exits, deletes it.
fn once(store: &Store, container: &ContainerRecord, run: &Run, relay: &mut Relay) -> Result<i32> {
    let id = &container.id;
    let mut spec = run.spec.clone();
    // Open until the container is created.
    let mut joined = Vec::new();
    for (kind, other) in &run.joins {
        let namespace = live_namespace(other, *kind)
            .ok_or_else(|| invalid(format!("--{kind} container:{other}: is not running")))?;
        let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        let list = spec.linux_mut().as_mut().and_then(|linux| linux.namespaces_mut().as_mut());
        list.into_iter().for_each(|list| list.push(config::namespace(*kind, Some(path.clone().into()))));
        joined.push(namespace);
    }
    let (stdio, mut pipes) = streams::open(run.terminal, run.interactive)?;
    let bundle = Bundle::new(places::container(store, id).path(), spec);
    let made = runtime()?.create(&container_id(id)?, &bundle, CreateOptions::new(stdio));
    drop(joined);
    let mut made = made?;
    made.warnings().iter().for_each(|text| relay.broadcast(&Frame::Warning(text.clone())));
    pipes.terminal(made.take_terminal())?;
    let socket = Listening::open(id)?;
    let result = made.start().map_err(Failure::from).and_then(|()| {
        Run::change(store, id, |run| {
            (run.started, run.finished, run.exit_code, run.oom_killed) = (Some(now()), None, None, false);
            run.error.clear();
        })?;
        let log = run.log.then(|| Log::open(&places::container(store, id).log())).transpose()?;
        relay.listen(socket.listener()?, log)?;
        relay.broadcast(&Frame::Started);
        let kill = |number: i32| drop(Signal::from_number(number).map(|signal| made.kill(signal)));
        let mut process = pipes.process(made.pidfd(), &kill, run.input_once)?;
        relay.run(&mut process)
    });
    let code = result.and_then(|()| made.wait().map(|status| status.code()).map_err(Failure::from));
    // Recorded before the state is deleted, since those who see that it is gone look at the record.
    let oom_killed = find::oom_killed(&made);
    let noted = match &code {
        Ok(code) => Run::change(store, id, |run| {
            (run.finished, run.exit_code, run.oom_killed) = (Some(now()), Some(*code), oom_killed);
        }),
        Err(_) => Ok(()),
    };
    let deleted = made.delete(Delete::Force).map_err(|e| Failure::from(e.error));
    drop(socket);
    let code = code?;
    noted.and(deleted)?;
    Ok(code)
}

/// A further process in a running container.
fn exec(relay: &mut Relay, bytes: &[u8], id: &str) -> Result<i32> {
    let request: ExecRequest = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let process = request.process;
    let (container, _) = running(id).ok_or_else(|| invalid(format!("container {id}: is not running")))?;
    let (stdio, mut pipes) = streams::open(process.terminal() == Some(true), request.interactive)?;
    let mut made = container.exec(&process, ExecOptions::new(stdio))?;
    pipes.terminal(made.take_terminal())?;
    relay.broadcast(&Frame::Started);
    let pidfd = made.as_fd().try_clone_to_owned()?;
    let kill = |number: i32| drop(Signal::from_number(number).map(|signal| made.kill(signal)));
    let mut process = pipes.process(Some(pidfd.as_fd()), &kill, true)?;
    relay.run(&mut process)?;
    made.wait().map(|status| status.code()).map_err(Failure::from)
}

/// Reads one frame and not a byte more.
fn first_input(owner: &mut UnixStream) -> Result<Vec<u8>> {
    let mut inbox = Inbox::default();
    let mut byte = [0];
    loop {
        owner.read_exact(&mut byte).map_err(|e| os(e, "exec: read the request"))?;
        inbox.push(&byte);
        match inbox.next()? {
            Some(Frame::Input(bytes)) => return Ok(bytes),
            Some(_) => return Err(invalid("exec: unexpected message")),
            None => {}
        }
    }
}

/// Mounts the root in a new mount namespace, which the container's is copied from.
fn attach_root(store: &Store, container: &ContainerRecord, target: &Path) -> Result<()> {
    attach(&store.container_rootfs(container)?.mount()?, target)
}

/// The socket for further clients, removed when this is dropped.
struct Listening(PathBuf);

impl Listening {
    fn open(id: &str) -> Result<Self> {
        let path = places::socket(id)?;
        let _ = std::fs::remove_file(&path);
        Ok(Self(path))
    }

    fn listener(&self) -> Result<UnixListener> {
        UnixListener::bind(&self.0).map_err(|e| os(e, format!("bind {:?}", self.0)))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
