//! The least work of unpacking: decompressing gzip files, and hashing their compressed and uncompressed bytes.
//!
//! `floor FILE...` prints the processor seconds of each. The benchmark compares the larger one, divided by the cores.

use std::fs::File;
use std::io::{BufReader, Read as _};

use image_store::digest::{Algorithm, Hasher};
use image_store::layer::compression::Compression;

fn seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

fn main() -> image_store::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let (mut inflating, mut hashing, mut plain) = (0.0, 0.0, 0_u64);
    for path in std::env::args_os().skip(1) {
        let start = seconds();
        let input = BufReader::with_capacity(256 << 10, File::open(&path)?);
        let mut decoder = Compression::Gzip.decoder(input)?;
        let mut length = 0;
        loop {
            match decoder.read(&mut buffer)? {
                0 => break,
                count => length += count as u64,
            }
        }
        let inflated = seconds();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let total = length + File::open(&path)?.metadata()?.len();
        // Any bytes take the same time.
        for _ in 0..total / buffer.len() as u64 {
            hasher.update(&buffer);
        }
        drop(hasher.finish());
        inflating += inflated - start;
        hashing += seconds() - inflated;
        plain += length;
    }
    let output =
        format!("inflate {inflating:.2} s, hash {hashing:.2} s, {} MB unpacked\n", plain / 1_000_000);
    std::io::Write::write_all(&mut std::io::stdout(), output.as_bytes())?;
    Ok(())
}
