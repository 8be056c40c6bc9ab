//! `--compression-format` of push and save.

use image_store::layer::compression::Compression;

use crate::cli::Args;
use crate::failure::{Result, invalid};

/// How layers that have no compression are sent.
pub(super) fn compression(args: &Args) -> Result<Compression> {
    match args.get("compression-format").unwrap_or("gzip") {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "none" => Ok(Compression::None),
        other => Err(invalid(format!("--compression-format {other:?}: must be gzip, zstd or none"))),
    }
}
