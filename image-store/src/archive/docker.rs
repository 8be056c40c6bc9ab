//! docker-archive: what `docker save` wrote before version 25, and podman and skopeo still do. `manifest.json` lists the
//! images, each with a config and uncompressed layers. A manifest is generated for each image; the config, and with it
//! the image's ID, stays as it is.

use std::collections::HashMap;
use std::io::Read;

use super::{DockerItem, Files, Found};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Doing, Error, Result};
use crate::layer::compression::Compression;
use crate::manifest::{CONFIG_LIMIT, Descriptor, INDEX_LIMIT, ImageConfig, LAYERS_LIMIT, Manifest, media};
use crate::reference::Reference;
use crate::store::Source;

/// The images of a docker-archive.
pub(super) struct DockerArchive {
    files: Box<dyn Files>,
    /// Blobs by digest.
    blobs: HashMap<Digest, Blob>,
}

/// A blob: the name of a file in the archive, or the bytes of a generated manifest.
enum Blob {
    File(String),
    Bytes(Vec<u8>),
}

impl Source for DockerArchive {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        match self.blobs.get(&descriptor.digest) {
            Some(Blob::File(name)) => self.files.open(name).map(|(input, _)| input),
            Some(Blob::Bytes(bytes)) => Ok(Box::new(bytes.as_slice())),
            None => Err(Error::not_found(format!("blob {}: not in the archive", descriptor.digest))),
        }
    }
}

/// Reads `manifest.json` and generates a manifest for each image.
pub(super) fn open(files: Box<dyn Files>) -> Result<(DockerArchive, Vec<Found>)> {
    let bytes = files.read("manifest.json", INDEX_LIMIT)?;
    let items: Vec<DockerItem> =
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("manifest.json: {e}")))?;
    if items.len() > 4096 {
        return Err(Error::limit("manifest.json: more than 4096 images"));
    }
    let mut archive = DockerArchive { files, blobs: HashMap::new() };
    let mut found = Vec::new();
    for item in items {
        let descriptor = archive.image(&item).doing(|| format!("archived image {:?}", item.config))?;
        let names = item.repo_tags.unwrap_or_default();
        let names = names.iter().map(|name| Reference::parse(name)).collect::<Result<_>>()?;
        found.push(Found { descriptor, names, tag: None });
    }
    Ok((archive, found))
}

impl DockerArchive {
    fn image(&mut self, item: &DockerItem) -> Result<Descriptor> {
        if item.layers.len() > LAYERS_LIMIT {
            return Err(Error::limit(format!("more than {LAYERS_LIMIT} layers")));
        }
        let config_bytes = self.files.read(&item.config, CONFIG_LIMIT)?;
        let config = ImageConfig::parse(&config_bytes, item.layers.len())?;
        let config_descriptor = Descriptor::of(media::OCI_CONFIG, &config_bytes);
        let mut layers = Vec::new();
        for (name, diff_id) in item.layers.iter().zip(&config.rootfs.diff_ids) {
            let descriptor = self.layer(name, diff_id).doing(|| format!("layer {name:?}"))?;
            self.blobs.insert(descriptor.digest.clone(), Blob::File(name.clone()));
            layers.push(descriptor);
        }
        self.blobs.insert(config_descriptor.digest.clone(), Blob::File(item.config.clone()));
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::OCI_MANIFEST.to_owned(),
            config: config_descriptor,
            layers,
            annotations: None,
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::invalid(e.to_string()))?;
        let descriptor = Descriptor::of(media::OCI_MANIFEST, &bytes);
        self.blobs.insert(descriptor.digest.clone(), Blob::Bytes(bytes));
        Ok(descriptor)
    }

    /// The digest of an uncompressed layer is its diffID, which is verified later; that of a compressed layer is computed.
    fn layer(&self, name: &str, diff_id: &Digest) -> Result<Descriptor> {
        let (mut input, size) = self.files.open(name)?;
        let mut buffer = vec![0; 256 << 10];
        let mut length = 0;
        while length < 8 {
            match input.read(&mut buffer[length..])? {
                0 => break,
                count => length += count,
            }
        }
        let compression = Compression::sniff(&buffer[..length])?;
        if compression == Compression::None {
            return Ok(Descriptor::new(media::OCI_LAYER, diff_id.clone(), size));
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        while length > 0 {
            hasher.update(&buffer[..length]);
            length = input.read(&mut buffer)?;
        }
        Ok(Descriptor::new(compression.media_type(), hasher.finish(), size))
    }
}
