//! Copying between a root file system and a tar stream. Both directions go through a directory in `ingest`, so that the code
//! for malicious archives and for malicious root file systems exists only once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::Store;
use super::transaction::Transaction;
use crate::copy::{Owner, Place, copy};
use crate::error::{Doing, Error, Result};
use crate::tree;

impl Store {
    /// Writes `source` in `from` as a tar archive; its names begin with the last component of `source`. Returns `output`.
    ///
    /// # Errors
    /// Those of [`copy`]; errors of the output.
    pub fn copy_out<W: Write>(&self, from: &Place, source: &str, output: W) -> Result<W> {
        let transaction = Transaction::begin(self)?;
        let (_, dir) = transaction.new_tree()?;
        let staged = Place::root(dir.try_clone().doing(|| "dup")?.into());
        copy(from, source, &staged, ".", Owner::Keep)?;
        self.export(&dir, output)
    }

    /// Unpacks a tar archive, compressed or not, into the directory `target` in `to`. Existing directories without an entry in
    /// the archive keep their attributes.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) if `target` is not a directory, before anything is read; those of unpacking a
    /// layer and of [`copy`].
    pub fn copy_in(&self, input: impl Read + Send, to: &Place, target: &str) -> Result<()> {
        let into = to.open_dir(target).map_err(|error| {
            Error::from(error).context(format!("copy to {target:?}: must be a directory"))
        })?;
        let transaction = Transaction::begin(self)?;
        let (unpacked, path) = transaction.unpack_staged(input, None, false, &|_| ())?;
        let dir: OwnedFd = open(&path.join("fs"))?.into();
        for implied in unpacked.applied.implied.iter().filter(|path| !path.is_empty()) {
            take_attributes(&into, &dir, implied)?;
        }
        copy(&Place::root(dir), "/.", to, target, Owner::Keep)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).doing(|| format!("open {path:?}"))
}

/// Gives an implied directory the owner, mode and time of the existing directory.
fn take_attributes(there: &OwnedFd, here: &OwnedFd, path: &[u8]) -> Result<()> {
    let Ok(original) = tree::open_dir(there, path, OFlags::RDONLY) else {
        return Ok(());
    };
    let made = tree::open_dir(here, path, OFlags::RDONLY).doing(|| "open directory")?;
    let stat = rustix::fs::fstat(&original).doing(|| "fstat")?;
    rustix::fs::fchown(&made, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .doing(|| "fchown")?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode)).doing(|| "fchmod")?;
    rustix::fs::futimens(&made, &tree::timestamps(&stat)).doing(|| "futimens")
}
