//! How fast the bytes of an image are read: digest, decompression, tar, layers onto a tmpfs. Without privileges.

use benches::Dir;
use criterion::{BatchSize, Criterion, Throughput};
use image_store::Digest;
use image_store::layer::apply::{ApplyOptions, Contents, Ownership, apply};
use image_store::layer::compression::Compression;
use image_store::layer::encoder::Encoder;
use image_store::layer::{Limits, Marks};
use image_store::tar::{Entry, Kind, Reader, Writer};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Bytes that compress about as well as programs do: every other one is noise.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |at: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if at.is_multiple_of(2) { state.to_be_bytes()[0] } else { at.to_le_bytes()[1] }
    };
    (0..length).map(next).collect()
}

/// A tar archive of this many files of this size, 100 in a directory.
fn archive(files: usize, size: usize) -> Vec<u8> {
    let data = content(size);
    let mut writer = Writer::new(Vec::new());
    for number in 0..files {
        let dir = format!("dir{}", number / 100);
        if number % 100 == 0 {
            writer.entry(&Entry::new(format!("{dir}/"), Kind::Directory, 0o755)).expect("a directory");
        }
        let mut entry = Entry::new(format!("{dir}/file{number}"), Kind::File, 0o644);
        entry.size = size as u64;
        writer.entry(&entry).expect("a file");
        writer.data(&data).expect("its data");
    }
    writer.finish().expect("an archive")
}

/// Reads an archive to its end; gives the number of entries.
fn read(archive: &[u8]) -> usize {
    let mut reader = Reader::new(archive);
    let mut entries = 0;
    while reader.next_entry().expect("an entry").is_some() {
        reader
            .data(|piece| {
                black_box(piece);
                Ok(())
            })
            .expect("its data");
        entries += 1;
    }
    entries
}

/// Applies an archive to a new directory.
fn unpack(dir: &Path, archive: &[u8]) {
    let open = |name: &str| {
        std::fs::create_dir(dir.join(name)).expect("a directory");
        File::open(dir.join(name)).expect("the directory")
    };
    let (root, spill) = (open("root"), open("spill"));
    let options = ApplyOptions {
        marks: Marks::User,
        ownership: Ownership::Squash,
        limits: Limits::default(),
        contents: Contents::Layer,
    };
    apply(archive, root.as_fd(), spill.as_fd(), options).expect("an applied layer");
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    let dir = Dir::new("image");
    let large = content(16 << 20);
    let mut group = c.benchmark_group("image");
    group.throughput(Throughput::Bytes(large.len() as u64));
    group.bench_function("digest/sha256", |b| b.iter(|| Digest::of(black_box(&large))));
    for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let mut encoder = Encoder::new(compression, Vec::new());
        encoder.write_all(&large).expect("compressed bytes");
        let packed = encoder.finish().expect("a blob");
        group.bench_function(format!("inflate/{name}"), |b| {
            let mut plain = Vec::with_capacity(large.len());
            b.iter(|| {
                plain.clear();
                compression.decoder(&packed[..]).expect("a decoder").read_to_end(&mut plain).expect("bytes")
            });
            assert!(plain.is_empty() || plain == large);
        });
    }
    for (name, files, size) in [("small-files", 2000, 1000), ("large-file", 1, 16 << 20)] {
        let archive = archive(files, size);
        group.throughput(Throughput::Bytes(archive.len() as u64));
        group.bench_function(format!("tar/{name}"), |b| {
            b.iter(|| assert!(read(black_box(&archive)) >= files))
        });
        let mut round = 0;
        let mut fresh = || {
            round += 1;
            let path = dir.0.join(round.to_string());
            std::fs::create_dir(&path).expect("a directory");
            path
        };
        group.bench_function(format!("apply/{name}"), |b| {
            b.iter_batched(
                &mut fresh,
                |path| {
                    unpack(&path, &archive);
                    // Returned, so that its removal is not measured.
                    Removed(path)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    c.final_summary();
}

/// A directory that goes with its value.
struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
