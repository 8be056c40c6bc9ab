//! The log, to stderr or to `--log FILE`: logfmt text or one JSON object per line, with the keys and the quoting that readers of runc's
//! logs expect. This module does not know the commands.

use crate::failure::Failure;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long a reader of the log may take, in milliseconds.
const PATIENCE: u16 = 1000;

/// The level of a line. The names are those of logrus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warning,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Debug => "debug",
        }
    }
}

/// The destination and the format of the log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    /// It was full for longer than a reader may take: from then on, what it has no room for is dropped at once.
    stalled: AtomicBool,
    json: bool,
    debug: bool,
}

impl Log {
    /// Opens the log that the global flags ask for; an empty `path` is stderr.
    pub(crate) fn open(path: &str, format: &str, debug: bool) -> Result<Self, Failure> {
        let json = match format {
            "" | "text" => false,
            "json" => true,
            other => return Err(Failure::new(format!("invalid log-format: {other}"))),
        };
        let file = match path {
            "" => None,
            path => {
                // Appended to and synchronous: several processes write to one file, and it is read after this process has ended.
                // A FIFO without a reader is refused, one that nobody empties must not hold up the command.
                let mut options = OpenOptions::new();
                let flags = nix::libc::O_SYNC | nix::libc::O_NONBLOCK;
                let opened = options.append(true).create(true).mode(0o644).custom_flags(flags).open(path);
                Some(opened.map_err(|e| {
                    let hint = if e.raw_os_error() == Some(nix::libc::ENXIO) {
                        " (a FIFO without a reader, or a socket)"
                    } else {
                        ""
                    };
                    let failure = Failure::os(format_args!("write log {path:?}"), "open", e);
                    Failure { message: failure.message + hint, ..failure }
                })?)
            }
        };
        Ok(Log { file, stalled: AtomicBool::new(false), json, debug })
    }

    pub(crate) fn warning(&self, message: &str) {
        self.write(Level::Warning, message);
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.debug
    }

    /// `message` is called only if debug logging is enabled.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.write(Level::Debug, &message());
        }
    }

    /// Logs the error that ends the command. It is printed to stderr in any case, or `line` is in its place.
    pub(crate) fn fatal(&self, message: &str, line: Option<&str>) {
        if self.file.is_some() || line.is_none() {
            self.write(Level::Error, message);
        }
        if self.file.is_some() || line.is_some() {
            let _ = std::io::stderr().write_all(format!("{}\n", line.unwrap_or(message)).as_bytes());
        }
    }

    fn write(&self, level: Level, message: &str) {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let line = line(self.json, level, message, now);
        // A log that cannot be written must not change the command's result.
        let _ = match self.file.as_ref() {
            Some(file) => self.append(file, line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    /// Writes a line, and waits a moment if the file is a pipe that is full.
    fn append(&self, mut file: &File, mut line: &[u8]) -> std::io::Result<()> {
        while !line.is_empty() {
            match file.write(line) {
                Ok(written) => line = line.get(written..).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock && !self.stalled.load(Ordering::Relaxed) => {
                    let mut set = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                    self.stalled.store(poll(&mut set, PollTimeout::from(PATIENCE))? == 0, Ordering::Relaxed);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// `seconds` since 1970.
fn line(json: bool, level: Level, message: &str, seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (level, time) = (level.name(), time.format(&Rfc3339).unwrap_or_default());
    let message = &*shortened(message);
    if json {
        let message = serde_json::Value::from(message);
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
    } else if message.is_empty() {
        format!("time=\"{time}\" level={level}\n")
    } else {
        format!("time=\"{time}\" level={level} msg={}\n", quoted(message))
    }
}

/// Shortens a message, which may quote megabytes of config.json. The operation is at its beginning, the reason at its end.
fn shortened(message: &str) -> Cow<'_, str> {
    const HALF: usize = 4096;
    if message.len() <= 2 * HALF {
        return message.into();
    }
    let (head, tail) = (message.floor_char_boundary(HALF), message.ceil_char_boundary(message.len() - HALF));
    format!("{} [… {} bytes …] {}", &message[..head], tail - head, &message[tail..]).into()
}

/// A value of logfmt: a plain word as it is, other texts quoted like a Go string.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_end() {
        let long = format!("begin {} end", "é".repeat(1 << 20));
        let line = line(false, Level::Error, &long, 0);
        assert!(line.len() < 10_000 && line.contains("msg=\"begin é") && line.ends_with("é end\"\n"));
        assert!(line.contains(" bytes …] "));
        let short = "é".repeat(4096);
        assert_eq!(shortened(&short), short);
    }

    #[test]
    fn lines_have_the_keys_quotes_and_times_of_logrus() {
        for (json, message, text) in [
            (false, "plain", "time=\"1970-01-01T00:00:00Z\" level=error msg=plain\n"),
            (false, "a b", "time=\"1970-01-01T00:00:00Z\" level=error msg=\"a b\"\n"),
            (
                false,
                "say \"x\"\n\u{1}",
                "time=\"1970-01-01T00:00:00Z\" level=error msg=\"say \\\"x\\\"\\n\\x01\"\n",
            ),
            (false, "", "time=\"1970-01-01T00:00:00Z\" level=error\n"),
            (
                true,
                "say \"x\"\n",
                "{\"level\":\"error\",\"msg\":\"say \\\"x\\\"\\n\",\"time\":\"1970-01-01T00:00:00Z\"}\n",
            ),
        ] {
            assert_eq!(line(json, Level::Error, message, 0), text);
        }
    }

    #[test]
    fn a_log_that_nobody_reads_does_not_hold_up_the_command() {
        let path = std::env::temp_dir().join(format!("knarr-log-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = Log::open(path.to_str().unwrap(), "", false);
        let reader = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).unwrap();
        let log = Log::open(path.to_str().unwrap(), "", false);
        std::fs::remove_file(&path).unwrap();
        let message = refused.unwrap_err().message;
        assert!(message.ends_with("(ENXIO) (a FIFO without a reader, or a socket)"), "{message}");
        let log = log.unwrap();
        // More than the pipe takes: what nobody reads is dropped, and waited for once.
        let begin = std::time::Instant::now();
        for _ in 0..40 {
            log.warning(&"x".repeat(8000));
        }
        // Of 40 lines, a pipe takes fewer than ten.
        assert!(
            begin.elapsed() < 15 * std::time::Duration::from_millis(PATIENCE.into()),
            "{:?}",
            begin.elapsed()
        );
        drop(log);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut &reader, &mut text).unwrap();
        assert!(text.contains(" level=warning msg=xxx"), "{text}");
    }

    #[test]
    fn an_unknown_format_is_refused_and_a_file_is_appended_to() {
        assert_eq!(Log::open("", "xml", false).unwrap_err().message, "invalid log-format: xml");
        let path = std::env::temp_dir().join(format!("knarr-log-test-{}", std::process::id()));
        let path_text = path.to_str().unwrap();
        for _ in 0..2 {
            Log::open(path_text, "json", false).unwrap().warning("w");
            Log::open(path_text, "json", false).unwrap().debug(|| unreachable!());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.starts_with("{\"level\":\"warning\",\"msg\":\"w\",\"time\":\""), "{text}");
    }
}
