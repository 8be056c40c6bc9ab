//! Compares a layer with the directory that it was unpacked to: contents and attributes of all entries.
//!
//! This takes one pass and writes nothing, but a difference need not be damage: a later entry of the layer may replace an earlier one,
//! and file systems store other times than they were given. `same` decides then, with the layer unpacked again.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::Marks;
use super::apply::Ownership;
use super::change::{Change, change, split};
use super::compression::Compression;
use super::diff::is_whiteout;
use crate::error::{Doing, Error, Result};
use crate::tar::{Entry, Kind, Placement, Reader, show};
use crate::tree;

/// Reads the compressed layer from `blob` and compares it with `root`, unpacked with these `marks` and `ownership`.
///
/// # Errors
/// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) with the first path that differs; those of reading the layer.
pub fn compare(blob: impl Read, root: BorrowedFd<'_>, marks: Marks, ownership: Ownership) -> Result<()> {
    let mut input = BufReader::with_capacity(256 << 10, blob);
    let compression = Compression::sniff(std::io::BufRead::fill_buf(&mut input)?)?;
    let mut reader = Reader::new(BufReader::with_capacity(256 << 10, compression.decoder(input)?));
    let mut opaque = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let doing = || format!("compare {}", show(&entry.path));
        match change(&entry.path)? {
            Change::Skip => {}
            Change::Opaque(path) => opaque.push(path),
            Change::Whiteout(path) => {
                let found = locate(root, &path).doing(doing)?;
                // The layer itself may have a file at this path.
                let Some((parent, name)) = found else { continue };
                let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).doing(doing)?;
                let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if !is_whiteout(&stat) && is_dir {
                    opaque.push(path);
                }
            }
            Change::Make(path) => {
                if let Err(error) = one(root, &path, &entry, &mut reader, marks, ownership) {
                    // Without root, directories that their owner may not open cannot be read.
                    let closed =
                        ownership == Ownership::Squash && error.errno() == Some(Errno::ACCESS.raw_os_error());
                    if !closed {
                        return Err(error.context(doing()));
                    }
                }
            }
        }
    }
    for path in opaque {
        let doing = || format!("compare {}: opaque mark", show(&path));
        let dir = tree::open_dir(root, &path, OFlags::RDONLY).doing(doing)?;
        rustix::fs::fgetxattr(&dir, marks.opaque(), &mut [0_u8; 1]).doing(doing)?;
    }
    Ok(())
}

/// The parent directory of a path; `None` if the path leads through a link of the layer, which is not followed here.
fn locate<'p>(root: BorrowedFd<'_>, path: &'p [u8]) -> Result<Option<(std::os::fd::OwnedFd, &'p [u8])>> {
    let (dir, name) = split(path);
    match tree::open_dir(root, dir, OFlags::PATH) {
        Ok(parent) => Ok(Some((parent, name))),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn one<R: std::io::BufRead>(
    root: BorrowedFd<'_>,
    path: &[u8],
    entry: &Entry,
    reader: &mut Reader<R>,
    marks: Marks,
    ownership: Ownership,
) -> Result<()> {
    let Some((parent, name)) = locate(root, path)? else {
        return Ok(());
    };
    let name = if name.is_empty() { b".".as_slice() } else { name };
    let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(_)
            if ownership.restricted(marks) && matches!(entry.kind, Kind::Block(..) | Kind::Character(..)) =>
        {
            return Ok(());
        }
        other => other.doing(|| "stat")?,
    };
    let differs = |what: &str| Err(Error::mismatch(format!("{what} differs")));
    let wanted = match &entry.kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Character(..) => FileType::CharacterDevice,
        Kind::Block(..) => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Hardlink(_) => {
            return if stat.st_nlink > 1 { Ok(()) } else { differs("link count") };
        }
    };
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        return differs("type");
    }
    if entry.kind != Kind::Directory || stat.st_nlink > 0 {
        let owner = ownership == Ownership::Squash || (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid);
        if !owner {
            return differs("owner");
        }
    }
    if wanted != FileType::Symlink && stat.st_mode & 0o7777 != entry.mode {
        return differs("mode");
    }
    if stat.st_mtime != entry.mtime.seconds {
        return differs("modification time");
    }
    match &entry.kind {
        Kind::Symlink(target) => {
            let found = rustix::fs::readlinkat(&parent, name, Vec::new()).doing(|| "readlink")?;
            if found.as_bytes() != target.as_slice() { differs("target") } else { Ok(()) }
        }
        Kind::File if u64::try_from(stat.st_size) != Ok(entry.size) => differs("size"),
        Kind::File => {
            let file = tree::open_below(parent.as_fd(), name, OFlags::RDONLY).doing(|| "open")?;
            data(&File::from(file), entry, reader)
        }
        _ => Ok(()),
    }
}

fn data<R: std::io::BufRead>(file: &File, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
    let mut placement = Placement::of(entry);
    let mut buffer = Vec::new();
    reader.data(|bytes| {
        placement.place(bytes, |offset, part| {
            buffer.resize(part.len(), 0);
            file.read_exact_at(&mut buffer, offset).doing(|| "pread")?;
            if buffer != part {
                return Err(Error::mismatch(format!("content near byte {offset} differs")));
            }
            Ok(())
        })
    })
}
