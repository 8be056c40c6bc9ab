//! `cp`: copies files between a container and the host.

use std::io::Write as _;

use image_store::ErrorKind;
use image_store::copy::{CopyOptions, Owner, Place, copy};

use super::root;
use crate::cli::Args;
use crate::container::find;
use crate::failure::{Failure, Result};
use crate::{archive_output, places};

/// `cp SOURCE TARGET`: one of the two is CONTAINER:PATH; `-` is a tar.
pub(crate) fn cp(args: &Args) -> Result<u8> {
    let store = places::store(args)?;
    let (source, target) = (&args.positional[0], &args.positional[1]);
    let (id, confined, host, out) = match (container_path(source), container_path(target)) {
        (Some((id, path)), None) => (id, path, target, true),
        (None, Some((id, path))) => (id, path, source, false),
        (None, None) => return Err(wrong("the source or the target must be CONTAINER:PATH")),
        _ => return Err(wrong("copying between containers is not supported")),
    };
    let root = root::with_mounts(&store, &find::find(&store, id)?)?;
    // As in Docker, copies in a container belong to its root, copies on the host to the caller.
    let (uid, gid) =
        if out { (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()) } else { (0, 0) };
    let archive = args.has("archive");
    let owner = if archive { Owner::Keep } else { Owner::Set(uid, gid) };
    let options = CopyOptions { owner, follow: args.has("follow-link"), devices: archive };
    match (host.as_str(), out) {
        ("-", true) => {
            return archive_output::write_to(args, |output| {
                let output = std::io::BufWriter::with_capacity(256 << 10, output);
                Ok(store.copy_out(&root, confined, options.follow, output)?.flush()?)
            })
            .map(|()| 0);
        }
        ("-", false) => {
            store.copy_in(std::io::stdin(), &root, confined, options.devices)?;
            return Ok(0);
        }
        _ => {}
    }
    let outside = Place::host()?;
    if out {
        copy(&root, confined, &outside, host, options)?;
    } else {
        copy(&outside, host, &root, confined, options)?;
    }
    Ok(0)
}

fn wrong(why: &str) -> Failure {
    Failure::new(ErrorKind::Invalid, format!("cp: {why}"))
}

/// `NAME:PATH`, unless it begins like a path.
fn container_path(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    text.split_once(':').filter(|(id, _)| !id.contains('/'))
}
