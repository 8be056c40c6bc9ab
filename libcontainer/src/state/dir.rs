//! The state directory of one container: created exclusively, locked while it is changed, with files that are written atomically.

use super::{RECORD_VERSION, Record};
use crate::error::{Context, Error, ErrorKind, Internal, Object, Result};
use crate::id::ContainerId;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const RECORD: &str = "state.json";
const FILTER: &str = "seccomp.bpf";
const START: &str = "start.sock";
const PROCESS: &str = "process";

/// No container has this id.
pub(crate) fn no_container() -> Error {
    Error::new(ErrorKind::NotFound, "container does not exist").about(Object::Container)
}

/// It is not the container that exists.
fn not_a_root(error: Error) -> Error {
    let error = error.about(Object::StateRoot);
    match error.kind() {
        ErrorKind::Exists => error.with_kind(ErrorKind::Os).hint("not a directory"),
        _ => error,
    }
}

/// One container's state directory, open. Its files are reached through the descriptor: by its path, another container of the same name
/// could be read and changed once it was removed.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
}

impl StateDir {
    /// Creates the directory, which reserves the id.
    pub(crate) fn reserve(root: &Path, id: &ContainerId) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .with_context(|| format!("mkdir {root:?}"))
            .map_err(not_a_root)?;
        let path = root.join(id);
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("mkdir {path:?}")).map_err(
            |e| match e.kind() {
                ErrorKind::Exists => Error::new(ErrorKind::Exists, "container with given ID already exists")
                    .about(Object::Container),
                ErrorKind::Permission => e.hint(
                    "the state directory must be writable by the caller: see --root and $XDG_RUNTIME_DIR",
                ),
                _ => e,
            },
        )?;
        StateDir::open_at(path)
    }

    /// Opens the directory of an existing container.
    pub(crate) fn open(root: &Path, id: &ContainerId) -> Result<Self> {
        StateDir::open_at(root.join(id)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => no_container(),
            _ => e,
        })
    }

    fn open_at(path: PathBuf) -> Result<Self> {
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(&path)
            .with_context(|| format!("open {path:?}"))?;
        let identity = identity(&file.metadata().with_context(|| format!("fstat {path:?}"))?);
        Ok(StateDir { path, file, identity })
    }

    /// Locks out other changes until the lock is dropped. What was read before may have changed until it is taken.
    ///
    /// # Errors
    /// `NotFound` when the directory was removed, even if another container has its name by now.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let file = self.again()?;
        file.lock().with_context(|| format!("flock {:?}", self.path))?;
        self.present().map(|()| Lock(file))
    }

    /// Locks it if it isn't locked; `None` while another change is in progress.
    ///
    /// # Errors
    /// As `lock`.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>> {
        let file = self.again()?;
        match file.try_lock() {
            Ok(()) => self.present().map(|()| Some(Lock(file))),
            Err(fs::TryLockError::WouldBlock) => self.present().map(|()| None),
            Err(fs::TryLockError::Error(e)) => Err(e).with_context(|| format!("flock {:?}", self.path)),
        }
    }

    /// Checks that it is still the one at its path.
    fn present(&self) -> Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("stat {:?}", self.path))
            }
            _ => Err(no_container()),
        }
    }

    /// The directory, opened once more: a lock belongs to an open file, and two threads must not share one.
    fn again(&self) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let file = openat(&self.file, ".", flags, Mode::empty()).map_err(std::io::Error::from);
        file.map(File::from).with_context(|| format!("open {:?}", self.path))
    }

    /// Replaces the record; a reader sees the old one or the new one.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|e| Internal::Encode("the state", e))?;
        self.write(RECORD, &text)
    }

    /// Reads the record. A directory without one belongs to a `create` that hasn't got that far.
    pub(crate) fn load(&self) -> Result<Record> {
        let path = self.path.join(RECORD);
        let text = self.read(RECORD)?;
        let record: Record = serde_json::from_slice(&text)
            .map_err(|e| Error::new(ErrorKind::Os, format!("read {path:?}: {e}")))?;
        if record.version != RECORD_VERSION {
            let message = format!(
                "read {path:?}: unknown format {}, written by another version of knarr",
                record.version
            );
            return Err(Error::unsupported(message));
        }
        Ok(record)
    }

    /// Notes the process of a create or restore that is under way, so that `delete` can end it.
    pub(crate) fn note_process(&self, pid: i32) -> Result<()> {
        let start_time = super::alive::start_time(pid)?;
        self.write(PROCESS, format!("{pid} {start_time}").as_bytes())
    }

    /// The pid and the start time of that process, if there is one yet.
    pub(crate) fn noted_process(&self) -> Option<(i32, u64)> {
        let text = String::from_utf8(self.read(PROCESS).ok()?).ok()?;
        let (pid, start_time) = text.split_once(' ')?;
        Some((pid.parse().ok()?, start_time.parse().ok()?))
    }

    /// The process has its place in the record.
    pub(crate) fn forget_process(&self) {
        self.unlink(PROCESS);
    }

    pub(crate) fn save_filter(&self, bpf: &[u64]) -> Result<()> {
        let bytes: Vec<u8> = bpf.iter().flat_map(|i| i.to_ne_bytes()).collect();
        self.write(FILTER, &bytes)
    }

    pub(crate) fn load_filter(&self) -> Result<Vec<u64>> {
        let bytes = self.read(FILTER)?;
        let (words, rest) = bytes.as_chunks();
        if !rest.is_empty() || words.is_empty() {
            let path = self.path.join(FILTER);
            return Err(Error::new(ErrorKind::Os, format!("read {path:?}: not a filter")));
        }
        Ok(words.iter().map(|w| u64::from_ne_bytes(*w)).collect())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.open_file(name, OFlag::O_RDONLY)
            .and_then(crate::sys::fs::read_whole)
            .with_context(|| format!("read {:?}", self.path.join(name)))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!(".{name}.tmp");
        self.open_file(&temporary, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)
            .and_then(|mut file| file.write_all(bytes))
            .with_context(|| format!("write {:?}", self.path.join(&temporary)))?;
        nix::fcntl::renameat(&self.file, temporary.as_str(), &self.file, name)
            .map_err(std::io::Error::from)
            .with_context(|| format!("rename to {:?}", self.path.join(name)))
    }

    fn open_file(&self, name: &str, flags: OFlag) -> std::io::Result<File> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(openat(&self.file, name, flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, mode)?.into())
    }

    fn unlink(&self, name: &str) {
        let _ = unlinkat(&self.file, name, UnlinkatFlags::NoRemoveDir);
    }

    /// The socket that the container's process listens on for `start`. Named through the directory's descriptor: a state root
    /// may be deeper than the 107 bytes of a socket's address.
    fn start_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{START}", self.file.as_raw_fd()))
    }

    pub(crate) fn listen(&self) -> Result<OwnedFd> {
        let listener = UnixListener::bind(self.start_path())
            .with_context(|| format!("bind {:?}", self.path.join(START)))?;
        Ok(listener.into())
    }

    /// Connects to a process that waits for `start`; `None` when none does.
    pub(crate) fn connect(&self) -> Result<Option<UnixStream>> {
        match UnixStream::connect(self.start_path()) {
            Ok(stream) => Ok(Some(stream)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED)) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("connect to {:?}", self.path.join(START))),
        }
    }

    pub(crate) fn forget_start(&self) {
        self.unlink(START);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory with its contents. It is not an error if it no longer exists.
    pub(crate) fn remove(&self) -> Result<()> {
        StateDir::remove_at(&self.path)
    }

    /// As `remove`, by its path.
    pub(crate) fn remove_at(path: &Path) -> Result<()> {
        // Most hold the record alone, for which no listing is needed.
        let _ = fs::remove_file(path.join(RECORD));
        if fs::remove_dir(path).is_ok() {
            return Ok(());
        }
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("remove {path:?}"))
            }
            _ => Ok(()),
        }
    }
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// The lock on a state directory. It is unlocked explicitly, since a child that was cloned meanwhile has a copy of the descriptor.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_directory_does_not_lead_to_that_of_another_container_of_its_name() {
        let root = std::env::temp_dir().join(format!("knarr-state-{}", std::process::id()));
        let (id, own) = (ContainerId::new("one").unwrap(), std::process::id().cast_signed());
        let first = StateDir::reserve(&root, &id).unwrap();
        first.note_process(own).unwrap();
        assert_eq!(first.noted_process().map(|(pid, _)| pid), Some(own));
        let lock = first.lock().unwrap();
        assert!(first.try_lock().unwrap().is_none());
        first.remove().unwrap();
        let next = StateDir::reserve(&root, &id).unwrap();
        next.note_process(own).unwrap();
        next.save_filter(&[1]).unwrap();

        // Also while it is still locked.
        assert_eq!(first.try_lock().map(drop).unwrap_err().kind(), ErrorKind::NotFound);
        drop(lock);
        assert_eq!(first.lock().map(drop).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(first.noted_process(), None);
        assert_eq!(first.load_filter().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(first.save_filter(&[2]).unwrap_err().kind(), ErrorKind::NotFound);
        first.forget_process();
        assert!(next.noted_process().is_some());
        assert_eq!(next.load_filter().unwrap(), [1]);
        fs::remove_dir_all(&root).unwrap();
    }
}
