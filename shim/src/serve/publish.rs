//! Events to containerd: one queue, first in, first out, one at a time.
//!
//! containerd serves the calls of a connection in parallel, so the next event is sent when the one before was acknowledged: only that
//! keeps the order. While containerd is not connected the queue waits. It is bounded, and nothing here ever blocks. This module does not
//! know what the events are.

use super::connection::Connection;
use super::poll::{Interest, Poll, Token};
use crate::wire::frame::{RESPONSE, Request, Response, encode_request};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use prost::Message;
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The most events in the queue; beyond that the oldest are dropped. That takes tens of thousands of processes that end while containerd
/// is away. A waiting event has some 300 bytes.
const MAX_QUEUE: usize = 65_536;
/// With this many in the queue of a containerd that accepts events, calls that would make more are held.
const BEHIND: usize = 1024;
/// How long containerd may take to acknowledge an event.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an event is sent if containerd refuses it.
const TRIES: u32 = 5;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Publisher {
    /// containerd's socket; without one there are no events.
    address: Option<PathBuf>,
    queue: VecDeque<Request>,
    connection: Option<Connection>,
    /// The stream on which the first event of the queue was sent.
    sent: Option<u32>,
    stream: u32,
    refusals: u32,
    pause: Duration,
    /// When to stop waiting for the acknowledgement, or to try again.
    deadline: Option<Instant>,
    lost: usize,
}

impl Publisher {
    pub(crate) fn new(address: Option<PathBuf>) -> Self {
        Publisher {
            address,
            queue: VecDeque::new(),
            connection: None,
            sent: None,
            stream: 1,
            refusals: 0,
            pause: SHORTEST_PAUSE,
            deadline: None,
            lost: 0,
        }
    }

    /// Queues an event. `advance` sends it.
    pub(crate) fn push(&mut self, request: Request) {
        if self.address.is_none() {
            return;
        }
        if self.queue.len() >= MAX_QUEUE {
            // The first may have been sent already.
            let place = usize::from(self.sent.is_some());
            self.queue.remove(place);
            self.lost += 1;
        }
        self.queue.push_back(request);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether containerd accepts events, but is behind with many. If it stops to acknowledge them, it is soon disconnected.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.len() >= BEHIND && self.connection.is_some()
    }

    /// The number of events dropped since the last call.
    fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Sends what can be sent now and watches the connection. Returns the number of events dropped since the last call.
    pub(crate) fn send(&mut self, now: Instant, poll: &Poll) -> usize {
        if self.is_overdue(now) {
            self.drop_connection(now, poll);
        }
        let is_new = self.advance(now);
        if let Some(connection) = &self.connection {
            if is_new {
                let _ = poll.add(connection, Interest::Read, Token::Events);
            }
            if connection.is_backed_up() {
                let _ = poll.change(connection, Interest::Both, Token::Events);
            }
        }
        self.take_lost()
    }

    /// The connection has something to read, or room to write.
    pub(crate) fn handle(&mut self, now: Instant, poll: &Poll) {
        if !self.serve(now) {
            self.drop_connection(now, poll);
        } else if let Some(connection) = &self.connection
            && !connection.is_backed_up()
        {
            let _ = poll.change(connection, Interest::Read, Token::Events);
        }
    }

    fn drop_connection(&mut self, now: Instant, poll: &Poll) {
        if let Some(connection) = &self.connection {
            poll.remove(connection);
        }
        self.disconnect(now);
    }

    /// Sends the next event, unless an earlier one is not acknowledged yet. Returns whether there is a new connection.
    fn advance(&mut self, now: Instant) -> bool {
        if self.sent.is_some() || self.queue.is_empty() || self.deadline.is_some_and(|at| at > now) {
            return false;
        }
        let mut fresh = false;
        if self.connection.is_none() {
            match self.address.as_deref().ok_or(Errno::EINVAL).and_then(dial) {
                Ok(socket) => self.connection = Some(Connection::new(socket)),
                Err(_) => {
                    self.retreat(now);
                    return false;
                }
            }
            self.stream = 1;
            fresh = true;
        }
        let (Some(connection), Some(request)) = (&mut self.connection, self.queue.front()) else {
            return false;
        };
        if connection.send(&encode_request(self.stream, request)).is_err() {
            self.disconnect(now);
            return false;
        }
        self.sent = Some(self.stream);
        self.stream = self.stream.wrapping_add(2);
        self.deadline = Some(now + ACKNOWLEDGE_TIMEOUT);
        fresh
    }

    /// Reads acknowledgements and sends delayed bytes. Returns false if the connection is broken.
    #[must_use]
    fn serve(&mut self, now: Instant) -> bool {
        let Some(connection) = &mut self.connection else { return true };
        let mut well = connection.flush().is_ok() && connection.receive().is_ok();
        while let Some(frame) = self.connection.as_mut().and_then(Connection::next) {
            if frame.kind != RESPONSE || Some(frame.stream) != self.sent {
                continue;
            }
            let answer = frame.body.ok().and_then(|body| Response::decode(body.as_slice()).ok());
            match answer {
                Some(answer) if answer.status.as_ref().is_none_or(|status| status.code == 0) => self.done(),
                Some(_) => self.refused(now),
                None => well = false,
            }
        }
        well
    }

    fn done(&mut self) {
        self.queue.pop_front();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        self.sent = None;
        self.refusals = 0;
        self.pause = SHORTEST_PAUSE;
        self.deadline = None;
    }

    fn refused(&mut self, now: Instant) {
        self.sent = None;
        self.refusals += 1;
        if self.refusals >= TRIES {
            self.lost += 1;
            self.done();
        } else {
            self.retreat(now);
        }
    }

    /// Whether an acknowledgement is overdue. What has arrived is read first, since this process may not have been scheduled for a while.
    fn is_overdue(&mut self, now: Instant) -> bool {
        let is_late = |this: &Self| this.sent.is_some() && this.deadline.is_some_and(|at| at <= now);
        is_late(self) && (!self.serve(now) || is_late(self))
    }

    /// containerd is gone or does not answer: the first event of the queue is sent again on a new connection. If its acknowledgement was
    /// lost, containerd gets the event twice, which does no harm.
    fn disconnect(&mut self, now: Instant) {
        self.connection = None;
        if self.sent.take().is_some() || !self.queue.is_empty() {
            self.retreat(now);
        } else {
            self.deadline = None;
        }
    }

    fn retreat(&mut self, now: Instant) {
        self.deadline = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// A connection that never blocks.
fn dial(address: &std::path::Path) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(address)?)?;
    Ok(UnixStream::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::code::{Code, Failure};
    use crate::wire::frame::encode_response;
    use std::os::unix::net::UnixListener;

    struct Containerd {
        dir: PathBuf,
        listener: Option<UnixListener>,
    }

    impl Containerd {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("knarr-publish-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Containerd { dir, listener: None }
        }

        fn address(&self) -> PathBuf {
            self.dir.join("sock")
        }

        fn begin(&mut self) {
            let _ = std::fs::remove_file(self.address());
            self.listener = Some(UnixListener::bind(self.address()).unwrap());
        }

        fn accept(&self) -> Connection {
            let (socket, _) = self.listener.as_ref().unwrap().accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            Connection::new(socket)
        }
    }

    impl Drop for Containerd {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    /// A publisher with two events, of which it has sent the first.
    fn sending(name: &str, now: Instant) -> (Containerd, Publisher, Connection) {
        let mut containerd = Containerd::new(name);
        containerd.begin();
        let mut publisher = Publisher::new(Some(containerd.address()));
        publisher.push(event(0));
        publisher.push(event(1));
        assert!(publisher.advance(now));
        let server = containerd.accept();
        (containerd, publisher, server)
    }

    fn event(number: usize) -> Request {
        Request { method: number.to_string(), ..Request::default() }
    }

    /// The events that have arrived, with their streams.
    fn received(connection: &mut Connection) -> Vec<(u32, String)> {
        let _ = connection.receive();
        std::iter::from_fn(|| connection.next())
            .map(|frame| (frame.stream, Request::read(&frame.body.unwrap()).unwrap().method))
            .collect()
    }

    #[test]
    fn events_arrive_in_order_one_at_a_time_and_again_after_a_restart() {
        let mut containerd = Containerd::new("order");
        let mut publisher = Publisher::new(Some(containerd.address()));
        let mut now = Instant::now();
        (0..3).for_each(|number| publisher.push(event(number)));
        assert!(!publisher.advance(now), "no listener");
        assert!(publisher.deadline().is_some());
        containerd.begin();
        now += LONGEST_PAUSE;
        assert!(publisher.advance(now));
        let mut server = containerd.accept();
        assert_eq!(received(&mut server), [(1, "0".to_owned())]);
        publisher.advance(now);
        assert_eq!(received(&mut server), []);
        server.send(&encode_response(1, Ok(Vec::new()))).unwrap();
        assert!(publisher.serve(now));
        publisher.advance(now);
        assert_eq!(received(&mut server), [(3, "1".to_owned())]);
        // It dies before it acknowledges the second.
        drop(server);
        assert!(!publisher.serve(now));
        publisher.disconnect(now);
        containerd.begin();
        now += LONGEST_PAUSE;
        assert!(publisher.advance(now));
        let mut server = containerd.accept();
        assert_eq!(received(&mut server), [(1, "1".to_owned())]);
        for (stream, next) in [(1, Some((3, "2".to_owned()))), (3, None)] {
            server.send(&encode_response(stream, Ok(Vec::new()))).unwrap();
            assert!(publisher.serve(now));
            publisher.advance(now);
            assert_eq!(received(&mut server), Vec::from_iter(next));
        }
        assert!(publisher.is_empty());
        assert_eq!(publisher.deadline(), None, "an idle publisher has no deadline");
    }

    #[test]
    fn an_acknowledgement_that_has_arrived_is_read_before_the_event_is_sent_again() {
        let mut now = Instant::now();
        let (_containerd, mut publisher, mut server) = sending("late", now);
        assert_eq!(received(&mut server), [(1, "0".to_owned())]);
        server.send(&encode_response(1, Ok(Vec::new()))).unwrap();
        now += ACKNOWLEDGE_TIMEOUT;
        assert!(!publisher.is_overdue(now));
        publisher.advance(now);
        assert_eq!(received(&mut server), [(3, "1".to_owned())]);
        now += ACKNOWLEDGE_TIMEOUT;
        assert!(publisher.is_overdue(now));
    }

    #[test]
    fn an_event_that_is_refused_is_sent_again_and_dropped_at_last() {
        let mut now = Instant::now();
        let (_containerd, mut publisher, mut server) = sending("refused", now);
        for _ in 0..TRIES {
            let (stream, name) = received(&mut server).remove(0);
            assert_eq!(name, "0");
            server.send(&encode_response(stream, Err(Failure::new(Code::Unavailable, "no")))).unwrap();
            assert!(publisher.serve(now));
            now += LONGEST_PAUSE;
            publisher.advance(now);
        }
        assert_eq!(received(&mut server)[0].1, "1");
        assert_eq!(publisher.take_lost(), 1);
    }

    #[test]
    fn a_containerd_is_behind_only_while_it_is_connected() {
        let mut containerd = Containerd::new("behind");
        containerd.begin();
        let mut publisher = Publisher::new(Some(containerd.address()));
        let mut now = Instant::now();
        (0..BEHIND).for_each(|number| publisher.push(event(number)));
        assert!(!publisher.is_behind(), "not connected yet");
        assert!(publisher.advance(now));
        assert!(publisher.is_behind());
        let mut server = containerd.accept();
        let (stream, _) = received(&mut server).remove(0);
        server.send(&encode_response(stream, Ok(Vec::new()))).unwrap();
        assert!(publisher.serve(now));
        assert!(!publisher.is_behind(), "one was acknowledged");
        publisher.push(event(BEHIND));
        publisher.advance(now);
        assert!(publisher.is_behind());
        now += ACKNOWLEDGE_TIMEOUT;
        assert!(publisher.is_overdue(now), "it does not acknowledge any more");
        publisher.disconnect(now);
        assert!(!publisher.is_behind());
    }

    #[test]
    fn the_queue_is_bounded_and_keeps_the_newest() {
        let mut publisher = Publisher::new(Some(PathBuf::from("/nonexistent/knarr")));
        (0..MAX_QUEUE + 10).for_each(|number| publisher.push(event(number)));
        assert_eq!(publisher.queue.len(), MAX_QUEUE);
        assert_eq!(publisher.queue.front(), Some(&event(10)));
        assert_eq!(publisher.take_lost(), 10);
        assert!(!publisher.is_behind(), "containerd is not connected");
        let mut without = Publisher::new(None);
        without.push(event(0));
        assert!(without.is_empty());
    }
}
