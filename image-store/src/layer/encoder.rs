//! Compresses a stream in blocks, on all processors. Each block is a gzip member or a zstd frame of its own, so that the result is the
//! same for any number of processors; readers take them as one stream (RFC 1952, RFC 8878).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::compression::Compression;

/// Size of a block in bytes, by which the result grows by less than one percent.
const BLOCK_SIZE: usize = 1 << 20;
/// Largest number of threads, each of which holds two blocks.
const MAX_THREADS: usize = 16;

/// A compressing writer. With the same version of this crate, the same input gives the same output on every machine.
pub struct Encoder<W: Write> {
    compression: Compression,
    output: W,
    block: Vec<u8>,
    /// Whether there was a block already.
    started: bool,
    workers: Option<Workers>,
}

impl<W: Write> std::fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl<W: Write> Encoder<W> {
    /// A writer to `output`.
    pub fn new(compression: Compression, output: W) -> Self {
        Self { compression, output, block: Vec::new(), started: false, workers: None }
    }

    /// Writes the rest and returns the output.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        // An empty stream is a block, too.
        let last = std::mem::take(&mut self.block);
        if self.compression != Compression::None && (!last.is_empty() || !self.started) {
            self.compress(last)?;
        }
        if let Some(mut workers) = self.workers.take() {
            while let Some(done) = workers.next() {
                self.output.write_all(&done?)?;
            }
        }
        Ok(self.output)
    }

    /// Compresses a block: a stream of one block here, others on all processors.
    fn compress(&mut self, block: Vec<u8>) -> io::Result<()> {
        let only = !self.started && block.len() < BLOCK_SIZE;
        self.started = true;
        if self.workers.is_none() && !only {
            self.workers = Some(Workers::new(self.compression));
        }
        let Some(workers) = &mut self.workers else {
            return self.output.write_all(&self.compression.compress(&block)?);
        };
        if workers.are_busy()
            && let Some(done) = workers.next()
        {
            self.output.write_all(&done?)?;
        }
        workers.add(block);
        Ok(())
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            return self.output.write(bytes);
        }
        let count = bytes.len().min(BLOCK_SIZE - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK_SIZE {
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_SIZE));
            self.compress(block)?;
        }
        Ok(count)
    }

    /// Passes on what was compressed. A block that is not full stays here: the result must not depend on flushes.
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A block to compress, and where the result goes.
type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

/// Threads that compress blocks. They end when this is dropped.
struct Workers {
    compression: Compression,
    jobs: Option<Sender<Job>>,
    /// The results to come, in order.
    results: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn new(compression: Compression) -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let (jobs, taken) = channel::<Job>();
        let taken = Arc::new(Mutex::new(taken));
        let work = || {
            let taken = Arc::clone(&taken);
            let run = move || {
                loop {
                    let job = taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
                    let Ok((block, result)) = job else { return };
                    // Nobody waits for it after a failure.
                    let _ = result.send(compression.compress(&block));
                }
            };
            std::thread::Builder::new().name("compress".into()).spawn(run)
        };
        // With fewer threads than wanted, or none, it takes longer.
        let threads = (0..count).map_while(|_| work().ok()).collect();
        Self { compression, jobs: Some(jobs), results: VecDeque::new(), threads }
    }

    fn are_busy(&self) -> bool {
        self.results.len() > self.threads.len()
    }

    fn add(&mut self, block: Vec<u8>) {
        let (result, receiver) = channel();
        match &self.jobs {
            Some(jobs) if !self.threads.is_empty() => drop(jobs.send((block, result))),
            _ => drop(result.send(self.compression.compress(&block))),
        }
        self.results.push_back(receiver);
    }

    /// The next result, waited for; `None` if there are no more.
    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        let result = self.results.pop_front()?.recv();
        Some(result.unwrap_or_else(|_| Err(io::Error::other("a thread that compresses ended"))))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn encoded(compression: Compression, data: &[u8], piece: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(compression, Vec::new());
        for part in data.chunks(piece) {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    }

    /// Bytes that shrink by about a half.
    fn data(length: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 28).unwrap()
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_compressed_in_blocks_is_one_stream_in_order() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            for length in [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 40 * BLOCK_SIZE + 5] {
                let data = data(length);
                let stream = encoded(compression, &data, 100_000);
                assert!(length < 1000 || stream.len() < length * 2 / 3, "{compression:?} {length}");
                let mut out = Vec::new();
                compression.decoder(stream.as_slice()).unwrap().read_to_end(&mut out).unwrap();
                assert!(out == data, "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn the_result_does_not_depend_on_how_it_is_written() {
        let data = data(3 * BLOCK_SIZE + 77);
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let stream = encoded(compression, &data, data.len());
            for piece in [4096, BLOCK_SIZE, BLOCK_SIZE + 1] {
                assert!(encoded(compression, &data, piece) == stream, "{compression:?} {piece}");
            }
        }
    }

    #[test]
    fn an_output_that_fails_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut encoder = Encoder::new(Compression::Gzip, Full);
        let written = encoder.write_all(&data(40 * BLOCK_SIZE)).and_then(|()| encoder.finish().map(drop));
        assert_eq!(written.unwrap_err().to_string(), "full");
    }
}
