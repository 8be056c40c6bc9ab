//! `start`: binds the group's socket, starts a server in the background and prints the address.
//!
//! containerd waits for this before each container, and reads standard output and standard error as one, so it is fast and silent. The
//! socket listens before the address is printed: no client can come too early, and none waits for the server to start.

use super::socket::{self, Bound};
use super::{Call, Error, print};
use crate::bundle;
use crate::sys::inherit;
use crate::wire::bootstrap::Input;
use crate::wire::options::Options;
use serde::Deserialize;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Of standard input, as containerd's own shim limits it.
const INPUT_LIMIT: u64 = 10 << 20;
/// Of config.json.
const CONFIG_LIMIT: u64 = 10 << 20;

/// The number of the listener's descriptor in the server.
pub(crate) const LISTENER: i32 = 3;

pub(super) fn start(call: &Call) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io("read standard input", error))?;
    if bytes.len() as u64 > INPUT_LIMIT {
        return Err(Error::Invalid(format!("standard input: more than {INPUT_LIMIT} bytes")));
    }
    let input = Input::read(&bytes, &call.flags.id, &call.flags.namespace);
    let options = Options::read(input.options())?;
    options.check()?;

    let here = env::current_dir().map_err(|error| Error::io("current directory", error))?;
    let group = group(&here.join("config.json"))?.unwrap_or_else(|| call.flags.id.clone());
    let containerd = match &input {
        Input::Bootstrap(params) if !params.containerd_grpc_address.is_empty() => {
            &params.containerd_grpc_address
        }
        _ => &call.flags.address,
    };
    // A variable of containerd's own shim.
    let variable = env::var("SHIM_SOCKET_DIR").ok().filter(|dir| !dir.is_empty());
    let dir = input.socket_dir().or(variable.as_deref());
    let path = socket::path(dir, containerd, &call.flags.namespace, &group)?;
    let address = format!("unix://{}", path.display());
    bundle::write_address(&here, &address)
        .map_err(|error| Error::io(format_args!("write \"address\" in {here:?}"), error))?;
    if let Bound::Here(listener) = socket::bind(&path)? {
        let mut undo = Undo { path, server: None };
        inherit::pass_as(listener, LISTENER)
            .map_err(|error| Error::call("pass the listener: dup3", error))?;
        prepare(&options)?;
        undo.server = Some(spawn(call, containerd, &input)?);
        print(&input.reply(&address))?;
        undo.disarm();
        return Ok(());
    }
    print(&input.reply(&address))
}

/// Cleans up after a `start` that fails.
struct Undo {
    path: PathBuf,
    server: Option<Child>,
}

impl Undo {
    fn disarm(mut self) {
        self.path = PathBuf::new();
        self.server = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
        }
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The container's group, by the annotations of containerd's own shim, in its order. It is only used for hashing.
fn group(config: &Path) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: Option<Annotations>,
    }
    #[derive(Deserialize)]
    struct Annotations {
        #[serde(rename = "io.containerd.runc.v2.group")]
        group: Option<String>,
        #[serde(rename = "io.kubernetes.cri.sandbox-id")]
        sandbox: Option<String>,
    }
    let fail = |error: std::io::Error| Error::io(format_args!("read {config:?}"), error);
    let file = File::open(config).map_err(fail)?;
    let mut text = Vec::new();
    file.take(CONFIG_LIMIT + 1).read_to_end(&mut text).map_err(fail)?;
    if text.len() as u64 > CONFIG_LIMIT {
        return Err(Error::Invalid(format!("read {config:?}: more than {CONFIG_LIMIT} bytes")));
    }
    let config: Config = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
    Ok(config.annotations.and_then(|known| known.group.or(known.sandbox)))
}

/// Prepares what the server inherits from this process.
fn prepare(options: &Options) -> Result<(), Error> {
    inherit::close_on_exec_from(4).map_err(|error| Error::call("close_range", error))?;
    if env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        inherit::new_core_cookie().map_err(|error| Error::call("SCHED_CORE: prctl(PR_SCHED_CORE)", error))?;
    }
    if !options.shim_cgroup.is_empty() {
        join(&options.shim_cgroup)?;
    }
    raise_oom_score();
    Ok(())
}

/// Makes the kernel kill the shim before containerd when memory runs out. Without CAP_SYS_RESOURCE the kernel may refuse, which is
/// ignored.
fn raise_oom_score() {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<i32>().ok();
    let Some(parent) = read(&format!("/proc/{}/oom_score_adj", parent_id())) else { return };
    let _ = fs::write("/proc/self/oom_score_adj", (parent + 1).min(1000).to_string());
}

/// Joins the cgroup `name` in every hierarchy where it exists.
fn join(name: &str) -> Result<(), Error> {
    const ROOT: &str = "/sys/fs/cgroup";
    let option = format!("runtime options: ShimCgroup {name:?}");
    let refuse = |why: &str| Error::Invalid(format!("{option}: {why}"));
    let relative = Path::new(name.trim_start_matches('/'));
    if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(refuse("not a cgroup's path"));
    }
    let mut hierarchies = vec![PathBuf::from(ROOT)];
    if !Path::new(ROOT).join("cgroup.procs").exists() {
        let mounts =
            fs::read_dir(ROOT).map_err(|error| Error::io(format_args!("{option}: read {ROOT:?}"), error))?;
        hierarchies = mounts.filter_map(|entry| Some(entry.ok()?.path())).collect();
    }
    let mut found = false;
    for hierarchy in hierarchies {
        let procs = hierarchy.join(relative).join("cgroup.procs");
        // A hierarchy may have several names: cpu, cpuacct and cpu,cpuacct.
        if procs.exists() {
            let joined =
                fs::OpenOptions::new().write(true).open(&procs).and_then(|mut file| file.write_all(b"0"));
            joined.map_err(|error| Error::io(format_args!("{option}: write {procs:?}"), error))?;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(refuse("no such cgroup")) }
}

/// Starts the server: this program again, without an action. It does not get the caller's pipes, and makes its own session.
fn spawn(call: &Call, containerd: &str, input: &Input) -> Result<Child, Error> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(&call.program);
    command.args(["-namespace", &call.flags.namespace, "-id", &call.flags.id, "-address", containerd]);
    if call.flags.debug {
        command.arg("-debug");
    }
    if let Input::Bootstrap(params) = input
        && !params.containerd_ttrpc_address.is_empty()
    {
        command.env("TTRPC_ADDRESS", &params.containerd_ttrpc_address);
    }
    // Else glibc caches small freed blocks of every size for each thread, which pin pages all over the heap, so that it never shrinks.
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| Error::io("execute \"/proc/self/exe\"", error))
}
