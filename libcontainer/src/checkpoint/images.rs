//! The image directories of a checkpoint on the host: makes and inspects them, and handles the few files in them that are not CRIU's.
//!
//! A checkpoint may come from another host. CRIU opens its files by name and follows symbolic links, even where it writes: through a link
//! in the directory it would read or overwrite a file of the host (CVE-2026-53489). So links are refused before CRIU sees the directory.

use crate::error::{Context, Error, ErrorKind, Internal, Result};
use crate::plan::c_string;
use crate::sys::fs::{self, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS};
use crate::sys::openat2;
use nix::dir::{Dir, Type};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// runc's name for the list of the files of descriptors 0, 1 and 2.
const DESCRIPTORS: &CStr = c"descriptors.json";
/// The link that CRIU makes to the directory of a pre-dump.
const PARENT: &CStr = c"parent";
/// Files that CRIU writes to in a work directory if they exist.
const WORK: [&CStr; 4] = [c"dump.log", c"restore.log", c"stats-dump", c"stats-restore"];
/// The socket of `criu lazy-pages`.
const LAZY_PAGES: &CStr = c"lazy-pages.socket";
/// The maximum number of pre-dumps in a chain, more than is ever useful.
const MAX_PARENTS: usize = 128;
/// The maximum size of a list of three links, each of which has at most 4096 bytes.
const MAX_DESCRIPTORS: u64 = 64 << 10;
/// The size of the end of the log that is searched for errors, in bytes.
const LOG_TAIL: i64 = 1 << 20;
/// The maximum number of errors of the log in a message.
const LOG_ERRORS: usize = 3;

/// An open image directory.
#[derive(Debug)]
pub(super) struct ImageDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl ImageDir {
    /// Opens an existing directory.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("checkpoint {path:?}"))?;
        let name = c_string("checkpoint", path.as_os_str().as_encoded_bytes())?;
        let fd = fs::openat_following(fs::CWD, &name, libc::O_RDONLY | libc::O_DIRECTORY)
            .with_context(|| format!("open {path:?}"))?;
        Ok(ImageDir { path, fd })
    }

    /// Opens a directory, and makes it if it is missing. It will hold the container's memory, which no other user may read.
    pub(super) fn make(path: &Path) -> Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(e).with_context(|| format!("mkdir {path:?}"))
            }
            _ => ImageDir::open(path),
        }
    }

    /// The number by which CRIU opens the directory, through /proc/PID/fd of this process.
    pub(super) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Lets the root of a user namespace, whose group is `gid` on the host, look up names in the directory, as which CRIU does so. No
    /// other user may, since every user could read CRIU's image files.
    pub(super) fn let_pass(&self, gid: u32) -> Result<()> {
        let what =
            || format!("let group {gid} (root's in the container's user namespace) search {:?}", self.path);
        let mode = fs::fstat(self.fd.as_fd()).context("fstat").with_context(what)?.st_mode & 0o7777;
        if mode & 0o001 != 0 {
            return Ok(());
        }
        let group = Some(nix::unistd::Gid::from_raw(gid));
        let changed = nix::unistd::fchown(&self.fd, None, group).map_err(std::io::Error::from);
        changed.context("fchown").with_context(what)?;
        fs::fchmod(self.fd.as_fd(), mode & !0o077 | 0o010).context("fchmod").with_context(what)
    }

    /// Opens the same directory in another mount namespace: CRIU can only mount on a directory of its own namespace.
    pub(super) fn seen_from(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        let what = || format!("open {:?} in criu's mount namespace", self.path);
        let name = c_string("checkpoint", self.path.as_os_str().as_encoded_bytes())?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let fd = openat2::open(root, &name, flags, RESOLVE_IN_ROOT).context("openat2").with_context(what)?;
        let (ours, theirs) =
            (fs::fstat(self.fd.as_fd()).context("fstat")?, fs::fstat(fd.as_fd()).context("fstat")?);
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino) {
            return Err(Error::new(ErrorKind::Os, format!("{}: the directory has been replaced", what())));
        }
        Ok(fd)
    }

    /// Refuses a directory with entries other than files and directories, and does so for the directories of the pre-dumps that it is
    /// based on.
    pub(super) fn check(&self) -> Result<()> {
        let mut parent = check_entries(self.fd.as_fd(), &self.path)?;
        let mut path = self.path.clone();
        for _ in 0..MAX_PARENTS {
            let Some(dir) = parent else { return Ok(()) };
            path.push("parent");
            parent = check_entries(dir.as_fd(), &path)?;
        }
        Err(Error::invalid(format!("checkpoint {:?}: more than {MAX_PARENTS} pre-dumps", self.path)))
    }

    /// Removes old logs and statistics: CRIU would write to any file of that name, even to the target of a link.
    pub(super) fn remove_work(&self) -> Result<()> {
        WORK.iter().try_for_each(|name| self.remove(name))
    }

    fn remove(&self, name: &CStr) -> Result<()> {
        match fs::unlinkat(self.fd.as_fd(), name, 0) {
            Ok(()) => Ok(()),
            Err(e) if e.0 == libc::ENOENT => Ok(()),
            Err(e) => Err(e).with_context(|| format!("unlink {name:?} in {:?}", self.path)),
        }
    }

    /// Saves the files of descriptors 0, 1 and 2.
    pub(super) fn save_descriptors(&self, links: &[String]) -> Result<()> {
        let text = serde_json::to_vec(links).map_err(|e| Internal::Encode("the descriptors", e))?;
        self.remove(DESCRIPTORS)?;
        let what = || format!("write {DESCRIPTORS:?} in {:?}", self.path);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let strict = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
        let file = openat2::create(self.fd.as_fd(), DESCRIPTORS, flags, 0o600, strict)
            .context("open")
            .with_context(what)?;
        File::from(file).write_all(&text).with_context(what)
    }

    /// Reads the files of descriptors 0, 1 and 2.
    pub(super) fn descriptors(&self) -> Result<Vec<String>> {
        let what = || format!("read {DESCRIPTORS:?} in {:?}", self.path);
        let file = self.file(DESCRIPTORS).with_context(what).map_err(|e| match e.kind() {
            ErrorKind::NotFound => e.hint("the directory must be the --image-path of a checkpoint"),
            _ => e,
        })?;
        let mut text = Vec::new();
        file.take(MAX_DESCRIPTORS).read_to_end(&mut text).with_context(what)?;
        serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("{}: {e}", what())))
    }

    /// The errors in CRIU's log, in one line, with the path of the log.
    pub(super) fn errors(&self, log: &CStr) -> String {
        let errors = quote(&self.end_of(log));
        let path = self.path.join(log.to_string_lossy().as_ref());
        if errors.is_empty() { format!("see {path:?}") } else { format!("{errors} (see {path:?})") }
    }

    /// The errors in CRIU's log, in one line, if it gave up since a process did not stop.
    pub(super) fn unstoppable(&self, log: &CStr) -> Option<String> {
        let text = self.end_of(log);
        is_unstoppable(&text).then(|| quote(&text))
    }

    /// The end of a log; nothing if there is none.
    fn end_of(&self, log: &CStr) -> String {
        let text = self.file(log).ok().and_then(|mut file| {
            let _ = file.seek(SeekFrom::End(-LOG_TAIL));
            let mut text = Vec::new();
            file.take(LOG_TAIL.unsigned_abs()).read_to_end(&mut text).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        });
        text.unwrap_or_default()
    }

    /// Opens a regular file in the directory, by CRIU's name.
    pub(super) fn open_file(&self, name: &str) -> Result<File> {
        self.file(&c_string("checkpoint", name)?).with_context(|| format!("open {name:?} in {:?}", self.path))
    }

    /// Opens a regular file in the directory.
    fn file(&self, name: &CStr) -> Result<File> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let fd = openat2::open(self.fd.as_fd(), name, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            .context("openat2")?;
        if fs::fstat(fd.as_fd()).context("fstat")?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Error::invalid("not a regular file"));
        }
        Ok(fd.into())
    }
}

/// Checks the entries of one directory; returns the directory that its link `parent` leads to, if it has one.
fn check_entries(dir: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let what = || format!("inspect checkpoint {path:?}");
    let mut list =
        Dir::openat(dir, ".", flags, Mode::empty()).map_err(std::io::Error::from).with_context(what)?;
    let mut parent = None;
    for entry in list.iter() {
        let entry = entry.map_err(std::io::Error::from).with_context(what)?;
        let name = entry.file_name();
        match kind(dir, entry.file_type(), name).with_context(what)? {
            libc::S_IFREG | libc::S_IFDIR => {}
            libc::S_IFSOCK if name == LAZY_PAGES => {}
            libc::S_IFLNK if name == PARENT && is_relative(dir, name).with_context(what)? => {
                let to = fs::openat_following(dir.as_raw_fd(), PARENT, libc::O_RDONLY | libc::O_DIRECTORY);
                parent = Some(to.with_context(|| format!("open {:?}", path.join("parent")))?);
            }
            _ => {
                let message = format!("checkpoint {path:?}: {name:?} is not a file or directory");
                return Err(Error::invalid(message)
                    .hint("links are refused because they could lead to files of the host"));
            }
        }
    }
    Ok(parent)
}

/// CRIU's own link is relative, since both directories may have come from another host.
fn is_relative(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    let mut target = [0u8; 1];
    fs::readlinkat(dir, name, &mut target).context("readlinkat")?;
    Ok(target != *b"/")
}

/// The type bits of an entry's mode, which some file systems do not include in the list.
fn kind(dir: BorrowedFd<'_>, told: Option<Type>, name: &CStr) -> Result<libc::mode_t> {
    Ok(match told {
        Some(Type::File) => libc::S_IFREG,
        Some(Type::Directory) => libc::S_IFDIR,
        Some(Type::Symlink) => libc::S_IFLNK,
        Some(_) => libc::S_IFSOCK,
        None => {
            let flags = libc::O_PATH | libc::O_NOFOLLOW;
            let entry = openat2::open(dir, name, flags, RESOLVE_BENEATH).context("openat2")?;
            fs::fstat(entry.as_fd()).context("fstat")?.st_mode & libc::S_IFMT
        }
    })
}

/// The errors of a log, without time and place in CRIU's source: `(00.031) Error (criu/files.c:1): what`.
fn errors_of(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter_map(|line| Some(line.split_once("Error (")?.1.split_once("): ")?.1.trim()))
}

/// Whether CRIU's patience ended while it waited for a process to stop, which the kernel did not let stop: only the log tells.
fn is_unstoppable(log: &str) -> bool {
    let mut errors = errors_of(log);
    errors.any(|what| what.starts_with("Timeout reached."))
        && errors.any(|what| what.starts_with("Unseizable non-zombie ") && what.contains(" state D,"))
}

/// The last errors of a log.
fn quote(log: &str) -> String {
    let errors: Vec<&str> = errors_of(log)
        // CRIU tries to raise its own limit, and continues without.
        .filter(|what| !what.contains("RLIMIT_NOFILE") && !what.ends_with("FAILED."))
        .collect();
    let first = errors.len().saturating_sub(LOG_ERRORS);
    errors.get(first..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("knarr-images-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_link_in_a_checkpoint_or_in_the_one_it_is_based_on_is_refused() {
        let base = place("links");
        std::fs::create_dir_all(base.join("first")).unwrap();
        let dir = ImageDir::make(&base.join("second")).unwrap();
        assert_eq!(std::fs::metadata(base.join("second")).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(base.join("second/core-1.img"), "").unwrap();
        symlink("../first", base.join("second/parent")).unwrap();
        dir.check().unwrap();
        symlink("/etc/passwd", base.join("first/pages-1.img")).unwrap();
        assert!(dir.check().unwrap_err().to_string().contains("pages-1.img"));
        std::fs::remove_file(base.join("first/pages-1.img")).unwrap();
        symlink("/etc/passwd", base.join("second/descriptors.json")).unwrap();
        assert!(dir.check().is_err() && dir.descriptors().is_err());
        dir.remove(DESCRIPTORS).unwrap();
        // A circle ends.
        symlink("../second", base.join("first/parent")).unwrap();
        assert!(dir.check().is_err());
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn what_the_descriptors_were_is_read_as_it_was_written_and_nonsense_is_an_error() {
        let base = place("fds");
        let dir = ImageDir::make(&base).unwrap();
        let links = ["/dev/null", "pipe:[7]", "pipe:[8]"].map(str::to_owned);
        for _ in 0..2 {
            dir.save_descriptors(&links).unwrap();
            assert_eq!(dir.descriptors().unwrap(), links);
        }
        std::fs::write(base.join("descriptors.json"), "[1]").unwrap();
        assert!(dir.descriptors().is_err());
        dir.remove(DESCRIPTORS).unwrap();
        assert_eq!(dir.descriptors().unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn the_last_errors_of_a_log_are_quoted() {
        let log = "(00.1) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: x\n(00.2) Dumping\n\
                   (00.3) Error (criu/files-reg.c:1): Can't lookup mount=9 for fd=1\n(00.4) Error (criu/cr-dump.c:2): Dumping FAILED.\n";
        assert_eq!(quote(log), "Can't lookup mount=9 for fd=1");
        assert_eq!(quote("nothing"), "");
    }

    #[test]
    fn a_process_that_did_not_stop_in_time_is_told_from_every_other_failure() {
        let timeout = "(10.1) Error (criu/cr-dump.c:1809): Timeout reached. Try to interrupt: 0";
        let state = |state: char| {
            format!(
                "(10.1) Error (compel/src/lib/infect.c:330): Unseizable non-zombie 16477 found, state {state}, err -1/4"
            )
        };
        let other = "(10.1) Error (criu/cr-dump.c:2129): Dumping FAILED.";
        let (stuck, asleep) = (state('D'), state('S'));
        let (stuck, asleep) = (stuck.as_str(), asleep.as_str());
        let cases = [
            (vec![timeout, stuck, other], true),
            (vec!["(00.1) Seized task 5", timeout, "(10.1) Unlock network", stuck], true),
            (vec![timeout, asleep, other], false),
            (vec![stuck, other], false),
            (vec![stuck, timeout], false),
            (vec![timeout, other], false),
            (vec!["Timeout reached.", "Unseizable non-zombie 1 found, state D, err -1/4"], false),
            (vec!["(10.1) Error (a.c:1): name=Timeout reached.", stuck], false),
            (vec![], false),
        ];
        for (log, expected) in cases {
            assert_eq!(is_unstoppable(&log.join("\n")), expected, "{log:?}");
        }
    }
}
