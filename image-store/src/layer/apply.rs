//! Unpacks the entries of one layer to a directory that overlay can use as a lower directory, or those of another archive.
//!
//! The result does not depend on the layers below, so layers can be shared and unpacked in parallel. The layer is not trusted:
//! each parent is opened from the root's descriptor component by component, links are resolved within the root, and an
//! existing file is removed, never written to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::change::{Change, change, clean, join, split};
use super::{Limits, Marks};
use crate::error::{Doing, Error, Result};
use crate::tar::{Entry, Kind, Placement, Reader, Timestamp, show};
use crate::tree;

/// Largest number of parent directories that are kept open.
const MAX_OPEN_PARENTS: usize = 64;
/// Largest number of symbolic links in a path, as in the kernel.
const MAX_LINKS: usize = 40;

/// How a layer is written to disk.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// The attributes that overlay will look for.
    pub marks: Marks,
    /// The owner of the files.
    pub ownership: Ownership,
    /// Limits of the layer.
    pub limits: Limits,
    /// What the archive is.
    pub contents: Contents,
}

impl ApplyOptions {
    fn restricted(&self) -> bool {
        self.ownership.restricted(self.marks)
    }
}

/// What an archive is, which decides on the meaning of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A layer of an image: names that start with `.wh.` hide files of the layers below.
    Layer,
    /// Files, whatever their names are.
    Files,
}

impl Contents {
    fn change(self, name: &[u8]) -> Result<Change> {
        match self {
            Self::Layer => change(name),
            Self::Files => clean(name).map(Change::Make),
        }
    }

    /// What it is called in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Files => "archive",
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::Layer => "no such file in this layer, and links cannot cross layers",
            Self::Files => "no such file in the archive: only files of the same archive can be linked to",
        }
    }
}

/// The owner of the files of an unpacked layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// As in the layer; requires CAP_CHOWN over these IDs.
    Keep,
    /// The user that unpacks; for users without a range of subordinate IDs.
    Squash,
}

impl Ownership {
    /// Whether the caller is at most root of a user namespace, which may not create devices or set `trusted.` attributes.
    pub(super) fn restricted(self, marks: Marks) -> bool {
        self == Self::Squash || marks == Marks::User
    }
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Number of entries in the archive.
    pub entries: u64,
    /// Size of all files in bytes, including holes.
    pub bytes: u64,
    /// Paths of implied directories, sorted: directories that have entries in them but no entry of their own. The empty path
    /// is the root. Their attributes come from a lower layer.
    pub implied: Vec<Vec<u8>>,
    /// Number of devices and attributes that the caller was not permitted to create.
    pub skipped: u64,
}

struct Applier<'a> {
    root: BorrowedFd<'a>,
    spill: BorrowedFd<'a>,
    options: ApplyOptions,
    parents: HashMap<Vec<u8>, Parent>,
    dirs: BTreeMap<Vec<u8>, Entry>,
    implied: BTreeSet<Vec<u8>>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    applied: Applied,
    owner: (u32, u32),
}

/// An open directory and its path, with links resolved.
#[derive(Clone)]
struct Parent {
    fd: Rc<OwnedFd>,
    path: Rc<[u8]>,
}

/// Unpacks the tar archive in `input` into the empty directory `root`; returns the input too. `spill` is a directory on the
/// same file system for temporary files.
///
/// # Errors
/// Those of [`Reader`] and [`change`], exceeded limits, failed system calls. The contents of the directory are then undefined.
pub fn apply<R: BufRead>(
    input: R,
    root: BorrowedFd<'_>,
    spill: BorrowedFd<'_>,
    options: ApplyOptions,
) -> Result<(Applied, R)> {
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut applier = Applier {
        root,
        spill,
        options,
        parents: HashMap::new(),
        dirs: BTreeMap::new(),
        implied: BTreeSet::from([Vec::new()]),
        whiteouts: BTreeSet::new(),
        opaque: BTreeSet::new(),
        applied: Applied::default(),
        owner,
    };
    let mut reader = Reader::new(input);
    while let Some(entry) = reader.next_entry()? {
        let path = entry.path.clone();
        let doing = || format!("{} entry {}", options.contents.name(), show(&path));
        applier.take(entry, &mut reader).doing(doing)?;
    }
    applier.finish()?;
    Ok((applier.applied, reader.into_inner()))
}

impl Applier<'_> {
    fn take<R: BufRead>(&mut self, entry: Entry, reader: &mut Reader<R>) -> Result<()> {
        self.applied.entries += 1;
        if self.applied.entries > self.options.limits.entries {
            return Err(Error::limit(format!("more than {} entries", self.options.limits.entries)));
        }
        match self.options.contents.change(&entry.path)? {
            Change::Skip => Ok(()),
            Change::Opaque(dir) => {
                let parent = self.parent(&dir)?;
                self.opaque.insert(parent.path.to_vec());
                Ok(())
            }
            Change::Whiteout(path) => {
                let (dir, name) = split(&path);
                let parent = self.parent(dir)?;
                self.whiteouts.insert(join(&parent.path, name));
                Ok(())
            }
            Change::Make(path) if path.is_empty() => {
                if entry.kind != Kind::Directory {
                    return Err(Error::invalid("the root must be a directory"));
                }
                self.implied.remove(&path);
                self.dirs.insert(path, entry);
                Ok(())
            }
            Change::Make(path) => {
                let (dir, name) = split(&path);
                let parent = self.parent(dir)?;
                self.make(&parent, name, entry, reader)
            }
        }
    }

    fn make<R: BufRead>(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: Entry,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        let fd = parent.fd.as_fd();
        let path = join(&parent.path, name);
        match &entry.kind {
            Kind::Directory => {
                self.make_dir(fd, name, &path)?;
                self.implied.remove(&path);
                self.dirs.insert(path, entry);
                return Ok(());
            }
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = self.replacing(fd, name, &path, || {
                    rustix::fs::openat(fd, name, flags, Mode::RUSR | Mode::WUSR)
                });
                return self.fill(file.doing(|| "open")?, &entry, reader);
            }
            Kind::Symlink(target) => {
                self.replacing(fd, name, &path, || rustix::fs::symlinkat(target.as_slice(), fd, name))
                    .doing(|| "symlink")?;
            }
            Kind::Hardlink(target) => return self.hard_link(fd, name, &path, target),
            Kind::Character(0, 0) => {
                return Err(Error::invalid(
                    "character device 0:0 is not supported: overlayfs treats it as a whiteout",
                ));
            }
            Kind::Character(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                if !self.node(fd, name, &path, FileType::CharacterDevice, device)? {
                    return Ok(());
                }
            }
            Kind::Block(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                if !self.node(fd, name, &path, FileType::BlockDevice, device)? {
                    return Ok(());
                }
            }
            Kind::Fifo => {
                self.node(fd, name, &path, FileType::Fifo, 0)?;
            }
        }
        self.attributes_by_name(fd, name, &entry)
    }

    fn make_dir(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).doing(|| "mkdir"),
        }
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).doing(|| "stat")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.remove(parent, name, path)?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU).doing(|| "mkdir")
    }

    /// Runs `make`; if the file exists, removes it and runs `make` again: a later entry of a layer replaces an earlier one.
    fn replacing<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
        self.remove(parent, name, path)?;
        Ok(make()?)
    }

    /// Removes a file or tree and what is recorded about it.
    fn remove(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        tree::remove(parent, name, self.spill)?;
        self.parents.clear();
        let children = |known: &BTreeSet<Vec<u8>>| -> Vec<Vec<u8>> {
            let (from, to) = (join(path, b""), [path, b"0"].concat());
            known.range(from..to).cloned().collect()
        };
        for set in [&mut self.implied, &mut self.whiteouts, &mut self.opaque] {
            for child in children(set) {
                set.remove(&child);
            }
            set.remove(path);
        }
        let (from, to) = (join(path, b""), [path, b"0"].concat());
        let dirs: Vec<_> = self.dirs.range(from..to).map(|(path, _)| path.clone()).collect();
        for dir in dirs {
            self.dirs.remove(&dir);
        }
        self.dirs.remove(path);
        Ok(())
    }

    fn fill<R: BufRead>(&mut self, file: OwnedFd, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        self.applied.bytes = self.applied.bytes.saturating_add(entry.size);
        let mut file = File::from(file);
        match &entry.sparse {
            None => reader.data(|piece| file.write_all(piece).doing(|| "write"))?,
            Some(_) => {
                file.set_len(entry.size).doing(|| "ftruncate")?;
                let mut placement = Placement::of(entry);
                reader.data(|bytes| {
                    placement.place(bytes, |offset, part| file.write_all_at(part, offset).doing(|| "pwrite"))
                })?;
            }
        }
        self.attributes(file.as_fd(), entry)
    }

    fn hard_link(&mut self, fd: BorrowedFd<'_>, name: &[u8], path: &[u8], target: &[u8]) -> Result<()> {
        let target_path = clean(target)?;
        let (dir, target_name) = split(&target_path);
        if target_name.is_empty() {
            return Err(Error::invalid("hard link to the root"));
        }
        let why = self.options.contents.missing();
        let missing = || Error::invalid(format!("hard link to {}: {why}", show(target)));
        let parent = self.existing(dir)?.ok_or_else(missing)?;
        let real = join(&parent.path, target_name);
        if real == path {
            return Err(Error::invalid("hard link to itself"));
        }
        // Removing what is at `path` may remove the target too, if it is in that directory.
        let link = || rustix::fs::linkat(&*parent.fd, target_name, fd, name, AtFlags::empty());
        match self.replacing(fd, name, path, link) {
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Err(missing()),
            other => other.doing(|| "link"),
        }
    }

    /// Creates a device or pipe. `false`: the caller is not permitted to, and the options allow to leave it out.
    fn node(
        &mut self,
        fd: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        kind: FileType,
        device: u64,
    ) -> Result<bool> {
        let made = self.replacing(fd, name, path, || {
            rustix::fs::mknodat(fd, name, kind, Mode::RUSR | Mode::WUSR, device)
        });
        match made {
            Err(error) if error.errno() == Some(Errno::PERM.raw_os_error()) && self.options.restricted() => {
                self.applied.skipped += 1;
                Ok(false)
            }
            other => other.doing(|| "mknod").map(|()| true),
        }
    }

    /// Sets owner, mode, extended attributes and time of an open file, in this order: chown(2) clears set-user-ID bits and
    /// file capabilities.
    fn attributes(&mut self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        if self.options.ownership == Ownership::Keep && (entry.uid, entry.gid) != self.owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(fd, Some(uid), Some(gid)).doing(|| "fchown")?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).doing(|| "fchmod")?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| wanted(name)) {
            let set = rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty());
            self.check_attribute(set, name)?;
        }
        rustix::fs::futimens(fd, &timestamps(entry.mtime)).doing(|| "futimens")
    }

    /// The same for links, devices and pipes, which cannot be opened: by name below the parent's descriptor (through
    /// /proc/self/fd for attributes), without following the last component.
    fn attributes_by_name(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        if self.options.ownership == Ownership::Keep && (entry.uid, entry.gid) != self.owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let chown = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
            chown.doing(|| "fchownat")?;
        }
        if !matches!(entry.kind, Kind::Symlink(_)) {
            // Not a link: it was just created, in a directory that no other user can reach.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .doing(|| "fchmodat")?;
        }
        for (attribute, value) in entry.xattrs.iter().filter(|(name, _)| wanted(name)) {
            use std::os::fd::AsRawFd as _;
            let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
            let set = rustix::fs::lsetxattr(path, attribute.as_slice(), value, XattrFlags::empty());
            self.check_attribute(set, attribute)?;
        }
        rustix::fs::utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .doing(|| "utimensat")
    }

    /// Ignores attributes that the file system or the type of file does not support, as containerd and podman do.
    fn check_attribute(&mut self, set: rustix::io::Result<()>, name: &[u8]) -> Result<()> {
        match set {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => {
                self.applied.skipped += 1;
                Ok(())
            }
            Err(Errno::PERM) if name.starts_with(b"user.") || self.options.restricted() => {
                self.applied.skipped += 1;
                Ok(())
            }
            Err(errno) => Err(errno).doing(|| format!("setxattr {}", show(name))),
        }
    }

    /// The directory at a clean path in the layer, created with all its parents if missing.
    fn parent(&mut self, path: &[u8]) -> Result<Parent> {
        self.resolve(path, true)?.ok_or_else(|| Error::not_found("no such directory"))
    }

    fn existing(&mut self, path: &[u8]) -> Result<Option<Parent>> {
        self.resolve(path, false)
    }

    fn resolve(&mut self, path: &[u8], create: bool) -> Result<Option<Parent>> {
        if let Some(parent) = self.parents.get(path) {
            return Ok(Some(parent.clone()));
        }
        let found = match tree::open_dir(self.root, path, OFlags::PATH) {
            Ok(fd) => Some(Parent { fd: Rc::new(fd), path: path.into() }),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.walk(path, create)?,
            Err(errno) => return Err(errno).doing(|| format!("open directory {}", show(path))),
        };
        if let Some(parent) = &found {
            if self.parents.len() >= MAX_OPEN_PARENTS {
                self.parents.clear();
            }
            self.parents.insert(path.to_vec(), parent.clone());
        }
        Ok(found)
    }

    /// Opens a path component by component. Links are resolved here, because their targets may not exist yet.
    fn walk(&mut self, path: &[u8], create: bool) -> Result<Option<Parent>> {
        let mut wanted = path.to_vec();
        let mut links = 0;
        'restart: loop {
            let mut fd = tree::open_dir(self.root, b"", OFlags::PATH).doing(|| "open the root directory")?;
            let mut real: Vec<u8> = Vec::new();
            let components: Vec<Vec<u8>> =
                wanted.split(|b| *b == b'/').filter(|c| !c.is_empty()).map(<[u8]>::to_vec).collect();
            for (at, name) in components.iter().enumerate() {
                let next = match tree::open_dir(&fd, name, OFlags::PATH) {
                    Ok(next) => next,
                    Err(Errno::NOENT) if !create => return Ok(None),
                    Err(Errno::NOENT) => {
                        rustix::fs::mkdirat(&fd, name.as_slice(), Mode::RWXU).doing(|| "mkdir")?;
                        self.implied.insert(join(&real, name));
                        tree::open_dir(&fd, name, OFlags::PATH).doing(|| "open")?
                    }
                    Err(Errno::NOTDIR | Errno::LOOP) => {
                        let Ok(target) = rustix::fs::readlinkat(&fd, name.as_slice(), Vec::new()) else {
                            return Err(Error::invalid(format!(
                                "{}: not a directory",
                                show(&join(&real, name))
                            )));
                        };
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Error::invalid(format!("{}: too many symbolic links", show(path))));
                        }
                        wanted = spliced(&real, target.as_bytes(), &components[at + 1..])?;
                        continue 'restart;
                    }
                    Err(errno) => return Err(errno).doing(|| format!("open directory {}", show(name))),
                };
                real = join(&real, name);
                fd = next;
            }
            return Ok(Some(Parent { fd: Rc::new(fd), path: real.into() }));
        }
    }

    /// Creates whiteouts and opaque marks, which only concern lower layers; then sets the attributes of directories, the deepest
    /// first, because creating a file in a directory changes its time.
    fn finish(&mut self) -> Result<()> {
        self.parents.clear();
        for path in std::mem::take(&mut self.whiteouts) {
            self.hide(&path).doing(|| format!("whiteout of {}", show(&path)))?;
        }
        for path in std::mem::take(&mut self.opaque) {
            let dir = tree::open_dir(self.root, &path, OFlags::RDONLY);
            self.mark_opaque(&dir.doing(|| format!("open directory {}", show(&path)))?)?;
        }
        for path in &self.implied {
            let entry = Entry::new(path.clone(), Kind::Directory, 0o755);
            self.dirs.insert(path.clone(), entry);
        }
        for (path, entry) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let doing = || format!("directory {}", show(&path));
            let dir = tree::open_dir(self.root, &path, OFlags::RDONLY).doing(doing)?;
            self.attributes(dir.as_fd(), &entry).doing(doing)?;
        }
        self.applied.implied = std::mem::take(&mut self.implied).into_iter().collect();
        Ok(())
    }

    /// Creates a whiteout, unless the layer itself has the path: a directory becomes opaque, any other file stays.
    fn hide(&mut self, path: &[u8]) -> Result<()> {
        let (dir, name) = split(path);
        let parent = tree::open_dir(self.root, dir, OFlags::PATH).doing(|| "open directory")?;
        match tree::open_dir(&parent, name, OFlags::RDONLY) {
            Ok(dir) => self.mark_opaque(&dir),
            Err(Errno::NOENT) => {
                let made = rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0);
                made.doing(|| "mknod 0:0")
            }
            Err(_) => Ok(()),
        }
    }

    fn mark_opaque(&self, dir: &OwnedFd) -> Result<()> {
        let name = self.options.marks.opaque();
        rustix::fs::fsetxattr(dir, name, b"y", XattrFlags::empty()).doing(|| format!("setxattr {name}"))
    }
}

/// Replaces a component that is a link by the link's target.
fn spliced(real: &[u8], target: &[u8], rest: &[Vec<u8>]) -> Result<Vec<u8>> {
    let base = if target.starts_with(b"/") { &b""[..] } else { real };
    let mut components: Vec<&[u8]> = base.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
    for component in target.split(|b| *b == b'/').chain(rest.iter().map(Vec::as_slice)) {
        match component {
            b"" | b"." => {}
            // Lexically, as containerd and podman do: `x/..` is dropped even if `x` is a link. At the root, `..` is the root.
            b".." => drop(components.pop()),
            _ => components.push(component),
        }
    }
    let path = components.join(&b'/');
    if path.len() > 1 << 16 {
        return Err(Error::limit("symbolic link target resolves to more than 64 KiB"));
    }
    Ok(path)
}

/// Whether a layer may set the attribute. Overlay would act on its own ones, and SELinux labels are the host's.
fn wanted(name: &[u8]) -> bool {
    !(name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || name == b"security.selinux")
}

fn timestamps(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
