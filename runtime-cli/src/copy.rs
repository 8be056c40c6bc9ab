//! Copies between the streams of this command and those of a process, driven by readiness. Nothing here blocks on the process's side, so
//! a process that does not read its input cannot hold up its output.

use crate::failure::Failure;
use libcontainer::Stdio;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

/// The number of bytes moved at once: the size of a pipe.
const BUFFER: usize = 64 << 10;

/// All copies between this command and the process.
#[derive(Debug, Default)]
pub(crate) struct Copying {
    input: Option<Flow>,
    outputs: Vec<Flow>,
    terminal: bool,
    moved: u64,
}

/// A copy in one direction.
#[derive(Debug)]
struct Flow {
    /// `None` after the end of the input.
    from: Option<OwnedFd>,
    to: Sink,
    buffer: Box<[u8]>,
    /// The bytes from `start` to `end` were read and are still to be written.
    start: usize,
    end: usize,
}

/// The destination of a copy.
#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    /// The size of one write: a blocking descriptor that is ready takes this much without blocking.
    chunk: usize,
}

impl Copying {
    /// Makes pipes in place of the streams that are terminals; the process gets the others as they are.
    pub(crate) fn pipes() -> Result<(Self, Stdio), Failure> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        if !stdin.is_terminal() && !stdout.is_terminal() && !stderr.is_terminal() {
            return Ok((Copying::default(), Stdio::inherit()));
        }
        let mut copying = Copying::default();
        let stdin_end = if stdin.is_terminal() {
            let (read, write) = pipe()?;
            set_nonblocking(&write)?;
            copying.input = Some(Flow::new(duplicate(stdin.as_fd())?, Sink { fd: write, chunk: BUFFER }));
            read
        } else {
            duplicate(stdin.as_fd())?
        };
        let mut output = |stream: BorrowedFd<'_>, terminal: bool| {
            if !terminal {
                return duplicate(stream);
            }
            let (read, write) = pipe()?;
            set_nonblocking(&read)?;
            copying.outputs.push(Flow::new(read, Sink::host(stream)?));
            Ok(write)
        };
        let stdout_end = output(stdout.as_fd(), stdout.is_terminal())?;
        let stderr_end = output(stderr.as_fd(), stderr.is_terminal())?;
        Ok((copying, Stdio::Fds { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end }))
    }

    /// Copies between this command's stdin and stdout and the master of a terminal.
    pub(crate) fn terminal(master: OwnedFd) -> Result<Self, Failure> {
        set_nonblocking(&master)?;
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let input =
            Flow::new(duplicate(stdin.as_fd())?, Sink { fd: duplicate(master.as_fd())?, chunk: BUFFER });
        let output = Flow::new(master, Sink::host(stdout.as_fd())?);
        Ok(Copying { input: Some(input), outputs: vec![output], terminal: true, moved: 0 })
    }

    /// The master of the process's terminal, while it is open.
    pub(crate) fn master(&self) -> Option<BorrowedFd<'_>> {
        if self.terminal { self.outputs.first()?.from.as_ref().map(AsFd::as_fd) } else { None }
    }

    pub(crate) fn stop_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.outputs.iter().any(|flow| flow.start < flow.end)
    }

    /// The number of bytes moved so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.input.iter().chain(&self.outputs)
    }

    /// Adds the descriptor that each copy waits for.
    pub(crate) fn register<'a>(&'a self, set: &mut Vec<PollFd<'a>>) {
        set.extend(self.flows().map(Flow::waits_for));
    }

    /// Moves what can be moved. `ready` has the order of `register`.
    pub(crate) fn move_ready(&mut self, ready: &[PollFlags]) {
        let flows = self.input.iter_mut().chain(&mut self.outputs);
        for (flow, ready) in flows.zip(ready) {
            if !ready.is_empty() {
                self.moved += flow.step();
            }
        }
        self.input.take_if(|flow| flow.is_done());
        self.outputs.retain(|flow| !flow.is_done());
        if self.terminal && self.outputs.is_empty() {
            // The last descriptor of the terminal's master: closing it hangs up the terminal for processes that still use it.
            self.input = None;
        }
    }
}

impl Flow {
    fn new(from: OwnedFd, to: Sink) -> Self {
        Flow { from: Some(from), to, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0 }
    }

    fn is_done(&self) -> bool {
        self.from.is_none() && self.start == self.end
    }

    fn waits_for(&self) -> PollFd<'_> {
        match &self.from {
            Some(from) if self.start == self.end => PollFd::new(from.as_fd(), PollFlags::POLLIN),
            _ => PollFd::new(self.to.fd.as_fd(), PollFlags::POLLOUT),
        }
    }

    /// Reads once if the buffer is empty, and writes as much as possible. Returns the number of bytes read and written.
    fn step(&mut self) -> u64 {
        let mut moved = 0;
        if let Some(from) = self.from.as_ref().filter(|_| self.start == self.end) {
            match nix::unistd::read(from, &mut self.buffer) {
                Ok(0) => self.from = None,
                Ok(read) => {
                    (self.start, self.end) = (0, read);
                    moved += read as u64;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // EIO: the other side of a terminal is closed.
                Err(_) => self.from = None,
            }
        }
        while self.start < self.end {
            let end = self.end.min(self.start + self.to.chunk);
            match nix::unistd::write(&self.to.fd, &self.buffer[self.start..end]) {
                Ok(written) => {
                    self.start += written;
                    moved += written as u64;
                    // Only poll(2) knows whether a blocking descriptor takes more.
                    if self.to.chunk < BUFFER {
                        break;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // No reader is left. Closing this side makes the writer see that, by EPIPE or a hang-up.
                Err(_) => {
                    self.from = None;
                    self.start = self.end;
                }
            }
        }
        moved
    }
}

impl Sink {
    /// A stream of this command. The caller shares its open file description and may not cope with O_NONBLOCK on it, so pipes and
    /// terminals are opened again. Where that is impossible, poll(2) guarantees room for PIPE_BUF bytes.
    fn host(fd: BorrowedFd<'_>) -> Result<Self, Failure> {
        let fd = duplicate(fd)?;
        let file = File::from(fd);
        let kind = file.metadata().map(|m| m.file_type());
        if kind.as_ref().is_ok_and(std::fs::FileType::is_file) {
            return Ok(Sink { fd: file.into(), chunk: BUFFER });
        }
        if kind.is_ok_and(|k| k.is_fifo() || k.is_char_device()) {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
            if let Ok(own) = std::fs::OpenOptions::new().write(true).custom_flags(flags).open(path) {
                return Ok(Sink { fd: own.into(), chunk: BUFFER });
            }
        }
        Ok(Sink { fd: file.into(), chunk: nix::libc::PIPE_BUF })
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Failure::os("create the process's streams", "pipe2", e))
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    fd.try_clone_to_owned().map_err(|e| Failure::os("create the process's streams", "dup", e))
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Failure> {
    let failure = |e: Errno| Failure::os("create the process's streams", "fcntl", e);
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).map_err(failure)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(failure)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollTimeout, poll};
    use std::io::Read;
    use std::process::{Command, Stdio as Std};

    /// Copies until the end of all outputs.
    fn pump(copying: &mut Copying) {
        while copying.is_open() {
            let mut set = Vec::new();
            copying.register(&mut set);
            poll(&mut set, PollTimeout::NONE).unwrap();
            let ready: Vec<PollFlags> = set.iter().map(|fd| fd.revents().unwrap()).collect();
            copying.move_ready(&ready);
        }
    }

    /// Runs a shell command with copies of `input` and of its output, which is returned.
    fn through(script: &str, input: &[u8]) -> Vec<u8> {
        let mut child =
            Command::new("sh").args(["-c", script]).stdin(Std::piped()).stdout(Std::piped()).spawn().unwrap();
        let (to, from): (OwnedFd, OwnedFd) =
            (child.stdin.take().unwrap().into(), child.stdout.take().unwrap().into());
        set_nonblocking(&to).unwrap();
        set_nonblocking(&from).unwrap();
        let path =
            std::env::temp_dir().join(format!("knarr-copy-test-{}-{}", std::process::id(), input.len()));
        std::fs::write(&path, input).unwrap();
        let input = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut output = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut copying = Copying {
            input: Some(Flow::new(input.into(), Sink { fd: to, chunk: BUFFER })),
            outputs: vec![Flow::new(from, Sink::host(output.as_fd()).unwrap())],
            ..Copying::default()
        };
        pump(&mut copying);
        assert!(child.wait().unwrap().success());
        let mut text = Vec::new();
        std::io::Seek::rewind(&mut output).unwrap();
        output.read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn megabytes_arrive_complete_and_in_order_and_the_end_of_input_is_passed_on() {
        let input: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
        assert!(through("cat", &input) == input);
        assert_eq!(through("wc -c", b"12345"), b"5\n");
        assert_eq!(through("cat", b""), b"");
    }

    #[test]
    fn a_process_that_does_not_read_does_not_hold_up_its_output() {
        let output = through("head -c 1000000 /dev/zero; cat >/dev/null; echo end", &vec![b'x'; 2_000_001]);
        assert_eq!((output.len(), output.ends_with(b"end\n")), (1_000_004, true));
    }

    #[test]
    fn a_process_that_closes_its_input_is_not_an_error() {
        assert_eq!(through("exec <&-; sleep 0.1; echo fine", &vec![b'x'; 3_000_003]), b"fine\n");
    }

    #[test]
    fn closing_the_reader_ends_the_writer() {
        let mut child = Command::new("sh").args(["-c", "exec yes"]).stdout(Std::piped()).spawn().unwrap();
        let from: OwnedFd = child.stdout.take().unwrap().into();
        set_nonblocking(&from).unwrap();
        let (read, write) = pipe().unwrap();
        drop(read);
        let mut copying = Copying {
            outputs: vec![Flow::new(from, Sink { fd: write, chunk: BUFFER })],
            ..Copying::default()
        };
        pump(&mut copying);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn the_callers_file_descriptions_stay_blocking() {
        let (_read, write) = pipe().unwrap();
        let sink = Sink::host(write.as_fd()).unwrap();
        let nonblocking =
            |fd: &OwnedFd| fcntl(fd, FcntlArg::F_GETFL).unwrap() & OFlag::O_NONBLOCK.bits() != 0;
        assert_eq!((nonblocking(&write), nonblocking(&sink.fd), sink.chunk), (false, true, BUFFER));
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket: OwnedFd = socket.into();
        let sink = Sink::host(socket.as_fd()).unwrap();
        assert_eq!((nonblocking(&socket), sink.chunk), (false, nix::libc::PIPE_BUF));
    }
}
