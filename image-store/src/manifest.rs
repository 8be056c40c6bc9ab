//! Image documents of OCI and Docker: descriptors, manifests, indexes and configs.
//!
//! Documents are stored and hashed as received; the types here are only for reading them. Sizes are limited, and a
//! document that could be read as more than one type is refused (CVE-2021-41190). No I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::absent::{self, or_default};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

/// Media types of the OCI image specification (media-types.md) and of Docker's image manifest version 2, schema 2.
pub mod media {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Uncompressed OCI layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Gzip-compressed OCI layer.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// Zstandard-compressed OCI layer.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker schema 2 manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Gzip-compressed Docker layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Uncompressed Docker layer, as in archives.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// Largest manifest that is read, in bytes: the OCI distribution specification recommends at least 4 MiB.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest index that is read, in bytes.
pub const INDEX_LIMIT: u64 = 8 << 20;
/// Largest config that is read, in bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;
/// Largest number of layers of an image: overlay supports 500 lower directories (Linux 6.18, `OVL_MAX_STACK`), and one
/// is for the fix-up layer.
pub const LAYERS_LIMIT: usize = 499;
/// Largest number of images in an index.
const CHILDREN_LIMIT: usize = 4096;

/// A reference to a blob by digest (OCI image specification, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct Descriptor {
    /// The blob's media type.
    #[serde(rename = "mediaType", default, deserialize_with = "or_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The platform it is for; only in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// URLs to download it from; only of non-distributable layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

impl Descriptor {
    /// A descriptor without the optional fields.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: None, urls: None }
    }

    /// The descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether this is a BuildKit attestation, which is in an index as an image for the platform unknown/unknown.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
            || self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }

    /// Whether the blob must not be pushed: non-distributable layers, such as Windows base layers.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains("nondistributable") || self.media_type.contains("foreign.diff")
    }
}

/// An image manifest (OCI image specification, manifest.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Its media type; optional in OCI.
    #[serde(
        rename = "mediaType",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub media_type: String,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// The media type of the config if it says that this is an artifact and not an image.
    #[must_use]
    pub fn artifact(&self) -> Option<&str> {
        let kind = self.config.media_type.as_str();
        // Old registries gave every config the generic type.
        let image = [media::OCI_CONFIG, media::DOCKER_CONFIG, "application/octet-stream", ""].contains(&kind);
        (!image).then_some(kind)
    }
}

/// An image index (OCI image specification, image-index.md) or Docker manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Its media type; optional in OCI.
    #[serde(
        rename = "mediaType",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub media_type: String,
    /// The manifests, one per platform.
    #[serde(default, deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A document at the top of an image: a manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images for several platforms.
    Index(Index),
}

/// The fields that tell the types of documents apart.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Shape {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u32>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses `bytes`. `expected` is the media type that the registry or descriptor states; may be empty.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for malformed and ambiguous documents,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for Docker's schema 1 and other media types.
    pub fn parse(bytes: &[u8], expected: &str) -> Result<Self> {
        let bad = |why: String| Error::invalid(format!("manifest: {why}"));
        let shape: Shape = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
            let why = "manifest: schema 1 is not supported (nor by Docker since 2022): push the image again with a newer tool";
            return Err(Error::unsupported(why));
        }
        if shape.schema_version != Some(2) {
            return Err(bad("schemaVersion is not 2".into()));
        }
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(bad("ambiguous: has both \"manifests\" and \"layers\" or \"config\"".into()));
        }
        let inside = shape.media_type.unwrap_or_default();
        let expected = expected.split(';').next().unwrap_or_default().trim();
        let outside = if is_document(expected) { expected } else { "" };
        if !inside.is_empty() && !outside.is_empty() && inside != outside {
            return Err(bad(format!("media type mismatch: served as {outside:?}, declared as {inside:?}")));
        }
        let kind = if inside.is_empty() { outside } else { &inside };
        match kind {
            media::OCI_INDEX | media::DOCKER_LIST => Self::index(bytes),
            media::OCI_MANIFEST | media::DOCKER_MANIFEST => Self::manifest(bytes),
            "" if shape.manifests.is_some() => Self::index(bytes),
            "" => Self::manifest(bytes),
            other => Err(Error::unsupported(format!("manifest: media type {other:?} is not supported"))),
        }
    }

    fn index(bytes: &[u8]) -> Result<Self> {
        let index: Index =
            serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("index: {e}")))?;
        if index.manifests.len() > CHILDREN_LIMIT {
            return Err(Error::limit(format!("index: more than {CHILDREN_LIMIT} images")));
        }
        Ok(Self::Index(index))
    }

    fn manifest(bytes: &[u8]) -> Result<Self> {
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("manifest: {e}")))?;
        if manifest.layers.len() > LAYERS_LIMIT {
            let count = manifest.layers.len();
            return Err(Error::limit(format!(
                "manifest: {count} layers; at most {LAYERS_LIMIT} are supported"
            )));
        }
        if manifest.config.size > CONFIG_LIMIT {
            return Err(Error::limit(format!("manifest: config larger than {CONFIG_LIMIT} bytes")));
        }
        Ok(Self::Manifest(manifest))
    }

    /// The media type: the document's own, or OCI's for a document without one.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(m) if m.media_type.is_empty() => media::OCI_MANIFEST,
            Self::Manifest(m) => &m.media_type,
            Self::Index(i) if i.media_type.is_empty() => media::OCI_INDEX,
            Self::Index(i) => &i.media_type,
        }
    }
}

/// Whether `media_type` names a manifest or index.
#[must_use]
pub fn is_document(media_type: &str) -> bool {
    [media::OCI_MANIFEST, media::OCI_INDEX, media::DOCKER_MANIFEST, media::DOCKER_LIST].contains(&media_type)
}

impl Index {
    /// The image that fits `wanted` best; if none does, one without a platform.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), with the platforms that are available.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor> {
        let images = || self.manifests.iter().filter(|d| !d.is_attestation());
        let typed = |d: &Descriptor| d.media_type.is_empty() || is_document(&d.media_type);
        let ranked = images()
            .filter(|d| typed(d))
            .filter_map(|d| Some((wanted.rank(d.platform.as_ref()?)?, d)))
            .min_by_key(|(rank, _)| *rank);
        if let Some((_, descriptor)) = ranked {
            return Ok(descriptor);
        }
        if let Some(descriptor) = images().find(|d| typed(d) && d.platform.is_none()) {
            return Ok(descriptor);
        }
        if images().next().is_none() {
            return Err(Error::not_found("the index has no images"));
        }
        let offered: Vec<String> = images().filter_map(|d| Some(d.platform.as_ref()?.to_string())).collect();
        Err(Error::not_found(format!("no image for {wanted}: available platforms: {}", offered.join(", "))))
    }
}

/// The fields of an image config that are used (OCI image specification, config.md). The blob has all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
pub struct ImageConfig {
    /// Time of creation, RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// The author.
    #[serde(default)]
    pub author: Option<String>,
    /// The platform it is for.
    #[serde(flatten)]
    pub platform: Platform,
    /// Defaults for containers.
    #[serde(default)]
    pub config: Option<RunConfig>,
    /// The layers.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// The history of the layers, oldest first.
    #[serde(default)]
    pub history: Option<Vec<History>>,
}

/// The `rootfs` field of an image config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object")]
pub struct RootFs {
    /// diffIDs: digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// The `config` field of an image config: defaults for containers. What is empty in the config is `None` here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "an object")]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`.
    #[serde(deserialize_with = "absent::text")]
    pub user: Option<String>,
    /// Environment variables, as `NAME=value`.
    pub env: Option<Vec<String>>,
    /// The program and its first arguments.
    #[serde(deserialize_with = "absent::entry_point")]
    pub entrypoint: Option<Vec<String>>,
    /// The remaining arguments; the whole command if there is no entry point.
    #[serde(deserialize_with = "absent::words")]
    pub cmd: Option<Vec<String>>,
    /// Mount points of volumes; the values are empty.
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// Working directory.
    #[serde(deserialize_with = "absent::text")]
    pub working_dir: Option<String>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Name or number of the signal that stops a container.
    #[serde(deserialize_with = "absent::text")]
    pub stop_signal: Option<String>,
    /// Ports that it listens on, as `80/tcp`; the values are empty.
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// How to find out whether the container works.
    pub healthcheck: Option<HealthCheck>,
}

/// The `Healthcheck` field of [`RunConfig`], which is Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "an object")]
pub struct HealthCheck {
    /// `NONE`, `CMD` with a program and its arguments, or `CMD-SHELL` with a command line; if empty, that of a parent image.
    #[serde(deserialize_with = "absent::words")]
    pub test: Option<Vec<String>>,
}

impl HealthCheck {
    /// Whether there is something to run.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.test.iter().flatten().next().is_some_and(|kind| !["", "NONE"].contains(&&**kind))
    }
}

/// An entry of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "an object")]
pub struct History {
    /// Time of creation, RFC 3339.
    pub created: Option<String>,
    /// The instruction that created the layer.
    pub created_by: Option<String>,
    /// The author.
    pub author: Option<String>,
    /// A comment.
    pub comment: Option<String>,
    /// Whether the step created no layer.
    pub empty_layer: Option<bool>,
}

impl ImageConfig {
    /// Parses a config. It must have as many diffIDs as the manifest has layers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) otherwise, and if it does not parse.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("image config: {e}")))?;
        let ids = config.rootfs.diff_ids.len();
        if ids != layers {
            return Err(Error::invalid(format!(
                "image config: {ids} diff_ids but {layers} layers in the manifest"
            )));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
