//! Events to containerd: one queue, first in, first out, one at a time.
//!
//! containerd serves each call of a connection by itself, so the next event is sent when the one before was acknowledged: that
//! alone keeps the order. While containerd is away the queue waits; it is bounded, and nothing here ever blocks. It must not know
//! what the events say, nor the loop: it tells which descriptor it waits for, and until when.

use super::connection::Connection;
use crate::wire::frame::{RESPONSE, Request, Response, encode_request};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use prost::Message;
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// More events than these are kept for nobody: the oldest go. It takes a containerd that is away while tens of thousands of processes
/// end; each event takes some 300 bytes while it waits.
const MOST: usize = 65_536;
/// With so many waiting for a containerd that takes them, those who would make more wait too.
const PLENTY: usize = 1024;
/// How long containerd may take to acknowledge one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an event is offered to a containerd that refuses it.
const TRIES: u32 = 5;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Publisher {
    /// containerd's socket; without one events go nowhere.
    address: Option<PathBuf>,
    queue: VecDeque<Request>,
    connection: Option<Connection>,
    /// The stream on which the first of the queue was sent.
    sent: Option<u32>,
    stream: u32,
    refusals: u32,
    pause: Duration,
    /// When to give up waiting for the acknowledgement, or to try again.
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
        if self.queue.len() >= MOST {
            // The first may be on its way already.
            let place = usize::from(self.sent.is_some());
            self.queue.remove(place);
            self.lost += 1;
        }
        self.queue.push_back(request);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// containerd takes events, but has many to take yet. One that does not acknowledge any more is soon not connected any more.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.len() >= PLENTY && self.connection.is_some()
    }

    /// How many were given up since the last question.
    pub(crate) fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Sends the next event, if it is its turn. True: there is a new connection to watch.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
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
        self.deadline = Some(now + PATIENCE);
        fresh
    }

    /// The connection has something to read, or room to write. False: it is to be closed, by `disconnect`.
    #[must_use]
    pub(crate) fn serve(&mut self, now: Instant) -> bool {
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

    /// Whether the wait for an acknowledgement has been too long. What has come is read first: it may be this process that had no
    /// processor for a while.
    pub(crate) fn is_overdue(&mut self, now: Instant) -> bool {
        let is_late = |this: &Self| this.sent.is_some() && this.deadline.is_some_and(|at| at <= now);
        is_late(self) && (!self.serve(now) || is_late(self))
    }

    /// containerd is gone or does not answer: the first of the queue is sent again on a new connection. An acknowledgement may have
    /// been on its way; containerd takes a second copy of an event in its stride.
    pub(crate) fn disconnect(&mut self, now: Instant) {
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
        folder: PathBuf,
        listener: Option<UnixListener>,
    }

    impl Containerd {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("knarr-publish-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Containerd { folder, listener: None }
        }

        fn address(&self) -> PathBuf {
            self.folder.join("sock")
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
            let _ = std::fs::remove_dir_all(&self.folder);
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

    /// What has arrived, and on which stream.
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
        assert!(!publisher.advance(now), "nobody listens");
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
        // It dies with the second unacknowledged.
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
        assert_eq!(publisher.deadline(), None, "an idle publisher wakes nobody");
    }

    #[test]
    fn an_acknowledgement_that_lay_there_is_read_before_the_event_is_sent_again() {
        let mut now = Instant::now();
        let (_containerd, mut publisher, mut server) = sending("late", now);
        assert_eq!(received(&mut server), [(1, "0".to_owned())]);
        server.send(&encode_response(1, Ok(Vec::new()))).unwrap();
        now += PATIENCE;
        assert!(!publisher.is_overdue(now));
        publisher.advance(now);
        assert_eq!(received(&mut server), [(3, "1".to_owned())]);
        now += PATIENCE;
        assert!(publisher.is_overdue(now));
    }

    #[test]
    fn an_event_that_is_refused_is_offered_again_and_given_up_at_last() {
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
    fn who_makes_events_waits_for_a_containerd_that_takes_them_and_for_no_other() {
        let mut containerd = Containerd::new("behind");
        containerd.begin();
        let mut publisher = Publisher::new(Some(containerd.address()));
        let mut now = Instant::now();
        (0..PLENTY).for_each(|number| publisher.push(event(number)));
        assert!(!publisher.is_behind(), "not connected yet");
        assert!(publisher.advance(now));
        assert!(publisher.is_behind());
        let mut server = containerd.accept();
        let (stream, _) = received(&mut server).remove(0);
        server.send(&encode_response(stream, Ok(Vec::new()))).unwrap();
        assert!(publisher.serve(now));
        assert!(!publisher.is_behind(), "one was taken");
        publisher.push(event(PLENTY));
        publisher.advance(now);
        assert!(publisher.is_behind());
        now += PATIENCE;
        assert!(publisher.is_overdue(now), "it takes no more");
        publisher.disconnect(now);
        assert!(!publisher.is_behind());
    }

    #[test]
    fn the_queue_is_bounded_and_keeps_the_newest() {
        let mut publisher = Publisher::new(Some(PathBuf::from("/nonexistent/knarr")));
        (0..MOST + 10).for_each(|number| publisher.push(event(number)));
        assert_eq!(publisher.queue.len(), MOST);
        assert_eq!(publisher.queue.front(), Some(&event(10)));
        assert_eq!(publisher.take_lost(), 10);
        assert!(!publisher.is_behind(), "nobody waits for a containerd that is away");
        let mut nobody = Publisher::new(None);
        nobody.push(event(0));
        assert!(nobody.is_empty());
    }
}
