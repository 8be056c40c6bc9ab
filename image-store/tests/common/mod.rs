//! Shared by the tests: temporary directories, handmade tar archives, and unpacking these.
#![allow(
    dead_code,
    unused_macros,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr
)]

pub mod registry;
pub mod server;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use image_store::layer::apply::{Applied, ApplyOptions, Contents, Ownership};
use image_store::layer::compression::Compression;
use image_store::layer::encoder::Encoder;
use image_store::layer::unpack::{Target, Unpacked};
use image_store::layer::{Limits, Marks};
use image_store::tar::{BLOCK, Entry, Kind, Writer};

/// Ends a test that requires root, with a message.
macro_rules! need_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
    };
}
pub(crate) use need_root;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::var_os("KNARR_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let path = base.join(format!("knarr-image-{}-{count}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn file(path: &str, data: &[u8]) -> (Entry, Vec<u8>) {
    (Entry { size: data.len() as u64, ..Entry::new(path, Kind::File, 0o644) }, data.to_vec())
}

pub fn tar(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.entry(entry).unwrap();
        if entry.kind == Kind::File {
            writer.data(data).unwrap();
        }
    }
    writer.finish().unwrap()
}

pub fn tar_raw(blocks: &[&[u8]]) -> Vec<u8> {
    blocks.concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Compression::Gzip, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A valid, highly compressed tar archive with one file of `size` zeros.
pub fn zstd_zeros(size: u64) -> Vec<u8> {
    let mut encoder = Encoder::new(Compression::Zstd, Vec::new());
    let mut writer = Writer::new(&mut encoder);
    writer.entry(&Entry { size, ..Entry::new("zeros", Kind::File, 0o644) }).unwrap();
    let piece = vec![0; 1 << 20];
    for _ in 0..size / piece.len() as u64 {
        writer.data(&piece).unwrap();
    }
    writer.finish().unwrap();
    encoder.finish().unwrap()
}

pub fn unpack(place: &Scratch, bytes: &[u8]) -> image_store::Result<Applied> {
    unpack_limited(place, bytes, Limits::default())
}

pub fn unpack_limited(place: &Scratch, bytes: &[u8], limits: Limits) -> image_store::Result<Applied> {
    unpack_whole(place, bytes, limits).map(|unpacked| unpacked.applied)
}

pub fn unpack_whole(place: &Scratch, bytes: &[u8], limits: Limits) -> image_store::Result<Unpacked> {
    let root = place.path().join("fs");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir(&root).unwrap();
    let root = File::open(&root).unwrap();
    let spill = File::open(place.path()).unwrap();
    let options =
        ApplyOptions { marks: Marks::Trusted, ownership: Ownership::Keep, limits, contents: Contents::Layer };
    let target = Target { root: root.as_fd(), spill: spill.as_fd(), blob: None, expected: None, options };
    image_store::layer::unpack::unpack(bytes, target, &|_| ())
}

/// GNU tar's formats of sparse files.
pub const SPARSE: [(&str, &str); 4] = [("gnu", "1.0"), ("pax", "0.0"), ("pax", "0.1"), ("pax", "1.0")];

/// An archive of the sparse file `hole` in `source`.
pub fn sparse_archive(place: &Scratch, source: &Path, (format, version): (&str, &str)) -> Vec<u8> {
    let archive = place.path().join("sparse.tar");
    let status = std::process::Command::new("tar")
        .args(["-b1", "--sparse", "--format", format, &format!("--sparse-version={version}"), "-cf"])
        .args([&archive, Path::new("-C"), source, Path::new("hole")])
        .status()
        .unwrap();
    assert!(status.success(), "{format} {version}");
    fs::read(&archive).unwrap()
}

/// All files of a tree, sorted, one line each.
pub fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = match meta.file_type() {
                t if t.is_dir() => {
                    todo.push(path.clone());
                    String::new()
                }
                t if t.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                t if t.is_file() => image_store::Digest::of(&fs::read(&path).unwrap()).to_string(),
                _ => meta.rdev().to_string(),
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            // The archive has neither the top directory nor times of implied directories.
            let time = if meta.is_dir() { 0 } else { meta.mtime() };
            lines.push(format!("{name} {:o} {}:{} {time} {content}", meta.mode(), meta.uid(), meta.gid()));
        }
    }
    lines.sort();
    lines
}

/// Adds a layer to an image as a builder would: writes manifest and config to an OCI layout and loads it.
pub fn stack(
    store: &image_store::Store,
    base: &image_store::store::Record,
    layer: &[u8],
    name: &str,
) -> image_store::store::Record {
    use image_store::manifest::{Descriptor, media};
    let mut manifest = store.manifest(base).unwrap();
    let (_, config) = store.config(base).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let mut plain = Vec::new();
    std::io::Read::read_to_end(
        &mut image_store::layer::compression::Compression::Gzip.decoder(layer).unwrap(),
        &mut plain,
    )
    .unwrap();
    config["rootfs"]["diff_ids"]
        .as_array_mut()
        .unwrap()
        .push(image_store::Digest::of(&plain).to_string().into());
    let config = serde_json::to_vec(&config).unwrap();
    manifest.config = Descriptor::of(media::OCI_CONFIG, &config);
    manifest.layers.push(Descriptor::of(media::OCI_LAYER_GZIP, layer));
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let source = Blobs { store, extra: vec![config, layer.to_vec(), manifest.clone()] };
    let names = [image_store::Reference::parse(name).unwrap()];
    let descriptor = Descriptor::of(media::OCI_MANIFEST, &manifest);
    let host = image_store::platform::Platform::host();
    store.ingest(&source, &descriptor, &host, &names, &image_store::store::Quiet).unwrap()
}

struct Blobs<'a> {
    store: &'a image_store::Store,
    extra: Vec<Vec<u8>>,
}

impl image_store::store::Source for Blobs<'_> {
    fn open(
        &self,
        descriptor: &image_store::manifest::Descriptor,
    ) -> image_store::Result<Box<dyn std::io::Read + Send + '_>> {
        match self.extra.iter().find(|bytes| image_store::Digest::of(bytes) == descriptor.digest) {
            Some(bytes) => Ok(Box::new(bytes.as_slice())),
            None => Ok(Box::new(self.store.open_blob(&descriptor.digest)?)),
        }
    }
}
