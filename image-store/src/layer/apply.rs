//! Makes the folder of one layer from its entries, in a form overlay takes as a lower directory.
//!
//! The folder depends on the layer alone and not on its parents, so it can be shared and layers can be unpacked at once.
//! Nothing is trusted: each parent is reached component by component from the root's descriptor, links are resolved
//! within the root, and what stands in the way is removed, never written through. Knows nothing of compression.

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

/// Parents kept open.
const CACHE: usize = 64;
/// As in the kernel: more links in a row are a loop.
const LINKS: usize = 40;

/// How a layer is written to disk.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// Which attributes overlay will look for.
    pub marks: Marks,
    /// Who owns the files.
    pub ownership: Ownership,
    /// Bounds.
    pub limits: Limits,
}

impl ApplyOptions {
    fn restricted(&self) -> bool {
        self.ownership.restricted(self.marks)
    }
}

/// Who owns the files of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Those the layer names: wants CAP_CHOWN over these IDs.
    Keep,
    /// The caller: for a user without a range of IDs.
    Squash,
}

impl Ownership {
    /// Whether this is at most root of a user namespace, who makes no devices and sets no `trusted.` attributes.
    pub(super) fn restricted(self, marks: Marks) -> bool {
        self == Self::Squash || marks == Marks::User
    }
}

/// What applying a layer found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// Folders that entries lie in but that the layer does not describe, sorted; the empty path is the root. Their
    /// attributes are those of a lower layer: see `fixup`.
    pub implied: Vec<Vec<u8>>,
    /// Devices and attributes that the system did not let the caller make.
    pub skipped: u64,
}

struct Applier<'a> {
    root: BorrowedFd<'a>,
    spill: BorrowedFd<'a>,
    options: ApplyOptions,
    parents: HashMap<Vec<u8>, Parent>,
    folders: BTreeMap<Vec<u8>, Entry>,
    implied: BTreeSet<Vec<u8>>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    applied: Applied,
    owner: (u32, u32),
}

/// An open folder and its path without links.
#[derive(Clone)]
struct Parent {
    fd: Rc<OwnedFd>,
    path: Rc<[u8]>,
}

/// Unpacks the archive in `input` into the empty folder `root`. `spill` is a folder of the same file system for leftovers.
///
/// # Errors
/// What [`Reader`] and [`change`] return, system calls that fail, limits exceeded. The folder is then in no defined state.
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
        folders: BTreeMap::new(),
        implied: BTreeSet::from([Vec::new()]),
        whiteouts: BTreeSet::new(),
        opaque: BTreeSet::new(),
        applied: Applied::default(),
        owner,
    };
    let mut reader = Reader::new(input);
    while let Some(entry) = reader.next_entry()? {
        let path = entry.path.clone();
        applier.take(entry, &mut reader).doing(|| format!("layer entry {}", show(&path)))?;
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
        match change(&entry.path)? {
            Change::Skip => Ok(()),
            Change::Opaque(folder) => {
                let parent = self.parent(&folder)?;
                self.opaque.insert(parent.path.to_vec());
                Ok(())
            }
            Change::Whiteout(path) => {
                let (folder, name) = split(&path);
                let parent = self.parent(folder)?;
                self.whiteouts.insert(join(&parent.path, name));
                Ok(())
            }
            Change::Make(path) if path.is_empty() => {
                if entry.kind != Kind::Directory {
                    return Err(Error::invalid("the root is no folder"));
                }
                self.implied.remove(&path);
                self.folders.insert(path, entry);
                Ok(())
            }
            Change::Make(path) => {
                let (folder, name) = split(&path);
                let parent = self.parent(folder)?;
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
                self.make_folder(fd, name, &path)?;
                self.implied.remove(&path);
                self.folders.insert(path, entry);
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
                return Err(Error::invalid("a character device 0:0, which overlay takes for a whiteout"));
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

    fn make_folder(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
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

    /// Runs `make`, and once more after removing what stood there: a later entry of a layer replaces an earlier one.
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

    /// Removes something and all that is remembered of it.
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
        let folders: Vec<_> = self.folders.range(from..to).map(|(path, _)| path.clone()).collect();
        for folder in folders {
            self.folders.remove(&folder);
        }
        self.folders.remove(path);
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
        let (folder, target_name) = split(&target_path);
        if target_name.is_empty() {
            return Err(Error::invalid("a hard link to the root"));
        }
        let missing = || {
            let message = format!(
                "hard link to {}: this layer has no such file, and links cannot cross layers",
                show(target)
            );
            Error::invalid(message)
        };
        let parent = self.existing(folder)?.ok_or_else(missing)?;
        let real = join(&parent.path, target_name);
        if real == path {
            return Err(Error::invalid("a hard link to itself"));
        }
        // Removing what stands at `path` may remove the target with it, a folder for instance.
        let link = || rustix::fs::linkat(&*parent.fd, target_name, fd, name, AtFlags::empty());
        match self.replacing(fd, name, path, link) {
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Err(missing()),
            other => other.doing(|| "link"),
        }
    }

    /// `false`: the caller may not make devices and the options say to go on without.
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

    /// Owner, mode, attributes and time of an open file, in this order: chown drops set-uid bits and file
    /// capabilities, and each of the three would change the time.
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

    /// The same for links, devices and pipes, which are not opened. `/proc/self/fd` is a link of the kernel's to our own
    /// descriptor, and the last component is not followed.
    fn attributes_by_name(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        if self.options.ownership == Ownership::Keep && (entry.uid, entry.gid) != self.owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let chown = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
            chown.doing(|| "fchownat")?;
        }
        if !matches!(entry.kind, Kind::Symlink(_)) {
            // Made by us a moment ago in a folder nobody else can reach, so it is no link.
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

    /// Attributes that the file system does not have, or that its kinds of files can not have, are left out, as in the Go engines.
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

    /// The folder at a clean path within the layer, made with all its parents if it is not there.
    fn parent(&mut self, path: &[u8]) -> Result<Parent> {
        self.folder(path, true)?.ok_or_else(|| Error::not_found("no such folder"))
    }

    fn existing(&mut self, path: &[u8]) -> Result<Option<Parent>> {
        self.folder(path, false)
    }

    fn folder(&mut self, path: &[u8], create: bool) -> Result<Option<Parent>> {
        if let Some(parent) = self.parents.get(path) {
            return Ok(Some(parent.clone()));
        }
        let found = match tree::open_folder(self.root, path, OFlags::PATH) {
            Ok(fd) => Some(Parent { fd: Rc::new(fd), path: path.into() }),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.walk(path, create)?,
            Err(errno) => return Err(errno).doing(|| format!("open folder {}", show(path))),
        };
        if let Some(parent) = &found {
            if self.parents.len() >= CACHE {
                self.parents.clear();
            }
            self.parents.insert(path.to_vec(), parent.clone());
        }
        Ok(found)
    }

    /// Goes down component by component; links are resolved by hand against the root, for what they lead to may not be there yet.
    fn walk(&mut self, path: &[u8], create: bool) -> Result<Option<Parent>> {
        let mut wanted = path.to_vec();
        let mut links = 0;
        'restart: loop {
            let mut fd = tree::open_folder(self.root, b"", OFlags::PATH).doing(|| "open the layer's root")?;
            let mut real: Vec<u8> = Vec::new();
            let components: Vec<Vec<u8>> =
                wanted.split(|b| *b == b'/').filter(|c| !c.is_empty()).map(<[u8]>::to_vec).collect();
            for (at, name) in components.iter().enumerate() {
                let next = match tree::open_folder(&fd, name, OFlags::PATH) {
                    Ok(next) => next,
                    Err(Errno::NOENT) if !create => return Ok(None),
                    Err(Errno::NOENT) => {
                        rustix::fs::mkdirat(&fd, name.as_slice(), Mode::RWXU).doing(|| "mkdir")?;
                        self.implied.insert(join(&real, name));
                        tree::open_folder(&fd, name, OFlags::PATH).doing(|| "open")?
                    }
                    Err(Errno::NOTDIR | Errno::LOOP) => {
                        let Ok(target) = rustix::fs::readlinkat(&fd, name.as_slice(), Vec::new()) else {
                            return Err(Error::invalid(format!("{} is no folder", show(&join(&real, name)))));
                        };
                        links += 1;
                        if links > LINKS {
                            return Err(Error::invalid(format!("{}: too many symbolic links", show(path))));
                        }
                        wanted = spliced(&real, target.as_bytes(), &components[at + 1..])?;
                        continue 'restart;
                    }
                    Err(errno) => return Err(errno).doing(|| format!("open folder {}", show(name))),
                };
                real = join(&real, name);
                fd = next;
            }
            return Ok(Some(Parent { fd: Rc::new(fd), path: real.into() }));
        }
    }

    /// Marks last, for they only concern what lies below; then attributes of folders, the deepest first, for making
    /// something in a folder changes its time.
    fn finish(&mut self) -> Result<()> {
        self.parents.clear();
        for path in std::mem::take(&mut self.whiteouts) {
            self.hide(&path).doing(|| format!("whiteout of {}", show(&path)))?;
        }
        for path in std::mem::take(&mut self.opaque) {
            let folder = tree::open_folder(self.root, &path, OFlags::RDONLY);
            self.mark_opaque(&folder.doing(|| format!("open folder {}", show(&path)))?)?;
        }
        for path in &self.implied {
            let entry = Entry::new(path.clone(), Kind::Directory, 0o755);
            self.folders.insert(path.clone(), entry);
        }
        for (path, entry) in std::mem::take(&mut self.folders).into_iter().rev() {
            let doing = || format!("folder {}", show(&path));
            let folder = tree::open_folder(self.root, &path, OFlags::RDONLY).doing(doing)?;
            self.attributes(folder.as_fd(), &entry).doing(doing)?;
        }
        self.applied.implied = std::mem::take(&mut self.implied).into_iter().collect();
        Ok(())
    }

    /// What the layer itself has at the path stays; a folder of its own is cut off from the one below.
    fn hide(&mut self, path: &[u8]) -> Result<()> {
        let (folder, name) = split(path);
        let parent = tree::open_folder(self.root, folder, OFlags::PATH).doing(|| "open folder")?;
        match tree::open_folder(&parent, name, OFlags::RDONLY) {
            Ok(folder) => self.mark_opaque(&folder),
            Err(Errno::NOENT) => {
                let made = rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0);
                made.doing(|| "mknod 0:0")
            }
            Err(_) => Ok(()),
        }
    }

    fn mark_opaque(&self, folder: &OwnedFd) -> Result<()> {
        let name = self.options.marks.opaque();
        rustix::fs::fsetxattr(folder, name, b"y", XattrFlags::empty()).doing(|| format!("setxattr {name}"))
    }
}

/// A link's target in place of the component that was the link.
fn spliced(real: &[u8], target: &[u8], rest: &[Vec<u8>]) -> Result<Vec<u8>> {
    let base = if target.starts_with(b"/") { &b""[..] } else { real };
    let mut components: Vec<&[u8]> = base.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
    for component in target.split(|b| *b == b'/').chain(rest.iter().map(Vec::as_slice)) {
        match component {
            b"" | b"." => {}
            // In text, as Go's engines do: `x/..` is nothing even where x is itself a link. At the root `..` is the root.
            b".." => drop(components.pop()),
            _ => components.push(component),
        }
    }
    let path = components.join(&b'/');
    if path.len() > 1 << 16 {
        return Err(Error::limit("a symbolic link that leads to a path of more than 64 KiB"));
    }
    Ok(path)
}

/// Attributes a layer may bring. Overlay's own would be obeyed at the next mount, and labels are the host's business.
fn wanted(name: &[u8]) -> bool {
    !(name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || name == b"security.selinux")
}

fn timestamps(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
