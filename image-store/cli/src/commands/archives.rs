//! Archives: save, load, import, export, commit.

use std::fs::File;
use std::io::{IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use image_store::archive::{self, Format, save_archive, save_dir};
use image_store::store::Record;
use image_store::{Error, ErrorKind, Reference, Result, Store};

use crate::args::Args;
use crate::output::line;
use crate::progress::Shown;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// Where output goes: a file that appears only when it is complete, or standard output, which must not be a terminal.
pub(super) fn with_output(args: &Args, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let Some(path) = args.get("output") else {
        let mut stdout = std::io::stdout().lock();
        if stdout.is_terminal() {
            return Err(invalid("an archive is not for a terminal: use -o FILE or redirect"));
        }
        write(&mut stdout)?;
        return Ok(stdout.flush()?);
    };
    let failed = |error: std::io::Error, path: &str| Error::from(error).context(format!("write {path:?}"));
    // Devices and pipes are written to as they are.
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(|e| failed(e, path))?;
        return write(&mut file);
    }
    let temporary = format!("{path}.{}", std::process::id());
    let mut file = File::create_new(&temporary).map_err(|e| failed(e, &temporary))?;
    let written =
        write(&mut file).and_then(|()| std::fs::rename(&temporary, path).map_err(|e| failed(e, path)));
    written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

/// `save IMAGE...`
pub(super) fn save(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let mut images: Vec<(Record, Vec<Reference>)> = Vec::new();
    for text in &args.positional {
        let record = store.resolve(text)?;
        // By ID it is saved without a name, as Docker does.
        let named =
            Reference::parse(text).is_ok_and(|name| store.find(&name).is_ok_and(|found| found.is_some()));
        let name = record.reference().filter(|_| named);
        match images.iter_mut().find(|(other, _)| other.manifest.digest == record.manifest.digest) {
            Some((_, names)) => names.extend(name),
            None => images.push((record, name.into_iter().collect())),
        }
    }
    let format = match args.get("format").unwrap_or("docker-archive") {
        "docker-archive" => Format::Docker,
        "oci-archive" => Format::Oci,
        "oci-dir" => {
            let path = args.get("output").ok_or_else(|| invalid("--format oci-dir: wants -o FOLDER"))?;
            save_dir(&store, &images, Path::new(path))?;
            return Ok(0);
        }
        other => {
            return Err(invalid(format!(
                "--format {other:?}: is none of docker-archive, oci-archive, oci-dir"
            )));
        }
    };
    with_output(args, |output| save_archive(&store, &images, format, output).map(drop))?;
    Ok(0)
}

/// `load [-i FILE]`
pub(super) fn load(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let quiet = args.has("quiet");
    let progress = Shown::new(quiet, "Loading");
    let platform = super::platform(args)?;
    let records = match args.get("input").filter(|path| *path != "-") {
        Some(path) => store.load(Path::new(path), &platform, &progress)?,
        None => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                return Err(invalid("an archive does not come from a terminal: use -i FILE or redirect"));
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
pub(super) fn import(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let mut composition = super::changes::composition(args, args.positional.get(1))?;
    let path = &args.positional[0];
    composition.comment.get_or_insert_with(|| format!("Imported from {path}"));
    let platform = super::platform(args)?;
    let record = if path == "-" {
        store.import(std::io::stdin(), &platform, &composition)?
    } else {
        let file = File::open(path).map_err(|e| Error::from(e).context(format!("open {path:?}")))?;
        store.import(file, &platform, &composition)?
    };
    line(record.id.as_str());
    Ok(0)
}

/// The mounted root file system of a container, or of an image. With `whole` the container's may be written to, unless it
/// runs; without, it is what an export has.
pub(super) fn mounted(store: &Store, text: &str, whole: bool) -> Result<std::os::fd::OwnedFd> {
    match super::container_id(store, text).and_then(|id| store.container(&id)) {
        Ok(container) if whole && !super::is_live(&container.id) => {
            store.container_rootfs(&container)?.mount()
        }
        Ok(container) => store.container_view(&container)?.mount(),
        Err(missing) => match store.resolve(text) {
            Ok(record) => store.rootfs(&record)?.mount(),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(missing),
            Err(error) => Err(error),
        },
    }
}

/// `export CONTAINER|IMAGE`
pub(super) fn export(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let root = mounted(&store, &args.positional[0], false)?;
    with_output(args, |output| {
        store
            .export(&root, std::io::BufWriter::with_capacity(256 << 10, output))
            .and_then(|mut out| Ok(out.flush()?))
    })?;
    Ok(0)
}

/// `commit CONTAINER [NAME]`
pub(super) fn commit(args: &Args) -> Result<u8> {
    let store = super::store(args)?;
    let composition = super::changes::composition(args, args.positional.get(1))?;
    let record = store.commit(&super::container_id(&store, &args.positional[0])?, &composition)?;
    line(record.id.as_str());
    Ok(0)
}
