//! `start`: binds the group's socket, leaves a server behind that serves it, prints the address.
//!
//! containerd waits for this at each container and reads standard output and standard error as one, so it is short and silent. The
//! listener is there before the address is printed: nobody can come too early, and nobody waits for the server to begin.

use super::socket::{self, Bound};
use super::{Call, print};
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

/// The number of the listener in the server.
pub(crate) const LISTENER: i32 = 3;

pub(super) fn start(call: &Call) -> Result<(), String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("read standard input: {error}"))?;
    if bytes.len() as u64 > INPUT_LIMIT {
        return Err(format!("standard input: more than {INPUT_LIMIT} bytes"));
    }
    let input = Input::read(&bytes, &call.flags.id, &call.flags.namespace);
    let options = Options::read(input.options()).map_err(|failure| failure.message)?;
    options.check().map_err(|failure| failure.message)?;

    let here = env::current_dir().map_err(|error| format!("current directory: {error}"))?;
    let group = group(&here.join("config.json"))?.unwrap_or_else(|| call.flags.id.clone());
    let containerd = match &input {
        Input::Bootstrap(params) if !params.containerd_grpc_address.is_empty() => {
            &params.containerd_grpc_address
        }
        _ => &call.flags.address,
    };
    // containerd's own shim knows the variable too.
    let variable = env::var("SHIM_SOCKET_DIR").ok().filter(|folder| !folder.is_empty());
    let folder = input.socket_dir().or(variable.as_deref());
    let path = socket::path(folder, containerd, &call.flags.namespace, &group)?;
    let address = format!("unix://{}", path.display());
    bundle::write_address(&here, &address)
        .map_err(|error| format!("write \"address\" in {here:?}: {error}"))?;
    if let Bound::Here(listener) = socket::bind(&path)? {
        let mut undo = Undo { path, server: None };
        inherit::hand_down(listener, LISTENER)
            .map_err(|error| format!("hand down the listener: dup3: {error}"))?;
        prepare(&options)?;
        undo.server = Some(spawn(call, containerd, &input)?);
        print(&input.reply(&address))?;
        undo.disarm();
        return Ok(());
    }
    print(&input.reply(&address))
}

/// What a `start` that fails takes away again.
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

/// The group that the container belongs to, by the annotations that containerd's own shim knows, in its order. It is only ever hashed.
fn group(config: &Path) -> Result<Option<String>, String> {
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
    let fail = |error: &dyn std::fmt::Display| format!("read {config:?}: {error}");
    let file = File::open(config).map_err(|error| fail(&error))?;
    let mut text = Vec::new();
    file.take(CONFIG_LIMIT + 1).read_to_end(&mut text).map_err(|error| fail(&error))?;
    if text.len() as u64 > CONFIG_LIMIT {
        return Err(fail(&format_args!("more than {CONFIG_LIMIT} bytes")));
    }
    let config: Config = serde_json::from_slice(&text).map_err(|error| fail(&error))?;
    Ok(config.annotations.and_then(|known| known.group.or(known.sandbox)))
}

/// What the server shall inherit of this process.
fn prepare(options: &Options) -> Result<(), String> {
    inherit::close_on_exec_from(4).map_err(|error| format!("close_range: {error}"))?;
    if env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        inherit::share_cores_with_nobody()
            .map_err(|error| format!("SCHED_CORE: prctl(PR_SCHED_CORE): {error}"))?;
    }
    if !options.shim_cgroup.is_empty() {
        join(&options.shim_cgroup)?;
    }
    score();
    Ok(())
}

/// The shim dies before containerd does when memory runs out. Without CAP_SYS_RESOURCE the kernel may refuse; then it stays as it is.
fn score() {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<i32>().ok();
    let Some(parent) = read(&format!("/proc/{}/oom_score_adj", parent_id())) else { return };
    let _ = fs::write("/proc/self/oom_score_adj", (parent + 1).min(1000).to_string());
}

/// Joins the cgroup `name` in every hierarchy that has it.
fn join(name: &str) -> Result<(), String> {
    const ROOT: &str = "/sys/fs/cgroup";
    let refuse = |why: &str| format!("runtime options: ShimCgroup {name:?}: {why}");
    let relative = Path::new(name.trim_start_matches('/'));
    if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(refuse("not a cgroup's path"));
    }
    let mut hierarchies = vec![PathBuf::from(ROOT)];
    if !Path::new(ROOT).join("cgroup.procs").exists() {
        let mounts = fs::read_dir(ROOT).map_err(|error| refuse(&format!("read {ROOT:?}: {error}")))?;
        hierarchies = mounts.filter_map(|entry| Some(entry.ok()?.path())).collect();
    }
    let mut found = false;
    for hierarchy in hierarchies {
        let procs = hierarchy.join(relative).join("cgroup.procs");
        // A hierarchy may be there twice: cpu, cpuacct and cpu,cpuacct.
        if procs.exists() {
            let joined =
                fs::OpenOptions::new().write(true).open(&procs).and_then(|mut file| file.write_all(b"0"));
            joined.map_err(|error| refuse(&format!("write {procs:?}: {error}")))?;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(refuse("there is no such cgroup")) }
}

/// Starts the server: this program again, without an action. It holds nothing of the caller's pipes; a session of its own it makes
/// itself.
fn spawn(call: &Call, containerd: &str, input: &Input) -> Result<Child, String> {
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
    // glibc keeps small freed blocks of every size for each thread; they pin pages all over the heap, which then never shrinks
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("execute \"/proc/self/exe\": {error}"))
}
