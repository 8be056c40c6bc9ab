//! The streams of a supervised process: pipes, or a terminal.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

use libcontainer::Stdio;

use super::relay::{Process, nonblocking};
use crate::engine::frames::Stream;
use crate::failure::{Result, invalid, os};

/// The supervisor's ends of a process's streams.
#[derive(Default)]
pub(crate) struct Pipes {
    input: Option<File>,
    outputs: Vec<(Stream, File)>,
    terminal: Option<File>,
}

/// The streams of a process, and the supervisor's ends of them.
pub(crate) fn open(terminal: bool, interactive: bool) -> Result<(Stdio, Pipes)> {
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
        let null = File::open("/dev/null").map_err(|e| os(e, "open \"/dev/null\""))?;
        (null.into(), None)
    };
    let file = |reader: std::io::PipeReader| File::from(OwnedFd::from(reader));
    let outputs = vec![(Stream::Stdout, file(out)), (Stream::Stderr, file(err))];
    let stdio = Stdio::Fds { stdin, stdout: stdout.into(), stderr: stderr.into() };
    Ok((stdio, Pipes { input, outputs, terminal: None }))
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
