//! Root file systems: the layers of an image, and a writable folder on top for one container.
//!
//! Mounted by descriptors: overlay then takes hundreds of layers, where the old option string ends at one page. The mount
//! comes back detached, as a descriptor, so a runtime can attach it in a mount namespace of its own.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use serde::{Deserialize, Serialize};

use super::{Record, Store};
use crate::digest::Digest;
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::layer::Marks;

/// A container's writable layer, and what keeps the layers below it alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its ID, the name of its folder.
    pub id: String,
    /// The image as it was named.
    pub image: String,
    /// The image's ID.
    pub image_id: Digest,
    /// The image's manifest and config, which `commit` builds upon.
    pub blobs: Vec<Digest>,
    /// The image's manifest.
    pub manifest: crate::manifest::Descriptor,
    /// diffIDs, lowest first.
    pub layers: Vec<Digest>,
    /// The fix-up layer.
    pub fixup: Option<Digest>,
    /// Seconds since the epoch.
    pub created: u64,
    /// Whatever the caller wants to remember.
    #[serde(default)]
    pub extra: serde_json::Value,
}

/// The folders of a root file system, all in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// Lower directories, topmost first; never empty.
    pub lower: Vec<PathBuf>,
    /// The writable folder; `None` for a read-only view of an image.
    pub upper: Option<PathBuf>,
    /// Overlay's work folder, beside `upper`.
    pub work: Option<PathBuf>,
    /// [`Marks::User`] wants the mount option `userxattr`.
    pub marks: Marks,
}

impl Store {
    /// The lower directories of an image: a read-only root file system.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when a layer is missing.
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
            // Overlay refuses a folder that is in a stack twice; what lies higher wins anyway.
            if !layers[at + 1..].contains(layer) {
                lower.push(self.layer_path(layer).join("fs"));
            }
        }
        for path in &lower {
            if !path.is_dir() {
                let message = format!("layer {path:?}: is missing: pull or load the image again");
                return Err(Error::not_found(message));
            }
        }
        // Overlay without an upper folder wants two lower ones.
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
    pub fn prepare(&self, record: &Record, id: &str, extra: serde_json::Value) -> Result<Rootfs> {
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
            extra,
        };
        let _guard = self.lock(FlockOperation::LockShared)?;
        let lower = self.lower(&record.layers, record.fixup.as_ref())?;
        let folder = self.path("containers").join(id);
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::new(ErrorKind::Exists, format!("container {id:?}: exists already")));
            }
            other => other.doing(|| format!("mkdir {folder:?}"))?,
        }
        let made = self.fill_container(&folder, &lower[0], &container);
        if made.is_err() {
            let _ = fs::remove_dir_all(&folder);
        }
        made?;
        self.container_rootfs(&container)
    }

    fn fill_container(
        &self,
        folder: &std::path::Path,
        top: &std::path::Path,
        container: &ContainerRecord,
    ) -> Result<()> {
        for name in ["upper", "work"] {
            fs::create_dir(folder.join(name)).doing(|| format!("mkdir {:?}", folder.join(name)))?;
        }
        // What a container sees as the attributes of `/` are those of the upper folder.
        let upper = folder.join("upper");
        let meta = fs::metadata(top).doing(|| format!("stat {top:?}"))?;
        std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid()))
            .doing(|| format!("chown {upper:?}"))?;
        let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
        fs::set_permissions(&upper, mode).doing(|| format!("chmod {upper:?}"))?;
        self.write_container(container)
    }

    fn write_container(&self, container: &ContainerRecord) -> Result<()> {
        let bytes = serde_json::to_vec(container).map_err(|e| Error::invalid(e.to_string()))?;
        // A writable layer is made durable by whoever writes to it; losing a container that never ran harms nobody.
        super::write_file(&self.path("containers").join(&container.id), "record.json", &bytes, false)
    }

    /// Replaces what a container's record remembers.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn set_extra(&self, id: &str, extra: serde_json::Value) -> Result<()> {
        let container = self.container(id)?;
        self.write_container(&ContainerRecord { extra, ..container })
    }

    /// The root file system of a container.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when a layer is missing.
    pub fn container_rootfs(&self, container: &ContainerRecord) -> Result<Rootfs> {
        let folder = self.path("containers").join(&container.id);
        let mut lower = self.lower(&container.layers, container.fixup.as_ref())?;
        let stubs = folder.join("stubs");
        if stubs.is_dir() {
            lower.insert(0, stubs);
        }
        Ok(Rootfs {
            lower,
            upper: Some(folder.join("upper")),
            work: Some(folder.join("work")),
            marks: self.marks,
        })
    }

    /// A read-only view of a container's files as they are now, also while it runs: without what a runtime has mounted, and
    /// without [`Store::add_stubs`]'s mount points. An overlay must not be mounted twice for writing; this one is not.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when a layer is missing.
    pub fn container_view(&self, container: &ContainerRecord) -> Result<Rootfs> {
        let mut lower = self.lower(&container.layers, container.fixup.as_ref())?;
        lower.insert(0, self.path("containers").join(&container.id).join("upper"));
        Ok(Rootfs { lower, upper: None, work: None, marks: self.marks })
    }

    /// Makes files (`false`) and folders (`true`) that a runtime will mount upon, where the image has none, in a layer of
    /// their own between image and writable layer: so they are neither a change of the container nor part of a commit.
    /// Paths that lead through links are left to the runtime. Before the container's first mount only.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; system calls that fail.
    pub fn add_stubs<'p>(&self, id: &str, paths: impl IntoIterator<Item = (&'p str, bool)>) -> Result<()> {
        let view = self.container_rootfs(&self.container(id)?)?.mount()?;
        let folder = self.path("containers").join(id).join("stubs");
        fs::DirBuilder::new().mode(0o755).create(&folder).doing(|| format!("mkdir {folder:?}"))?;
        let stubs = File::open(&folder).doing(|| format!("open {folder:?}"))?;
        crate::stubs::make(&view, &stubs, paths).doing(|| format!("mount points of container {id}"))
    }

    /// The container of this ID.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn container(&self, id: &str) -> Result<ContainerRecord> {
        check_id(id)?;
        let path = self.path("containers").join(id).join("record.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{path:?}: {e}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("container {id:?}: does not exist")))
            }
            Err(error) => Err(error).doing(|| format!("read {path:?}")),
        }
    }

    /// All containers, the oldest first.
    ///
    /// # Errors
    /// System calls that fail, and records that do not parse.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>> {
        let folder = self.path("containers");
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).doing(|| format!("list {folder:?}"))? {
            let entry = entry.doing(|| format!("list {folder:?}"))?;
            match self.container(&entry.file_name().to_string_lossy()) {
                Ok(container) => all.push(container),
                // Being made or removed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(all)
    }

    /// Removes a container's writable layer. The folder leaves at once, its content with the next emptying of the trash.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; system calls that fail.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        self.container(id)?;
        let folder = self.path("containers").join(id);
        match fs::rename(&folder, self.trash_name()?) {
            // Another was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("container {id:?}: does not exist")))
            }
            other => other.doing(|| format!("rename {folder:?}")),
        }
    }
}

/// As the runtime specification's users have them: letters, digits, `_`, `.` and `-`, and a letter or digit in front.
fn check_id(id: &str) -> Result<()> {
    if super::is_name(id) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "container {id:?}: an ID is up to 128 letters, digits, \"_\", \".\" and \"-\""
    )))
}

impl Rootfs {
    /// Mounts the overlay and returns it detached: attach it with move_mount(2), or use it as a folder as it is.
    /// It is gone when the last descriptor is closed.
    ///
    /// # Errors
    /// Those of fsopen(2) and its kin; wants CAP_SYS_ADMIN in the mount namespace's user namespace and Linux 5.11 there,
    /// 5.2 otherwise.
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
        // Held until the file system is made, for older kernels open them by their names in /proc.
        let mut held = Vec::new();
        for (key, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(path) = path {
                let folder = open(path)?;
                set_folder(context, key, &folder)?;
                held.push(folder);
            }
        }
        // Without these a writable layer describes itself completely, and can be committed as it lies there.
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

/// `lowerdir+` by descriptor since Linux 6.13, by path since 6.5; before, one string, which is short with paths in /proc.
fn add_lower(context: &OwnedFd, lower: &[File]) -> Result<()> {
    for (at, folder) in lower.iter().enumerate() {
        match set_folder(context, "lowerdir+", folder) {
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

fn set_folder(context: &OwnedFd, key: &str, folder: &File) -> Result<()> {
    match rustix::mount::fsconfig_set_fd(context, key, folder) {
        Err(Errno::INVAL | Errno::BADF) => {
            let path = proc_path(folder);
            rustix::mount::fsconfig_set_string(context, key, path.as_str())
                .doing(|| format!("fsconfig {key}={path}"))
        }
        other => other.doing(|| format!("fsconfig {key}")),
    }
}

fn proc_path(folder: &File) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

/// The context says in words what was wrong, one message for each read(2).
fn with_kernel_log(error: Error, context: &OwnedFd) -> Error {
    let mut buffer = [0_u8; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) if length > 2 => {
            let message = String::from_utf8_lossy(&buffer[2..length]).trim().to_owned();
            error.context(format!("kernel says {message:?}"))
        }
        _ => error,
    }
}
