//! A cache of compiled seccomp filters in a private directory: all containers with the same profile have the same filter, and compiling
//! Docker's takes longer than all other work of creating a container.
//!
//! The cache is optional: if anything is wrong with it, the filter is compiled, without a message. A file is trusted only if the caller
//! owns it, no other user can write it, its checksum is right, and it holds the same profile for the same kernel, architecture and
//! library, byte for byte; so a collision of names does no harm.

use crate::error::Result;
use crate::plan::seccomp::{Filter, compile, library_version};
use oci_spec::runtime::LinuxSeccomp;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The start of a file. The number is increased with every change that changes the result for the same key.
const MAGIC: &[u8; 16] = b"knarr seccomp 3\n";

/// The maximum size of a file in bytes, far above that of any filter.
const MAX_SIZE: u64 = 4 << 20;

/// The maximum number of files; the directory is emptied when it is reached.
const MAX_FILES: usize = 64;

/// The filter for a profile, from the cache in `dir` if it has one.
pub(crate) fn filter(profile: &LinuxSeccomp, kernel: (u32, u32), dir: Option<&Path>) -> Result<Filter> {
    let (Some(dir), Some(key)) = (dir, key(profile, kernel)) else {
        return compile(profile, kernel);
    };
    let path = file(dir, &key);
    if let Some(filter) = load(&path, &key) {
        return Ok(filter);
    }
    let filter = compile(profile, kernel)?;
    store(&path, &key, &filter);
    Ok(filter)
}

/// Everything that the result depends on.
fn key(profile: &LinuxSeccomp, kernel: (u32, u32)) -> Option<Vec<u8>> {
    let mut key = serde_json::to_vec(profile).ok()?;
    let (major, minor, micro) = library_version();
    let place = std::env::consts::ARCH;
    let version = env!("CARGO_PKG_VERSION");
    write!(key, "\n{version} {place} linux {}.{} libseccomp {major}.{minor}.{micro}", kernel.0, kernel.1)
        .ok()?;
    Some(key)
}

fn file(dir: &Path, key: &[u8]) -> PathBuf {
    dir.join(format!("{:016x}", sum(key)))
}

/// A checksum like FNV-1a, over words for speed: it names files and detects damaged ones, and is no protection against an attacker.
fn sum(data: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    let chunks = data.chunks_exact(8);
    let rest = chunks.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let words = chunks.map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default()));
    mix(words.fold(0xcbf2_9ce4_8422_2325, mix), rest ^ (data.len() as u64) << 32)
}

fn load(path: &Path, key: &[u8]) -> Option<Filter> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    let about = file.metadata().ok()?;
    let mine = about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o022 == 0;
    if !about.is_file() || !mine || about.len() > MAX_SIZE {
        return None;
    }
    let mut data = Vec::with_capacity(usize::try_from(about.len()).ok()? + 1);
    file.take(MAX_SIZE).read_to_end(&mut data).ok()?;
    decode(&data, key)
}

fn encode(key: &[u8], filter: &Filter) -> Option<Vec<u8>> {
    let warnings = serde_json::to_vec(&filter.warnings).ok()?;
    let mut data = Vec::with_capacity(64 + key.len() + 8 * filter.bpf.len() + warnings.len());
    data.extend(MAGIC);
    for number in [key.len(), filter.bpf.len(), warnings.len()] {
        data.extend(u32::try_from(number).ok()?.to_le_bytes());
    }
    data.extend(u32::from(filter.listener).to_le_bytes());
    data.extend(filter.flags.to_le_bytes());
    data.extend(key);
    filter.bpf.iter().for_each(|word| data.extend(word.to_ne_bytes()));
    data.extend(warnings);
    data.extend(sum(&data).to_le_bytes());
    Some(data)
}

fn decode(data: &[u8], key: &[u8]) -> Option<Filter> {
    let (body, check) = data.split_last_chunk::<8>()?;
    if sum(body) != u64::from_le_bytes(*check) {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?;
    let (key_length, rest) = number(rest)?;
    let (words, rest) = number(rest)?;
    let (warnings, rest) = number(rest)?;
    let (listener, rest) = number(rest)?;
    let (flags, rest) = rest.split_first_chunk::<8>()?;
    let (found, rest) = rest.split_at_checked(key_length)?;
    let (bpf, rest) = rest.split_at_checked(words.checked_mul(8)?)?;
    if found != key || rest.len() != warnings {
        return None;
    }
    Some(Filter {
        bpf: bpf.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?))).collect(),
        flags: u64::from_le_bytes(*flags),
        listener: listener != 0,
        warnings: serde_json::from_slice(rest).ok()?,
    })
}

fn number(data: &[u8]) -> Option<(usize, &[u8])> {
    let (bytes, rest) = data.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*bytes)).ok()?, rest))
}

/// Writes a temporary file and renames it, so that a reader sees a complete file or none.
fn store(path: &Path, key: &[u8], filter: &Filter) -> Option<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = path.parent()?;
    let _ = DirBuilder::new().mode(0o700).create(dir);
    let about = std::fs::symlink_metadata(dir).ok()?;
    if !about.is_dir() || about.uid() != nix::unistd::geteuid().as_raw() || about.mode() & 0o022 != 0 {
        return None;
    }
    empty_if_full(dir);
    let data = encode(key, filter).filter(|data| data.len() as u64 <= MAX_SIZE)?;
    let name = format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let beside = dir.join(name);
    let write = |mut file: File| file.write_all(&data).and_then(|()| std::fs::rename(&beside, path));
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    if created.and_then(write).is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    Some(())
}

/// Removes all files if there are too many.
fn empty_if_full(dir: &Path) {
    let files: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
    if files.len() >= MAX_FILES {
        for file in files {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

#[cfg(all(test, feature = "seccomp"))]
mod tests;
