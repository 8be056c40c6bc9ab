//! One pass over a compressed layer: read, hash and keep the blob | inflate | hash the tar and make the folder.
//!
//! Each bar is a thread boundary. Errors travel with the data, so that the cause and not a broken pipe is reported.

use std::fs::File;
use std::io::{self, BufRead, Read, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Limits;
use super::apply::{Applied, ApplyOptions, apply};
use super::compression::Compression;
use super::pipe::{Sink, pipe};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Doing, Error, Result};
use crate::manifest::Descriptor;

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
    /// What the blob and its content must be; `None`: whatever they are.
    pub expected: Option<Expected<'a>>,
    /// How the tree is written.
    pub options: ApplyOptions,
}

/// What a manifest and a config say of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Digest and size of the blob.
    pub blob: &'a Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: &'a Digest,
}

impl Expected<'_> {
    /// Stops a blob without an end.
    fn check_growth(&self, size: u64) -> io::Result<()> {
        if size <= self.blob.size {
            return Ok(());
        }
        let Descriptor { digest, size, .. } = self.blob;
        Err(Error::mismatch(format!("{digest}: longer than the promised {size} bytes")).into())
    }

    fn check_blob(&self, found: &Digest, length: u64) -> Result<()> {
        let Descriptor { digest, size, .. } = self.blob;
        if length < *size {
            return Err(Error::mismatch(format!("{digest}: ends after {length} of {size} bytes")));
        }
        if found != digest {
            return Err(Error::mismatch(format!("{digest}: content hashes to {found}")));
        }
        Ok(())
    }
}

/// Unpacks one layer. `seen` hears of each count of compressed bytes read.
///
/// # Errors
/// Those of `blob`, of the decoder and of [`apply`]; [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) when it is not what
/// was expected.
pub fn unpack(blob: impl Read + Send, target: Target<'_>, seen: &(dyn Fn(u64) + Sync)) -> Result<Unpacked> {
    let Target { root, spill, blob: keep, expected, options } = target;
    let media_type = expected.map_or("", |expected| &expected.blob.media_type);
    let (compressed_in, compressed_out) = pipe();
    let (plain_in, plain_out) = pipe();
    let algorithm = |digest: Option<&Digest>| digest.map_or(Algorithm::Sha256, Digest::algorithm);
    let mut blob_hash = Measure::new(algorithm(expected.map(|e| &e.blob.digest)));
    let tar_hash = Measure::new(algorithm(expected.map(|e| e.diff_id)));
    let compressed = AtomicU64::new(0);
    let (whole, compression, result) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            compressed_in.copy(blob, |bytes| {
                blob_hash.add(bytes);
                compressed.store(blob_hash.count, Ordering::Relaxed);
                seen(bytes.len() as u64);
                expected.map_or(Ok(()), |expected| expected.check_growth(blob_hash.count))?;
                keep.as_ref().map_or(Ok(()), |mut file| file.write_all(bytes))
            })
        });
        let inflating = scope.spawn(move || inflate(compressed_out, media_type, plain_in));
        let limits = options.limits;
        let input = Checked { input: plain_out, measure: tar_hash, limits, compressed: &compressed };
        let result =
            apply(input, root, spill, options).and_then(|(applied, rest)| Ok((applied, rest.drain()?)));
        // Dropping what is left of the pipe let the other two end.
        let compression = inflating.join().map_err(|_| Error::invalid("the inflating thread panicked"))?;
        let whole = reading.join().map_err(|_| Error::invalid("the reading thread panicked"))?;
        Ok::<_, Error>((whole, compression, result))
    })?;
    let (digest, size) = blob_hash.finish();
    if let Some(expected) = expected.filter(|_| whole) {
        // Says more than the decoder's or the tar reader's complaint about what it made of damaged bytes.
        expected.check_blob(&digest, size)?;
    }
    let (applied, (diff_id, diff_size)) = result?;
    if let Some(Expected { diff_id: promised, .. }) = expected.filter(|expected| *expected.diff_id != diff_id)
    {
        return Err(Error::mismatch(format!("unpacks to {diff_id}, the config promises {promised}")));
    }
    let compression = compression.unwrap_or(Compression::None);
    Ok(Unpacked { digest, size, diff_id, diff_size, compression, applied })
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

/// A hash and a count of bytes.
struct Measure {
    hasher: Hasher,
    count: u64,
}

impl Measure {
    fn new(algorithm: Algorithm) -> Self {
        Self { hasher: Hasher::new(algorithm), count: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
    }

    fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.count)
    }
}

/// Hashes and counts what the tar reader consumes, and stops bombs.
struct Checked<'a> {
    input: Sink,
    measure: Measure,
    limits: Limits,
    compressed: &'a AtomicU64,
}

impl Checked<'_> {
    fn check(&self) -> Result<()> {
        let Limits { bytes, ratio, ratio_floor, .. } = self.limits;
        if self.measure.count > bytes {
            return Err(Error::limit(format!("layer: more than {bytes} bytes when uncompressed")));
        }
        let allowed = self.compressed.load(Ordering::Relaxed).saturating_mul(ratio).max(ratio_floor);
        if self.measure.count > allowed {
            return Err(Error::limit(format!("layer: grows by more than {ratio} times when uncompressed")));
        }
        Ok(())
    }

    /// Reads what follows the archive's end: it belongs to the digest.
    fn drain(mut self) -> Result<(Digest, u64)> {
        loop {
            let length = self.fill_buf().doing(|| "read after the end of the layer")?.len();
            if length == 0 {
                return Ok(self.measure.finish());
            }
            self.consume(length);
        }
    }
}

impl BufRead for Checked<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // The bytes are still in the buffer: take them before it is given back.
        if let Ok(bytes) = self.input.fill_buf() {
            self.measure.add(&bytes[..count]);
        }
        self.input.consume(count);
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        crate::buffered::read(self, out)
    }
}
