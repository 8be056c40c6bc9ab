//! `start` and `delete` of a shim's program, as containerd calls them.

use crate::wire::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use crate::wire::options::{OPTIONS, Options};
use crate::wire::task::DeleteResponse;
use crate::wire::types::Any;
use prost::Message;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The version of containerd that is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Before 2.3: flags, and the options on standard input.
    Legacy,
    /// Since 2.3: everything on standard input.
    Bootstrap,
}

/// How a shim is called.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's main socket: only its name matters.
    pub address: PathBuf,
    /// The socket for events.
    pub events: PathBuf,
    /// The directory for sockets; [`Style::Bootstrap`] only.
    pub socket_dir: Option<PathBuf>,
    /// The runtime options.
    pub options: Options,
    /// The version of containerd.
    pub style: Style,
    /// Additional environment variables.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    /// The command line for an action on the container `id`, whose bundle is the current directory.
    pub fn command(&self, bundle: &Path, id: &str, action: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(bundle);
        command.args(["-namespace", &self.namespace, "-id", id, "-address"]).arg(&self.address);
        command.args(["-publish-binary", ""]);
        if action == "delete" {
            command.arg("-bundle").arg(bundle);
        }
        command.arg(action);
        command.env("TTRPC_ADDRESS", &self.events).env("GRPC_ADDRESS", &self.address);
        command.env("NAMESPACE", &self.namespace).env("MAX_SHIM_VERSION", "2");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The standard input of `start`.
    pub fn input(&self, id: &str) -> Vec<u8> {
        let options = Any::pack(OPTIONS, &self.options);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        match self.style {
            Style::Legacy => options.encode_to_vec(),
            Style::Bootstrap => BootstrapParams {
                instance_id: id.to_owned(),
                namespace: self.namespace.clone(),
                containerd_version: "v2.4.0".to_owned(),
                containerd_ttrpc_address: text(&self.events),
                containerd_grpc_address: text(&self.address),
                containerd_binary: String::new(),
                extensions: vec![Extension { value: Some(options) }],
                socket_dir: self.socket_dir.as_deref().map(text).unwrap_or_default(),
            }
            .encode_to_vec(),
        }
    }

    /// Runs `start` and returns the socket. As with containerd, any output on standard error is an error.
    pub fn start(&self, bundle: &Path, id: &str) -> io::Result<PathBuf> {
        let output = run(self.command(bundle, id, "start"), &self.input(id))?;
        if !output.status.success() || !output.stderr.is_empty() {
            return Err(io::Error::other(format!("start: {}", text(&output))));
        }
        let address = address(&output.stdout);
        let path = address.as_deref().and_then(|address| address.strip_prefix("unix://"));
        path.map(PathBuf::from)
            .ok_or_else(|| io::Error::other(format!("start: no address: {}", text(&output))))
    }

    /// Runs `delete`.
    pub fn delete(&self, bundle: &Path, id: &str) -> io::Result<DeleteResponse> {
        let output = run(self.command(bundle, id, "delete"), &[])?;
        if !output.status.success() {
            return Err(io::Error::other(format!("delete: {}", text(&output))));
        }
        DeleteResponse::decode(output.stdout.as_slice())
            .map_err(|error| io::Error::other(format!("delete: {error}: {}", text(&output))))
    }
}

/// Runs `command` with `input`, which it need not read.
fn run(mut command: Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input);
    }
    child.wait_with_output()
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}: {:?} {:?}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Reads the reply as containerd does: as a message, else as JSON, else as the bare address.
fn address(reply: &[u8]) -> Option<String> {
    if let Ok(result) = BootstrapResult::decode(reply)
        && result.address.starts_with("unix://")
    {
        return Some(result.address);
    }
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(reply) {
        return Some(json.get("address")?.as_str()?.to_owned());
    }
    Some(std::str::from_utf8(reply).ok()?.trim().to_owned())
}
