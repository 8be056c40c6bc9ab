//! Verification: blobs against their digests, unpacked layers against their blobs, records against manifests and configs.
//! Repair unpacks damaged layers again and removes damaged blobs; a pull fetches these again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;

use super::transaction::Transaction;
use super::{Record, Store};
use crate::digest::{Digest, VerifyingReader};
use crate::error::{Doing, ErrorKind, Result};
use crate::layer::compare::compare;
use crate::layer::same::same;
use crate::layer::unpack::Expected;
use crate::manifest::Descriptor;

/// A damaged object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A blob.
    Blob(Digest),
    /// An unpacked layer, by diffID.
    Layer(Digest),
    /// An image, by name or ID.
    Image(String),
    /// A volume, by name.
    Volume(String),
}

/// A damage that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The damaged object.
    pub part: Part,
    /// What is wrong, for users.
    pub why: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

impl Store {
    /// Verifies the whole store. With `repair`, damaged layers are unpacked again from their blobs, and damaged blobs are removed,
    /// so that the next pull fetches them again.
    ///
    /// # Errors
    /// System calls that fail for other reasons than damage.
    pub fn verify(&self, repair: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut bad = HashSet::new();
        for digest in self.stored_blobs()? {
            if let Err(error) = self.check_blob(&digest) {
                // Collected meanwhile; blobs that an image misses are found below.
                if error.kind() == ErrorKind::NotFound {
                    continue;
                }
                if repair {
                    self.discard(&self.blob_path(&digest))?;
                }
                let why = error.to_string();
                let why = why.strip_prefix(&format!("{digest}: ")).unwrap_or(&why);
                // The layer cannot be compared with it any more.
                let next = if repair {
                    "removed: pull or load its image again, then verify again"
                } else {
                    "use --repair to remove it"
                };
                let why = format!("{why}: {next}");
                findings.push(Finding { part: Part::Blob(digest.clone()), why, repaired: false });
                bad.insert(digest);
            }
        }
        let mut seen = HashSet::new();
        for record in self.images()? {
            let found = self.verify_image(&record, &bad, &mut seen, repair)?;
            // An image that was removed meanwhile is not damaged.
            if !found.is_empty() && self.images()?.contains(&record) {
                findings.extend(found);
            }
        }
        for name in self.volume_names()? {
            match self.volume(&name) {
                Err(error) if error.kind() == ErrorKind::NotAVolume => {
                    let why = error.to_string();
                    let why = why.strip_prefix(&format!("volume {name:?}: ")).unwrap_or(&why).to_owned();
                    findings.push(Finding { part: Part::Volume(name), why, repaired: false });
                }
                // Removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.map(drop)?,
            }
        }
        Ok(findings)
    }

    fn stored_blobs(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.path("blobs").join(algorithm);
            for entry in fs::read_dir(&dir).doing(|| format!("list {dir:?}"))? {
                let name = entry.doing(|| format!("list {dir:?}"))?.file_name();
                digests.extend(Digest::parse(&format!("{algorithm}:{}", name.to_string_lossy())).ok());
            }
        }
        digests.sort();
        Ok(digests)
    }

    fn check_blob(&self, digest: &Digest) -> Result<()> {
        let file = self.open_blob(digest)?;
        let size = file.metadata()?.len();
        let mut reader = VerifyingReader::new(file, digest, size);
        let mut buffer = vec![0; 256 << 10];
        while reader.read(&mut buffer)? > 0 {}
        Ok(())
    }

    fn verify_image(
        &self,
        record: &Record,
        bad: &HashSet<Digest>,
        seen: &mut HashSet<Digest>,
        repair: bool,
    ) -> Result<Vec<Finding>> {
        let name = record.name_or_id();
        let mut findings = Vec::new();
        let manifest = match self.manifest(record).and_then(|m| self.config(record).map(|(c, _)| (m, c))) {
            Ok((manifest, config)) if config.rootfs.diff_ids == record.layers => manifest,
            Ok(_) => {
                let why = "layers in record and config differ: pull or load the image again".to_owned();
                return Ok(vec![Finding { part: Part::Image(name), why, repaired: false }]);
            }
            Err(error) => {
                let why = format!("{error}: pull or load the image again");
                return Ok(vec![Finding { part: Part::Image(name), why, repaired: false }]);
            }
        };
        for (blob, diff_id) in manifest.layers.iter().zip(&record.layers) {
            if self.options.keep_blobs && !self.has_blob(blob) && !bad.contains(&blob.digest) {
                let why = format!("blob {} is missing: pull or load the image again", blob.digest);
                findings.push(Finding { part: Part::Image(name.clone()), why, repaired: false });
            }
            if !seen.insert(diff_id.clone()) {
                continue;
            }
            if let Err(error) = self.check_layer(blob, diff_id) {
                let usable = !bad.contains(&blob.digest) && self.has_blob(blob);
                let mut finding =
                    Finding { part: Part::Layer(diff_id.clone()), why: error.to_string(), repaired: false };
                if repair && usable {
                    match self.unpack_again(blob, diff_id).and_then(|()| self.check_layer(blob, diff_id)) {
                        Ok(()) => finding.repaired = true,
                        Err(error) => finding.why.push_str(&format!("; the repair failed: {error}")),
                    }
                }
                findings.push(finding);
            }
        }
        Ok(findings)
    }

    /// Compares an unpacked layer with its blob, if the store has it.
    fn check_layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        let path = self.layer_path(diff_id).join("fs");
        let root = File::open(&path).doing(|| format!("open {path:?}"))?;
        self.layer_meta(diff_id)?;
        if !self.has_blob(blob) {
            return Ok(());
        }
        compare(self.open_blob(&blob.digest)?, root.as_fd(), self.marks, self.ownership)
            .or_else(|_| self.compare_with_unpacked(blob, diff_id, &root))
    }

    /// Compares a layer with what its blob is unpacked to now.
    fn compare_with_unpacked(&self, blob: &Descriptor, diff_id: &Digest, root: &File) -> Result<()> {
        let transaction = Transaction::begin(self)?;
        let expected = Some(Expected { blob, diff_id });
        let input = self.open_blob(&blob.digest)?;
        let (_, tree) = transaction.unpack_staged(input, expected, false, &|_| ())?;
        let tree = tree.join("fs");
        let wanted = File::open(&tree).doing(|| format!("open {tree:?}"))?;
        same(root.as_fd(), wanted.as_fd())
    }

    fn unpack_again(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        let _locks = self.lock_layers(std::slice::from_ref(diff_id), || ())?;
        let transaction = Transaction::begin(self)?;
        let input = self.open_blob(&blob.digest)?;
        let expected = Some(Expected { blob, diff_id });
        let (unpacked, tree) = transaction.unpack_staged(input, expected, false, &|_| ())?;
        transaction.stage_layer(tree, &unpacked)?;
        self.discard(&self.layer_path(diff_id))?;
        transaction.publish()
    }

    fn discard(&self, path: &std::path::Path) -> Result<()> {
        match fs::rename(path, self.trash_name()?) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("rename {path:?}")),
        }
    }
}
