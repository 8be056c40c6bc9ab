//! A container's log: its output by lines, each with stream and time, in the format of Docker's json-file driver. Written by the
//! supervisor, read by `logs`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use image_store::time::rfc3339;
use serde::{Deserialize, Serialize};

use super::frames::Stream;
use crate::failure::{Result, os};

/// Longer lines are split.
const PIECE: usize = 16 << 10;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) log: String,
    pub(crate) stream: String,
    pub(crate) time: String,
}

/// The writer.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    begun: [Vec<u8>; 2],
}

impl Log {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|e| os(e, format!("open {path:?}")))?;
        Ok(Self { file, begun: [Vec::new(), Vec::new()] })
    }

    /// Errors are ignored: a full disk must not stop the container.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut text = Vec::with_capacity(bytes.len() * 2);
        let begun = &mut self.begun[stream as usize];
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            begun.extend_from_slice(line);
            if line.last() == Some(&b'\n') || begun.len() >= PIECE {
                entry(stream, begun, &mut text);
                begun.clear();
            }
        }
        let _ = self.file.write_all(&text);
    }

    /// Writes an incomplete line.
    pub(crate) fn flush(&mut self, stream: Stream) {
        let mut text = Vec::new();
        let begun = std::mem::take(&mut self.begun[stream as usize]);
        if !begun.is_empty() {
            entry(stream, &begun, &mut text);
            let _ = self.file.write_all(&text);
        }
    }
}

fn entry(stream: Stream, bytes: &[u8], into: &mut Vec<u8>) {
    let log = String::from_utf8_lossy(bytes).into_owned();
    let entry = Entry { log, stream: stream.name().to_owned(), time: now() };
    if serde_json::to_writer(&mut *into, &entry).is_ok() {
        into.push(b'\n');
    }
}

/// RFC 3339 with nanoseconds.
pub(crate) fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = rfc3339(i64::try_from(now.as_secs()).unwrap_or_default());
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), now.subsec_nanos())
}

/// Reads entries one after the other, also those that are written meanwhile.
#[derive(Debug)]
pub(crate) struct Reader {
    input: BufReader<File>,
    begun: Vec<u8>,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| os(e, format!("open {path:?}")))?;
        Ok(Self { input: BufReader::new(file), begun: Vec::new() })
    }

    /// The next entry; `None` at the end of the file, which may grow.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            self.input.read_until(b'\n', &mut self.begun)?;
            if self.begun.last() != Some(&b'\n') {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.begun);
            // A line that was cut off by a power failure is ignored.
            if let Ok(entry) = serde_json::from_slice(&line) {
                return Ok(Some(entry));
            }
        }
    }
}
