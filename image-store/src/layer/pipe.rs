//! A pipe between two threads that passes buffers without copying and reuses them.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Size of a buffer in bytes.
const BUFFER_SIZE: usize = 256 << 10;
/// Number of buffers.
const BUFFER_COUNT: usize = 4;

/// The writing end.
#[derive(Debug)]
pub(crate) struct Source {
    full: SyncSender<io::Result<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Sink {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Creates a pipe.
pub(crate) fn pipe() -> (Source, Sink) {
    let (full_in, full_out) = sync_channel(BUFFER_COUNT);
    let (empty_in, empty_out) = channel();
    for _ in 0..BUFFER_COUNT {
        let _ = empty_in.send(Vec::new());
    }
    let sink = Sink { full: full_out, empty: empty_in, buffer: Vec::new(), at: 0, ended: false };
    (Source { full: full_in, empty: empty_out }, sink)
}

impl Source {
    /// Copies `input` into the pipe, passing each buffer to `seen` first. The reader receives an error of either; the copy
    /// ends early if the reader is dropped. Returns whether `input` was read to its end.
    pub(crate) fn copy(self, mut input: impl Read, mut seen: impl FnMut(&[u8]) -> io::Result<()>) -> bool {
        while let Ok(mut buffer) = self.empty.recv() {
            buffer.resize(BUFFER_SIZE, 0);
            let result = fill(&mut input, &mut buffer).and_then(|length| {
                buffer.truncate(length);
                seen(&buffer)
            });
            let ended = result.is_ok() && buffer.len() < BUFFER_SIZE;
            let last = ended || result.is_err();
            if self.full.send(result.map(|()| buffer)).is_err() || last {
                return ended;
            }
        }
        false
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl BufRead for Sink {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.buffer.len() && !self.ended {
            let next = match self.full.recv() {
                Ok(next) => next,
                // The writing end was dropped, and the last buffer was a full one.
                Err(_) => Ok(Vec::new()),
            };
            self.ended = next.as_ref().map_or(true, |buffer| buffer.len() < BUFFER_SIZE);
            let old = std::mem::replace(&mut self.buffer, next?);
            self.at = 0;
            let _ = self.empty.send(old);
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Sink {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        crate::buffered::read(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(length: usize) -> Vec<u8> {
        let data: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (source, mut sink) = pipe();
        let mut out = Vec::new();
        std::thread::scope(|scope| {
            let copied = scope.spawn(|| source.copy(data.as_slice(), |_| Ok(())));
            sink.read_to_end(&mut out).unwrap();
            assert!(copied.join().unwrap());
        });
        assert!(out == data, "{length} bytes");
        out
    }

    #[test]
    fn all_bytes_arrive_in_order_whatever_their_count() {
        for length in
            [0, 1, BUFFER_SIZE - 1, BUFFER_SIZE, BUFFER_SIZE + 1, 9 * BUFFER_SIZE, 9 * BUFFER_SIZE + 5]
        {
            through(length);
        }
    }

    #[test]
    fn an_error_of_the_input_reaches_the_reader_and_a_reader_that_leaves_ends_the_copy() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let (source, mut sink) = pipe();
        std::thread::scope(|scope| {
            scope.spawn(|| source.copy(Broken, |_| Ok(())));
            let mut out = Vec::new();
            assert_eq!(sink.read_to_end(&mut out).unwrap_err().to_string(), "broken");
        });
        let (source, sink) = pipe();
        drop(sink);
        assert!(!source.copy(io::repeat(0), |_| Ok(())));
    }
}
