//! The runtime under test: which binary, whose, and what the machine offers it.

use std::path::{Path, PathBuf};
use std::process::Command;

use procfs::process::Process;

use crate::outcome::{Stop, fail, skip};
use crate::process;
use crate::rootfs::beside_this_program;

/// Whose runtime it is. Tests whose outcome differs legitimately ask for this, and say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Knarr,
    /// The Open Container Initiative's.
    Runc,
    /// Red Hat's.
    Crun,
    /// Any other.
    Other,
}

/// The binary under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Absolute path.
    pub path: PathBuf,
    /// Whose it is, by the first word of `--version`.
    pub kind: Kind,
    /// System calls that it has to do without, with commas between them; `WITHOUT=…` names them for all tests.
    pub without: String,
}

impl Runtime {
    /// The binary that `RUNTIME` names, or the release build of knarr.
    pub fn find() -> Result<Self, Stop> {
        let path = match std::env::var_os("RUNTIME") {
            Some(path) => PathBuf::from(path),
            None => match built_knarr() {
                Some(path) => path,
                None => return fail("no runtime: make build, or name one by RUNTIME=/path/to/runc"),
            },
        };
        let path = path.canonicalize().or_else(|e| fail(format!("runtime {path:?}: {e}")))?;
        let output = Command::new(&path).arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let kind = match text.split_whitespace().next() {
            Some("knarr") => Kind::Knarr,
            Some("runc") => Kind::Runc,
            Some("crun") => Kind::Crun,
            _ => Kind::Other,
        };
        Ok(Runtime { path, kind, without: std::env::var("WITHOUT").unwrap_or_default() })
    }

    /// The runtime's file, or a copy of it, as a program. A copy of the wrapper may lie beside it.
    pub fn program(&self, path: &Path) -> Command {
        if self.without.is_empty() {
            return process::command(path);
        }
        let beside = path.with_file_name("without");
        let wrapper = if beside.is_file() { Some(beside) } else { beside_this_program("without") };
        let mut command = process::command(wrapper.unwrap_or_else(|| PathBuf::from("without")));
        command.arg(&self.without).arg(path);
        command
    }

    /// The runtime as words of a shell's command line.
    pub fn line(&self) -> String {
        let program = self.program(&self.path);
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// The runtime with `--root` and these arguments.
    pub fn command(&self, root: &Path, args: &[&str]) -> Command {
        let mut command = self.program(&self.path);
        command.arg("--root").arg(root).args(args);
        command
    }
}

/// `target/<triple>/release/knarr`, seen from `target/<triple>/debug/deps/integration-…`.
fn built_knarr() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let release = here.ancestors().nth(3)?.join("release/knarr");
    if release.is_file() { Some(release) } else { beside_this_program("knarr") }
}

/// How the machine's cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// One tree at /sys/fs/cgroup.
    V2,
    /// Controllers in trees of their own, with or without an additional v2 tree.
    V1,
}

/// Which cgroup layout /sys/fs/cgroup shows.
pub fn cgroups() -> Cgroups {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { Cgroups::V2 } else { Cgroups::V1 }
}

/// Whether there is one cgroup tree foreverything.
pub fn v2() -> bool {
    cgroups() == Cgroups::V2
}

/// Skips the test unless the controller can be used.
pub fn need_controller(name: &str) -> Result<(), Stop> {
    let there = match cgroups() {
        Cgroups::V1 => Path::new("/sys/fs/cgroup").join(name).is_dir(),
        Cgroups::V2 => std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?
            .split_whitespace()
            .any(|word| word == name.trim_start_matches("cpuacct").replace("blkio", "io").as_str()),
    };
    if there { Ok(()) } else { skip(format!("no {name} controller in this cgroup tree")) }
}

/// Skips the test unless a program is on the path.
pub fn need_program(name: &str) -> Result<PathBuf, Stop> {
    let dirs = std::env::var("PATH").unwrap_or_default();
    let found = dirs.split(':').map(|dir| Path::new(dir).join(name)).find(|p| p.is_file());
    found.map_or_else(|| skip(format!("no {name} on this machine")), Ok)
}

/// Skips the test unless this process has the capability with this number in its bounding set.
pub fn need_capability(number: u8, name: &str) -> Result<(), Stop> {
    let bounding = Process::myself()?.status()?.capbnd.unwrap_or_default();
    if bounding >> number & 1 == 1 {
        return Ok(());
    }
    skip(format!("{name} is not in the bounding set of this machine's root"))
}

/// A PATH with a criu that works on this kernel, the one that `make peers` has built before the machine's own; skips the test without.
pub fn need_criu() -> Result<String, Stop> {
    let home = std::env::var("HOME").unwrap_or_default();
    let lab = std::env::var("KNARR_LAB").unwrap_or_else(|_| format!("{home}/.cache/knarr-lab"));
    let path = format!("{lab}/peers:{}", std::env::var("PATH").unwrap_or_default());
    let Some(criu) = path.split(':').map(|dir| Path::new(dir).join("criu")).find(|file| file.is_file())
    else {
        return skip("criu is not installed");
    };
    let check = Command::new(&criu).arg("check").output()?;
    if check.status.success() {
        return Ok(path);
    }
    skip(format!("{criu:?} does not work on this kernel: {}", String::from_utf8_lossy(&check.stderr).trim()))
}
