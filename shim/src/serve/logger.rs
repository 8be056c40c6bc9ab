//! `binary://`: a program of the host that gets a container's output. The URI comes from containerd: no part of it may come from a
//! container or an image.
//!
//! The program gets stdout as descriptor 3 and stderr as 4. It reports that it is ready on 5: by closing it (`binary`), or by a byte
//! before that (`binary-v2`).

use crate::sys::process;
use crate::wire::code::{Code, Failure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{execve, pipe2, read, write};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// How long it may take to be ready, in milliseconds.
const READY_TIMEOUT: u16 = 30_000;

/// A program to run as logger.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Logger {
    program: CString,
    arguments: Vec<CString>,
    /// Whether only a byte means ready.
    strict: bool,
}

impl Logger {
    /// Parses `binary:///path?name=value&…`. The arguments are the names and values in their order.
    pub(crate) fn parse(uri: &str) -> Result<Option<Self>, Failure> {
        let strict = uri.starts_with("binary-v2://");
        let Some(rest) = uri.strip_prefix("binary://").or_else(|| uri.strip_prefix("binary-v2://")) else {
            return Ok(None);
        };
        let bad = |why: &str| Failure::invalid_argument(format!("logger {uri:?}: {why}"));
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let word = |text: &str, plus: bool| {
            unescape(text, plus)
                .and_then(|bytes| CString::new(bytes).ok())
                .ok_or_else(|| bad("invalid percent encoding"))
        };
        let program = word(path, false)?;
        if !program.as_bytes().starts_with(b"/") {
            return Err(bad("the program's path must be absolute"));
        }
        let mut arguments = vec![program.clone()];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            arguments.push(word(name, true)?);
            arguments.push(word(value, true)?);
        }
        Ok(Some(Logger { program, arguments, strict }))
    }

    /// Runs it, waits until it is ready and returns its pid. In a worker, never in the server.
    pub(crate) fn run(
        &self,
        id: &str,
        namespace: &str,
        stdout: &OwnedFd,
        stderr: &OwnedFd,
    ) -> Result<i32, Failure> {
        let failed = |call: &str, e: Errno| {
            Failure::new(Code::Unknown, format!("run logger {:?}: {call}: {e}", self.program))
        };
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| failed("pipe2", e));
        let (ready, its_end) = pipe()?;
        // Closed by execve; if that fails, the error is sent through it.
        let (error, writer) = pipe()?;
        // Its number must not be one of those of the program.
        let send_error =
            process::dup_above(writer.as_fd(), 6).map_err(|e| failed("fcntl(F_DUPFD_CLOEXEC)", e))?;
        drop(writer);
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        let variable = |name: &str, value: &str| {
            CString::new(format!("{name}={value}")).map_err(|_| failed("environment", Errno::EINVAL))
        };
        let environment = [variable("CONTAINER_ID", id)?, variable("CONTAINER_NAMESPACE", namespace)?];
        let null = OwnedFd::from(null);
        let places = [(&null, 0), (&null, 1), (&null, 2), (stdout, 3), (stderr, 4), (&its_end, 5)];
        let pid = process::fork(|| {
            process::reset_signals();
            super::worker::restore_file_limit();
            let placed = process::place(&places);
            let error = placed.and_then(|()| execve(&self.program, &self.arguments, &environment).map(drop));
            let number = error.err().map_or(0, |e| e as i32);
            let _ = write(&send_error, &number.to_ne_bytes());
            127
        })
        .map_err(|e| failed("fork", e))?;
        drop(its_end);
        drop(send_error);
        let mut number = [0; 4];
        if read(&error, &mut number) == Ok(4) {
            return Err(failed("execve", Errno::from_raw(i32::from_ne_bytes(number))));
        }
        if let Err(why) = self.wait(&ready) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            return Err(Failure::failed_precondition(format!("run logger {:?}: {why}", self.program)));
        }
        Ok(pid)
    }

    fn wait(&self, ready: &OwnedFd) -> Result<(), String> {
        let mut polled = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(READY_TIMEOUT)) {
            Ok(0) => return Err("not ready after 30 s".to_owned()),
            Ok(_) => {}
            Err(e) => return Err(format!("poll: {e}")),
        }
        match read(ready, &mut [0]) {
            Ok(0) if self.strict => Err("exited before it was ready".to_owned()),
            Ok(_) => Ok(()),
            Err(e) => Err(format!("read: {e}")),
        }
    }
}

/// Decodes percent escapes, and in a query `+` for a blank.
fn unescape(text: &str, plus: bool) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_becomes_a_program_and_its_arguments() {
        let words = |uri: &str| {
            let logger = Logger::parse(uri).unwrap().unwrap();
            let text = |word: &CString| word.to_str().unwrap().to_owned();
            assert_eq!(logger.program, logger.arguments[0]);
            (logger.arguments.iter().map(text).collect::<Vec<_>>(), logger.strict)
        };
        assert_eq!(words("binary:///usr/bin/log"), (vec!["/usr/bin/log".to_owned()], false));
        let long = "binary-v2:///a%20b?id=x&file=%2Fvar%2Flog+1&flag#part";
        let expected = ["/a b", "id", "x", "file", "/var/log 1", "flag", ""].map(str::to_owned);
        assert_eq!(words(long), (expected.to_vec(), true));
    }

    #[test]
    fn bad_uris_are_errors_and_others_are_not_loggers() {
        for bad in ["binary://log", "binary://host/log", "binary:///a%2", "binary:///a%zz", "binary:///a%00"]
        {
            assert!(Logger::parse(bad).is_err(), "{bad}");
        }
        for other in ["", "/run/fifo", "file:///x", "binaryx:///a"] {
            assert_eq!(Logger::parse(other).unwrap(), None);
        }
    }
}
