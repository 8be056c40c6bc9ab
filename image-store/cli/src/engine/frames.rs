//! The protocol between a container's supervisor and its clients: frames of a kind, a length and bytes. No I/O.

use libcontainer::spec::Process;
use serde::{Deserialize, Serialize};

use image_store::ErrorKind;

use crate::failure::{Failure, Result};

/// The maximum length of a frame.
const LIMIT: usize = 1 << 20;
const HEAD: usize = 5;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// For the container's standard input.
    Input(Vec<u8>),
    /// The client will send input.
    Typing,
    /// There is no more input.
    EndOfInput,
    /// The size of the client's terminal: rows, columns.
    Size(u16, u16),
    /// A signal for the container.
    Signal(i32),
    /// The client no longer reads this stream.
    Close(Stream),
    /// Output of the container.
    Output(Stream, Vec<u8>),
    /// A warning, before the program starts.
    Warning(String),
    /// The program was started.
    Started,
    /// It exited with this status, which is recorded.
    Ended(i32),
    /// It could not be started: the exit code for the client, and why.
    Failed(u8, String),
}

/// What a supervisor of a further process is told first, as JSON in [`Frame::Input`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub(crate) process: Process,
    pub(crate) interactive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Frame {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let mut put = |kind: u8, parts: [&[u8]; 2]| {
            let length = u32::try_from(parts[0].len() + parts[1].len()).unwrap_or(u32::MAX);
            into.push(kind);
            into.extend_from_slice(&length.to_le_bytes());
            parts.iter().for_each(|part| into.extend_from_slice(part));
        };
        match self {
            Self::Input(bytes) => put(0, [bytes, &[]]),
            Self::EndOfInput => put(1, [&[], &[]]),
            Self::Size(rows, columns) => put(2, [&rows.to_le_bytes(), &columns.to_le_bytes()]),
            Self::Signal(number) => put(3, [&number.to_le_bytes(), &[]]),
            Self::Close(stream) => put(4, [&[u8::from(*stream == Stream::Stderr)], &[]]),
            Self::Output(Stream::Stdout, bytes) => put(5, [bytes, &[]]),
            Self::Output(Stream::Stderr, bytes) => put(6, [bytes, &[]]),
            Self::Started => put(7, [&[], &[]]),
            Self::Ended(code) => put(8, [&code.to_le_bytes(), &[]]),
            Self::Typing => put(10, [&[], &[]]),
            Self::Warning(text) => put(11, [text.as_bytes(), &[]]),
            Self::Failed(code, why) => put(9, [&[*code], why.as_bytes()]),
        }
    }

    fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        let number = || body.try_into().ok().map(i32::from_le_bytes);
        Some(match kind {
            0 => Self::Input(body.to_vec()),
            1 => Self::EndOfInput,
            2 => {
                let [a, b, c, d] = body.try_into().ok()?;
                Self::Size(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
            }
            3 => Self::Signal(number()?),
            4 => Self::Close(if body == [1] { Stream::Stderr } else { Stream::Stdout }),
            5 => Self::Output(Stream::Stdout, body.to_vec()),
            6 => Self::Output(Stream::Stderr, body.to_vec()),
            7 => Self::Started,
            8 => Self::Ended(number()?),
            9 => Self::Failed(*body.first()?, String::from_utf8_lossy(&body[1..]).into_owned()),
            10 => Self::Typing,
            11 => Self::Warning(String::from_utf8_lossy(body).into_owned()),
            _ => return None,
        })
    }
}

/// Received bytes, split into frames.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Vec<u8>);

impl Inbox {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next complete frame.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        let wrong = |why: &str| Failure::new(ErrorKind::Invalid, format!("container's supervisor: {why}"));
        let Some(head) = self.0.first_chunk::<HEAD>() else { return Ok(None) };
        let [kind, a, b, c, d] = *head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > LIMIT {
            return Err(wrong("message too long"));
        }
        if self.0.len() < HEAD + length {
            return Ok(None);
        }
        let frame = Frame::decode(kind, &self.0[HEAD..HEAD + length]);
        self.0.drain(..HEAD + length);
        frame.map(Some).ok_or_else(|| wrong("unknown message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let all = [
            Frame::Input(b"x".to_vec()),
            Frame::Typing,
            Frame::EndOfInput,
            Frame::Size(25, 80),
            Frame::Signal(15),
            Frame::Close(Stream::Stderr),
            Frame::Output(Stream::Stdout, b"out".to_vec()),
            Frame::Output(Stream::Stderr, vec![]),
            Frame::Warning("odd".into()),
            Frame::Started,
            Frame::Ended(137),
            Frame::Failed(127, "why".into()),
        ];
        let mut bytes = Vec::new();
        all.iter().for_each(|frame| frame.encode(&mut bytes));
        let (mut inbox, mut found) = (Inbox::default(), Vec::new());
        for byte in bytes {
            inbox.push(&[byte]);
            found.extend(inbox.next().unwrap());
        }
        assert_eq!(found, all);
        for bad in [&[0, 255, 255, 255, 255][..], &[77, 0, 0, 0, 0], &[3, 1, 0, 0, 0, 9]] {
            let mut inbox = Inbox::default();
            inbox.push(bad);
            assert!(inbox.next().is_err());
        }
    }
}
