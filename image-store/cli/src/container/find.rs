//! Finds containers: in the store by what users call them, and running ones in the state of the runtime.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

use image_store::store::{ContainerRecord, Containers};
use image_store::{ErrorKind, Store};
use libcontainer::spec::LinuxNamespaceType;
use libcontainer::{Container, ContainerId, Delete, Runtime, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::locks::PauseLock;
use super::record::Run;
use crate::failure::{Failure, Result, invalid};
use crate::places;

/// A container that a user named.
#[derive(Debug)]
pub(crate) enum Found {
    Intact(Box<ContainerRecord>),
    /// All that is known of it is its ID, and why its record cannot be read.
    Damaged(String, Failure),
}

/// Looks up a container by its ID, a unique prefix of it, or its name.
pub(crate) fn look_up(store: &Store, text: &str) -> Result<Found> {
    let Containers { mut intact, mut damaged } = store.containers()?;
    let text = text.strip_prefix('/').unwrap_or(text);
    let named = |c: &ContainerRecord| c.id == text || Run::of(c).is_some_and(|run| run.name == text);
    if let Some(at) = intact.iter().position(named) {
        return Ok(Found::Intact(Box::new(intact.swap_remove(at))));
    }
    intact.retain(|container| !text.is_empty() && container.id.starts_with(text));
    damaged.retain(|(id, _)| !text.is_empty() && id.starts_with(text));
    match (intact.len() + damaged.len(), intact.pop(), damaged.pop()) {
        (1, Some(container), _) => Ok(Found::Intact(Box::new(container))),
        (1, _, Some((id, error))) => Ok(Found::Damaged(id, error.into())),
        (0, ..) => Err(Failure::new(ErrorKind::NotFound, format!("container {text:?}: no such container"))),
        _ => Err(invalid(format!("container {text:?}: ambiguous: matches several containers"))),
    }
}

/// Looks up a container whose record can be read.
pub(crate) fn find(store: &Store, text: &str) -> Result<ContainerRecord> {
    match look_up(store, text)? {
        Found::Intact(container) => Ok(*container),
        Found::Damaged(id, error) => Err(damaged(&id, &error)),
    }
}

/// The error for a container whose record cannot be read.
pub(crate) fn damaged(id: &str, error: &dyn std::fmt::Display) -> Failure {
    invalid(format!("container {id}: its record is damaged: remove it with `rm -f`: {error}"))
}

/// The ID of the container that [`find`] finds.
pub(crate) fn id_of(store: &Store, text: &str) -> Result<String> {
    find(store, text).map(|container| container.id)
}

pub(crate) fn runtime() -> Result<Runtime> {
    Runtime::open(places::runtime_state()?).map_err(Failure::from)
}

pub(crate) fn container_id(id: &str) -> Result<ContainerId> {
    ContainerId::new(id).map_err(Failure::from)
}

/// The container, if its process has not exited. If it was paused by a command that was killed, it is resumed.
pub(crate) fn running(id: &str) -> Option<(Container, Status)> {
    resume_abandoned(id);
    load(id)
}

/// Resumes a container that was paused by a command that was killed, and tells so. Whether it was one.
pub(crate) fn resume_abandoned(id: &str) -> bool {
    let Some(lock) = PauseLock::abandoned(id) else { return false };
    let paused = load(id).filter(|(_, status)| *status == Status::Paused);
    if let Some((container, _)) = &paused {
        match container.resume() {
            Ok(()) => eprintln!(
                "knarr-image: container {id}: resumed, since the command that had paused it was killed"
            ),
            // The lock still says so: the next command tries again.
            Err(error) if !exits_within(container, 0) => {
                eprintln!(
                    "knarr-image: warning: container {id}: paused by a command that was killed: {error}"
                );
                return false;
            }
            Err(_) => {}
        }
    }
    lock.end();
    paused.is_some()
}

fn load(id: &str) -> Option<(Container, Status)> {
    let container = runtime().ok()?.load(&container_id(id).ok()?).ok()?;
    let status = container.state().ok()?.status;
    (status != Status::Stopped).then_some((container, status))
}

/// Finds a running container; an error if it is not running.
pub(crate) fn live(store: &Store, text: &str) -> Result<(ContainerRecord, Container, Status)> {
    let record = find(store, text)?;
    match running(&record.id) {
        Some((container, status)) => Ok((record, container, status)),
        None => Err(invalid(format!("container {text:?}: is not running"))),
    }
}

/// The root of a running container, by way of its first process: an overlay must not be mounted twice.
pub(crate) fn live_root(id: &str) -> Option<OwnedFd> {
    let (container, _) = running(id)?;
    file_of(container.pid(), container.pidfd()?, "root")
}

/// A namespace of a running container's first process.
pub(crate) fn live_namespace(id: &str, kind: LinuxNamespaceType) -> Option<OwnedFd> {
    let (container, _) = running(id)?;
    // As in /proc, their names are shorter than config.json's.
    file_of(container.pid(), container.pidfd()?, &format!("ns/{kind}"))
}

/// A file that /proc has of a process. Its number may be another process's by now, but not as long as it has not exited.
fn file_of(pid: i32, pidfd: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    let file = File::open(format!("/proc/{pid}/{name}")).ok()?;
    (!ends_within(pidfd, 0)).then(|| file.into())
}

/// Waits until the container's first process has exited, at most for this many seconds.
pub(crate) fn exits_within(container: &Container, seconds: u64) -> bool {
    container.pidfd().is_none_or(|pidfd| ends_within(pidfd, seconds))
}

fn ends_within(pidfd: BorrowedFd<'_>, seconds: u64) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let limit = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Whether the kernel has killed a process of this run for lack of memory.
pub(crate) fn oom_killed(container: &Container) -> bool {
    // Without a cgroup, it is not known.
    container.stats().is_ok_and(|stats| stats.oom_kills > 0)
}

/// Removes what is left of an exited container whose supervisor was killed.
pub(crate) fn clean(id: &str) {
    if let Ok(container) = runtime().and_then(|r| r.load(&container_id(id)?).map_err(Failure::from)) {
        let _ = container.delete(Delete::Stopped);
    }
    for path in [places::socket(id), places::pause(id)] {
        let _ = path.map(std::fs::remove_file);
    }
}

/// Whether a container is running.
pub(crate) fn is_running(id: &str) -> bool {
    live_root(id).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    #[test]
    fn files_of_a_process_that_took_the_number_of_another_are_not_used() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let number = i32::try_from(child.id()).unwrap();
        for name in ["root", "ns/net"] {
            assert!(file_of(number, pidfd.as_fd(), name).is_some(), "{name}");
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        // As if this process had the number by now.
        let number = i32::try_from(std::process::id()).unwrap();
        for name in ["root", "ns/net"] {
            assert!(file_of(number, pidfd.as_fd(), name).is_none(), "{name}");
        }
    }
}
