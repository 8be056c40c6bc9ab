//! A client for tests and benches, which acts as containerd.
//!
//! [`Client`] calls the task service, [`Launch`] runs `start` and `delete`, [`Events`] receives events. It blocks, with a limit, and also
//! works with containerd's own shim. This module does not know how this crate's server works.

mod events;
mod launch;

pub use events::{Events, ReceivedEvent};
pub use launch::{Launch, Style};

use crate::wire::code::{Code, Failure};
use crate::wire::frame::{Decoder, KeyValue, Request, Response, encode_request};
use crate::wire::task::SERVICE_V3;
use prost::Message;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// One connection to a shim. Calls may overlap: [`Client::begin`] several, then [`Client::finish`] them in any order.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    next: u32,
    answers: HashMap<u32, Result<Vec<u8>, Failure>>,
    service: &'static str,
    namespace: String,
    timeout: Duration,
}

impl Client {
    /// Connects to a shim's socket.
    pub fn connect(socket: &Path, namespace: &str) -> io::Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(socket)?,
            decoder: Decoder::new(),
            next: 1,
            answers: HashMap::new(),
            service: SERVICE_V3,
            namespace: namespace.to_owned(),
            timeout: Duration::from_secs(60),
        })
    }

    /// Calls this service from now on.
    pub fn service(&mut self, service: &'static str) -> &mut Self {
        self.service = service;
        self
    }

    /// How long an answer may take.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = timeout;
        self
    }

    /// Calls a method and waits for its result.
    pub fn call<M: Message + Default>(
        &mut self,
        method: &str,
        argument: &impl Message,
    ) -> Result<M, Failure> {
        let call = self.begin(method, argument)?;
        self.finish(call)
    }

    /// Sends a call.
    pub fn begin(&mut self, method: &str, argument: &impl Message) -> Result<u32, Failure> {
        let stream = self.next;
        self.next += 2;
        let namespace =
            KeyValue { key: "containerd-namespace-ttrpc".to_owned(), value: self.namespace.clone() };
        let request = Request {
            service: self.service.to_owned(),
            method: method.to_owned(),
            payload: argument.encode_to_vec(),
            timeout_nano: 0,
            metadata: vec![namespace],
        };
        self.send(&encode_request(stream, &request))?;
        Ok(stream)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(gone)
    }

    /// Waits for the answer to `call`.
    pub fn finish<M: Message + Default>(&mut self, call: u32) -> Result<M, Failure> {
        let end = Instant::now() + self.timeout;
        loop {
            if let Some(answer) = self.answers.remove(&call) {
                return crate::wire::types::decode(&answer?, "the answer");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(Code::DeadlineExceeded, "no answer"));
            }
            self.receive(left)?;
        }
    }

    /// Whether the answer to `call` arrives within `limit`.
    pub fn is_answered(&mut self, call: u32, limit: Duration) -> Result<bool, Failure> {
        let end = Instant::now() + limit;
        while !self.answers.contains_key(&call) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.receive(left)?;
        }
        Ok(true)
    }

    /// Receives what arrives within `limit`.
    fn receive(&mut self, limit: Duration) -> Result<(), Failure> {
        self.stream.set_read_timeout(Some(limit)).map_err(gone)?;
        let mut bytes = [0; 16 << 10];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(Failure::new(Code::Unavailable, "the shim has closed the connection")),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(gone(error)),
        };
        self.decoder.push(bytes.get(..count).unwrap_or_default());
        while let Some(frame) = self.decoder.next() {
            let response: Response = crate::wire::types::decode(&frame.body?, "ttrpc.Response")?;
            let answer = match response.status.filter(|status| status.code != 0) {
                Some(status) => Err(Failure::new(Code::from_number(status.code), status.message)),
                None => Ok(response.payload),
            };
            self.answers.insert(frame.stream, answer);
        }
        Ok(())
    }
}

fn gone(error: io::Error) -> Failure {
    Failure::new(Code::Unavailable, format!("talk to the shim: {error}"))
}
