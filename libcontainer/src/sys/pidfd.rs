//! Processes by descriptor: a pid could be reused for another process, a pidfd can't.

use super::{Errno, SysResult, owned, ret};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A child of this process, which is killed and reaped when this is dropped.
#[derive(Debug)]
pub(crate) struct Child(ManuallyDrop<OwnedFd>);

impl Child {
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        Child(ManuallyDrop::new(pidfd))
    }

    /// Its pidfd; the process is not killed any more.
    pub(crate) fn keep(mut self) -> OwnedFd {
        // SAFETY: `self` is forgotten below, so that nothing uses or drops the descriptor again.
        let pidfd = unsafe { ManuallyDrop::take(&mut self.0) };
        std::mem::forget(self);
        pidfd
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = send_signal(self.as_fd(), libc::SIGKILL);
        let _ = wait(self.as_fd(), 0);
        // SAFETY: nothing uses the descriptor after its owner's drop.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

/// pidfd_open(2), kernel 5.3.
pub(crate) fn open(pid: i32) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    ret(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(owned)
}

/// pidfd_send_signal(2), kernel 5.1.
pub(crate) fn send_signal(process: BorrowedFd<'_>, signal: i32) -> SysResult<()> {
    // SAFETY: a null siginfo means the one kill(2) would send.
    ret(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
    })
    .map(drop)
}

/// pidfd_getfd(2), kernel 5.6: a copy of another process's descriptor.
pub(crate) fn getfd(process: BorrowedFd<'_>, number: i32) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    ret(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) }).map(owned)
}

/// waitid(P_PIDFD, WEXITED): si_code and si_status of a child that has ended, or `None` when it hasn't and `flags` has WNOHANG.
pub(crate) fn wait(process: BorrowedFd<'_>, flags: i32) -> SysResult<Option<(i32, i32)>> {
    loop {
        // SAFETY: an all-zero siginfo_t is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = process.as_raw_fd().cast_unsigned();
        // SAFETY: `info` has room for the structure.
        match ret(unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | flags) }.into()) {
            Err(e) if e.0 == libc::EINTR => continue,
            other => other?,
        };
        // SAFETY: waitid has filled the structure for a child's end, or left it zero.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        return Ok((pid != 0).then_some((info.si_code, status)));
    }
}

/// struct pidfd_info of linux/pidfd.h, as far as its exit code.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pids: [u32; 3],
    ids: [u32; 8],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// PIDFD_GET_INFO with PIDFD_INFO_EXIT (kernel 6.15): the si_code and si_status of a process that was reaped, by anyone, after this descriptor
/// was opened. `None` before it is reaped; an error where the kernel does not keep them.
pub(crate) fn kept_status(process: BorrowedFd<'_>) -> SysResult<Option<(i32, i32)>> {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    let request = libc::_IOWR::<Info>(0xff, 11);
    // SAFETY: the kernel writes at most the size of `info`, which is part of the request.
    ret(unsafe { libc::ioctl(process.as_raw_fd(), request, &raw mut info) }.into())?;
    let ended = info.mask & PIDFD_INFO_EXIT != 0;
    Ok(ended.then(|| match info.exit_code {
        code if libc::WIFEXITED(code) => (libc::CLD_EXITED, libc::WEXITSTATUS(code)),
        code => (libc::CLD_KILLED, libc::WTERMSIG(code)),
    }))
}

/// poll(2) of one descriptor for readability, for at most `timeout_ms` (-1: no limit). False on timeout.
pub(crate) fn readable(fd: BorrowedFd<'_>, timeout_ms: i32) -> SysResult<bool> {
    poll(&mut [libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }], timeout_ms)
}

/// Waits until the other end of a socket is closed, or the process of a pidfd was reaped (kernel 6.9), ignoring what was sent, for at most
/// `timeout_ms` (-1: no limit). False on timeout.
pub(crate) fn hung_up(socket: BorrowedFd<'_>, timeout_ms: i32) -> SysResult<bool> {
    poll(&mut [libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 }], timeout_ms)
}

/// Waits until at least one of two descriptors is readable, and returns which are.
pub(crate) fn either_readable(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> SysResult<(bool, bool)> {
    first_of((a, libc::POLLIN), b, -1)
}

/// Waits until the first descriptor has one of these events or hangs up, or the second is readable, for at most `timeout_ms`, and returns
/// which.
pub(crate) fn first_of(
    (a, events): (BorrowedFd<'_>, i16),
    b: BorrowedFd<'_>,
    timeout_ms: i32,
) -> SysResult<(bool, bool)> {
    let of = |fd: BorrowedFd<'_>, events| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let mut polls = [of(a, events), of(b, libc::POLLIN)];
    poll(&mut polls, timeout_ms)?;
    Ok((polls[0].revents != 0, polls[1].revents != 0))
}

/// poll(2), or ppoll(2) where a filter, which may be the container's own, refuses it. False on timeout. Signals don't extend the timeout.
fn poll(polls: &mut [libc::pollfd], mut timeout_ms: i32) -> SysResult<bool> {
    let count = polls.len() as libc::nfds_t;
    let limit = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    let begin = limit.map(|_| Instant::now());
    loop {
        // SAFETY: `count` pollfds are passed, and they outlive the call.
        let polled = match ret(unsafe { libc::poll(polls.as_mut_ptr(), count, timeout_ms) }.into()) {
            Err(Errno(libc::EPERM | libc::ENOSYS)) => ppoll(polls, timeout_ms),
            other => other,
        };
        match polled {
            Err(e) if e.0 == libc::EINTR => {}
            other => return other.map(|n| n > 0),
        }
        if let (Some(limit), Some(begin)) = (limit, begin) {
            let left = limit.saturating_sub(begin.elapsed());
            timeout_ms = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(timeout_ms);
        }
    }
}

fn ppoll(polls: &mut [libc::pollfd], timeout_ms: i32) -> SysResult<libc::c_long> {
    let limit = u32::try_from(timeout_ms).ok().map(|ms| libc::timespec {
        tv_sec: libc::time_t::from(ms / 1000),
        tv_nsec: libc::c_long::from(ms % 1000) * 1_000_000,
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = polls.len() as libc::nfds_t;
    // SAFETY: `count` pollfds and a timespec, or null for none, are passed, and they outlive the call; the signal mask stays as it is.
    ret(unsafe { libc::ppoll(polls.as_mut_ptr(), count, limit, std::ptr::null()) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::thread::JoinHandleExt;

    #[test]
    fn signals_do_not_extend_the_timeout_of_a_poll() {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: an all-zero sigaction is valid: no flags, empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as usize;
        // SAFETY: `action` outlives the call, and the handler does nothing. No other test uses this signal.
        assert_eq!(unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) }, 0);
        let own = open(std::process::id().cast_signed()).unwrap();
        let polled = std::thread::spawn(move || readable(own.as_fd(), 300).unwrap());
        // Without an end of its own, the poll would last as long as the signals.
        let begin = Instant::now();
        while !polled.is_finished() && begin.elapsed() < Duration::from_secs(20) {
            // SAFETY: the thread was not joined.
            unsafe { libc::pthread_kill(polled.as_pthread_t(), libc::SIGURG) };
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(polled.is_finished(), "still polling after {:?}", begin.elapsed());
        assert!(!polled.join().unwrap(), "this process has not ended");
    }
}
