//! One call of the program: `start`, `delete`, `-info`, `-v`, or none of them: then it is the server.
//!
//! Only this room prints, and only it knows the command line and the environment.

mod delete;
mod flags;
mod hung;
mod info;
mod socket;
mod start;

pub use flags::Flags;

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, when the build said so.
pub const REVISION: &str = match option_env!("KNARR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name it was called by.
    pub program: String,
    /// The command line.
    pub flags: Flags,
}

impl Call {
    /// Reads the arguments of this process.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let program = arguments.next().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { program, flags: Flags::parse(arguments)? })
    }

    /// The name for messages: the last part of [`Call::program`].
    pub fn name(&self) -> &str {
        self.program.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("containerd-shim-knarr-v2")
    }

    /// The runtime's name that belongs to the program's: `io.containerd.knarr.v2` to `containerd-shim-knarr-v2`.
    pub fn runtime_name(&self) -> String {
        let parts = self.name().strip_prefix("containerd-shim-").and_then(|rest| rest.rsplit_once('-'));
        let (name, version) = parts.unwrap_or(("knarr", "v2"));
        format!("io.containerd.{name}.{version}")
    }

    /// The folder of the container `-id`. containerd calls every shim with the bundle of some container of the same namespace as its
    /// current directory.
    fn bundle(&self) -> Result<PathBuf, String> {
        if self.flags.bundle.starts_with('/') {
            return Ok(PathBuf::from(&self.flags.bundle));
        }
        let here = env::current_dir().map_err(|error| format!("current directory: {error}"))?;
        Ok(here.with_file_name(&self.flags.id))
    }

    /// An id is one component of a path, whatever the caller says.
    fn check(&self) -> Result<(), String> {
        for (name, value) in [("namespace", &self.flags.namespace), ("id", &self.flags.id)] {
            if value.is_empty() {
                return Err(format!("-{name}: empty"));
            }
            if value.contains(['/', '\0']) || matches!(value.as_str(), "." | "..") {
                return Err(format!("-{name} {value:?}: not a name"));
            }
        }
        Ok(())
    }
}

/// Runs the program. `serve` is the server.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    serve: fn(&Call) -> Result<(), String>,
) -> ExitCode {
    let call = match Call::read(arguments) {
        Ok(call) => call,
        Err(error) => return complain("containerd-shim-knarr-v2", &error, 2),
    };
    let result = match call.flags.action.as_str() {
        _ if call.flags.version => print(version(&call).as_bytes()),
        _ if call.flags.info => info::info(&call).and_then(|info| print(&info)),
        "start" => call.check().and_then(|()| start::start(&call)),
        "delete" => call.check().and_then(|()| delete::delete(&call)).and_then(|answer| print(&answer)),
        "" => call.check().and_then(|()| serve(&call)),
        action => Err(format!("{action:?}: not an action (expected start, delete or none)")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(call.name(), &error, 1),
    }
}

fn version(call: &Call) -> String {
    format!("{}:\n  Version:  {VERSION}\n  Revision: {REVISION}\n\n", call.name())
}

fn print(bytes: &[u8]) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("write standard output: {error}"))
}

#[expect(clippy::print_stderr, reason = "the program's last words")]
fn complain(name: &str, error: &str, status: u8) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::{Call, Flags};

    fn call(program: &str, namespace: &str, id: &str) -> Call {
        let flags = Flags { namespace: namespace.to_owned(), id: id.to_owned(), ..Flags::default() };
        Call { program: program.to_owned(), flags }
    }

    #[test]
    fn the_runtime_is_named_after_the_program() {
        for (program, name) in [
            ("/usr/bin/containerd-shim-knarr-v2", "io.containerd.knarr.v2"),
            ("containerd-shim-runc-v2", "io.containerd.runc.v2"),
            ("containerd-shim-runc-knarr-v1", "io.containerd.runc-knarr.v1"),
            ("/tmp/x", "io.containerd.knarr.v2"),
        ] {
            assert_eq!(call(program, "n", "i").runtime_name(), name);
        }
    }

    #[test]
    fn an_id_is_a_name_and_no_path() {
        assert_eq!(call("x", "k8s.io", "c-1").check(), Ok(()));
        for (namespace, id) in [("", "c"), ("n", ""), ("n", ".."), ("n", "a/b"), ("../n", "c")] {
            assert!(call("x", namespace, id).check().is_err(), "{namespace} {id}");
        }
    }
}
