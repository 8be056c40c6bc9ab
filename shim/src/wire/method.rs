//! The methods of the task service.

use super::code::Failure;
use super::frame::Request;
use super::task::{SERVICE_V2, SERVICE_V3};
use super::types::decode;
use prost::Message;

/// A method of the task service. Both versions of the service have the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Makes a container.
    Create,
    /// Starts a process: the container's first one or an exec.
    Start,
    /// The state of a process.
    State,
    /// Removes a process that has ended, or the container with its first one.
    Delete,
    /// Registers another process.
    Exec,
    /// Sends a signal.
    Kill,
    /// Waits for the end of a process.
    Wait,
    /// The pids of the container's processes.
    Pids,
    /// The container's resource usage.
    Stats,
    /// Pauses the container.
    Pause,
    /// Resumes the container.
    Resume,
    /// Changes the container's limits.
    Update,
    /// Sets the size of a terminal.
    ResizePty,
    /// Closes a stream.
    CloseIo,
    /// The pids of the shim and of the container.
    Connect,
    /// Ends a shim without containers.
    Shutdown,
    /// Saves the container.
    Checkpoint,
}

const METHODS: [(&str, Method); 17] = [
    ("Create", Method::Create),
    ("Start", Method::Start),
    ("State", Method::State),
    ("Delete", Method::Delete),
    ("Exec", Method::Exec),
    ("Kill", Method::Kill),
    ("Wait", Method::Wait),
    ("Pids", Method::Pids),
    ("Stats", Method::Stats),
    ("Pause", Method::Pause),
    ("Resume", Method::Resume),
    ("Update", Method::Update),
    ("ResizePty", Method::ResizePty),
    ("CloseIO", Method::CloseIo),
    ("Connect", Method::Connect),
    ("Shutdown", Method::Shutdown),
    ("Checkpoint", Method::Checkpoint),
];

impl Method {
    /// The method that a request names.
    pub fn read(service: &str, method: &str) -> Result<Self, Failure> {
        let known = [SERVICE_V2, SERVICE_V3].contains(&service);
        let found = METHODS.iter().find(|(name, _)| known && *name == method);
        found.map(|(_, method)| *method).ok_or_else(|| Failure::no_method(service, method))
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// Whether the call makes events, at once or through what it starts.
    pub fn makes_events(self) -> bool {
        matches!(self, Method::Create | Method::Start | Method::Exec | Method::Delete)
    }
}

/// A call of a method, whose argument is not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodCall {
    /// The method.
    pub method: Method,
    payload: Vec<u8>,
}

impl MethodCall {
    /// The call that a request makes.
    pub fn read(request: Request) -> Result<Self, Failure> {
        let method = Method::read(&request.service, &request.method)?;
        Ok(Self { method, payload: request.payload })
    }

    /// Decodes the argument.
    pub fn argument<M: Message + Default>(&self) -> Result<M, Failure> {
        decode(&self.payload, self.method.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::code::Code;

    #[test]
    fn every_method_has_its_name_in_both_services_and_no_other() {
        for (name, method) in METHODS {
            assert_eq!((method.name(), Method::read(SERVICE_V2, name)), (name, Ok(method)));
            assert_eq!(Method::read(SERVICE_V3, name), Ok(method));
        }
        for (service, name) in
            [(SERVICE_V3, "create"), (SERVICE_V3, ""), ("containerd.task.v1.Task", "Create")]
        {
            assert_eq!(
                Method::read(service, name).unwrap_err().code,
                Code::Unimplemented,
                "{service} {name}"
            );
        }
    }

    #[test]
    fn an_argument_that_is_not_a_message_is_an_error_with_the_methods_name() {
        let request = Request {
            service: SERVICE_V3.to_owned(),
            method: "Kill".to_owned(),
            payload: vec![0xff],
            ..Request::default()
        };
        let failure =
            MethodCall::read(request).unwrap().argument::<super::super::task::KillRequest>().unwrap_err();
        assert!(failure.message.starts_with("decode Kill: "), "{failure}");
    }
}
