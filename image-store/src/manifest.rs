//! Image documents: descriptors, manifests, indexes and configs, of OCI and of Docker.
//!
//! Documents are kept and hashed as the bytes that were received; what is parsed here is only for reading.
//! Sizes are limited, and a document that could be read as two kinds is refused (CVE-2021-41190). Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

/// Media types of the OCI image specification and of Docker's schema 2.
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
    /// Uncompressed Docker layer, found in archives.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// Largest manifest that is read, in bytes; the distribution specification wants registries to take 4 MiB.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest index that is read, in bytes.
pub const INDEX_LIMIT: u64 = 8 << 20;
/// Largest config that is read, in bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;
/// Most layers of one image; overlay takes at most 500 lower directories (kernel 6.18, `OVL_MAX_STACK`).
pub const LAYERS_LIMIT: usize = 499;
const CHILDREN_LIMIT: usize = 4096;

/// A typed, sized, hashed pointer to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the blob is.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Its hash.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it was made for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form remarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Other places to get it from (non-distributable layers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

impl Descriptor {
    /// A descriptor without any of the optional parts.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: None, urls: None }
    }

    /// A descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// An annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// BuildKit puts attestations into the index as images for the platform unknown/unknown.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
            || self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }

    /// Whether a registry must not be given the blob (base layers of Windows and the like).
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains("nondistributable") || self.media_type.contains("foreign.diff")
    }
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Its own type; OCI lets it be absent.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Free-form remarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// The type of the config, when that says that this is something else than an image.
    #[must_use]
    pub fn artifact(&self) -> Option<&str> {
        let kind = self.config.media_type.as_str();
        // Old registries called every config a stream of bytes.
        let image = [media::OCI_CONFIG, media::DOCKER_CONFIG, "application/octet-stream", ""].contains(&kind);
        (!image).then_some(kind)
    }
}

/// An image index, or Docker's manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Its own type.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The images.
    pub manifests: Vec<Descriptor>,
    /// Free-form remarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a manifest's bytes turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A list of images.
    Index(Index),
}

/// The fields whose presence tells the kinds of documents apart.
#[derive(Deserialize)]
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
    /// Parses `bytes`, which a registry or descriptor called `expected` (empty: not told).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for broken or ambiguous documents,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for schema 1 and things that are no images.
    pub fn parse(bytes: &[u8], expected: &str) -> Result<Self> {
        let bad = |why: String| Error::invalid(format!("manifest: {why}"));
        let shape: Shape = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
            let why =
                "manifest: schema 1, which Docker dropped in 2022: push the image again with a newer tool";
            return Err(Error::unsupported(why));
        }
        if shape.schema_version != Some(2) {
            return Err(bad("schemaVersion is not 2".into()));
        }
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(bad(
                "has both \"manifests\" and \"layers\" or \"config\": it could be read in two ways".into(),
            ));
        }
        let inside = shape.media_type.unwrap_or_default();
        let expected = expected.split(';').next().unwrap_or_default().trim();
        let outside = if is_document(expected) { expected } else { "" };
        if !inside.is_empty() && !outside.is_empty() && inside != outside {
            return Err(bad(format!("was announced as {outside:?} but calls itself {inside:?}")));
        }
        let kind = if inside.is_empty() { outside } else { &inside };
        match kind {
            media::OCI_INDEX | media::DOCKER_LIST => Self::index(bytes),
            media::OCI_MANIFEST | media::DOCKER_MANIFEST => Self::manifest(bytes),
            "" if shape.manifests.is_some() => Self::index(bytes),
            "" => Self::manifest(bytes),
            other => Err(Error::unsupported(format!("manifest: media type {other:?} is no image"))),
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
                "manifest: {count} layers, overlay takes at most {LAYERS_LIMIT}"
            )));
        }
        if manifest.config.size > CONFIG_LIMIT {
            return Err(Error::limit(format!("manifest: a config of more than {CONFIG_LIMIT} bytes")));
        }
        Ok(Self::Manifest(manifest))
    }

    /// The media type under which the document is served: its own, or what its shape says.
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
    /// The image that fits `wanted` best. Images that name no platform serve when none that names one does.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), listing what there is.
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
        let offered: Vec<String> = images().filter_map(|d| Some(d.platform.as_ref()?.to_string())).collect();
        Err(Error::not_found(format!("no image for {wanted}, only for: {}", offered.join(", "))))
    }
}

/// The parts of an image config that are acted upon. All else is kept in the blob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// Time of creation, RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default)]
    pub author: Option<String>,
    /// What machine it is for.
    #[serde(flatten)]
    pub platform: Platform,
    /// How to run it.
    #[serde(default)]
    pub config: Option<RunConfig>,
    /// Its layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// How the layers came to be.
    #[serde(default)]
    pub history: Option<Vec<History>>,
}

/// The `rootfs` of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// The `config` of a config: defaults for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`.
    pub user: Option<String>,
    /// `VARIABLE=value`.
    pub env: Option<Vec<String>>,
    /// What is run.
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or the command when there is no entry point.
    pub cmd: Option<Vec<String>>,
    /// Folders that want a volume.
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// Where to start.
    pub working_dir: Option<String>,
    /// Remarks.
    pub labels: Option<BTreeMap<String, String>>,
    /// Name or number of the signal that stops it.
    pub stop_signal: Option<String>,
    /// `80/tcp`: ports it listens on.
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

/// One line of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Time of creation, RFC 3339.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: Option<String>,
    /// Who did it.
    pub author: Option<String>,
    /// A remark.
    pub comment: Option<String>,
    /// The step made no layer.
    pub empty_layer: Option<bool>,
}

impl ImageConfig {
    /// Parses a config and checks it against the count of layers of its manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid).
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("image config: {e}")))?;
        let ids = config.rootfs.diff_ids.len();
        if ids != layers {
            return Err(Error::invalid(format!(
                "image config: {ids} diff_ids for the manifest's {layers} layers"
            )));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn digest(n: u8) -> String {
        Digest::of(&[n]).to_string()
    }

    #[test]
    fn a_document_is_what_its_type_or_its_shape_says() {
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{}","size":2}},"layers":[]}}"#,
            digest(1)
        );
        assert!(matches!(Document::parse(manifest.as_bytes(), "").unwrap(), Document::Manifest(_)));
        assert!(matches!(
            Document::parse(manifest.as_bytes(), media::DOCKER_MANIFEST).unwrap(),
            Document::Manifest(_)
        ));
        assert!(matches!(Document::parse(manifest.as_bytes(), "text/plain").unwrap(), Document::Manifest(_)));
        let index = br#"{"schemaVersion":2,"manifests":[],"annotations":null}"#;
        assert!(matches!(Document::parse(index, "").unwrap(), Document::Index(_)));
    }

    #[test]
    fn broken_and_ambiguous_documents_are_refused() {
        let d = digest(1);
        let config = format!(r#"{{"mediaType":"x","digest":"{d}","size":2}}"#);
        for (text, announced) in [
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned(), ""),
            (format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config}}}"#), ""),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), ""),
            (r#"{"manifests":[]}"#.to_owned(), ""),
            (r#"[]"#.to_owned(), ""),
            (
                format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"{d}","size":-1}}]}}"#),
                "",
            ),
            (
                format!(
                    r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"sha256:x","size":1}}]}}"#
                ),
                "",
            ),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX),
                media::OCI_MANIFEST,
            ),
            (r#"{"schemaVersion":2,"mediaType":"application/x","config":{}}"#.to_owned(), ""),
        ] {
            assert!(Document::parse(text.as_bytes(), announced).is_err(), "{text}");
        }
        let schema1 = Document::parse(br#"{"schemaVersion":1}"#, "").unwrap_err();
        assert_eq!(schema1.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn an_index_gives_the_best_image_and_never_an_attestation() {
        let entry = |n: u8, platform: &str, extra: &str| {
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":1,"platform":{platform}{extra}}}"#,
                media::OCI_MANIFEST,
                digest(n)
            )
        };
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{},{}]}}"#,
            entry(1, r#"{"os":"unknown","architecture":"unknown"}"#, ""),
            entry(
                2,
                r#"{"os":"linux","architecture":"amd64"}"#,
                r#","annotations":{"vnd.docker.reference.type":"x"}"#
            ),
            entry(3, r#"{"os":"linux","architecture":"arm","variant":"v6"}"#, ""),
            entry(4, r#"{"os":"linux","architecture":"arm64"}"#, ""),
        );
        let Document::Index(index) = Document::parse(index.as_bytes(), "").unwrap() else {
            panic!("no index")
        };
        let choose = |platform: &str| index.choose(&Platform::parse(platform).unwrap());
        assert_eq!(choose("linux/arm64").unwrap().digest.as_str(), digest(4));
        assert_eq!(choose("linux/arm/v7").unwrap().digest.as_str(), digest(3));
        let error = choose("linux/amd64").unwrap_err();
        assert_eq!(error.to_string(), "no image for linux/amd64, only for: linux/arm/v6, linux/arm64");
    }

    #[test]
    fn a_config_must_count_its_layers_as_the_manifest_does() {
        let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let parsed = ImageConfig::parse(config, 0).unwrap();
        assert_eq!(parsed.platform.to_string(), "linux/amd64");
        assert_eq!(parsed.config.unwrap().env.unwrap(), ["A=b"]);
        assert!(ImageConfig::parse(config, 1).is_err());
    }
}
