//! Reading blobs. Documents are verified on each read; layers when they are unpacked or pushed.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use super::Store;
use crate::digest::{Digest, VerifyingReader};
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::manifest::Descriptor;

impl Store {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.path())
    }

    /// Whether the store has a blob of this digest and size.
    #[must_use]
    pub fn has_blob(&self, descriptor: &Descriptor) -> bool {
        std::fs::metadata(self.blob_path(&descriptor.digest)).is_ok_and(|m| m.len() == descriptor.size)
    }

    /// Opens a blob, without verifying it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not in the store; those of open(2).
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return Error::new(ErrorKind::NotFound, format!("blob {digest}: not in the store"));
            }
            Error::from(error).context(format!("open {path:?}"))
        })
    }

    /// Reads and verifies a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not in the store, [`ErrorKind::Mismatch`] if it is damaged, [`ErrorKind::Limit`] if it
    /// is larger.
    pub fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        let file = self.open_blob(&descriptor.digest)?;
        read_document(file, descriptor, limit).doing(|| format!("read blob {}", descriptor.digest))
    }
}

/// Reads and verifies a document of at most `limit` bytes.
pub(crate) fn read_document(
    input: impl std::io::Read,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>> {
    if descriptor.size > limit {
        return Err(Error::limit(format!(
            "{}: {} bytes exceeds the limit of {limit}",
            descriptor.digest, descriptor.size
        )));
    }
    let mut bytes = Vec::new();
    VerifyingReader::new(input, &descriptor.digest, descriptor.size).read_to_end(&mut bytes)?;
    Ok(bytes)
}
