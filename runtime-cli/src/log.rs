//! What the command tells its caller beside its output: to stderr or to `--log FILE`, as logfmt text or one JSON object a line, with
//! the keys and the quoting that readers of runc's logs expect. This room knows no command.

use crate::failure::Failure;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

/// How urgent a line is; the names are logrus's.
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

/// Where the lines go, and how they look.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    /// A log as the global flags ask for it; an empty `path` is stderr.
    pub(crate) fn open(path: &str, format: &str, debug: bool) -> Result<Self, Failure> {
        let json = match format {
            "" | "text" => false,
            "json" => true,
            other => return Err(Failure::new(format!("invalid log-format: {other}"))),
        };
        let file = match path {
            "" => None,
            path => {
                // Appended to and synchronous: several processes write to one file, and its reader looks after our end.
                let mut options = OpenOptions::new();
                options.append(true).create(true).mode(0o644).custom_flags(nix::libc::O_SYNC);
                Some(
                    options
                        .open(path)
                        .map_err(|e| Failure::os(format_args!("write log {path:?}"), "open", e))?,
                )
            }
        };
        Ok(Log { file, json, debug })
    }

    pub(crate) fn warning(&self, message: &str) {
        self.write(Level::Warning, message);
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.debug
    }

    /// `message` is made only when somebody wants to read it.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.write(Level::Debug, &message());
        }
    }

    /// The last words of a command that did not succeed; they reach stderr in any case.
    pub(crate) fn fatal(&self, message: &str) {
        self.write(Level::Error, message);
        if self.file.is_some() {
            let _ = std::io::stderr().write_all(format!("{message}\n").as_bytes());
        }
    }

    fn write(&self, level: Level, message: &str) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let line = line(self.json, level, message, seconds);
        // A log that can not be written to must not change what the command does.
        let _ = match self.file.as_ref() {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn line(json: bool, level: Level, message: &str, seconds: u64) -> String {
    let (level, time) = (level.name(), rfc3339(seconds));
    if json {
        let message = serde_json::Value::from(message);
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
    } else if message.is_empty() {
        format!("time=\"{time}\" level={level}\n")
    } else {
        format!("time=\"{time}\" level={level} msg={}\n", quoted(message))
    }
}

/// logfmt: bare when it is a plain word, else quoted like a Go string.
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

/// Seconds since 1970 as `2026-11-21T05:09:28Z`.
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, so that the leap day is the last of a year (H. Hinnant, "chrono-compatible low-level date algorithms").
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_237_768, "2026-11-21T05:09:28Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn lines_have_the_keys_and_quotes_of_logrus() {
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
