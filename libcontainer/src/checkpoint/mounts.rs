//! The mounts of a container that CRIU has to be told of: trees of the host, which it neither saves nor restores by itself.
//!
//! The names are runc's, so that either runtime restores what the other has saved: a bind mount is named by the place it has in the
//! container, all that hides a file by `/dev/null`.

use super::rpc::ExternalMount;
use crate::error::{Context, Error, Result};
use crate::plan::step::Source;
use crate::rootfs::resolve;
use crate::sys::fs;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const NULL: &str = "/dev/null";

/// The host's trees in a container that runs, whose root is `root` and whose mounts /proc/PID/mountinfo lists. `binds` are the places
/// that config.json names.
pub(super) fn to_save(root: BorrowedFd<'_>, mountinfo: &str, binds: &[String]) -> Result<Vec<ExternalMount>> {
    let mut list: Vec<ExternalMount> = Vec::new();
    for place in binds {
        let name = c_path(place.as_bytes())?;
        // A mount that the container has taken away is none to tell of.
        if let Ok(found) = place_of(root, &name) {
            let found = text(&found)?;
            list.push(ExternalMount { key: found.clone(), value: found });
        }
    }
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        if mount.id_mapped {
            let what = format!("the mount at {:?} is id-mapped, which CRIU cannot restore", mount.place);
            return Err(Error::unsupported(what));
        }
        if list.iter().any(|external| Path::new(&external.key) == mount.place) {
            continue;
        }
        if let Some(value) = special(root, &mount)? {
            list.push(ExternalMount { key: text(&mount.place)?, value });
        }
    }
    Ok(list)
}

/// The key of a mount of a single file: a mask, or a device of the host where none could be made.
fn special(root: BorrowedFd<'_>, mount: &Mount) -> Result<Option<String>> {
    let name = c_path(mount.place.as_os_str().as_bytes())?;
    let Ok(file) = resolve::open(root, &name, libc::O_PATH | libc::O_NOFOLLOW) else { return Ok(None) };
    let stat = fs::fstat(file.as_fd()).with_context(|| format!("fstat {:?}", mount.place))?;
    let device = matches!(stat.st_mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
    // The container's terminal is not a device of the host.
    if !device || mount.fstype == "devpts" {
        return Ok(None);
    }
    let null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == fs::device(1, 3);
    Ok(Some(if null && mount.place != Path::new(NULL) { NULL.to_owned() } else { text(&mount.place)? }))
}

/// Where the host's trees come from in a container that is restored. `root` is its root as the dry run has assembled it.
pub(super) fn to_restore<'a>(
    root: BorrowedFd<'_>,
    binds: impl Iterator<Item = (&'a CStr, &'a Source)>,
    nodes: impl Iterator<Item = &'a CStr>,
) -> Result<Vec<ExternalMount>> {
    let base = path_of(root)?;
    let below = |path: PathBuf| {
        let inside = path.strip_prefix(&base).map(|rest| Path::new("/").join(rest));
        inside.map_err(|_| Error::invalid(format!("mount point {path:?} is not below the root {base:?}")))
    };
    let mut list = Vec::new();
    for (place, source) in binds {
        let what = || format!("mounts: {place:?}");
        let key = text(&below(place_of(root, place).with_context(what)?)?)?;
        let value = match source {
            // CRIU looks for the mount that a source is on by its name, which has to be the real one.
            Source::Path(path) | Source::PathOrTree { path, .. } => {
                let path = Path::new(OsStr::from_bytes(path.to_bytes()));
                let real = path.canonicalize().with_context(|| format!("{path:?}")).with_context(what)?;
                text(&real)?
            }
            Source::Inside(path) => text(&place_of(root, path).with_context(what)?)?,
            Source::Tree(_) | Source::InsideMapped { .. } => {
                return Err(Error::unsupported(format!("{}: CRIU cannot restore id-mapped mounts", what())));
            }
        };
        list.push(ExternalMount { key, value });
    }
    let devices = nodes.map(|node| text(Path::new(OsStr::from_bytes(node.to_bytes()))));
    for name in devices.chain([Ok(NULL.to_owned())]) {
        let name = name?;
        if !list.iter().any(|external| external.key == name) {
            list.push(ExternalMount { key: name.clone(), value: name });
        }
    }
    Ok(list)
}

/// The place that a path in the root leads to, with its symbolic links followed inside the root.
fn place_of(root: BorrowedFd<'_>, path: &CStr) -> Result<PathBuf> {
    let place =
        resolve::open(root, path, libc::O_PATH).with_context(|| format!("open {path:?} in the root"))?;
    path_of(place.as_fd())
}

/// The path of an open file, as the kernel has it: in its own mount namespace, from the root of that.
fn path_of(file: BorrowedFd<'_>) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(&link).with_context(|| format!("readlink {link:?}"))
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::unsupported(format!("{path:?}: CRIU accepts only paths in UTF-8")))
}

fn c_path(path: &[u8]) -> Result<CString> {
    CString::new(path).map_err(|_| Error::invalid("a mount point contains a NUL byte"))
}

/// A line of proc_pid_mountinfo(5).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    place: PathBuf,
    fstype: String,
    id_mapped: bool,
}

impl Mount {
    /// `None` for the root mount, which CRIU is told of by another option.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(4);
        let (place, options) = (unescape(fields.next()?), fields.next()?);
        let fstype = fields.skip_while(|field| *field != "-").nth(1)?.to_owned();
        let id_mapped = options.split(',').any(|option| option == "idmapped");
        (place != Path::new("/")).then_some(Mount { place, fstype, id_mapped })
    }
}

/// `\040` and the like.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_bind_mounts_are_named_by_their_real_paths() {
        let base = std::env::temp_dir()
            .canonicalize()
            .unwrap()
            .join(format!("knarr-sources-{}", std::process::id()));
        std::fs::create_dir_all(base.join("root/mnt")).unwrap();
        std::fs::create_dir_all(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        let c = |path: &str| CString::new(base.join(path).into_os_string().into_encoded_bytes()).unwrap();
        let root = fs::openat_following(fs::CWD, &c("root"), libc::O_PATH | libc::O_DIRECTORY).unwrap();
        let expected = base.join("real").to_str().unwrap().to_owned();
        for path in ["real", "./real", "real/.", "real/", "real/../real", "link", "link/"] {
            let source = Source::Path(c(path));
            let list = to_restore(root.as_fd(), [(c"/mnt", &source)].into_iter(), [].into_iter()).unwrap();
            assert_eq!((list[0].key.as_str(), list[0].value.as_str()), ("/mnt", expected.as_str()), "{path}");
        }
        let missing = Source::Path(c("missing"));
        let e = to_restore(root.as_fd(), [(c"/mnt", &missing)].into_iter(), [].into_iter()).unwrap_err();
        assert!(e.to_string().contains("/missing"), "{e}");
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn lines_of_mountinfo_are_read_with_their_escapes() {
        let line = r"36 35 98:0 /null /with\040space rw,noatime,idmapped master:1 - devtmpfs udev rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.place.as_path(), mount.fstype.as_str()), (Path::new("/with space"), "devtmpfs"));
        assert!(mount.id_mapped);
        let plain = Mount::parse("36 35 98:0 / /x rw shared:1 - tmpfs tmpfs rw").unwrap();
        assert!(!plain.id_mapped && plain.fstype == "tmpfs");
        assert_eq!(Mount::parse("36 35 98:0 / / rw - ext4 /dev/sda rw"), None);
        assert_eq!(Mount::parse("36 35"), None);
        assert_eq!(unescape(r"/a\"), Path::new(r"/a\"));
    }
}
