//! Copying between a root file system and a tar stream. Both directions go through a directory in `ingest`, so that the code
//! for malicious archives and for malicious root file systems exists only once.

use std::fs::File;
use std::io::{Read, Write};

use super::Store;
use super::transaction::Transaction;
use crate::copy::{CopyOptions, Implied, Owner, Place, copy, copy_contents};
use crate::error::{Doing, Error, Result};

impl Store {
    /// Writes `source` in `from` as a tar archive; its names begin with the last component of `source`, which is followed with
    /// `follow` if it is a link. Returns `output`.
    ///
    /// # Errors
    /// Those of [`copy`]; errors of the output.
    pub fn copy_out<W: Write>(&self, from: &Place, source: &str, follow: bool, output: W) -> Result<W> {
        let transaction = Transaction::begin(self)?;
        let (_, dir) = transaction.new_tree()?;
        let staged = Place::root(dir.try_clone().doing(|| "dup")?.into());
        // Other users cannot reach the copies.
        let options = CopyOptions { owner: Owner::Keep, follow, devices: true };
        copy(from, source, &staged, ".", options)?;
        self.export(&dir, output)
    }

    /// Unpacks a tar archive, compressed or not, into the directory `target` in `to`; devices only with `devices`. Directories
    /// without an entry in the archive keep the attributes that they have there, and may be links to directories.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) if `target` is not a directory, before anything is read; those of unpacking
    /// and of [`copy`].
    pub fn copy_in(&self, input: impl Read + Send, to: &Place, target: &str, devices: bool) -> Result<()> {
        to.open_dir(target.as_bytes()).map_err(|error| {
            Error::from(error).context(format!("copy to {target:?}: must be a directory"))
        })?;
        let transaction = Transaction::begin(self)?;
        let (unpacked, path) = transaction.unpack_files(input)?;
        let dir = path.join("fs");
        let dir = File::open(&dir).doing(|| format!("open {dir:?}"))?;
        let options = CopyOptions { owner: Owner::Keep, follow: false, devices };
        let implied = Implied { paths: &unpacked.applied.implied, place: to, target: target.as_bytes() };
        copy_contents(dir.into(), to, target, options, &implied)
    }
}
