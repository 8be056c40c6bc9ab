//! The streams of a supervised process: pipes, or a terminal.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;

use image_store::Store;
use libcontainer::Stdio;
use rustix::fs::{FileType, Mode};

use super::relay::{Process, nonblocking};
use crate::engine::frames::Stream;
use crate::failure::{Result, invalid, os};
use crate::places::{self, ContainerDir};

/// The supervisor's ends of a process's streams.
#[derive(Default)]
pub(crate) struct Pipes {
    input: Option<File>,
    outputs: Vec<(Stream, File)>,
    terminal: Option<File>,
}

/// The streams of a process, and the supervisor's ends of them.
pub(crate) fn open(store: &Store, id: &str, terminal: bool, interactive: bool) -> Result<(Stdio, Pipes)> {
    if terminal {
        return Ok((Stdio::Terminal, Pipes::default()));
    }
    let pipe = || std::io::pipe().map_err(|e| os(e, "pipe"));
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    let (stdin, input): (OwnedFd, _) = if interactive {
        let (stdin, input) = pipe()?;
        (stdin.into(), Some(File::from(OwnedFd::from(input))))
    } else {
        (null(&places::container(store, id))?.into(), None)
    };
    let file = |reader: std::io::PipeReader| File::from(OwnedFd::from(reader));
    let outputs = vec![(Stream::Stdout, file(out)), (Stream::Stderr, file(err))];
    let stdio = Stdio::Fds { stdin, stdout: stdout.into(), stderr: stderr.into() };
    Ok((stdio, Pipes { input, outputs, terminal: None }))
}

/// A null device for this container only: its root could change the mode and owner of the host's, which everything else uses. Where
/// none can be created or opened, such as in a user namespace, the host's cannot be changed either.
fn null(directory: &ContainerDir) -> Result<File> {
    let path = directory.null();
    let (mode, number) = (Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 3));
    let made = rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, mode, number);
    let own = made.map_err(std::io::Error::from).and_then(|()| {
        let opened = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666));
        let opened = opened.and_then(|()| File::open(&path));
        std::fs::remove_file(&path).and(opened)
    });
    own.or_else(|_| File::open("/dev/null")).map_err(|e| os(e, "open \"/dev/null\""))
}

impl Pipes {
    /// Takes over the master of the process's terminal.
    pub(crate) fn terminal(&mut self, master: Option<OwnedFd>) -> Result<()> {
        if let Some(master) = master.map(File::from) {
            self.outputs = vec![(Stream::Stdout, master.try_clone()?)];
            self.input = Some(master.try_clone()?);
            self.terminal = Some(master);
        }
        Ok(())
    }

    pub(crate) fn process<'a>(
        self,
        pidfd: Option<BorrowedFd<'a>>,
        kill: &'a dyn Fn(i32),
        input_once: bool,
    ) -> Result<Process<'a>> {
        let pidfd = pidfd.ok_or_else(|| invalid("the process exited before it could be watched"))?;
        if let Some(input) = &self.input {
            nonblocking(input)?;
        }
        let Self { input, outputs, terminal } = self;
        Ok(Process { pidfd, kill, input, outputs, terminal, input_once, input_ends: false })
    }
}
