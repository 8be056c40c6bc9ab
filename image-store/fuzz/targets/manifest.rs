//! Manifests, indexes and configs: no panic, and no document that can be read as two types.

use image_store::manifest::{Document, ImageConfig};
use image_store::platform::Platform;

/// Tests one input.
pub(crate) fn run(bytes: &[u8]) {
    match Document::parse(bytes, "") {
        Ok(Document::Index(index)) => {
            let _ = index.choose(&Platform::host());
            assert!(
                Document::parse(bytes, image_store::manifest::media::OCI_MANIFEST).is_err()
                    || index.media_type.is_empty()
            );
        }
        Ok(Document::Manifest(manifest)) => {
            assert!(manifest.layers.len() <= image_store::manifest::LAYERS_LIMIT)
        }
        Err(_) => {}
    }
    let _ = ImageConfig::parse(bytes, 0);
}
