//! Volumes: directories of the store that outlive containers.
//!
//! `volumes/NAME` holds the files of a volume; `volumes` has mode 0700, because files keep their owners, set-user-ID bits and
//! device numbers. The volume's record is `volume-records/NAME.json`.
//!
//! When the first container uses a volume, the files of the image at the mount point are copied to it. This is done once, even
//! if the volume is empty later, and recorded. The directory of a volume is never replaced: containers may have it mounted.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::copy::{Place, copy_directory};
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::tree;

const FILES: &str = "volumes";
const RECORDS: &str = "volume-records";
/// Volumes that are being removed: see [`Store::empty_trash`].
pub(super) const TRASH: &str = "volumes/.trash";

/// How often to look whether another process has filled a volume.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// A volume: see [`Store::volume`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory that is mounted into containers.
    pub path: PathBuf,
    /// Whether it was created for a container without a name given by the user.
    pub anonymous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    /// No container has used the volume yet.
    New,
    /// The image's files are being copied; if found later, the copy was interrupted.
    Filling,
    /// A container has used it.
    Used,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct VolumeRecord {
    anonymous: bool,
    content: Content,
}

/// For a volume of an earlier version, which has no record, or with a damaged record: it may be in use, and the user may have
/// named it.
const UNRECORDED: VolumeRecord = VolumeRecord { anonymous: false, content: Content::Used };

impl Store {
    /// The names of all volumes, sorted, including those that [`Store::volume`] refuses.
    ///
    /// # Errors
    /// Those of getdents64(2).
    pub fn volume_names(&self) -> Result<Vec<String>> {
        let names = tree::list(self.volumes_directory()?).doing(|| "list volumes")?;
        Ok(names
            .into_iter()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| super::is_name(name))
            .collect())
    }

    /// The volume with this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::NotAVolume`] if it is not a directory, and so must not be mounted;
    /// [`ErrorKind::Invalid`] for an invalid name; failed system calls.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        match self.open_volume(name)? {
            Some(_) => self.describe_volume(name),
            None => Err(Error::not_found(format!("volume {name:?}: no such volume"))),
        }
    }

    /// The directory of a volume with this name, whether or not the volume exists.
    #[must_use]
    pub fn volume_path(&self, name: &str) -> PathBuf {
        self.path(FILES).join(name)
    }

    /// Creates an empty volume, to which the image's files are copied when a container first uses it. `false`: it already exists.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an invalid name; those of [`Store::volume`].
    pub fn create_volume(&self, name: &str, anonymous: bool) -> Result<bool> {
        let _lock = self.lock_volumes()?;
        if self.open_volume(name)?.is_some() {
            return Ok(false);
        }
        self.make_volume(name, anonymous, self.options.sync).map(|_| true)
    }

    /// The volume with this name, for a container; created if missing. At its first use it gets the contents, owner and mode of
    /// the directory `image`, a path in a root file system, if it is a directory. Other callers wait for this only if they
    /// use the same volume. `going` is called now and then while files are copied; if it fails, copying stops.
    ///
    /// # Errors
    /// Those of [`Store::create_volume`], of copying and of `going`; the volume is unchanged then.
    pub fn use_volume(
        &self,
        name: &str,
        anonymous: bool,
        image: Option<(&Place, &str)>,
        going: &dyn Fn() -> Result<()>,
    ) -> Result<Volume> {
        loop {
            let lock = self.lock_volumes()?;
            let there = self.open_volume(name)?;
            if there.is_some() && self.volume_record(name)?.content == Content::Used {
                return self.describe_volume(name);
            }
            let made = there.is_none();
            let directory = match there {
                Some(directory) => directory,
                // Not synced here: begin_volume syncs if it copies files.
                None => self.make_volume(name, anonymous, false)?,
            };
            drop(lock);
            let begun = lock_directory(&directory, going).and_then(|()| {
                let there = self.is_volume(name, &directory)?;
                if there {
                    self.begin_volume(name, self.volume_record(name)?, &directory, image, going)?;
                }
                Ok(there)
            });
            if made && begun.is_err() {
                let _lock = self.lock_volumes()?;
                let _ = self.discard_volume(name);
            }
            // Else, another process made it, failed, and removed it again.
            if begun.doing(|| format!("volume {name:?}"))? {
                return self.describe_volume(name);
            }
        }
    }

    /// Whether this directory is the volume's.
    fn is_volume(&self, name: &str, directory: &OwnedFd) -> Result<bool> {
        let Some(now) = self.open_volume(name)? else { return Ok(false) };
        let [now, own] = [&now, directory].map(rustix::fs::fstat);
        let (now, own) = (now.doing(|| "fstat")?, own.doing(|| "fstat")?);
        Ok((now.st_dev, now.st_ino) == (own.st_dev, own.st_ino))
    }

    /// Removes a volume, even if a container uses it. Its files are deleted by [`Store::empty_trash`]. If there is a symbolic
    /// link in its place, the link is removed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; failed system calls.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let _lock = self.lock_volumes()?;
        self.discard_volume(name)
    }

    /// Fills a volume at its first use.
    fn begin_volume(
        &self,
        name: &str,
        record: VolumeRecord,
        directory: &OwnedFd,
        image: Option<(&Place, &str)>,
        going: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let used = VolumeRecord { content: Content::Used, ..record };
        let has_files = !tree::list(directory).doing(|| "list")?.is_empty();
        match record.content {
            // Another process has filled it meanwhile.
            Content::Used => return Ok(()),
            Content::Filling => clear(directory)?,
            // Files were put there before the first container used it.
            _ if has_files => return self.write_volume_record(name, used, false),
            _ => {}
        }
        let Some(original) = image.map_or(Ok(None), |(root, path)| directory_in(root, path))? else {
            return self.write_volume_record(name, used, false);
        };
        // After a power cut, a partial copy must not pass for a complete one.
        let sync = self.options.sync && !tree::list(&original).doing(|| "list")?.is_empty();
        self.write_volume_record(name, VolumeRecord { content: Content::Filling, ..record }, sync)?;
        if let Err(error) = copy_directory(&original, directory, going) {
            let cleared = clear(directory);
            let new = VolumeRecord { content: Content::New, ..record };
            let _ = cleared.and_then(|()| self.write_volume_record(name, new, false));
            return Err(error);
        }
        if sync {
            rustix::fs::syncfs(directory).doing(|| "syncfs")?;
        }
        self.write_volume_record(name, used, sync)
    }

    fn make_volume(&self, name: &str, anonymous: bool, sync: bool) -> Result<OwnedFd> {
        // First, so that a volume always has a record.
        let record = VolumeRecord { anonymous, content: Content::New };
        self.write_volume_record(name, record, sync)?;
        let parent = self.volumes_directory()?;
        let made = rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
            .and_then(|()| tree::open_dir(&parent, name.as_bytes(), OFlags::RDONLY));
        // Regardless of the umask.
        let made = made.and_then(|directory| {
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755)).map(|()| directory)
        });
        made.doing(|| format!("volume {name:?}: mkdir {:?}", self.volume_path(name)))
    }

    fn discard_volume(&self, name: &str) -> Result<()> {
        let path = self.volume_path(name);
        // Below `volumes`, which may be on another file system than the store.
        let trash = self.path(TRASH);
        match fs::DirBuilder::new().mode(0o700).create(&trash) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).doing(|| format!("volume {name:?}: mkdir {trash:?}"));
            }
            _ => {}
        }
        match fs::rename(&path, trash.join(super::unique()?)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("volume {name:?}: no such volume")));
            }
            other => other.doing(|| format!("volume {name:?}: rename {path:?}"))?,
        }
        let record = self.volume_record_path(name);
        match fs::remove_file(&record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("volume {name:?}: unlink {record:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Opens a volume's directory without following a link.
    fn open_volume(&self, name: &str) -> Result<Option<OwnedFd>> {
        check_name(name)?;
        match tree::open_dir(self.volumes_directory()?, name.as_bytes(), OFlags::RDONLY) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(self.not_a_directory(name)),
            Err(errno) => Err(errno).doing(|| format!("volume {name:?}: open {:?}", self.volume_path(name))),
        }
    }

    /// In versions before November 2026, an image could put a link in a volume's place.
    fn not_a_directory(&self, name: &str) -> Error {
        let path = self.volume_path(name);
        let what = match fs::read_link(&path) {
            Ok(target) => format!("a symbolic link to {target:?}"),
            Err(_) => "not a directory".to_owned(),
        };
        let message = format!(
            "volume {name:?}: {path:?} is {what}: an image may have placed it there through a bug in an earlier version; it is \
             not mounted: remove the containers that use it, then the volume"
        );
        Error::new(ErrorKind::NotAVolume, message)
    }

    fn describe_volume(&self, name: &str) -> Result<Volume> {
        let record = self.volume_record(name)?;
        Ok(Volume { name: name.to_owned(), path: self.volume_path(name), anonymous: record.anonymous })
    }

    fn volume_record_path(&self, name: &str) -> PathBuf {
        self.path(RECORDS).join(format!("{name}.json"))
    }

    fn volume_record(&self, name: &str) -> Result<VolumeRecord> {
        let path = self.volume_record_path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or(UNRECORDED)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(UNRECORDED),
            Err(error) => Err(error).doing(|| format!("read {path:?}")),
        }
    }

    fn write_volume_record(&self, name: &str, record: VolumeRecord, sync: bool) -> Result<()> {
        let bytes = serde_json::to_vec(&record).map_err(|e| Error::invalid(e.to_string()))?;
        super::write_file(&self.path(RECORDS), &format!("{name}.json"), &bytes, sync)
    }

    /// Opens `volumes` and closes it to other users: earlier versions left it open.
    fn volumes_directory(&self) -> Result<OwnedFd> {
        let doing = || format!("open {:?}", self.path(FILES));
        let directory = File::open(self.path(FILES)).doing(doing)?;
        let mode = rustix::fs::fstat(&directory).doing(|| "fstat").doing(doing)?.st_mode;
        if mode & 0o077 != 0 {
            rustix::fs::fchmod(&directory, Mode::RWXU).doing(|| "fchmod").doing(doing)?;
        }
        Ok(directory.into())
    }

    fn lock_volumes(&self) -> Result<File> {
        let path = self.path("locks").join("volumes");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.doing(|| format!("open {path:?}"))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).doing(|| format!("flock {path:?}"))?;
        Ok(file)
    }
}

fn check_name(name: &str) -> Result<()> {
    if super::is_name(name) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "volume {name:?}: must be up to 128 letters, digits, \"_\", \".\" and \"-\", starting with a letter or digit"
    )))
}

/// Locks a volume that no container has used yet, against others that fill it.
fn lock_directory(directory: &OwnedFd, going: &dyn Fn() -> Result<()>) -> Result<()> {
    loop {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            other => return other.doing(|| "flock"),
        }
        going()?;
        std::thread::sleep(PAUSE);
    }
}

/// Opens a directory in an image, following links within the image; `None` if there is none.
fn directory_in(root: &Place, path: &str) -> Result<Option<OwnedFd>> {
    match root.open_dir(path.as_bytes()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno).doing(|| format!("open {path:?} in the image")),
    }
}

/// Removes the contents of a directory.
fn clear(directory: &OwnedFd) -> Result<()> {
    for (name, _) in tree::list(directory).doing(|| "list")? {
        tree::remove(directory.as_fd(), name.to_bytes(), directory.as_fd())?;
    }
    Ok(())
}
