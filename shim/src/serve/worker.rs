//! Workers: a copy of this process does the work that takes time or memory, says how it went, and is gone, its memory with it.
//!
//! The server is small and has one thread, so a copy costs little, and what it makes (a container's process) becomes the server's
//! child when the copy ends. It must not know what the work is.

use crate::sys::{process, socket};
use crate::wire::code::{Code, Failure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use prost::Message;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// The longest report. What a socket of the kernel's default size takes in one piece is twice that.
const LONGEST: usize = 100 << 10;

/// How it went. The descriptors go beside it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Report {
    /// A [`Code`]; 0 is success.
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    /// The process that was made; its pidfd is the first descriptor.
    #[prost(int32, tag = "3")]
    pub(crate) pid: i32,
    /// Its terminal's master is the next descriptor.
    #[prost(bool, tag = "4")]
    pub(crate) terminal: bool,
    /// What tells of kills by the memory limit is the next one.
    #[prost(bool, tag = "5")]
    pub(crate) oom: bool,
    /// The logger that was started; its pidfd is the last one.
    #[prost(int32, tag = "6")]
    pub(crate) logger: i32,
    /// The process is the first of a pid namespace.
    #[prost(bool, tag = "7")]
    pub(crate) owns_pids: bool,
    /// Where the kernel accounts the container.
    #[prost(message, repeated, tag = "8")]
    pub(crate) cgroups: Vec<CgroupFolder>,
    /// What people should hear of.
    #[prost(string, repeated, tag = "9")]
    pub(crate) warnings: Vec<String>,
}

/// A folder of the container's cgroup.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CgroupFolder {
    /// Empty on cgroup v2.
    #[prost(string, tag = "1")]
    pub(crate) controller: String,
    #[prost(string, tag = "2")]
    pub(crate) path: String,
}

/// What a worker has made: its report and the descriptors it speaks of, in the order of the fields.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) report: Report,
    pub(crate) fds: Vec<OwnedFd>,
}

/// A worker at work.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: i32,
    socket: OwnedFd,
}

impl Worker {
    /// Has `work` done in a copy of this process. `needed` are the descriptors of this process that it uses, if that is known.
    pub(crate) fn employ(
        needed: Option<&[RawFd]>,
        work: impl FnOnce() -> Result<Done, Failure>,
    ) -> Result<Self, Failure> {
        let failed =
            |call: &str, e: Errno| Failure::new(Code::Unknown, format!("start a worker: {call}: {e}"));
        let (here, there) = socket::pair().map_err(|e| failed("socketpair", e))?;
        let server = nix::unistd::getpid();
        let pid = process::fork(|| {
            // Whatever it is doing must not go on when the server is gone: who cleans up then counts on being alone.
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            if nix::unistd::getppid() != server {
                return 1;
            }
            process::reset_signals();
            if let Some(needed) = needed {
                make_room(there.as_raw_fd(), needed);
                restore_file_limit();
            }
            let done = work().unwrap_or_else(refused);
            let fds: Vec<BorrowedFd<'_>> = done.fds.iter().map(AsFd::as_fd).collect();
            let mut bytes = message(&done.report);
            if bytes.len() > LONGEST {
                bytes =
                    message(&refused(Failure::new(Code::Internal, "the worker's report is too long")).report);
            }
            i32::from(socket::send(there.as_fd(), &bytes, &fds).is_err())
        })
        .map_err(|e| failed("fork", e))?;
        Ok(Worker { pid, socket: here })
    }

    /// Whether it has something to say, or has died.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(socket::waiting(self.socket.as_fd()), Err(Errno::EAGAIN | Errno::EINTR))
    }

    /// What it has to say, once it is ready. A worker that died without a word has failed.
    pub(crate) fn report(self) -> Result<Done, Failure> {
        let lost = |why: &str| Err(Failure::new(Code::Internal, format!("the shim's worker {why}")));
        let length = match socket::waiting(self.socket.as_fd()) {
            Ok(0) => return lost("has died"),
            Ok(length) => length,
            Err(_) => return lost("can not be heard"),
        };
        let mut room = vec![0; length];
        let Ok((count, fds)) = socket::receive(self.socket.as_fd(), &mut room) else {
            return lost("can not be heard");
        };
        let Ok(report) = Report::decode(room.get(1..count).unwrap_or_default()) else {
            return lost("can not be understood");
        };
        if report.code != 0 {
            return Err(Failure::new(Code::from_number(report.code), report.message));
        }
        Ok(Done { report, fds })
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A report as it is sent. The byte before it tells the report of plain success, which is empty, from the end of the worker.
fn message(report: &Report) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(report.encode_to_vec());
    bytes
}

/// The limit of open files that this program was started with.
static FILES: OnceLock<(u64, u64)> = OnceLock::new();

/// A pod with many execs has many streams. What a container inherits stays as it was: see [`restore_file_limit`].
pub(crate) fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
    {
        let _ = FILES.set((soft, hard));
    }
}

/// The limit of open files that this program was started with, soft and hard, if it was raised since.
pub(crate) fn file_limit() -> Option<(u64, u64)> {
    FILES.get().copied()
}

/// For a copy of this process whose descriptors are few, or which opens no more.
pub(crate) fn restore_file_limit() {
    if let Some((soft, hard)) = file_limit() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// For a copy of this process that has so many descriptors that it could open no more with the old limit: closes those that are the
/// server's alone.
fn make_room(newest: RawFd, needed: &[RawFd]) {
    const ROOM: u64 = 256;
    // How many there are, not how high the newest one is: an idle server closes old ones, and the newest may have such a low number.
    let crowded = |limit: u64| crate::sys::inherit::open_files().is_none_or(|count| count + ROOM >= limit);
    if file_limit().is_some_and(|(soft, _)| crowded(soft)) {
        let mut kept = needed.to_vec();
        kept.push(newest);
        crate::sys::inherit::close_all_but(&mut kept);
    }
}

fn refused(failure: Failure) -> Done {
    let mut message = failure.message;
    // Room for it was reckoned with; a longer one would be no help to anybody.
    let mut end = message.len().min(8 << 10);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    Done { report: Report { code: failure.code as i32, message, ..Report::default() }, fds: Vec::new() }
}
