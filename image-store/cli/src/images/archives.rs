//! `save`, `load` and `import`: archives of images.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use image_store::Reference;
use image_store::archive::{self, Format, save_archive, save_dir};
use image_store::store::Record;

use super::changes::composition;
use super::compression::compression;
use super::platform;
use crate::cli::Args;
use crate::failure::{Result, invalid, os};
use crate::output::line;
use crate::progress::Shown;
use crate::{archive_output, places};

/// `save IMAGE...`
pub(crate) fn save(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let mut images: Vec<(Record, Vec<Reference>)> = Vec::new();
    for text in &args.positional {
        let record = store.resolve(text)?;
        // By its ID, an image is saved without a name, as in Docker.
        let named =
            Reference::parse(text).is_ok_and(|name| store.find(&name).is_ok_and(|found| found.is_some()));
        let name = record.reference().filter(|_| named);
        match images.iter_mut().find(|(other, _)| other.manifest.digest == record.manifest.digest) {
            Some((_, names)) => names.extend(name),
            None => images.push((record, name.into_iter().collect())),
        }
    }
    let compression = compression(args)?;
    let format = match args.get("format").unwrap_or("docker-archive") {
        "docker-archive" => Format::Docker,
        "oci-archive" => Format::Oci,
        "oci-dir" => {
            let path =
                args.get("output").ok_or_else(|| invalid("--format oci-dir: -o DIRECTORY is required"))?;
            save_dir(&store, &images, compression, Path::new(path))?;
            return Ok(0);
        }
        other => {
            return Err(invalid(format!(
                "--format {other:?}: must be docker-archive, oci-archive or oci-dir"
            )));
        }
    };
    archive_output::write_to(args, |output| {
        save_archive(&store, &images, format, compression, output)?;
        Ok(())
    })?;
    Ok(0)
}

/// `load [-i FILE]`
pub(crate) fn load(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let quiet = args.has("quiet");
    let progress = Shown::new(quiet, "Loading");
    let platform = platform::wanted(args)?;
    let records = match args.get("input").filter(|path| *path != "-") {
        Some(path) => store.load(Path::new(path), &platform, &progress)?,
        None => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                return Err(invalid("refusing to read an archive from a terminal: use -i FILE or redirect"));
            }
            let file = File::from(stdin.as_fd().try_clone_to_owned()?);
            archive::load(&store, file, &platform, &progress)?
        }
    };
    for record in records {
        match record.reference() {
            Some(name) => line(&format!("Loaded image: {}", name.familiar())),
            None => line(&format!("Loaded image ID: {}", record.id)),
        }
    }
    Ok(0)
}

/// `import FILE|- [NAME]`
pub(crate) fn import(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let mut composition = composition(args, args.positional.get(1))?;
    let path = &args.positional[0];
    composition.comment.get_or_insert_with(|| format!("Imported from {path}"));
    let platform = platform::wanted(args)?;
    let record = if path == "-" {
        store.import(std::io::stdin(), &platform, &composition)?
    } else {
        let file = File::open(path).map_err(|e| os(e, format!("open {path:?}")))?;
        store.import(file, &platform, &composition)?
    };
    line(record.id.as_str());
    Ok(0)
}
