//! Implied folders: a layer with `a/b/file` but no entries for `a` and `a/b` means "as they are below".
//!
//! An unpacked layer does not know what lies below, so its implied folders have plain attributes, and overlay would show
//! those. A last layer on top, of folders only, gives back the attributes of the highest layer that describes them.
//! That is how layers can be unpacked at once and shared between images without changing what a container sees.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Doing, Result};
use crate::layer::Marks;
use crate::layer::change::split;
use crate::tar::show;
use crate::tree;

/// One layer of a stack.
pub(crate) struct Level {
    pub root: File,
    /// Sorted.
    pub implied: Vec<Vec<u8>>,
}

/// A folder whose attributes are those of level `from`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub path: Vec<u8>,
    pub from: usize,
}

/// The folders that a stack, lowest layer first, shows with wrong attributes.
pub(crate) fn needed(stack: &[Level], marks: Marks) -> Result<Vec<Folder>> {
    let paths: BTreeSet<&Vec<u8>> = stack.iter().flat_map(|level| &level.implied).collect();
    let mut folders = Vec::new();
    for path in paths {
        if let Some(from) = source(stack, path, marks).doing(|| format!("look up folder {}", show(path)))? {
            folders.push(Folder { path: path.clone(), from });
        }
    }
    Ok(folders)
}

/// The level that describes the folder, when the topmost one that has it only implies it, and they differ.
fn source(stack: &[Level], path: &[u8], marks: Marks) -> Result<Option<usize>> {
    let mut top: Option<usize> = None;
    for (at, level) in stack.iter().enumerate().rev() {
        let implied = level.implied.binary_search_by(|p| p.as_slice().cmp(path)).is_ok();
        match tree::open_folder(&level.root, path, OFlags::RDONLY) {
            Ok(folder) => {
                if !implied {
                    return Ok(match top {
                        Some(top) if differ(&stack[top], level, path)? => Some(at),
                        _ => None,
                    });
                }
                top = top.or(Some(at));
                let hidden = rustix::fs::fgetxattr(&folder, marks.opaque(), &mut [0_u8; 1]).is_ok();
                if hidden {
                    return Ok(None);
                }
            }
            Err(Errno::NOENT) if !cut_off(level, path, marks)? => {}
            // A whiteout, a file or a link here or above hides what lies below.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// Whether this layer hides the path in those below although it does not have it: through an opaque folder above it, or a
/// whiteout of a folder above it (openat2 then said ENOTDIR).
fn cut_off(level: &Level, path: &[u8], marks: Marks) -> Result<bool> {
    let mut path = path;
    while !path.is_empty() {
        path = split(path).0;
        match tree::open_folder(&level.root, path, OFlags::RDONLY) {
            Ok(folder) if rustix::fs::fgetxattr(&folder, marks.opaque(), &mut [0_u8; 1]).is_ok() => {
                return Ok(true);
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

fn differ(top: &Level, below: &Level, path: &[u8]) -> Result<bool> {
    let (a, b) = (open(top, path)?, open(below, path)?);
    let (stat_a, stat_b) = (rustix::fs::fstat(&a)?, rustix::fs::fstat(&b)?);
    let key = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    Ok(key(&stat_a) != key(&stat_b) || !attributes(&b)?.is_empty())
}

fn open(level: &Level, path: &[u8]) -> Result<OwnedFd> {
    tree::open_folder(&level.root, path, OFlags::RDONLY).doing(|| format!("open folder {}", show(path)))
}

/// Makes the fix-up layer in the empty folder `root`.
pub(crate) fn make(root: &File, stack: &[Level], folders: &[Folder]) -> Result<()> {
    // Folders above that need no fixing must not be changed by the fix-up either.
    let mut all: BTreeSet<Vec<u8>> = BTreeSet::new();
    for folder in folders {
        let mut path = folder.path.as_slice();
        while !path.is_empty() {
            all.insert(path.to_vec());
            path = split(path).0;
        }
    }
    all.insert(Vec::new());
    for path in all.iter().filter(|path| !path.is_empty()) {
        let (parent, name) = split(path);
        let parent = tree::open_folder(root, parent, OFlags::PATH).doing(|| "open folder")?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU).doing(|| format!("mkdir {}", show(path)))?;
    }
    for path in all.iter().rev() {
        let fixed = folders.iter().find(|folder| folder.path == *path).map(|folder| folder.from);
        let from = fixed.or_else(|| stack.iter().rposition(|level| open(level, path).is_ok()));
        let Some(from) = from else { continue };
        let target = tree::open_folder(root, path, OFlags::RDONLY).doing(|| "open folder")?;
        copy(&open(&stack[from], path)?, &target).doing(|| format!("copy attributes of {}", show(path)))?;
    }
    Ok(())
}

/// Owner, mode, attributes and time of one folder for another.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::statat(from, c"", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .doing(|| "fchown")?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode)).doing(|| "fchmod")?;
    for (name, value) in attributes(from)? {
        rustix::fs::fsetxattr(to.as_fd(), name.as_slice(), &value, XattrFlags::empty())
            .doing(|| "fsetxattr")?;
    }
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds };
    rustix::fs::futimens(to, &Timestamps { last_access: time, last_modification: time }).doing(|| "futimens")
}

/// All but overlay's own: those belong to the layer they are in.
fn attributes(folder: &OwnedFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    crate::layer::diff::xattrs(folder.as_fd())
}
