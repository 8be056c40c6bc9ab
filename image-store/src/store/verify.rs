//! Checks that the store still is what it was: blobs by their digests, unpacked layers against their blobs, records
//! against what they list. Repair takes away what is damaged and unpacks again what can be; the rest a pull brings back.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;

use super::transaction::Transaction;
use super::{Record, Store};
use crate::digest::{Digest, VerifyingReader};
use crate::error::{Doing, ErrorKind, Result};
use crate::layer::compare::compare;
use crate::layer::unpack::Expected;
use crate::manifest::Descriptor;

/// What is damaged.
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

/// One damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub part: Part,
    /// Why it is thought to be.
    pub why: String,
    /// It was mended.
    pub repaired: bool,
}

impl Store {
    /// Checks everything. With `repair`, damaged layers are unpacked again from their blobs and damaged blobs are taken
    /// away, so that the next pull of an image that needs them fetches them.
    ///
    /// # Errors
    /// System calls that fail for other reasons than damage.
    pub fn verify(&self, repair: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut bad = HashSet::new();
        for digest in self.stored_blobs()? {
            if let Err(error) = self.check_blob(&digest) {
                // Collected since the listing; what an image misses is found below.
                if error.kind() == ErrorKind::NotFound {
                    continue;
                }
                if repair {
                    self.discard(&self.blob_path(&digest))?;
                }
                let why = error.to_string();
                let why = why.strip_prefix(&format!("{digest}: ")).unwrap_or(&why);
                // Its layer can be compared with it no more.
                let next = if repair {
                    "taken away: pull or load what needs it again, then verify"
                } else {
                    "repair takes it away"
                };
                let why = format!("{why}: {next}");
                findings.push(Finding { part: Part::Blob(digest.clone()), why, repaired: false });
                bad.insert(digest);
            }
        }
        let mut seen = HashSet::new();
        for record in self.images()? {
            let found = self.verify_image(&record, &bad, &mut seen, repair)?;
            // What is missing of an image that was removed meanwhile is no damage.
            if !found.is_empty() && self.images()?.contains(&record) {
                findings.extend(found);
            }
        }
        for name in self.volume_names()? {
            match self.volume(&name) {
                Err(error) if error.kind() == ErrorKind::Invalid => {
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
            let folder = self.path("blobs").join(algorithm);
            for entry in fs::read_dir(&folder).doing(|| format!("list {folder:?}"))? {
                let name = entry.doing(|| format!("list {folder:?}"))?.file_name();
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
                let why = "its record lists other layers than its config: pull or load it again".to_owned();
                return Ok(vec![Finding { part: Part::Image(name), why, repaired: false }]);
            }
            Err(error) => {
                let why = format!("{error}: pull or load it again");
                return Ok(vec![Finding { part: Part::Image(name), why, repaired: false }]);
            }
        };
        for (blob, diff_id) in manifest.layers.iter().zip(&record.layers) {
            if self.options.keep_blobs && !self.has_blob(blob) && !bad.contains(&blob.digest) {
                let why = format!("blob {} is missing: pull or load it again", blob.digest);
                findings.push(Finding { part: Part::Image(name.clone()), why, repaired: false });
            }
            if !seen.insert(diff_id.clone()) {
                continue;
            }
            if let Err(error) = self.check_layer(blob, diff_id) {
                let usable = !bad.contains(&blob.digest) && self.has_blob(blob);
                let repaired = repair && usable && self.unpack_again(blob, diff_id).is_ok();
                findings.push(Finding {
                    part: Part::Layer(diff_id.clone()),
                    why: error.to_string(),
                    repaired,
                });
            }
        }
        Ok(findings)
    }

    /// Reads the blob once more and compares each entry with what lies on disk.
    fn check_layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        let path = self.layer_path(diff_id).join("fs");
        let root = File::open(&path).doing(|| format!("open {path:?}"))?;
        self.layer_meta(diff_id)?;
        if !self.has_blob(blob) {
            return Ok(());
        }
        compare(self.open_blob(&blob.digest)?, root.as_fd(), self.marks, self.ownership)
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
