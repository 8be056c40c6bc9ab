//! Mount points that an image lacks, in a layer of their own. Directories that the image has too get the image's attributes,
//! because overlay shows those of the topmost layer.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Doing, Result};
use crate::layer::change::{clean, join};
use crate::tar::show;
use crate::tree;

/// Creates in `stubs` the paths that do not exist in `view`, the mounted image: directories (`true`) and files.
pub(crate) fn make<'p>(
    view: &OwnedFd,
    stubs: &File,
    paths: impl IntoIterator<Item = (&'p str, bool)>,
) -> Result<()> {
    copy_attributes(view, stubs, b"")?;
    for (path, is_dir) in paths {
        let path = clean(path.as_bytes())?;
        if path.is_empty() {
            // The root.
            continue;
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let there = rustix::fs::openat2(
            view,
            path.as_slice(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        );
        if there.is_err() {
            one(view, stubs, &path, is_dir).doing(|| show(&path))?;
        }
    }
    Ok(())
}

fn one(view: &OwnedFd, stubs: &File, path: &[u8], is_dir: bool) -> Result<()> {
    let components: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let Some((last, parents)) = components.split_last() else { return Ok(()) };
    let mut at = Vec::new();
    for component in parents {
        at = join(&at, component);
        match tree::open_dir(view, &at, OFlags::PATH) {
            Ok(_) | Err(Errno::NOENT) => {}
            // A link or file is in the way: the runtime handles these.
            Err(_) => return Ok(()),
        }
        make_dir(stubs, &at)?;
        copy_attributes(view, stubs, &at)?;
    }
    if is_dir {
        return make_dir(stubs, path);
    }
    let parent = tree::open_dir(stubs, &at, OFlags::PATH).doing(|| "open directory")?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, *last, flags, Mode::from_raw_mode(0o644)).doing(|| "create").map(drop)
}

fn make_dir(stubs: &File, path: &[u8]) -> Result<()> {
    match rustix::fs::mkdirat(stubs, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).doing(|| "mkdir"),
    }
}

fn copy_attributes(view: &OwnedFd, stubs: &File, path: &[u8]) -> Result<()> {
    let Ok(from) = tree::open_dir(view, path, OFlags::RDONLY) else { return Ok(()) };
    let to = tree::open_dir(stubs, path, OFlags::RDONLY).doing(|| "open directory")?;
    crate::fixup::copy(&from, &to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_there_however_it_is_spelled() {
        let place = crate::scratch::Scratch::new("stubs");
        for name in ["view", "stubs"] {
            std::fs::create_dir(place.path().join(name)).unwrap();
        }
        let open = |name: &str| File::open(place.path().join(name)).unwrap();
        let paths = ["", "/", "//", "/.", "./"].map(|path| (path, true));
        make(&open("view").into(), &open("stubs"), paths.into_iter().chain([("/new/dir", true)])).unwrap();
        let made: Vec<_> = std::fs::read_dir(place.path().join("stubs")).unwrap().collect();
        assert!(made.len() == 1 && place.path().join("stubs/new/dir").is_dir());
    }
}
