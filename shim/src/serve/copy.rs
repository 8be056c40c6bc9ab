//! A copy of one stream in one direction: moves what is available, and returns what it waits for. It never blocks.
//!
//! Between pipes the kernel moves the pages (splice(2)). While the reader is slow the source is not read, so that the writer has to wait:
//! memory is bounded by the pipes. This module does not know processes.

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often in a row one copy may move something before it is the turn of others.
const TURNS: usize = 16;
/// Bytes for one splice: the largest pipe of an unprivileged user.
const SPLICE: usize = 1 << 20;
/// Bytes for one read. A fifo that poll(2) reports as writable takes this much in one piece (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;

/// What a copy waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Data to read.
    Source,
    /// Room to write.
    Sink,
    /// The input has ended, or the reader is gone.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Copy {
    from: OwnedFd,
    to: OwnedFd,
    /// splice(2) works between these two.
    splices: bool,
}

impl Copy {
    /// A copy between two descriptors, which must be non-blocking or files.
    pub(crate) fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Copy { from, to, splices: true }
    }

    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    pub(crate) fn sink(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }

    /// Keeps only the sink.
    pub(crate) fn into_sink(self) -> OwnedFd {
        self.to
    }

    /// Moves what can be moved now.
    pub(crate) fn advance(&mut self) -> Wait {
        for _ in 0..TURNS {
            let moved = if self.splices { self.splice() } else { self.pass() };
            match moved {
                Ok(0) => return Wait::Ended,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if is_writable(self.to.as_fd()) => return Wait::Source,
                Err(Errno::EAGAIN) => return Wait::Sink,
                // splice(2) does not work for a file opened with O_APPEND, or a terminal on an old kernel.
                Err(Errno::EINVAL) if self.splices => self.splices = false,
                // EIO: the other side of a terminal is closed.
                Err(_) => return Wait::Ended,
            }
        }
        Wait::Source
    }

    fn splice(&self) -> Result<usize, Errno> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        splice(&self.from, None, &self.to, None, SPLICE, flags)
    }

    /// Copies through memory, only as much as the sink is sure to take.
    fn pass(&self) -> Result<usize, Errno> {
        if !is_writable(self.to.as_fd()) {
            return Err(Errno::EAGAIN);
        }
        let mut buffer = [0; PIECE];
        let count = read(&self.from, &mut buffer)?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            match write(&self.to, rest) {
                Ok(done) => rest = rest.get(done..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                // A full disk must not stop the container: what does not fit is lost.
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => break,
                Err(e) => return Err(if e == Errno::EAGAIN { Errno::EPIPE } else { e }),
            }
        }
        Ok(count)
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Whether the other end of this pipe or fifo is open.
pub(crate) fn has_reader(writer: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(writer, PollFlags::empty())];
    let _ = poll(&mut polled, PollTimeout::ZERO);
    polled.iter().all(|fd| !fd.revents().is_some_and(|events| events.contains(PollFlags::POLLERR)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;
    use std::io::{Read, Seek, Write};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap()
    }

    fn pipes() -> (OwnedFd, Copy, OwnedFd) {
        let (from, writer) = pipe();
        let (reader, to) = pipe();
        (writer, Copy::new(from, to), reader)
    }

    #[test]
    fn data_and_the_end_of_input_arrive() {
        let (writer, mut copy, reader) = pipes();
        assert_eq!(copy.advance(), Wait::Source);
        write(&writer, b"hello").unwrap();
        assert_eq!(copy.advance(), Wait::Source);
        let mut seen = [0; 16];
        assert_eq!(read(&reader, &mut seen), Ok(5));
        assert_eq!(&seen[..5], b"hello");
        drop(writer);
        assert_eq!(copy.advance(), Wait::Ended);
    }

    #[test]
    fn a_slow_reader_makes_the_writer_wait_and_loses_nothing() {
        let (writer, mut copy, reader) = pipes();
        let text: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_ne_bytes).collect();
        let (mut sent, mut seen) = (0, Vec::new());
        let mut full = 0;
        let mut buffer = [0; 3000];
        while seen.len() < text.len() {
            while sent < text.len() {
                match write(&writer, &text[sent..]) {
                    Ok(count) => sent += count,
                    Err(e) => {
                        assert_eq!(e, Errno::EAGAIN);
                        break;
                    }
                }
                if copy.advance() == Wait::Sink {
                    full += 1;
                }
                assert!(sent - seen.len() <= 4 * 65536, "memory is bounded by the pipes");
            }
            copy.advance();
            if let Ok(count) = read(&reader, &mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
            }
        }
        assert!(full > 0);
        assert_eq!(seen, text);
    }

    #[test]
    fn a_closed_reader_ends_the_copy() {
        let (writer, mut copy, reader) = pipes();
        drop(reader);
        write(&writer, b"x").unwrap();
        assert_eq!(copy.advance(), Wait::Ended);
    }

    #[test]
    fn a_reader_is_detected() {
        let (reader, writer) = pipe();
        assert!(has_reader(writer.as_fd()));
        drop(reader);
        assert!(!has_reader(writer.as_fd()));
    }

    #[test]
    fn a_file_is_appended_to() {
        let path = std::env::temp_dir().join(format!("knarr-copy-{}", std::process::id()));
        let mut file = std::fs::File::options().create(true).append(true).read(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"before ").unwrap();
        let (from, writer) = pipe();
        let mut copy = Copy::new(from, file.try_clone().unwrap().into());
        write(&writer, b"after").unwrap();
        assert_eq!(copy.advance(), Wait::Source);
        drop(writer);
        assert_eq!(copy.advance(), Wait::Ended);
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after");
    }
}
