//! A call of the program: `start`, `delete`, `-info`, `-v`, or none of them, which runs the server.
//!
//! Only this module prints, and only it knows the command line and the environment.

mod delete;
mod error;
mod flags;
mod hung;
mod info;
mod socket;
mod start;

pub use error::Error;
pub use flags::Flags;

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of the build, if known.
pub const REVISION: &str = match option_env!("KNARR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A call of the program.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name by which it was called.
    pub program: String,
    /// The command line.
    pub flags: Flags,
}

impl Call {
    /// Reads the arguments of this process.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let arguments = goflags::texts(arguments)?;
        let (program, rest) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        Ok(Self { program: program.to_owned(), flags: Flags::parse(rest)? })
    }

    /// The name for messages: the last part of [`Call::program`].
    pub fn name(&self) -> &str {
        self.program.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("containerd-shim-knarr-v2")
    }

    /// The name of the runtime, after that of the program: `io.containerd.knarr.v2` for `containerd-shim-knarr-v2`.
    pub fn runtime_name(&self) -> String {
        let parts = self.name().strip_prefix("containerd-shim-").and_then(|rest| rest.rsplit_once('-'));
        let (name, version) = parts.unwrap_or(("knarr", "v2"));
        format!("io.containerd.{name}.{version}")
    }

    /// The bundle of the container `-id`. containerd calls a shim with the bundle of some container of the same namespace as the current
    /// directory.
    fn bundle(&self) -> Result<PathBuf, Error> {
        if self.flags.bundle.starts_with('/') {
            return Ok(PathBuf::from(&self.flags.bundle));
        }
        let here = env::current_dir().map_err(|error| Error::io("current directory", error))?;
        Ok(here.with_file_name(&self.flags.id))
    }

    /// Checks that the namespace and the id are single components of a path.
    fn check(&self) -> Result<(), Error> {
        for (name, value) in [("namespace", &self.flags.namespace), ("id", &self.flags.id)] {
            if value.is_empty() {
                return Err(Error::Invalid(format!("-{name}: empty")));
            }
            if value.contains(['/', '\0']) || matches!(value.as_str(), "." | "..") {
                return Err(Error::Invalid(format!("-{name} {value:?}: must be a name without \"/\"")));
            }
        }
        Ok(())
    }
}

/// Runs the program. `serve` runs the server.
pub fn run(arguments: impl IntoIterator<Item = OsString>, serve: fn(&Call) -> Result<(), Error>) -> ExitCode {
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
        action => Err(Error::Invalid(format!("unknown action {action:?}: must be start, delete or none"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(call.name(), &error, 1),
    }
}

fn version(call: &Call) -> String {
    format!("{}:\n  Version:  {VERSION}\n  Revision: {REVISION}\n\n", call.name())
}

fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::io("write standard output", error))
}

#[expect(clippy::print_stderr, reason = "the program's error message")]
fn complain(name: &str, error: &Error, status: u8) -> ExitCode {
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
    fn an_id_is_a_name_and_not_a_path() {
        assert!(call("x", "k8s.io", "c-1").check().is_ok());
        for (namespace, id) in [("", "c"), ("n", ""), ("n", ".."), ("n", "a/b"), ("../n", "c")] {
            assert!(call("x", namespace, id).check().is_err(), "{namespace} {id}");
        }
    }
}
