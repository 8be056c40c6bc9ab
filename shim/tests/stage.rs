//! The containerd of a test: a directory for bundles, a socket for events, and shims that are called as containerd calls them.

use integration::process::{start_as_is, wait_for};
use integration::{Config, Lab, Outcome, Stop, eq, fail, skip, yes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Process;
use prost::Message;
use serde_json::json;
use shim::client::{Client, Events, Launch, ReceivedEvent, Style};
use shim::wire::code::{Code, Failure};
use shim::wire::events::Event;
use shim::wire::options::Options;
use shim::wire::task::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse,
    ExecProcessRequest, KillRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest,
    StateResponse, WaitRequest, WaitResponse,
};
use shim::wire::types::{Any, Empty, Mount};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Long enough for anything on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Stage<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) launch: Launch,
    pub(crate) events: Events,
}

/// A container and the connection to its shim.
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) client: Client,
    /// The pid of the shim.
    pub(crate) shim: i32,
    /// The shim's log, kept open as by containerd.
    log: Option<File>,
}

/// Whether to do the long run of a test.
pub(crate) fn full() -> bool {
    std::env::var_os("KNARR_SHIM_FULL").is_some()
}

fn program() -> Result<PathBuf, Stop> {
    if let Some(path) = std::env::var_os("SHIM") {
        return Ok(PathBuf::from(path));
    }
    let name = "containerd-shim-knarr-v2";
    match integration::rootfs::beside_this_program(name) {
        Some(path) => Ok(path),
        None => fail(format!("no {name} beside the test program: cargo build -p shim")),
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Result<Self, Stop> {
        let events = lab.dir.join("events.sock");
        let launch = Launch {
            program: program()?,
            namespace: "t".to_owned(),
            address: lab.dir.join("containerd.sock"),
            events: events.clone(),
            socket_dir: None,
            options: Options {
                root: lab.dir.join("root").to_string_lossy().into_owned(),
                ..Options::default()
            },
            style: Style::Legacy,
            environment: Vec::new(),
        };
        fs::create_dir_all(lab.dir.join("tasks"))?;
        Ok(Self { lab, launch, events: Events::listen(&events)? })
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.launch.program.ends_with("containerd-shim-knarr-v2")
    }

    /// Skips a test of a property that only this project's shim has.
    pub(crate) fn ours_only(&self, why: &str) -> Outcome {
        if self.is_ours() { Ok(()) } else { skip(format!("another shim: {why}")) }
    }

    /// A bundle with the container's id as its name, as containerd makes it: the root file system is elsewhere.
    pub(crate) fn bundle(&self, change: impl FnOnce(&mut Config)) -> Result<(String, PathBuf), Stop> {
        let mut container = self.lab.container()?;
        let bundle = self.lab.dir.join("tasks").join(&container.id);
        fs::create_dir(&bundle)?;
        fs::create_dir(bundle.join("rootfs"))?;
        nix::unistd::mkfifo(&bundle.join("log"), nix::sys::stat::Mode::from_bits_truncate(0o700))?;
        change(container.config());
        container.bundle.config.set("/root/readonly", json!(false));
        fs::rename(container.bundle.root(), self.root_of(&container.id))?;
        fs::write(bundle.join("config.json"), serde_json::to_string(&container.bundle.config.0)?)?;
        Ok((container.id, bundle))
    }

    pub(crate) fn root_of(&self, id: &str) -> PathBuf {
        self.lab.dir.join(format!("root-of-{id}"))
    }

    /// Starts a shim for a new container, which is not made yet.
    pub(crate) fn shim(&self, change: impl FnOnce(&mut Config)) -> Result<Task, Stop> {
        let (id, bundle) = self.bundle(change)?;
        let log = OpenOptions::new().read(true).write(true).open(bundle.join("log"))?;
        let socket = self.launch.start(&bundle, &id)?;
        let mut task = self.join(id, bundle, socket)?;
        task.log = Some(log);
        Ok(task)
    }

    /// Another container in the shim of `other`, which is not made yet.
    pub(crate) fn beside(&self, other: &Task, change: impl FnOnce(&mut Config)) -> Result<Task, Stop> {
        let (id, bundle) = self.bundle(change)?;
        self.join(id, bundle, other.socket.clone())
    }

    fn join(&self, id: String, bundle: PathBuf, socket: PathBuf) -> Result<Task, Stop> {
        let mut client = Client::connect(&socket, &self.launch.namespace)?;
        let shim = match client.call::<ConnectResponse>("Connect", &ConnectRequest { id: id.clone() }) {
            Ok(who) => who.shim_pid.cast_signed(),
            // containerd's own shim does not answer without a container.
            Err(failure) if failure.code == Code::NotFound => 0,
            Err(failure) => return Err(failure.into()),
        };
        Ok(Task { id, bundle, socket, client, shim, log: None })
    }

    /// A container that was made, with these streams (`""` is none).
    pub(crate) fn created(&self, streams: [&str; 3], change: impl FnOnce(&mut Config)) -> Result<Task, Stop> {
        let mut task = self.shim(change)?;
        task.create(self, streams)?;
        Ok(task)
    }

    /// A container that was started, without streams.
    pub(crate) fn started(&self, args: &[&str]) -> Result<Task, Stop> {
        let mut task = self.created(["", "", ""], |config| {
            config.args(args);
        })?;
        task.start("")?;
        Ok(task)
    }

    pub(crate) fn create_request(&self, task: &Task, streams: [&str; 3]) -> CreateTaskRequest {
        let [stdin, stdout, stderr] = streams.map(str::to_owned);
        let rootfs = Mount {
            r#type: "bind".to_owned(),
            source: self.root_of(&task.id).to_string_lossy().into_owned(),
            target: String::new(),
            options: vec!["rbind".to_owned(), "rw".to_owned()],
        };
        CreateTaskRequest {
            id: task.id.clone(),
            bundle: task.bundle.to_string_lossy().into_owned(),
            rootfs: vec![rootfs],
            stdin,
            stdout,
            stderr,
            options: Some(Any::pack(shim::wire::options::OPTIONS, &self.launch.options)),
            ..CreateTaskRequest::default()
        }
    }

    /// Waits for an event of this container, and returns the names of its events until then: `start`, `exit`, `exit x` for an exec
    /// called x.
    pub(crate) fn events_until(&self, id: &str, last: &str) -> Result<Vec<String>, Stop> {
        let enough = |seen: &[ReceivedEvent]| story(seen, id).iter().any(|word| word == last);
        match self.events.wait(LIMIT, enough) {
            Ok(seen) => Ok(story(&seen, id)),
            Err(seen) => {
                fail(format!("{last:?} of {id} was never reported; reported were {:?}", story(&seen, id)))
            }
        }
    }

    /// Runs `delete` as containerd does. Meanwhile orphans are reaped, as by the init of a host: a container's first process does not end
    /// before the others of its pid namespace are reaped.
    pub(crate) fn clean_up(&self, bundle: &Path, id: &str) -> Result<DeleteResponse, Stop> {
        let files = ["stdout", "stderr"].map(|name| self.lab.dir.join(format!("delete.{name}")));
        let mut command = self.launch.command(bundle, id, "delete");
        let [out, err] = &files;
        command.stdin(Stdio::null()).stdout(File::create(out)?).stderr(File::create(err)?);
        let ended = start_as_is(command, None)?.wait()?;
        let words = fs::read_to_string(err)?;
        eq(ended.code, 0, format!("the status of delete, which prints {words:?}"))?;
        Ok(DeleteResponse::decode(fs::read(out)?.as_slice())?)
    }

    /// Checks that nothing of this container is left: no process, mount or state, and no socket, if it was the shim's last container.
    pub(crate) fn is_clean(&self, task: &Task) -> Outcome {
        // containerd's own shim leaves sockets of groups, and those of killed shims.
        yes(!self.is_ours() || !task.socket.exists(), format!("the socket {:?} is left", task.socket))?;
        self.is_clean_but_for_its_socket(task)
    }

    /// The same, while the shim is still running.
    pub(crate) fn is_clean_but_for_its_socket(&self, task: &Task) -> Outcome {
        for mount in Process::myself()?.mountinfo()? {
            let places = [mount.root.as_str(), &*mount.mount_point.to_string_lossy()];
            let is_left = places.iter().any(|place| place.contains(&task.id));
            yes(!is_left, format!("a mount of {} is left: {mount:?}", task.id))?;
        }
        let state = Path::new(&self.launch.options.root).join(&self.launch.namespace).join(&task.id);
        yes(!state.exists(), format!("{state:?} is left"))?;
        let mut left = Vec::new();
        let name = cgroup_name(&task.bundle);
        for process in procfs::process::all_processes()?.flatten() {
            // A process that has ended meanwhile is in no cgroup.
            let Ok(cgroups) = process.cgroups() else { continue };
            if cgroups.into_iter().any(|cgroup| cgroup.pathname.ends_with(&name)) {
                left.push(process.pid);
            }
        }
        yes(left.is_empty(), format!("processes of {} are left: {left:?}", task.id))
    }
}

/// The path in `linux.cgroupsPath`.
fn cgroup_name(bundle: &Path) -> String {
    let text = fs::read_to_string(bundle.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    config.pointer("/linux/cgroupsPath").and_then(|path| path.as_str()).unwrap_or("no cgroup").to_owned()
}

pub(crate) fn story(seen: &[ReceivedEvent], id: &str) -> Vec<String> {
    let word = |seen: &ReceivedEvent| {
        let (container, exec, word) = match &seen.event {
            Event::Create(e) => (&e.container_id, "", "create"),
            Event::Start(e) => (&e.container_id, "", "start"),
            Event::Delete(e) => (&e.container_id, e.id.as_str(), "delete"),
            Event::Exit(e) if e.id == e.container_id => (&e.container_id, "", "exit"),
            Event::Exit(e) => (&e.container_id, e.id.as_str(), "exit"),
            Event::Oom(e) => (&e.container_id, "", "oom"),
            Event::ExecAdded(e) => (&e.container_id, e.exec_id.as_str(), "exec-added"),
            Event::ExecStarted(e) => (&e.container_id, e.exec_id.as_str(), "exec-started"),
            Event::Paused(e) => (&e.container_id, "", "paused"),
            Event::Resumed(e) => (&e.container_id, "", "resumed"),
            Event::Checkpointed(e) => (&e.container_id, "", "checkpointed"),
        };
        (container == id).then(|| if exec.is_empty() { word.to_owned() } else { format!("{word} {exec}") })
    };
    seen.iter().filter_map(word).collect()
}

impl Task {
    pub(crate) fn create(&mut self, stage: &Stage<'_>, streams: [&str; 3]) -> Result<u32, Stop> {
        let request = stage.create_request(self, streams);
        let made: CreateTaskResponse = self.client.call("Create", &request)?;
        let who: ConnectResponse = self.client.call("Connect", &ConnectRequest { id: self.id.clone() })?;
        self.shim = who.shim_pid.cast_signed();
        eq(who.task_pid, made.pid, "the container's process by Connect and by Create")?;
        Ok(made.pid)
    }

    pub(crate) fn start(&mut self, exec: &str) -> Result<u32, Failure> {
        let started: StartResponse = self.client.call("Start", &self.start_request(exec))?;
        Ok(started.pid)
    }

    pub(crate) fn start_request(&self, exec: &str) -> StartRequest {
        StartRequest { id: self.id.clone(), exec_id: exec.to_owned() }
    }

    pub(crate) fn wait_request(&self, exec: &str) -> WaitRequest {
        WaitRequest { id: self.id.clone(), exec_id: exec.to_owned() }
    }

    pub(crate) fn wait(&mut self, exec: &str) -> Result<u32, Failure> {
        let ended: WaitResponse = self.client.call("Wait", &self.wait_request(exec))?;
        Ok(ended.exit_status)
    }

    pub(crate) fn state(&mut self, exec: &str) -> Result<StateResponse, Failure> {
        self.client.call("State", &StateRequest { id: self.id.clone(), exec_id: exec.to_owned() })
    }

    pub(crate) fn kill(&mut self, exec: &str, signal: Signal) -> Result<(), Failure> {
        let request =
            KillRequest { id: self.id.clone(), exec_id: exec.to_owned(), signal: signal as u32, all: false };
        self.client.call::<Empty>("Kill", &request).map(drop)
    }

    pub(crate) fn delete(&mut self, exec: &str) -> Result<DeleteResponse, Failure> {
        self.client.call("Delete", &DeleteRequest { id: self.id.clone(), exec_id: exec.to_owned() })
    }

    pub(crate) fn exec_request(&self, exec: &str, args: &[&str], streams: [&str; 3]) -> ExecProcessRequest {
        let process = json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
        let [stdin, stdout, stderr] = streams.map(str::to_owned);
        ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            terminal: false,
            stdin,
            stdout,
            stderr,
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: process.to_string().into_bytes(),
            }),
        }
    }

    pub(crate) fn add(&mut self, exec: &str, args: &[&str]) -> Result<(), Failure> {
        let request = self.exec_request(exec, args, ["", "", ""]);
        self.client.call::<Empty>("Exec", &request).map(drop)
    }

    /// Asks the shim to end, and waits for it. As to containerd, a connection that breaks is an answer.
    pub(crate) fn shut_down(&mut self) -> Outcome {
        let request = ShutdownRequest { id: self.id.clone(), now: false };
        match self.client.call::<Empty>("Shutdown", &request) {
            Ok(_) => {}
            Err(failure) if failure.code == Code::Unavailable => {}
            Err(failure) => return Err(failure.into()),
        }
        let shim = self.shim;
        wait_for("the shim ends", || {
            integration::process::reap();
            (!is_alive(shim)).then_some(())
        })
    }

    /// Cleans up from any state, like a client.
    pub(crate) fn finish(&mut self) -> Outcome {
        if let Ok(state) = self.state("") {
            if state.exited_at.is_none_or(|at| at.seconds <= 0) {
                let _ = self.kill("", Signal::SIGKILL);
                self.wait("")?;
            }
            self.delete("")?;
        }
        self.shut_down()
    }

    pub(crate) fn kill_shim(&self) -> Outcome {
        kill(Pid::from_raw(self.shim), Signal::SIGKILL)?;
        let shim = self.shim;
        wait_for("the killed shim is gone", || {
            integration::process::reap();
            (!is_alive(shim)).then_some(())
        })
    }
}

/// Whether the process exists and is not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.state != 'Z')
}

/// A new fifo.
pub(crate) fn fifo(lab: &Lab, name: &str) -> Result<String, Stop> {
    let path = lab.dir.join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    Ok(path.to_string_lossy().into_owned())
}
