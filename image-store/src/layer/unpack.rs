//! Unpacks a compressed layer in one pass, in three threads: one reads, hashes and stores the blob, one decompresses, one
//! hashes the tar archive and writes the directory.
//!
//! Errors are passed along with the data, so that the cause is reported and not a broken pipe.

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

/// An unpacked layer.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Size of the compressed blob in bytes.
    pub size: u64,
    /// diffID: digest of the uncompressed tar archive.
    pub diff_id: Digest,
    /// Size of the uncompressed tar archive in bytes.
    pub diff_size: u64,
    /// The compression of the blob.
    pub compression: Compression,
    /// The contents.
    pub applied: Applied,
}

/// Where and how a layer is unpacked.
#[derive(Debug)]
pub struct Target<'a> {
    /// Empty directory to unpack to.
    pub root: BorrowedFd<'a>,
    /// Directory on the same file system for temporary files.
    pub spill: BorrowedFd<'a>,
    /// Empty file for the compressed blob; `None` to not store it.
    pub blob: Option<File>,
    /// Digests to verify; `None` to accept any.
    pub expected: Option<Expected<'a>>,
    /// How the files are written.
    pub options: ApplyOptions,
}

/// The digests of a layer in manifest and config.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Digest and size of the blob.
    pub blob: &'a Descriptor,
    /// Digest of the uncompressed tar archive.
    pub diff_id: &'a Digest,
}

impl Expected<'_> {
    /// Fails as soon as the blob is longer than expected.
    fn check_growth(&self, size: u64) -> io::Result<()> {
        if size <= self.blob.size {
            return Ok(());
        }
        let Descriptor { digest, size, .. } = self.blob;
        Err(Error::mismatch(format!("{digest}: longer than {size} bytes")).into())
    }

    fn check_blob(&self, found: &Digest, length: u64) -> Result<()> {
        let Descriptor { digest, size, .. } = self.blob;
        if length < *size {
            return Err(Error::mismatch(format!("{digest}: truncated: {length} of {size} bytes")));
        }
        if found != digest {
            return Err(Error::mismatch(format!("{digest}: digest mismatch: content has {found}")));
        }
        Ok(())
    }
}

/// Unpacks one layer. `seen` is called with the number of compressed bytes after each read.
///
/// # Errors
/// Those of `blob`, of the decoder and of [`apply`]; [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) for other digests
/// than expected.
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
        let input = Checked { input: plain_out, measure: tar_hash, options, compressed: &compressed };
        let result =
            apply(input, root, spill, options).and_then(|(applied, rest)| Ok((applied, rest.drain()?)));
        // The reading end of the pipe was dropped, so the other two threads end.
        let compression =
            inflating.join().map_err(|_| Error::invalid("the decompressing thread panicked"))?;
        let whole = reading.join().map_err(|_| Error::invalid("the reading thread panicked"))?;
        Ok::<_, Error>((whole, compression, result))
    })?;
    let (digest, size) = blob_hash.finish();
    if let Some(expected) = expected.filter(|_| whole) {
        // Before errors of the decoder and the tar reader: damaged bytes cause those too.
        expected.check_blob(&digest, size)?;
    }
    let (applied, (diff_id, diff_size)) = result?;
    if let Some(Expected { diff_id: promised, .. }) = expected.filter(|expected| *expected.diff_id != diff_id)
    {
        return Err(Error::mismatch(format!("diffID mismatch: content has {diff_id}, expected {promised}")));
    }
    let compression = compression.unwrap_or(Compression::None);
    Ok(Unpacked { digest, size, diff_id, diff_size, compression, applied })
}

/// Detects the compression and decompresses. The reader of `output` receives errors.
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

/// A reader that returns an error.
struct Failed(Option<Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), |error| Err(error.into()))
    }
}

/// The digest and number of bytes read.
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

/// Hashes what the tar reader consumes and checks the limits.
struct Checked<'a> {
    input: Sink,
    measure: Measure,
    options: ApplyOptions,
    compressed: &'a AtomicU64,
}

impl Checked<'_> {
    fn check(&self) -> Result<()> {
        let Limits { bytes, ratio, ratio_floor, .. } = self.options.limits;
        let what = self.options.contents.name();
        if self.measure.count > bytes {
            return Err(Error::limit(format!("{what}: larger than {bytes} bytes uncompressed")));
        }
        let allowed = self.compressed.load(Ordering::Relaxed).saturating_mul(ratio).max(ratio_floor);
        if self.measure.count > allowed {
            return Err(Error::limit(format!(
                "{what}: uncompressed size is more than {ratio} times the compressed size"
            )));
        }
        Ok(())
    }

    /// Reads the rest after the end of the archive, which is part of the digest.
    fn drain(mut self) -> Result<(Digest, u64)> {
        loop {
            let length = self.fill_buf().doing(|| "read after the end of the archive")?.len();
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
        // Hash the bytes while they are in the buffer.
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
