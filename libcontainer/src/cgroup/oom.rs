//! Tells a program that watches a container that the kernel has killed one of its processes for the memory limit. No thread, no
//! timer: a descriptor for poll(2), one per container.

use super::dir::{Dir, errno, value_of};
use super::{Cgroup, Member};
use crate::error::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// Watches for kills by a container's memory limit: made by [`Container::watch_oom`](crate::Container::watch_oom).
///
/// Poll its descriptor for [`events`](OomWatch::events), then ask [`happened`](OomWatch::happened), which makes it ready anew.
#[derive(Debug)]
pub struct OomWatch(Source);

#[derive(Debug)]
enum Source {
    /// memory.events, and the kills seen so far.
    V2 { file: File, seen: u64 },
    /// The kernel adds to the eventfd, also when the cgroup is removed.
    V1 { event: EventFd, dir: Dir },
}

impl OomWatch {
    /// What to poll the descriptor for: POLLPRI on cgroup v2, POLLIN on v1.
    pub fn events(&self) -> i16 {
        match self.0 {
            Source::V2 { .. } => libc::POLLPRI,
            Source::V1 { .. } => libc::POLLIN,
        }
    }

    /// Whether there was a kill since this was asked last.
    ///
    /// # Errors
    /// `NotFound` when the cgroup is gone: there is nothing to watch any more, and the descriptor may be ready for ever.
    pub fn happened(&mut self) -> Result<bool> {
        match &mut self.0 {
            Source::V2 { file, seen } => {
                let kills = kills(file)?;
                Ok(std::mem::replace(seen, kills) < kills)
            }
            Source::V1 { event, dir } => {
                let happened = match event.read() {
                    Ok(_) => true,
                    Err(Errno::EAGAIN) => false,
                    Err(e) => return Err(e).context("read an eventfd"),
                };
                dir.file("memory.oom_control", OFlag::O_RDONLY).context("open memory.oom_control")?;
                Ok(happened)
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::V2 { file, .. } => file.as_fd(),
            Source::V1 { event, .. } => event.as_fd(),
        }
    }
}

impl Cgroup {
    /// `None` where no memory is accounted.
    pub(crate) fn watch_oom(&self) -> Result<Option<OomWatch>> {
        match self {
            Cgroup::V2(folder) => v2(&folder.open()?),
            Cgroup::V1(members) => match members.iter().find(|m| m.has("memory")) {
                Some(member) => v1(member).map(Some),
                None => Ok(None),
            },
            Cgroup::None => Ok(None),
        }
        .context("watch for kills by the memory limit")
    }
}

fn v2(dir: &Dir) -> Result<Option<OomWatch>> {
    let file = match dir.file("memory.events", OFlag::O_RDONLY) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other.context("open memory.events")?,
    };
    let seen = kills(&file)?;
    Ok(Some(OomWatch(Source::V2 { file, seen })))
}

/// Reading is what makes kernfs tell of the next change.
fn kills(file: &File) -> Result<u64> {
    let mut buffer = [0; 512];
    let length = file.read_at(&mut buffer, 0).map_err(|e| errno(&e)).context("read memory.events")?;
    let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or_default();
    Ok(value_of(text, "oom_kill").unwrap_or(0))
}

/// Documentation/admin-guide/cgroup-v1/memory.rst of Linux, "OOM Control".
fn v1(member: &Member) -> Result<OomWatch> {
    let dir = member.folder.open()?;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("eventfd")?;
    let control = dir.file("memory.oom_control", OFlag::O_RDONLY).context("open memory.oom_control")?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    dir.write("cgroup.event_control", &line).context("write cgroup.event_control")?;
    Ok(OomWatch(Source::V1 { event, dir }))
}
