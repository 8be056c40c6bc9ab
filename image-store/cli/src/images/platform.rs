//! The platform that images are for: `--platform`, or this machine's.

use image_store::platform::Platform;
use image_store::store::Record;

use crate::cli::Args;
use crate::failure::Result;

/// The platform that the flags ask for.
pub(crate) fn wanted(args: &Args) -> Result<Platform> {
    match args.get("platform") {
        Some(text) => Ok(Platform::parse(text)?),
        None => Ok(Platform::host()),
    }
}

/// Warns about an image for another platform, which is accepted, as in Docker.
pub(crate) fn warn(args: &Args, record: &Record) -> Result<()> {
    let wanted = wanted(args)?;
    if Platform::parse(&record.platform).is_ok_and(|own| wanted.rank(&own).is_none()) {
        let name = record.reference().map_or_else(|| record.id.short().to_owned(), |name| name.familiar());
        eprintln!("knarr-image: warning: {name}: the image's platform is {}, not {wanted}", record.platform);
    }
    Ok(())
}
