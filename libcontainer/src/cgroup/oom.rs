//! Notifies a program that watches a container when the kernel has killed one of its processes because of the memory limit: without a
//! thread or a timer, by one descriptor per container for poll(2).

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
/// Poll its descriptor for [`events`](OomWatch::events), then call [`happened`](OomWatch::happened), which rearms it.
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
    /// The events to poll the descriptor for: POLLPRI on cgroup v2, POLLIN on v1.
    pub fn events(&self) -> i16 {
        match self.0 {
            Source::V2 { .. } => libc::POLLPRI,
            Source::V1 { .. } => libc::POLLIN,
        }
    }

    /// Whether there was a kill since the last call.
    ///
    /// # Errors
    /// `NotFound` if the cgroup has been removed: the descriptor may then stay ready forever.
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
    /// `None` if memory is not accounted.
    pub(crate) fn watch_oom(&self) -> Result<Option<OomWatch>> {
        match self {
            Cgroup::V2(location) => v2(&location.open()?),
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

/// kernfs reports the next change only after a read.
fn kills(file: &File) -> Result<u64> {
    let mut buffer = [0; 512];
    let length = file.read_at(&mut buffer, 0).map_err(|e| errno(&e)).context("read memory.events")?;
    let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or_default();
    Ok(value_of(text, "oom_kill").unwrap_or(0))
}

/// Documentation/admin-guide/cgroup-v1/memory.rst of Linux, "OOM Control".
fn v1(member: &Member) -> Result<OomWatch> {
    let dir = member.location.open()?;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("eventfd")?;
    let control = dir.file("memory.oom_control", OFlag::O_RDONLY).context("open memory.oom_control")?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    dir.write("cgroup.event_control", &line).context("write cgroup.event_control")?;
    Ok(OomWatch(Source::V1 { event, dir }))
}
