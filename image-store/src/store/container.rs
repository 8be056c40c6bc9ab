//! Root file systems of containers: the layers of an image with a writable layer on top.
//!
//! They are mounted with fsconfig(2), which takes hundreds of layers; the options of mount(2) are limited to a page. The mount
//! is returned detached, as a descriptor, so that a runtime can attach it in another mount namespace.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Record, Store};
use crate::digest::Digest;
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::layer::Marks;

/// A container's record: its writable layer, and the layers below, which are kept for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The container's ID, also the name of its directory.
    pub id: String,
    /// The image's name, or else its ID.
    pub image: String,
    /// The image's ID.
    pub image_id: Digest,
    /// Digests of the image's manifest and config, which [`Store::commit`] needs.
    pub blobs: Vec<Digest>,
    /// The image's manifest.
    pub manifest: crate::manifest::Descriptor,
    /// diffIDs of the image's layers, lowest first.
    pub layers: Vec<Digest>,
    /// The image's fix-up layer, if it has one.
    pub fixup: Option<Digest>,
    /// Time of creation in seconds since the epoch.
    pub created: u64,
    /// What [`Store::remember`] stored.
    #[serde(default)]
    extra: serde_json::Value,
}

impl ContainerRecord {
    /// The caller's data in this record; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it has another form, such as that of another version of the caller.
    pub fn remembered<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        if self.extra.is_null() {
            return Ok(None);
        }
        T::deserialize(&self.extra)
            .map(Some)
            .map_err(|e| Error::invalid(format!("container {:?}: record: {e}", self.id)))
    }
}

/// All containers of a store.
#[derive(Debug, Default)]
pub struct Containers {
    /// Those whose records can be read, oldest first.
    pub intact: Vec<ContainerRecord>,
    /// The IDs of the others, and what is wrong: records are not synced to disk, so a power cut may have damaged one.
    pub damaged: Vec<(String, Error)>,
}

/// The directories of a root file system, for overlay; all are in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// Lower directories, topmost first; never empty.
    pub lower: Vec<PathBuf>,
    /// The upper directory; `None` for a read-only mount.
    pub upper: Option<PathBuf>,
    /// The work directory; `None` for a read-only mount.
    pub work: Option<PathBuf>,
    /// The marks in these directories: [`Marks::User`] requires the mount option `userxattr`.
    pub marks: Marks,
}

impl Store {
    /// The read-only root file system of an image.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a layer is missing.
    pub fn rootfs(&self, record: &Record) -> Result<Rootfs> {
        Ok(Rootfs {
            lower: self.lower(&record.layers, record.fixup.as_ref())?,
            upper: None,
            work: None,
            marks: self.marks,
        })
    }

    fn lower(&self, layers: &[Digest], fixup: Option<&Digest>) -> Result<Vec<PathBuf>> {
        let mut lower = Vec::with_capacity(layers.len() + 2);
        lower.extend(fixup.map(|key| self.path("fixup").join(key.hex()).join("fs")));
        for (at, layer) in layers.iter().enumerate().rev() {
            // Overlay refuses duplicate directories; the topmost one counts anyway.
            if !layers[at + 1..].contains(layer) {
                lower.push(self.layer_path(layer).join("fs"));
            }
        }
        for path in &lower {
            if !path.is_dir() {
                let message = format!("layer {path:?} is missing: pull or load the image again");
                return Err(Error::not_found(message));
            }
        }
        // Without an upper directory, overlay requires at least two lower directories.
        for empty in ["empty/0", "empty/1"].iter().take(2_usize.saturating_sub(lower.len())) {
            let path = self.path(empty);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&path)
                .doing(|| format!("mkdir {path:?}"))?;
            lower.push(path);
        }
        Ok(lower)
    }

    /// Makes a writable layer on top of an image. The image's layers stay until the container is removed.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when there is a container of this ID, [`ErrorKind::Invalid`] when it is no ID.
    pub fn prepare(&self, record: &Record, id: &str) -> Result<Rootfs> {
        check_id(id)?;
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let container = ContainerRecord {
            id: id.to_owned(),
            image: record.name_or_id(),
            image_id: record.id.clone(),
            blobs: record.blobs.clone(),
            manifest: record.manifest.clone(),
            layers: record.layers.clone(),
            fixup: record.fixup.clone(),
            created: created.as_secs(),
            extra: serde_json::Value::Null,
        };
        let _guard = self.lock(FlockOperation::LockShared)?;
        let lower = self.lower(&record.layers, record.fixup.as_ref())?;
        let dir = self.path("containers").join(id);
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::new(ErrorKind::Exists, format!("container {id:?}: already exists")));
            }
            other => other.doing(|| format!("mkdir {dir:?}"))?,
        }
        let made = self.fill_container(&dir, &lower[0], &container);
        if made.is_err() {
            let _ = fs::remove_dir_all(&dir);
        }
        made?;
        self.container_rootfs(&container)
    }

    fn fill_container(
        &self,
        dir: &std::path::Path,
        top: &std::path::Path,
        container: &ContainerRecord,
    ) -> Result<()> {
        for name in ["upper", "work"] {
            fs::create_dir(dir.join(name)).doing(|| format!("mkdir {:?}", dir.join(name)))?;
        }
        // The attributes of `/` in the container are those of the upper directory.
        let upper = dir.join("upper");
        let meta = fs::metadata(top).doing(|| format!("stat {top:?}"))?;
        std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid()))
            .doing(|| format!("chown {upper:?}"))?;
        let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
        fs::set_permissions(&upper, mode).doing(|| format!("chmod {upper:?}"))?;
        self.write_container(container)
    }

    fn write_container(&self, container: &ContainerRecord) -> Result<()> {
        let bytes = serde_json::to_vec(container).map_err(|e| Error::invalid(e.to_string()))?;
        // Not synced: losing a container that never ran does no harm.
        super::write_file(&self.path("containers").join(&container.id), "record.json", &bytes, false)
    }

    /// Stores data of the caller in a container's record, replacing what was there; [`ContainerRecord::remembered`] reads it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container; [`ErrorKind::Invalid`] if the data cannot be written as JSON.
    pub fn remember(&self, id: &str, data: &impl Serialize) -> Result<()> {
        let container = self.container(id)?;
        let extra = serde_json::to_value(data).map_err(|e| Error::invalid(e.to_string()))?;
        self.write_container(&ContainerRecord { extra, ..container })
    }

    /// The writable root file system of a container.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a layer is missing.
    pub fn container_rootfs(&self, container: &ContainerRecord) -> Result<Rootfs> {
        let dir = self.path("containers").join(&container.id);
        let mut lower = self.lower(&container.layers, container.fixup.as_ref())?;
        let stubs = dir.join("stubs");
        if stubs.is_dir() {
            lower.insert(0, stubs);
        }
        Ok(Rootfs { lower, upper: Some(dir.join("upper")), work: Some(dir.join("work")), marks: self.marks })
    }

    /// A read-only root file system with the current files of a container, which may be running: without the mounts of the
    /// runtime and the mount points of [`Store::add_stubs`]. The writable one must not be mounted twice.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a layer is missing.
    pub fn container_view(&self, container: &ContainerRecord) -> Result<Rootfs> {
        let mut lower = self.lower(&container.layers, container.fixup.as_ref())?;
        lower.insert(0, self.path("containers").join(&container.id).join("upper"));
        Ok(Rootfs { lower, upper: None, work: None, marks: self.marks })
    }

    /// Creates mount points for a runtime, directories (`true`) and files (`false`), if the image does not have them, in a layer
    /// between image and writable layer: they are no changes of the container. Paths through links are left to the runtime. Call
    /// this before the container is first mounted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container; failed system calls.
    pub fn add_stubs<'p>(&self, id: &str, paths: impl IntoIterator<Item = (&'p str, bool)>) -> Result<()> {
        let view = self.container_rootfs(&self.container(id)?)?.mount()?;
        let dir = self.path("containers").join(id).join("stubs");
        fs::DirBuilder::new().mode(0o755).create(&dir).doing(|| format!("mkdir {dir:?}"))?;
        let stubs = File::open(&dir).doing(|| format!("open {dir:?}"))?;
        crate::stubs::make(&view, &stubs, paths).doing(|| format!("mount points of container {id}"))
    }

    /// The container with this ID.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Invalid`] for an invalid ID or a damaged record.
    pub fn container(&self, id: &str) -> Result<ContainerRecord> {
        check_id(id)?;
        let path = self.path("containers").join(id).join("record.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{path:?}: {e}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("container {id:?}: no such container")))
            }
            Err(error) => Err(error).doing(|| format!("read {path:?}")),
        }
    }

    /// All containers.
    ///
    /// # Errors
    /// Those of getdents64(2).
    pub fn containers(&self) -> Result<Containers> {
        let dir = self.path("containers");
        let mut all = Containers::default();
        for entry in fs::read_dir(&dir).doing(|| format!("list {dir:?}"))? {
            let id = entry.doing(|| format!("list {dir:?}"))?.file_name().to_string_lossy().into_owned();
            match self.container(&id) {
                Ok(container) => all.intact.push(container),
                // Being created or removed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // Not a container.
                Err(_) if !super::is_name(&id) => {}
                Err(error) => all.damaged.push((id, error)),
            }
        }
        all.intact.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all.damaged.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Removes a container and its writable layer, even if its record is damaged. Its files are deleted by
    /// [`Store::empty_trash`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; failed system calls.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        match self.container(id) {
            Err(error) if error.kind() == ErrorKind::NotFound || !super::is_name(id) => return Err(error),
            _ => {}
        }
        let dir = self.path("containers").join(id);
        match fs::rename(&dir, self.trash_name()?) {
            // Another process was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("container {id:?}: no such container")))
            }
            other => other.doing(|| format!("rename {dir:?}")),
        }
    }
}

/// Checks a container's ID: see [`is_name`](super::is_name).
fn check_id(id: &str) -> Result<()> {
    if super::is_name(id) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "container {id:?}: must be up to 128 letters, digits, \"_\", \".\" and \"-\", starting with a letter or digit"
    )))
}

impl Rootfs {
    /// Mounts the overlay and returns it detached: attach it with move_mount(2), or use it as a directory. It is unmounted when the
    /// last descriptor is closed, unless it is attached.
    ///
    /// # Errors
    /// Those of fsopen(2), fsconfig(2) and fsmount(2). Requires Linux 5.2 and CAP_SYS_ADMIN, or Linux 5.11 and CAP_SYS_ADMIN in
    /// the mount namespace's user namespace.
    pub fn mount(&self) -> Result<OwnedFd> {
        let doing = || format!("mount overlay of {} layers", self.lower.len());
        let context =
            rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing(|| "fsopen").doing(doing)?;
        self.configure(&context).map_err(|error| with_kernel_log(error, &context)).doing(doing)?;
        let attributes =
            if self.upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .doing(|| "fsmount")
            .doing(doing)
    }

    fn configure(&self, context: &OwnedFd) -> Result<()> {
        let set = |key: &str, value: &str| {
            rustix::mount::fsconfig_set_string(context, key, value)
                .doing(|| format!("fsconfig {key}={value}"))
        };
        set("source", "knarr")?;
        let open = |path: &PathBuf| File::open(path).doing(|| format!("open {path:?}"));
        let lower = self.lower.iter().map(open).collect::<Result<Vec<_>>>()?;
        add_lower(context, &lower)?;
        // Held until the file system is created: older kernels open them through /proc.
        let mut held = Vec::new();
        for (key, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(path) = path {
                let dir = open(path)?;
                set_dir(context, key, &dir)?;
                held.push(dir);
            }
        }
        // With these features, a writable layer would not be complete by itself and could not be committed.
        if self.marks == Marks::User {
            rustix::mount::fsconfig_set_flag(context, "userxattr").doing(|| "fsconfig userxattr")?;
        } else {
            set("redirect_dir", "nofollow")?;
            set("metacopy", "off")?;
            if self.upper.is_some() {
                set("index", "off")?;
            }
        }
        rustix::mount::fsconfig_create(context).doing(|| "fsconfig create")
    }
}

/// Sets the lower directories: `lowerdir+` by descriptor since Linux 6.13, by path since 6.5; before, `lowerdir` with all
/// paths, short ones in /proc.
fn add_lower(context: &OwnedFd, lower: &[File]) -> Result<()> {
    for (at, dir) in lower.iter().enumerate() {
        match set_dir(context, "lowerdir+", dir) {
            Err(error) if at == 0 && error.errno() == Some(Errno::INVAL.raw_os_error()) => {
                let paths: Vec<_> = lower.iter().map(proc_path).collect();
                let joined = paths.join(":");
                return rustix::mount::fsconfig_set_string(context, "lowerdir", joined)
                    .doing(|| "fsconfig lowerdir");
            }
            other => other?,
        }
    }
    Ok(())
}

fn set_dir(context: &OwnedFd, key: &str, dir: &File) -> Result<()> {
    match rustix::mount::fsconfig_set_fd(context, key, dir) {
        Err(Errno::INVAL | Errno::BADF) => {
            let path = proc_path(dir);
            rustix::mount::fsconfig_set_string(context, key, path.as_str())
                .doing(|| format!("fsconfig {key}={path}"))
        }
        other => other.doing(|| format!("fsconfig {key}")),
    }
}

fn proc_path(dir: &File) -> String {
    format!("/proc/self/fd/{}", dir.as_raw_fd())
}

/// Adds the kernel's message from the context: one per read(2), see fsopen(2).
fn with_kernel_log(error: Error, context: &OwnedFd) -> Error {
    let mut buffer = [0_u8; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) if length > 2 => {
            let message = String::from_utf8_lossy(&buffer[2..length]).trim().to_owned();
            error.context(format!("kernel: {message:?}"))
        }
        _ => error,
    }
}
