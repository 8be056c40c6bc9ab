//! ttrpc's framing: ten bytes of header, then a protobuf message. <https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md>
//!
//! [`Decoder`] takes the bytes of a connection as they arrive. It keeps only what has arrived, and nothing of a message longer than
//! [`MAX_BODY`]. This module does not know what the messages mean.

use super::code::{Code, Failure};
use super::types::{Any, decode};
use prost::Message;

/// The length of a header.
pub const HEADER: usize = 10;
/// The longest message that either side may send.
pub const MAX_BODY: usize = 4 << 20;

/// A header's type: a call.
pub const REQUEST: u8 = 1;
/// A header's type: the answer to a call.
pub const RESPONSE: u8 = 2;
/// A header's type: a part of a stream.
pub const DATA: u8 = 3;

/// A header's flag: the sender will send no more on this stream.
pub const REMOTE_CLOSED: u8 = 1;
/// A header's flag: the sender will send more on this stream.
pub const REMOTE_OPEN: u8 = 2;
/// A header's flag: the message carries no data.
pub const NO_DATA: u8 = 4;

/// The largest buffer that an idle connection keeps.
const KEEP: usize = 4096;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The call it belongs to; odd numbers are the client's.
    pub stream: u32,
    /// [`REQUEST`], [`RESPONSE`], [`DATA`] or something unknown.
    pub kind: u8,
    /// [`REMOTE_CLOSED`], [`REMOTE_OPEN`], [`NO_DATA`].
    pub flags: u8,
    /// The encoded message. A message that was too long is discarded, and the failure is the answer to it.
    pub body: Result<Vec<u8>, Failure>,
}

/// Decodes a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    read: usize,
    /// The rest of a message that was too long, which is skipped when it arrives.
    skip: usize,
}

impl Decoder {
    /// A decoder for a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that have arrived.
    pub fn push(&mut self, mut bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = bytes.get(skipped..).unwrap_or_default();
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if it is complete.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: after None there may be more")]
    pub fn next(&mut self) -> Option<Frame> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            self.tidy();
            return None;
        };
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let body = if length > MAX_BODY {
            let here = length.min(rest.len());
            self.skip = length - here;
            self.read += HEADER + here;
            Err(Failure::new(
                Code::ResourceExhausted,
                format!("message length {length} exceeds the limit of {MAX_BODY}"),
            ))
        } else if let Some(body) = rest.get(..length) {
            self.read += HEADER + length;
            Ok(body.to_vec())
        } else {
            self.tidy();
            return None;
        };
        Some(Frame { stream, kind, flags, body })
    }

    /// Moves the rest to the front, and frees the memory of a long message.
    fn tidy(&mut self) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
    }
}

/// `ttrpc.Request`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Request {
    /// Such as `containerd.task.v3.Task`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Such as `Create`.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The encoded argument.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the caller waits; 0 is for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Such as `containerd-namespace-ttrpc`.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// `ttrpc.KeyValue`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyValue {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `ttrpc.Response`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Response {
    /// Absent on success.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RpcStatus>,
    /// The encoded result.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RpcStatus {
    /// A [`Code`]; 0 is success.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people to read.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Further information.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

impl Request {
    /// Decodes the body of a [`REQUEST`].
    pub fn read(body: &[u8]) -> Result<Self, Failure> {
        decode(body, "ttrpc.Request")
    }

    /// Decodes the argument of the call.
    pub fn argument<M: Message + Default>(&self) -> Result<M, Failure> {
        M::decode(self.payload.as_slice()).map_err(|error| {
            Failure::invalid_argument(format!("{}/{}: decode: {error}", self.service, self.method))
        })
    }

    /// The first value of `key` in the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str())
    }
}

/// Encodes a frame with `message`.
pub fn encode(stream: u32, kind: u8, flags: u8, message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(HEADER + length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, flags]);
    message.encode_raw(&mut bytes);
    bytes
}

/// Encodes a call. As with Go's client, its flags say that no more follows.
pub fn encode_request(stream: u32, request: &Request) -> Vec<u8> {
    encode(stream, REQUEST, REMOTE_CLOSED, request)
}

/// Encodes the answer to a call: the result or a failure. A result longer than [`MAX_BODY`] becomes a failure, since no client would
/// accept it.
pub fn encode_response(stream: u32, result: Result<Vec<u8>, Failure>) -> Vec<u8> {
    let failed = |failure: Failure| Response {
        status: Some(RpcStatus { code: failure.code as i32, message: failure.message, details: Vec::new() }),
        payload: Vec::new(),
    };
    let mut response = match result {
        Ok(payload) => Response { status: None, payload },
        Err(failure) => failed(failure),
    };
    if response.encoded_len() > MAX_BODY {
        let length = response.encoded_len();
        response = failed(Failure::new(
            Code::ResourceExhausted,
            format!("answer of {length} bytes exceeds the limit of {MAX_BODY}"),
        ));
    }
    encode(stream, RESPONSE, 0, &response)
}
