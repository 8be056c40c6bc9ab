//! Compiled seccomp filters, kept in a private folder from one container to the next: a filter is the same for all containers of a
//! profile, and compiling Docker's takes longer than all else that creating a container does.
//!
//! The folder is a convenience: whatever is wrong with it, the filter is compiled, and nobody is told. A file is believed only when
//! it is the caller's own, nobody else can write it, its sum is right, and it holds the very same profile for the very same kernel,
//! architecture and library, byte for byte; so a collision of names matters not.

use crate::error::Result;
use crate::plan::seccomp::{Filter, compile, library_version};
use oci_spec::runtime::LinuxSeccomp;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file begins so. The number changes with everything that changes the result for the same key.
const MAGIC: &[u8; 16] = b"knarr seccomp 3\n";

/// No cache file is larger: a profile of a megabyte is no profile.
const LARGEST: u64 = 4 << 20;

/// The folder is emptied when it holds more files.
const MOST: usize = 64;

/// The filter for a profile, from the cache in `folder` if it is there.
pub(crate) fn filter(profile: &LinuxSeccomp, kernel: (u32, u32), folder: Option<&Path>) -> Result<Filter> {
    let (Some(folder), Some(key)) = (folder, key(profile, kernel)) else {
        return compile(profile, kernel);
    };
    let path = file(folder, &key);
    if let Some(filter) = load(&path, &key) {
        return Ok(filter);
    }
    let filter = compile(profile, kernel)?;
    store(&path, &key, &filter);
    Ok(filter)
}

/// All that the result depends on.
fn key(profile: &LinuxSeccomp, kernel: (u32, u32)) -> Option<Vec<u8>> {
    let mut key = serde_json::to_vec(profile).ok()?;
    let (major, minor, micro) = library_version();
    let place = std::env::consts::ARCH;
    let version = env!("CARGO_PKG_VERSION");
    write!(key, "\n{version} {place} linux {}.{} libseccomp {major}.{minor}.{micro}", kernel.0, kernel.1)
        .ok()?;
    Some(key)
}

fn file(folder: &Path, key: &[u8]) -> PathBuf {
    folder.join(format!("{:016x}", sum(key)))
}

/// FNV-1a, over words where there are some: it finds files and broken ones, it guards against nobody.
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
    if !about.is_file() || !mine || about.len() > LARGEST {
        return None;
    }
    let mut data = Vec::with_capacity(usize::try_from(about.len()).ok()? + 1);
    file.take(LARGEST).read_to_end(&mut data).ok()?;
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

/// Written beside and renamed, so that a reader sees a whole file or none.
fn store(path: &Path, key: &[u8], filter: &Filter) -> Option<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = path.parent()?;
    let _ = DirBuilder::new().mode(0o700).create(folder);
    let about = std::fs::symlink_metadata(folder).ok()?;
    if !about.is_dir() || about.uid() != nix::unistd::geteuid().as_raw() || about.mode() & 0o022 != 0 {
        return None;
    }
    make_room(folder);
    let data = encode(key, filter).filter(|data| data.len() as u64 <= LARGEST)?;
    let name = format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let beside = folder.join(name);
    let write = |mut file: File| file.write_all(&data).and_then(|()| std::fs::rename(&beside, path));
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    if created.and_then(write).is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    Some(())
}

fn make_room(folder: &Path) {
    let files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
    if files.len() >= MOST {
        for file in files {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

#[cfg(all(test, feature = "seccomp"))]
mod tests;
