//! One pass over a compressed layer: read, hash and keep the blob | inflate | hash the tar and make the folder.
//!
//! Each bar is a thread boundary. Errors travel with the data, so that the cause and not a broken pipe is reported.

use std::fs::File;
use std::io::{self, BufRead, Read, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::Advice;

use super::Limits;
use super::apply::{Applied, ApplyOptions, apply};
use super::compression::Compression;
use super::pipe::{Sink, pipe};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Doing, Error, Result};

/// The kernel is told to start writing after this many bytes, so that the final sync finds little to do.
const WRITE_BEHIND: u64 = 8 << 20;

/// What a layer turned out to be.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// Digest of the blob as it came.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Its length.
    pub diff_size: u64,
    /// How it was compressed.
    pub compression: Compression,
    /// What was in it.
    pub applied: Applied,
}

/// Where one layer goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// Empty folder for the tree.
    pub root: BorrowedFd<'a>,
    /// Folder of the same file system for leftovers.
    pub spill: BorrowedFd<'a>,
    /// Empty file for the blob; `None` when it is not kept or is there already.
    pub blob: Option<File>,
    /// How the tree is written.
    pub options: ApplyOptions,
}

/// Unpacks one layer. `media_type` may be empty. `seen` hears of each count of compressed bytes read.
///
/// # Errors
/// Those of `blob`, of the decoder and of [`apply`].
pub fn unpack(
    blob: impl Read + Send,
    media_type: &str,
    target: Target<'_>,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<Unpacked> {
    let Target { root, spill, blob: mut keep, options } = target;
    let (compressed_in, compressed_out) = pipe();
    let (plain_in, plain_out) = pipe();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut size = 0;
    let compressed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            compressed_in.copy(blob, |bytes| {
                hasher.update(bytes);
                size += bytes.len() as u64;
                compressed.store(size, Ordering::Relaxed);
                seen(bytes.len() as u64);
                keep.as_mut().map_or(Ok(()), |file| keep_blob(file, bytes, size))
            });
        });
        let inflating = scope.spawn(move || inflate(compressed_out, media_type, plain_in));
        let input = Measured::new(plain_out, options.limits, &compressed);
        let result =
            apply(input, root, spill, options).and_then(|(applied, rest)| Ok((applied, rest.drain()?)));
        // Dropping what is left of the pipe let the other two end.
        let compression = inflating.join().map_err(|_| Error::invalid("the inflating thread panicked"))?;
        reading.join().map_err(|_| Error::invalid("the reading thread panicked"))?;
        let (applied, (diff_id, diff_size)) = result?;
        let compression = compression.unwrap_or(Compression::None);
        Ok((applied, diff_id, diff_size, compression))
    })
    .map(|(applied, diff_id, diff_size, compression)| Unpacked {
        digest: hasher.finish(),
        size,
        diff_id,
        diff_size,
        compression,
        applied,
    })
}

fn keep_blob(file: &mut File, bytes: &[u8], size: u64) -> io::Result<()> {
    file.write_all(bytes)?;
    let before = size - bytes.len() as u64;
    if before / WRITE_BEHIND != size / WRITE_BEHIND {
        // Starts writing what is dirty; the blob will hardly be read again, so its pages may go.
        let start = (before / WRITE_BEHIND).saturating_sub(1) * WRITE_BEHIND;
        let _ =
            rustix::fs::fadvise(file, start, std::num::NonZeroU64::new(2 * WRITE_BEHIND), Advice::DontNeed);
    }
    Ok(())
}

/// Recognises the compression by the first bytes and feeds the plain bytes on. An error goes to the reader.
fn inflate(mut input: Sink, media_type: &str, output: super::pipe::Source) -> Option<Compression> {
    let opened = input.fill_buf().map_err(Error::from).and_then(|start| {
        let compression = Compression::sniff(start)?;
        compression.check(media_type)?;
        Ok(compression)
    });
    let opened = opened.and_then(|compression| Ok((compression, compression.decoder(input)?)));
    match opened {
        Ok((compression, decoder)) => {
            output.copy(decoder, |_| Ok(()));
            Some(compression)
        }
        Err(error) => {
            output.copy(Failed(Some(error)), |_| Ok(()));
            None
        }
    }
}

/// A reader that only reports.
struct Failed(Option<Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), |error| Err(error.into()))
    }
}

/// Hashes and counts what the tar reader consumes, and stops bombs.
struct Measured<'a> {
    input: Sink,
    hasher: Hasher,
    count: u64,
    limits: Limits,
    compressed: &'a AtomicU64,
}

impl<'a> Measured<'a> {
    fn new(input: Sink, limits: Limits, compressed: &'a AtomicU64) -> Self {
        Self { input, hasher: Hasher::new(Algorithm::Sha256), count: 0, limits, compressed }
    }

    fn check(&self) -> Result<()> {
        let Limits { bytes, ratio, ratio_floor, .. } = self.limits;
        if self.count > bytes {
            return Err(Error::limit(format!("layer: more than {bytes} bytes when uncompressed")));
        }
        let allowed = self.compressed.load(Ordering::Relaxed).saturating_mul(ratio).max(ratio_floor);
        if self.count > allowed {
            return Err(Error::limit(format!("layer: grows by more than {ratio} times when uncompressed")));
        }
        Ok(())
    }

    /// Reads what follows the archive's end: it belongs to the digest.
    fn drain(mut self) -> Result<(Digest, u64)> {
        loop {
            let length = self.fill_buf().doing(|| "read after the end of the layer")?.len();
            if length == 0 {
                return Ok((self.hasher.finish(), self.count));
            }
            self.consume(length);
        }
    }
}

impl Read for Measured<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(out.len());
        out[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Measured<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // The bytes are still in the buffer: take them before it is given back.
        if let Ok(bytes) = self.input.fill_buf() {
            self.hasher.update(&bytes[..count]);
        }
        self.count += count as u64;
        self.input.consume(count);
    }
}
