//! Images in directories and archives: OCI layouts, as a directory or in a tar archive, and docker-archive.
//!
//! All of them are read through [`Files`], by name. They are written as an OCI layout; with Docker's `manifest.json` in it,
//! all tools can read it.

mod docker;
mod files;
mod load;
mod save;

pub use files::{DirFiles, Files, TarFiles};
pub use load::{OciLayout, load, open};
pub use save::{Format, save_archive, save_dir};

use serde::{Deserialize, Serialize};

use crate::absent::or_default;
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// An image in an archive.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// Its complete names.
    pub names: Vec<Reference>,
    /// The tag or other name that an OCI layout gives it.
    pub tag: Option<String>,
}

/// Annotation with a name or tag (OCI image specification, annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the complete name, as written by containerd and Docker since version 25.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image in Docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
pub(crate) struct DockerItem {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<String>,
}
