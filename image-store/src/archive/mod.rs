//! Images in folders and archives: OCI layout, the same in a tar, and what `docker save` writes, old and new.
//!
//! All of them come down to [`Files`], names to bytes, which a folder and a tar offer alike; what differs is only how the
//! list of images is found. Writing is one way: an OCI layout with Docker's `manifest.json` beside it is read by all.

mod docker;
mod files;
mod load;
mod save;

pub use files::{Files, FolderFiles, TarFiles};
pub use load::{Found, OciLayout, load, open};
pub use save::{Format, save_archive, save_folder};

use serde::{Deserialize, Serialize};

/// Annotation with a name or only a tag: OCI image specification, "Pre-Defined Annotation Keys".
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the complete name, as containerd and Docker since 25 write it.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// One image of Docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerItem {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}
