//! Is the process of a record still there? A pid alone can name another process by now, so its start time is compared.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::fs::read_whole;
use crate::sys::{Errno, pidfd};
use std::fmt::Display;
use std::fs::{DirEntry, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

const PF_EXITING: u32 = 0x4;
const PF_FORKNOEXEC: u32 = 0x40;

/// What /proc/pid/stat says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    exiting: bool,
    executed: bool,
    start_time: u64,
}

/// A process that is there, if only as a zombie.
pub(crate) struct Alive {
    pub(crate) process: OwnedFd,
    /// It waits to be reaped.
    pub(crate) ended: bool,
    /// It runs a program of its own. Until its first execve, a process carries PF_FORKNOEXEC (linux/sched.h, since 2.6; ps(1)'s F 1).
    pub(crate) executed: bool,
}

/// The start time of a process that is there, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Result<u64> {
    match read(&pid)? {
        Some(stat) => Ok(stat.start_time),
        None => Err(Error::new(ErrorKind::NotFound, format!("process {pid} has exited"))),
    }
}

/// The processes of the pid namespace that `pid` is the first of, in order, without those of namespaces below it and those that the
/// caller may not look at. Only `pid` when the namespace is not its own: the others are somebody else's.
pub(crate) fn in_pid_namespace_of(pid: i32) -> Result<Vec<i32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("read /proc/{pid}/status"))?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    if ids.split_whitespace().next_back() != Some("1") {
        return Ok(vec![pid]);
    }
    let own = namespace(pid).with_context(|| format!("readlink /proc/{pid}/ns/pid"))?;
    let mut pids: Vec<i32> = std::fs::read_dir("/proc")
        .context("open /proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| namespace(*pid).is_ok_and(|theirs| theirs == own))
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

fn namespace(pid: i32) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid"))
}

/// Whether the process is exiting, and perhaps waits for the others of its pid namespace. It is not while any of its threads runs: the
/// first may have ended alone (pthread_exit(3)).
pub(crate) fn is_exiting(pid: i32) -> bool {
    let ends = |thread: String| read(&thread).is_ok_and(|stat| stat.is_none_or(|stat| stat.exiting));
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task"));
    let thread = |entry: DirEntry| format!("{pid}/task/{}", entry.file_name().display());
    ends(pid.to_string()) && threads().is_ok_and(|list| list.flatten().map(thread).all(ends))
}

/// Whether a process that is there runs a program of its own.
pub(crate) fn has_executed(pid: i32) -> bool {
    matches!(read(&pid), Ok(Some(stat)) if stat.executed)
}

/// Reaps the caller's children that have ended in the pid namespace that `pid` is the first process of. It can't end before they are
/// reaped (pid_namespaces(7)). Children of others are left to them.
pub(crate) fn reap_around(pid: i32) {
    let (Ok(own), Ok(pids)) = (namespace(pid), in_pid_namespace_of(pid)) else { return };
    for member in pids.into_iter().filter(|member| *member != pid) {
        let Ok(process) = pidfd::open(member) else { continue };
        // Read after the pidfd is open: if it still names the namespace, the pidfd is of a process in it, or of one that was reaped.
        if namespace(member).is_ok_and(|theirs| theirs == own) {
            let _ = pidfd::wait(process.as_fd(), libc::WNOHANG);
        }
    }
}

/// The process, by a pidfd, if it is the one that was recorded and was not reaped.
pub(crate) fn open(pid: i32, start_time: u64) -> Result<Option<Alive>> {
    if pid <= 0 {
        return Ok(None);
    }
    let process = match pidfd::open(pid) {
        Ok(fd) => fd,
        Err(Errno(libc::ESRCH)) => return Ok(None),
        Err(e) => return Err(e).context("pidfd_open"),
    };
    // Read after the pidfd is open: if the start time is right now, the pidfd is of the right process.
    let stat = read(&pid)?;
    let stat = stat.filter(|s| s.start_time == start_time);
    Ok(stat.map(|s| Alive {
        // A process whose first thread has ended alone (pthread_exit(3)) looks like a zombie, and its pidfd is not readable.
        ended: matches!(s.state, 'Z' | 'X') && pidfd::readable(process.as_fd(), 0).unwrap_or(true),
        executed: s.executed,
        process,
    }))
}

/// `process` is a pid, or the path of a thread below /proc.
fn read(process: &impl Display) -> Result<Option<Stat>> {
    let path = format!("/proc/{process}/stat");
    let text = match File::open(&path).and_then(read_whole) {
        Ok(text) => text,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("read {path:?}")),
    };
    match parse(&text) {
        Some(stat) => Ok(Some(stat)),
        None => {
            Err(Error::new(ErrorKind::Os, format!("read {path:?}: not as proc_pid_stat(5) describes it")))
        }
    }
}

/// Field 2 is the command in parentheses, and may hold anything; the fields are counted from the last `)`.
fn parse(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|b| *b == b')')?;
    let mut fields = std::str::from_utf8(text.get(end + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    let (exiting, executed) = (flags & PF_EXITING != 0, flags & PF_FORKNOEXEC == 0);
    Some(Stat { state, exiting, executed, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let text = b"7 (a) R 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 123 45";
        assert_eq!(
            parse(text),
            Some(Stat { state: 'S', exiting: false, executed: true, start_time: 987_654 })
        );
        let text = b"7 (a) S 1 7 7 0 -1 4194624 1 2 3 4 5 6 7 8 20 0 1 0 987654 123 45";
        assert_eq!(
            parse(text),
            Some(Stat { state: 'S', exiting: false, executed: false, start_time: 987_654 })
        );
        assert_eq!(parse(b"7 (x) S 1"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_pid_with_another_start_time_is_not_the_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let time = start_time(pid).unwrap();
        assert!(open(pid, time).unwrap().unwrap().executed);
        assert!(open(pid, time + 1).unwrap().is_none());
        assert!(open(0, time).unwrap().is_none());
    }
}
