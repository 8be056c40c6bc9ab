//! Disk usage of containers and volumes.

use std::path::Path;

use image_store::Store;
use image_store::store::ContainerRecord;

use crate::places;

/// The size of the files in a container's writable layer.
pub(crate) fn written(store: &Store, container: &ContainerRecord) -> u64 {
    bytes(&places::container(store, &container.id).upper())
}

/// The size of the files below a directory.
pub(crate) fn bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
