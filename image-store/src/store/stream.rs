//! `cp` of tar archives: what lies in a root file system as a stream, and a stream into it. Both go by way of a folder in
//! `ingest`, so that reading a hostile archive and walking a hostile root each have one piece of code that does it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::Store;
use super::transaction::Transaction;
use crate::copy::{Owner, Place, copy};
use crate::error::{Doing, Error, Result};
use crate::tree;

impl Store {
    /// Writes what `source` names in `from` as a tar; its entries begin with the last part of `source`.
    ///
    /// # Errors
    /// Those of [`copy`]; errors of the output.
    pub fn copy_out<W: Write>(&self, from: &Place, source: &str, output: W) -> Result<W> {
        let transaction = Transaction::begin(self)?;
        let (_, folder) = transaction.new_tree()?;
        let staged = Place::root(folder.try_clone().doing(|| "dup")?.into());
        copy(from, source, &staged, ".", Owner::Keep)?;
        self.export(&folder, output)
    }

    /// Unpacks a tar, compressed or not, into the folder `target` in `to`. Folders that are there and that the archive does
    /// not describe stay as they are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such folder, in which case nothing was read;
    /// those of unpacking a layer and of [`copy`].
    pub fn copy_in(&self, input: impl Read + Send, to: &Place, target: &str) -> Result<()> {
        let into = to
            .open_folder(target)
            .map_err(|error| Error::from(error).context(format!("copy to {target:?}: wants a folder")))?;
        let transaction = Transaction::begin(self)?;
        let (unpacked, path) = transaction.unpack_staged(input, None, false, &|_| ())?;
        let folder: OwnedFd = open(&path.join("fs"))?.into();
        for implied in unpacked.applied.implied.iter().filter(|path| !path.is_empty()) {
            take_attributes(&into, &folder, implied)?;
        }
        copy(&Place::root(folder), "/.", to, target, Owner::Keep)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).doing(|| format!("open {path:?}"))
}

/// Gives a folder that only names in an archive imply what the one that is there already has.
fn take_attributes(there: &OwnedFd, here: &OwnedFd, path: &[u8]) -> Result<()> {
    let Ok(original) = tree::open_folder(there, path, OFlags::RDONLY) else {
        return Ok(());
    };
    let made = tree::open_folder(here, path, OFlags::RDONLY).doing(|| "open folder")?;
    let stat = rustix::fs::fstat(&original).doing(|| "fstat")?;
    rustix::fs::fchown(&made, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .doing(|| "fchown")?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode)).doing(|| "fchmod")?;
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds };
    rustix::fs::futimens(&made, &Timestamps { last_access: time, last_modification: time })
        .doing(|| "futimens")
}
