//! Workers: a copy of this process does work that takes time or memory, reports the result and ends, which frees its memory.
//!
//! The server is small and has one thread, so a copy is cheap. A process that it makes (a container's first process) becomes a child of
//! the server when the copy ends. This module does not know what the work is.

use crate::sys::{process, socket};
use crate::wire::code::{Code, Failure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use prost::Message;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// The longest report: half of what a socket of the default size takes in one piece.
const MAX_REPORT: usize = 100 << 10;

/// The result of the work. Descriptors are sent with it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Report {
    /// A [`Code`]; 0 is success.
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    /// The pid of the process that was made.
    #[prost(int32, tag = "3")]
    pub(crate) pid: i32,
    /// The [`Role`]s of the descriptors, in their order. Set when it is sent.
    #[prost(enumeration = "Role", repeated, tag = "4")]
    pub(crate) roles: Vec<i32>,
    /// The pid of the logger that was started, or 0.
    #[prost(int32, tag = "6")]
    pub(crate) logger: i32,
    /// Whether the process is the first of a pid namespace.
    #[prost(bool, tag = "7")]
    pub(crate) owns_pids: bool,
    /// The container's cgroups.
    #[prost(message, repeated, tag = "8")]
    pub(crate) cgroups: Vec<CgroupDir>,
    /// Warnings for the log.
    #[prost(string, repeated, tag = "9")]
    pub(crate) warnings: Vec<String>,
}

/// A directory of the container's cgroup.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CgroupDir {
    /// Empty on cgroup v2.
    #[prost(string, tag = "1")]
    pub(crate) controller: String,
    #[prost(string, tag = "2")]
    pub(crate) path: String,
}

/// The purpose of a descriptor that a worker returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Role {
    Pidfd = 0,
    Terminal = 1,
    Oom = 2,
    Logger = 3,
}

/// The descriptors that a worker returns.
#[derive(Debug, Default)]
pub(crate) struct Fds {
    /// The pidfd of the process that was made.
    pub(crate) pidfd: Option<OwnedFd>,
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Reports kills by the memory limit.
    pub(crate) oom: Option<OwnedFd>,
    /// The pidfd of the logger.
    pub(crate) logger: Option<OwnedFd>,
}

impl Fds {
    /// The roles and the descriptors, to be sent.
    fn split(self) -> (Vec<i32>, Vec<OwnedFd>) {
        let Fds { pidfd, terminal, oom, logger } = self;
        [(Role::Pidfd, pidfd), (Role::Terminal, terminal), (Role::Oom, oom), (Role::Logger, logger)]
            .into_iter()
            .filter_map(|(role, fd)| Some((role as i32, fd?)))
            .unzip()
    }

    /// What was split, as it was received; `None` if it does not fit together.
    fn join(roles: &[i32], fds: Vec<OwnedFd>) -> Option<Self> {
        if roles.len() != fds.len() {
            return None;
        }
        let mut joined = Fds::default();
        for (role, fd) in roles.iter().zip(fds) {
            let place = match Role::try_from(*role).ok()? {
                Role::Pidfd => &mut joined.pidfd,
                Role::Terminal => &mut joined.terminal,
                Role::Oom => &mut joined.oom,
                Role::Logger => &mut joined.logger,
            };
            *place = Some(fd);
        }
        Some(joined)
    }
}

/// The result of a worker: its report and the descriptors that belong to it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) report: Report,
    pub(crate) fds: Fds,
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: i32,
    socket: OwnedFd,
}

impl Worker {
    /// Does `work` in a copy of this process. `needed` are the descriptors of this process that it uses, if they are known.
    pub(crate) fn spawn(
        needed: Option<&[RawFd]>,
        work: impl FnOnce() -> Result<Done, Failure>,
    ) -> Result<Self, Failure> {
        let failed =
            |call: &str, e: Errno| Failure::new(Code::Unknown, format!("start a worker: {call}: {e}"));
        let (here, there) = socket::pair().map_err(|e| failed("socketpair", e))?;
        let server = nix::unistd::getpid();
        let pid = process::fork(|| {
            // The work must not continue when the server is gone: `delete` then relies on being alone.
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            if nix::unistd::getppid() != server {
                return 1;
            }
            process::reset_signals();
            if let Some(needed) = needed {
                close_unneeded(there.as_raw_fd(), needed);
                restore_file_limit();
            }
            let Done { mut report, fds } = work().unwrap_or_else(refused);
            let (roles, fds) = fds.split();
            report.roles = roles;
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            let mut bytes = message(&report);
            if bytes.len() > MAX_REPORT {
                bytes = message(&refused(Failure::new(Code::Internal, "worker report too long")).report);
            }
            i32::from(socket::send(there.as_fd(), &bytes, &fds).is_err())
        })
        .map_err(|e| failed("fork", e))?;
        Ok(Worker { pid, socket: here })
    }

    /// Whether it has sent its report, or has died.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(socket::waiting(self.socket.as_fd()), Err(Errno::EAGAIN | Errno::EINTR))
    }

    /// Its report, once it is ready. A worker that died without one has failed.
    pub(crate) fn report(self) -> Result<Done, Failure> {
        let lost = |why: &str| Err(Failure::new(Code::Internal, why));
        let length = match socket::waiting(self.socket.as_fd()) {
            Ok(0) => return lost("worker exited unexpectedly"),
            Ok(length) => length,
            Err(_) => return lost("cannot read the worker's report"),
        };
        let mut buffer = vec![0; length];
        let Ok((count, fds)) = socket::receive(self.socket.as_fd(), &mut buffer) else {
            return lost("cannot read the worker's report");
        };
        let Ok(report) = Report::decode(buffer.get(1..count).unwrap_or_default()) else {
            return lost("malformed worker report");
        };
        if report.code != 0 {
            return Err(Failure::new(Code::from_number(report.code), report.message));
        }
        match Fds::join(&report.roles, fds) {
            Some(fds) => Ok(Done { report, fds }),
            None => lost("malformed worker report"),
        }
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A report as it is sent. The byte before it distinguishes the report of plain success, which is empty, from the end of the worker.
fn message(report: &Report) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(report.encode_to_vec());
    bytes
}

/// The limit of open files at the start of this program.
static FILES: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises the limit of open files: a pod with many execs has many streams. Containers get the old one ([`restore_file_limit`]).
pub(crate) fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
    {
        let _ = FILES.set((soft, hard));
    }
}

/// The soft and the hard limit of open files at the start of this program, if it was raised since.
pub(crate) fn file_limit() -> Option<(u64, u64)> {
    FILES.get().copied()
}

/// For a copy of this process that has few descriptors, or opens no more.
pub(crate) fn restore_file_limit() {
    if let Some((soft, hard)) = file_limit() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// For a copy of this process with so many descriptors that it could not open more under the old limit: closes those that only the
/// server uses.
fn close_unneeded(newest: RawFd, needed: &[RawFd]) {
    const SPARE: u64 = 256;
    // The number of descriptors, not the highest one: an idle server closes old ones, so the newest may have a low number.
    let crowded = |limit: u64| crate::sys::inherit::open_files().is_none_or(|count| count + SPARE >= limit);
    if file_limit().is_some_and(|(soft, _)| crowded(soft)) {
        let mut kept = needed.to_vec();
        kept.push(newest);
        crate::sys::inherit::close_all_but(&mut kept);
    }
}

fn refused(failure: Failure) -> Done {
    let mut message = failure.message;
    // Within the longest report; more would not help.
    let mut end = message.len().min(8 << 10);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    Done { report: Report { code: failure.code as i32, message, ..Report::default() }, fds: Fds::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn descriptors_keep_their_roles() {
        let sent = Fds { oom: Some(fd()), logger: Some(fd()), ..Fds::default() };
        let numbers = [&sent.oom, &sent.logger].map(|fd| fd.as_ref().unwrap().as_raw_fd());
        let (roles, fds) = sent.split();
        let got = Fds::join(&roles, fds).unwrap();
        assert_eq!([&got.oom, &got.logger].map(|fd| fd.as_ref().unwrap().as_raw_fd()), numbers);
        assert!(got.pidfd.is_none() && got.terminal.is_none());
        assert!(Fds::join(&[], vec![fd()]).is_none() && Fds::join(&[0], Vec::new()).is_none());
        assert!(Fds::join(&[9], vec![fd()]).is_none());
    }
}
