//! Compares two unpacked forms of one layer: names, types, attributes, links and contents.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::change::join;
use crate::error::{Doing, Error, Result};
use crate::tar::show;
use crate::tree;

/// Compares the trees at `found` and `wanted`, which are on one file system. Directories that neither may be opened are passed over.
///
/// # Errors
/// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) with the first path that differs; failed system calls.
pub fn same(found: BorrowedFd<'_>, wanted: BorrowedFd<'_>) -> Result<()> {
    let mut links = HashMap::new();
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        directory(found, wanted, &path, &mut links, &mut todo)?;
        // After the entries, whose removal changes the time.
        let stat = |root| rustix::fs::fstat(tree::open_dir(root, &path, OFlags::PATH)?);
        let (a, b) = (stat(found).doing(|| show(&path))?, stat(wanted).doing(|| show(&path))?);
        attributes(&a, &b, &mut links).doing(|| show(&path))?;
    }
    Ok(())
}

/// Compares the entries of a directory, and adds its subdirectories to `todo`.
fn directory(
    found: BorrowedFd<'_>,
    wanted: BorrowedFd<'_>,
    path: &[u8],
    links: &mut HashMap<u64, u64>,
    todo: &mut Vec<Vec<u8>>,
) -> Result<()> {
    let doing = || show(path);
    let [found, wanted] = [found, wanted].map(|root| tree::open_dir(root, path, OFlags::RDONLY));
    if let (Err(Errno::ACCESS), Err(Errno::ACCESS)) = (&found, &wanted) {
        return Ok(());
    }
    let (found, wanted) = (File::from(found.doing(doing)?), File::from(wanted.doing(doing)?));
    xattrs(&found, &wanted).doing(doing)?;
    let (names, expected) = (tree::list(&found).doing(doing)?, tree::list(&wanted).doing(doing)?);
    let has = |list: &[(std::ffi::CString, FileType)], name: &std::ffi::CString| {
        list.binary_search_by(|(other, _)| other.cmp(name)).is_ok()
    };
    if let Some((name, _)) = expected.iter().find(|(name, _)| !has(&names, name)) {
        return Err(Error::mismatch(format!("{}: missing", show(&join(path, name.to_bytes())))));
    }
    if let Some((name, _)) = names.iter().find(|(name, _)| !has(&expected, name)) {
        return Err(Error::mismatch(format!("{}: not in the layer", show(&join(path, name.to_bytes())))));
    }
    for (name, _) in expected {
        let child = join(path, name.to_bytes());
        if entry(&found, &wanted, name.to_bytes(), links).doing(|| show(&child))? {
            todo.push(child);
        }
    }
    Ok(())
}

/// Compares an entry; returns whether it is a directory.
fn entry(found: &File, wanted: &File, name: &[u8], links: &mut HashMap<u64, u64>) -> Result<bool> {
    let stat = |dir: &File| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    let (a, b) = (stat(found)?, stat(wanted)?);
    let kinds = [&a, &b].map(|stat| FileType::from_raw_mode(stat.st_mode));
    if kinds == [FileType::Directory; 2] {
        return Ok(true);
    }
    attributes(&a, &b, links)?;
    match kinds[1] {
        FileType::Symlink => {
            let target = |dir: &File| rustix::fs::readlinkat(dir, name, Vec::new());
            if target(found)? != target(wanted)? {
                return differs("target");
            }
        }
        FileType::RegularFile => {
            let open = |dir: &File| tree::open_below(dir.as_fd(), name, OFlags::RDONLY);
            match (open(found), open(wanted)) {
                (Err(Errno::ACCESS), Err(Errno::ACCESS)) => {}
                (a, b) => {
                    let (a, b) = (File::from(a?), File::from(b?));
                    xattrs(&a, &b)?;
                    contents(&a, &b)?;
                }
            }
        }
        _ => {}
    }
    Ok(false)
}

fn differs<T>(what: &str) -> Result<T> {
    Err(Error::mismatch(format!("{what} differs")))
}

/// Compares what stat(2) says. `links` has the inode in one tree for that in the other.
fn attributes(a: &Stat, b: &Stat, links: &mut HashMap<u64, u64>) -> Result<()> {
    let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
    let is_file = kind(b) == FileType::RegularFile;
    let is_linked = kind(b) != FileType::Directory && b.st_nlink > 1;
    if kind(a) != kind(b) {
        differs("type")
    } else if a.st_mode != b.st_mode {
        differs("mode")
    } else if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
        differs("owner")
    } else if a.st_mtime != b.st_mtime {
        differs("modification time")
    } else if a.st_rdev != b.st_rdev {
        differs("device number")
    } else if is_file && a.st_size != b.st_size {
        differs("size")
    } else if is_linked && *links.entry(b.st_ino).or_insert(a.st_ino) != a.st_ino {
        differs("link")
    } else {
        Ok(())
    }
}

/// Compares the extended attributes that a layer may set; others, such as SELinux labels, are the host's.
fn xattrs(a: &File, b: &File) -> Result<()> {
    let all = |file: &File| -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut names = vec![0; 64 << 10];
        let length = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
            Err(Errno::OPNOTSUPP) => 0,
            other => other.doing(|| "listxattr")?,
        };
        let names = names[..length].split(|b| *b == 0);
        let ours = |name: &&[u8]| {
            !name.is_empty()
                && (!name.starts_with(b"security.") || *name == b"security.capability".as_slice())
        };
        let mut found = Vec::new();
        for name in names.filter(ours) {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::fgetxattr(file, name, value.as_mut_slice()).doing(|| "getxattr")?;
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
        found.sort();
        Ok(found)
    };
    if all(a)? == all(b)? { Ok(()) } else { differs("extended attributes") }
}

fn contents(a: &File, b: &File) -> Result<()> {
    let mut buffers = [vec![0; 128 << 10], vec![0; 128 << 10]];
    let (mut at, size) = (0, b.metadata()?.len());
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffers[0].len());
        for (file, buffer) in [a, b].into_iter().zip(&mut buffers) {
            file.read_exact_at(&mut buffer[..length], at).doing(|| "pread")?;
        }
        if buffers[0][..length] != buffers[1][..length] {
            return differs(&format!("content near byte {at}"));
        }
        at += length as u64;
    }
    Ok(())
}
