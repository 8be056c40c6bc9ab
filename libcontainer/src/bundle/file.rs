//! Reads config.json, or a part of it, from a file of anybody's, with limits.

use crate::error::{Context, Error, Result};
use crate::sys::pidfd;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// The maximum size of config.json in bytes. Docker's, with a full seccomp profile, has 30 kB.
const MAX_CONFIG: u64 = 16 << 20;

/// How long a pipe is read at most: the other end may never write, or never come to an end.
const PIPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a regular file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = open(path)?;
    let meta = file.metadata().with_context(|| format!("fstat {path:?}"))?;
    if !meta.is_file() {
        return Err(Error::invalid(format!("{path:?} is not a regular file")));
    }
    check_size(&format!("{path:?}"), meta.len())?;
    let mut text = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    file.take(MAX_CONFIG).read_to_end(&mut text).with_context(|| format!("read {path:?}"))?;
    Ok(text)
}

/// Reads a regular file or a pipe, which a shell makes of `<(command)`.
pub(super) fn read_or_receive(path: &Path) -> Result<Vec<u8>> {
    let file = open(path)?;
    let meta = file.metadata().with_context(|| format!("fstat {path:?}"))?;
    if meta.file_type().is_fifo() { receive(file, path, PIPE_TIMEOUT) } else { read(path) }
}

fn open(path: &Path) -> Result<File> {
    // O_NONBLOCK: if it is a FIFO, that must not hang the caller.
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .with_context(|| format!("open {path:?}"))
}

/// Reads a pipe to its end. Until somebody has opened the other end, poll(2) does not report an end.
fn receive(mut pipe: File, path: &Path, timeout: Duration) -> Result<Vec<u8>> {
    let end = Instant::now() + timeout;
    let mut text = Vec::new();
    let mut buffer = [0u8; 16 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let left = i32::try_from(left).unwrap_or(i32::MAX);
        if left == 0 || !pidfd::readable(pipe.as_fd(), left).with_context(|| format!("poll {path:?}"))? {
            let seconds = timeout.as_secs_f32();
            return Err(Error::invalid(format!(
                "{path:?}: the pipe was not closed within {seconds} seconds"
            )));
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(text),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e).with_context(|| format!("read {path:?}")),
        }
        check_size(&format!("{path:?}"), text.len() as u64)?;
    }
}

pub(super) fn check_size(what: &str, bytes: u64) -> Result<()> {
    if bytes > MAX_CONFIG {
        return Err(Error::invalid(format!("{what} has {bytes} bytes, must be at most {MAX_CONFIG}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_is_read_to_its_end_within_limits_of_time_and_size() {
        let dir = std::env::temp_dir().join(format!("knarr-pipe-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let written = |pieces: usize, piece: &'static [u8]| {
            let place = fifo.clone();
            let writer = std::thread::spawn(move || {
                let mut other = std::fs::OpenOptions::new().write(true).open(place).unwrap();
                // It ends early when the reader has had enough.
                (0..pieces).all(|_| other.write_all(piece).is_ok())
            });
            let read = read_or_receive(&fifo);
            (read, writer.join().unwrap())
        };
        let (read, all) = written(3, b"part ");
        assert_eq!((read.unwrap(), all), (b"part part part ".to_vec(), true));
        let (read, all) = written(17, &[b' '; 1 << 20]);
        assert!(read.unwrap_err().to_string().contains("must be at most 16777216") && !all);
        // Nobody writes; somebody has it open and does not.
        let short = Duration::from_millis(20);
        let silent = |pipe| receive(pipe, &fifo, short).unwrap_err().to_string();
        assert!(silent(open(&fifo).unwrap()).contains("was not closed within 0.02 seconds"));
        let pipe = open(&fifo).unwrap();
        let mut other = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        other.write_all(b"{").unwrap();
        assert!(silent(pipe).contains("was not closed within 0.02 seconds"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
