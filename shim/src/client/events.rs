//! containerd's socket for events.

use crate::wire::events::{
    Event, ForwardRequest, TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted,
    TaskExit, TaskOom, TaskPaused, TaskResumed, TaskStart,
};
use crate::wire::frame::{Decoder, Request, encode_response};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One event that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// Such as `/tasks/exit`.
    pub topic: String,
    /// containerd's namespace.
    pub namespace: String,
    /// The event itself.
    pub event: Event,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<ReceivedEvent>>,
    arrived: Condvar,
    open: Mutex<Vec<UnixStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closing: Mutex<bool>,
    held: Mutex<bool>,
    released: Condvar,
}

/// A listener that receives events and keeps them in the order of their arrival.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Events {
    /// Listens on a new socket.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let mut events = Self { path: path.to_owned(), shared: Arc::default(), thread: None };
        events.open()?;
        Ok(events)
    }

    /// Listens again after [`Events::close`].
    pub fn open(&mut self) -> io::Result<()> {
        let listener = UnixListener::bind(&self.path)?;
        *lock(&self.shared.closing) = false;
        let shared = Arc::clone(&self.shared);
        self.thread = Some(thread::spawn(move || accept(&listener, &shared)));
        Ok(())
    }

    /// Stops to receive and to acknowledge events, until it is called again.
    pub fn hold(&self, held: bool) {
        *lock(&self.shared.held) = held;
        self.shared.released.notify_all();
    }

    /// Closes the socket and all connections, as when containerd stops.
    pub fn close(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        *lock(&self.shared.closing) = true;
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(&self.path);
        let _ = thread.join();
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.hold(false);
        for thread in std::mem::take(&mut *lock(&self.shared.threads)) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }

    /// The events that have arrived so far.
    pub fn received(&self) -> Vec<ReceivedEvent> {
        lock(&self.shared.received).clone()
    }

    /// Waits until the events that have arrived satisfy `enough`, and returns them. The error has those that arrived within `limit`.
    pub fn wait(
        &self,
        limit: Duration,
        enough: impl Fn(&[ReceivedEvent]) -> bool,
    ) -> Result<Vec<ReceivedEvent>, Vec<ReceivedEvent>> {
        let end = Instant::now() + limit;
        let mut received = lock(&self.shared.received);
        loop {
            if enough(&received) {
                return Ok(received.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(received.clone());
            }
            received =
                self.shared.arrived.wait_timeout(received, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if *lock(&shared.closing) {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            lock(&shared.open).push(copy);
        }
        let own = Arc::clone(shared);
        let thread = thread::spawn(move || receive(stream, &own));
        lock(&shared.threads).push(thread);
    }
}

/// Receives the events of one connection, until it ends.
fn receive(mut stream: UnixStream, shared: &Shared) {
    let (mut decoder, mut bytes) = (Decoder::new(), [0; 16 << 10]);
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        decoder.push(bytes.get(..count).unwrap_or_default());
        while let Some(frame) = decoder.next() {
            let held = lock(&shared.held);
            drop(shared.released.wait_while(held, |held| *held).unwrap_or_else(PoisonError::into_inner));
            let received =
                frame.body.and_then(|body| Request::read(&body)).and_then(|request| request.argument());
            let (forward, answer): (Option<ForwardRequest>, _) = match received {
                Ok(forward) => (Some(forward), Ok(Vec::new())),
                Err(failure) => (None, Err(failure)),
            };
            // Before it is visible to the test, which may close the connection at once: then the event would be sent again.
            if stream.write_all(&encode_response(frame.stream, answer)).is_err() {
                return;
            }
            lock(&shared.received).extend(forward.and_then(read));
            shared.arrived.notify_all();
        }
    }
}

fn read(forward: ForwardRequest) -> Option<ReceivedEvent> {
    let envelope = forward.envelope?;
    let any = envelope.event?;
    macro_rules! one_of {
        ($($name:literal $kind:ident $message:ident),*) => {
            match any.name() {
                $(concat!("containerd.events.", $name) => Event::$kind(any.unpack::<$message>($name).ok()?),)*
                _ => return None,
            }
        };
    }
    let event = one_of!(
        "TaskCreate" Create TaskCreate, "TaskStart" Start TaskStart, "TaskDelete" Delete TaskDelete, "TaskExit" Exit TaskExit,
        "TaskOOM" Oom TaskOom, "TaskExecAdded" ExecAdded TaskExecAdded, "TaskExecStarted" ExecStarted TaskExecStarted,
        "TaskPaused" Paused TaskPaused, "TaskResumed" Resumed TaskResumed, "TaskCheckpointed" Checkpointed TaskCheckpointed
    );
    Some(ReceivedEvent { topic: envelope.topic, namespace: envelope.namespace, event })
}
