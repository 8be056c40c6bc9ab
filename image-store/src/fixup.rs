//! The fix-up layer: gives implied directories their attributes.
//!
//! A layer with `a/b/file` but no entries for `a` and `a/b` implies these directories: their attributes are those of the
//! layers below. A layer is unpacked without regard to the layers below, so that it can be shared between images and
//! unpacked in parallel; its implied directories get default attributes, and overlay would show these. The fix-up layer,
//! on top of the image's layers, has only directories, with the attributes of the highest layer that describes them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Doing, Result};
use crate::layer::Marks;
use crate::layer::change::split;
use crate::tar::show;
use crate::tree;

/// An unpacked layer of an image.
pub(crate) struct Level {
    pub root: File,
    /// Paths of its implied directories, sorted.
    pub implied: Vec<Vec<u8>>,
}

/// A directory that needs the attributes it has in level `from`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fix {
    pub path: Vec<u8>,
    pub from: usize,
}

/// The directories that overlay would show with wrong attributes; `stack` has the lowest layer first.
pub(crate) fn needed(stack: &[Level], marks: Marks) -> Result<Vec<Fix>> {
    let paths: BTreeSet<&Vec<u8>> = stack.iter().flat_map(|level| &level.implied).collect();
    let mut fixes = Vec::new();
    for path in paths {
        if let Some(from) =
            source(stack, path, marks).doing(|| format!("look up directory {}", show(path)))?
        {
            fixes.push(Fix { path: path.clone(), from });
        }
    }
    Ok(fixes)
}

/// The highest level that describes the directory, if the topmost level that has it only implies it and the attributes
/// differ.
fn source(stack: &[Level], path: &[u8], marks: Marks) -> Result<Option<usize>> {
    let mut top: Option<usize> = None;
    for (at, level) in stack.iter().enumerate().rev() {
        let implied = level.implied.binary_search_by(|p| p.as_slice().cmp(path)).is_ok();
        match tree::open_dir(&level.root, path, OFlags::RDONLY) {
            Ok(dir) => {
                if !implied {
                    return Ok(match top {
                        Some(top) if differ(&stack[top], level, path)? => Some(at),
                        _ => None,
                    });
                }
                top = top.or(Some(at));
                let hidden = rustix::fs::fgetxattr(&dir, marks.opaque(), &mut [0_u8; 1]).is_ok();
                if hidden {
                    return Ok(None);
                }
            }
            Err(Errno::NOENT) if !cut_off(level, path, marks)? => {}
            // A whiteout, file or link at this path or above hides the levels below.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// Whether this level, which does not have the path, hides it in the levels below: by an opaque parent directory, or by a
/// whiteout of one (openat2(2) then fails with ENOTDIR).
fn cut_off(level: &Level, path: &[u8], marks: Marks) -> Result<bool> {
    let mut path = path;
    while !path.is_empty() {
        path = split(path).0;
        match tree::open_dir(&level.root, path, OFlags::RDONLY) {
            Ok(dir) if rustix::fs::fgetxattr(&dir, marks.opaque(), &mut [0_u8; 1]).is_ok() => {
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
    tree::open_dir(&level.root, path, OFlags::RDONLY).doing(|| format!("open directory {}", show(path)))
}

/// Creates the fix-up layer in the empty directory `root`.
pub(crate) fn make(root: &File, stack: &[Level], fixes: &[Fix]) -> Result<()> {
    // Parent directories are needed too; they keep the attributes that overlay shows anyway.
    let mut all: BTreeSet<Vec<u8>> = BTreeSet::new();
    for fix in fixes {
        let mut path = fix.path.as_slice();
        while !path.is_empty() {
            all.insert(path.to_vec());
            path = split(path).0;
        }
    }
    all.insert(Vec::new());
    for path in all.iter().filter(|path| !path.is_empty()) {
        let (parent, name) = split(path);
        let parent = tree::open_dir(root, parent, OFlags::PATH).doing(|| "open directory")?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU).doing(|| format!("mkdir {}", show(path)))?;
    }
    for path in all.iter().rev() {
        let fixed = fixes.iter().find(|fix| fix.path == *path).map(|fix| fix.from);
        let from = fixed.or_else(|| stack.iter().rposition(|level| open(level, path).is_ok()));
        let Some(from) = from else { continue };
        let target = tree::open_dir(root, path, OFlags::RDONLY).doing(|| "open directory")?;
        copy(&open(&stack[from], path)?, &target).doing(|| format!("copy attributes of {}", show(path)))?;
    }
    Ok(())
}

/// Copies owner, mode, extended attributes and modification time of a directory.
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
    rustix::fs::futimens(to, &tree::timestamps(&stat)).doing(|| "futimens")
}

/// The extended attributes, without overlay's: those only have a meaning in their own layer.
fn attributes(dir: &OwnedFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    crate::layer::diff::xattrs(dir.as_fd())
}
