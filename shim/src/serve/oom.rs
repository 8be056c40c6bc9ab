//! Kills by a container's memory limit, read from a descriptor of libcontainer.
//!
//! On cgroup v2 it is memory.events, on v1 an eventfd, which this module finds out itself. It does not know containers.

use nix::sys::stat::{SFlag, fstat};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Watches one container.
#[derive(Debug)]
pub(crate) struct OomWatch {
    file: File,
    /// The kills seen so far. On v1 the eventfd counts them.
    seen: Option<u64>,
}

impl OomWatch {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let regular = fstat(&fd)
            .is_ok_and(|about| SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG);
        let file = File::from(fd);
        let seen = regular.then(|| kills(&file).unwrap_or(0));
        OomWatch { file, seen }
    }

    /// Whether to poll for POLLPRI, which reports a change of memory.events. An eventfd has POLLIN.
    pub(crate) fn is_urgent(&self) -> bool {
        self.seen.is_some()
    }

    /// Whether there was a kill since the last call; `None` if there is nothing to watch any more.
    pub(crate) fn happened(&mut self) -> Option<bool> {
        match &mut self.seen {
            Some(seen) => {
                let now = kills(&self.file)?;
                Some(std::mem::replace(seen, now) < now)
            }
            None => match self.file.read(&mut [0; 8]) {
                Ok(_) => Some(true),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Some(false),
                Err(_) => None,
            },
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The number of kills. Only after this read does the kernel report the next change.
fn kills(file: &File) -> Option<u64> {
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn kills_are_counted_from_the_file_and_reported_once() {
        let path = std::env::temp_dir().join(format!("knarr-oom-{}", std::process::id()));
        let mut file =
            File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"low 0\noom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
        let mut watch = OomWatch::new(file.try_clone().unwrap().into());
        assert!(watch.is_urgent());
        assert_eq!(watch.happened(), Some(false), "earlier kills are not reported");
        file.write_all_at(b"low 0\noom 4\noom_kill 5\noom_group_kill 0\n", 0).unwrap();
        assert_eq!(watch.happened(), Some(true));
        assert_eq!(watch.happened(), Some(false));
    }

    #[test]
    fn an_eventfd_is_read_until_it_is_empty() {
        use nix::sys::eventfd::{EfdFlags, EventFd};
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let mut watch = OomWatch::new(event.as_fd().try_clone_to_owned().unwrap());
        assert!(!watch.is_urgent());
        assert_eq!(watch.happened(), Some(false));
        event.write(2).unwrap();
        assert_eq!(watch.happened(), Some(true));
        assert_eq!(watch.happened(), Some(false));
    }
}
