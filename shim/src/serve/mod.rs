//! The server: one process for a container or a pod, one thread, one epoll loop.
//!
//! Nothing in here waits for anybody: what takes time is done by workers (`worker`, `jobs`), streams are moved as far as they
//! go (`copy`), answers and events wait in queues (`connection`, `publish`). An idle server is woken by nobody and keeps no more
//! memory than it needs. It must not know how a container is made.

mod alarm;
mod calls;
mod connection;
mod copy;
mod exec;
mod flow;
mod idle;
mod jobs;
mod life;
mod log;
mod logger;
mod mount;
mod oom;
mod orders;
mod poll;
mod publish;
mod reap;
mod saved;
mod shifted;
mod slots;
mod streams;
mod table;
mod tell;
mod worker;

use crate::invoke::Call;
use crate::wire::code::Failure;
use crate::wire::frame::{REQUEST, Request, encode_response};
use alarm::{Alarm, Alarms};
use connection::Connection;
use log::Log;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Backlog, SockFlag, accept4};
use orders::Employed;
use poll::{Interest, Poll, Token};
use publish::Publisher;
use slots::{Key, Slots};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::{Caller, Table};

/// How long a server that is to end waits for its events to be taken.
const LAST_WORDS: Duration = Duration::from_millis(2500);
/// How long a server without containers waits for somebody to connect: who started it may have been killed.
const LONELY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Server {
    namespace: String,
    program: String,
    log: Log,
    poll: Poll,
    listener: UnixListener,
    signals: SignalFd,
    connections: Slots<Connection>,
    table: Table,
    workers: Slots<Employed>,
    /// Workers that have reported and are about to end.
    ending_workers: Vec<i32>,
    copies: Slots<flow::Stream>,
    events: Publisher,
    /// Calls that would make events, while containerd has many to take yet.
    held: VecDeque<(Caller, Request)>,
    alarms: Alarms,
    /// Nothing has happened for a while: memory is to be given back before the next wait.
    is_idle: bool,
    /// When to end, come what may.
    end: Option<Instant>,
}

/// The server, as `start` starts it: serves until containerd has no more need of it.
///
/// # Errors
/// What keeps it from starting.
pub fn main(call: &Call) -> Result<(), String> {
    // Containers are made by copies of this process, whose program file they must not be able to write.
    libcontainer::protect_program(std::env::args_os()).map_err(|e| e.to_string())?;
    let listener = crate::sys::socket::inherited_listener().map_err(|e| {
        format!("take over the listener: descriptor 3: {e}: the server is started by \"start\"")
    })?;
    let mut server = Server::new(call, listener).map_err(|e| format!("start the server: {e}"))?;
    let result = server.serve();
    if server.end.is_none() {
        server.leave();
    }
    result.map_err(|e| format!("wait for events: epoll_wait: {e}"))
}

/// containerd's socket for events.
fn events_address() -> Option<PathBuf> {
    let address = std::env::var("TTRPC_ADDRESS").ok().filter(|address| !address.is_empty())?;
    Some(PathBuf::from(address.strip_prefix("unix://").unwrap_or(&address)))
}

impl Server {
    fn new(call: &Call, listener: UnixListener) -> Result<Self, Errno> {
        // Signals to the caller's group or terminal are none of this process's business; it may lead its group already.
        let _ = nix::unistd::setsid();
        worker::raise_file_limit();
        // The containers' processes become this one's children when their worker ends.
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let poll = Poll::new()?;
        let _ = listener.set_nonblocking(true);
        // Who connects is told whose socket it is by the credentials of the last to listen: from here on this process's.
        nix::sys::socket::listen(&listener, Backlog::new(128)?)?;
        poll.add(&listener, Interest::Read, Token::Listener)?;
        poll.add(&signals, Interest::Read, Token::Signals)?;
        Ok(Server {
            namespace: call.flags.namespace.clone(),
            program: call.program.clone(),
            log: Log::open(call.flags.debug),
            poll,
            listener,
            signals,
            connections: Slots::new(),
            table: Table::new(),
            workers: Slots::new(),
            ending_workers: Vec::new(),
            copies: Slots::new(),
            events: Publisher::new(events_address()),
            held: VecDeque::new(),
            alarms: Alarms::new(),
            is_idle: false,
            end: None,
        })
    }

    fn serve(&mut self) -> Result<(), Errno> {
        self.alarms.replace(Instant::now() + LONELY, Alarm::Lonely);
        loop {
            let now = Instant::now();
            self.ring(now);
            self.send_events(now);
            self.let_in();
            if self.end.is_some_and(|end| now >= end || self.is_done()) {
                return Ok(());
            }
            let deadlines = [self.alarms.next(), self.events.deadline(), self.end];
            let next = deadlines.into_iter().flatten().min();
            let limit = next.map(|at| at.saturating_duration_since(now));
            if std::mem::take(&mut self.is_idle) {
                // Last of all: what runs after it comes back into memory.
                idle::tidy();
            }
            let tokens = self.poll.wait(limit)?;
            if !tokens.is_empty() {
                self.alarms.replace(Instant::now() + idle::AFTER, Alarm::Idle);
            }
            for token in tokens {
                self.handle(token);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.events.is_empty() && !self.connections.iter().any(|(_, connection)| connection.is_backed_up())
    }

    /// Takes the socket's name away. Once only: the next one there is another server's.
    fn leave(&self) {
        if let Ok(address) = self.listener.local_addr()
            && let Some(path) = address.as_pathname()
        {
            let _ = std::fs::remove_file(path);
        }
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => self.take_signals(),
            Token::Connection(key) => self.talk(key),
            Token::Worker(key) => self.hear(key),
            Token::Copy(key) => self.flow(key),
            Token::Oom(key) => self.check_oom(key),
            Token::Events => {
                let now = Instant::now();
                if !self.events.serve(now) {
                    self.drop_events(now);
                } else if let Some(connection) = self.events.connection()
                    && !connection.is_backed_up()
                {
                    let _ = self.poll.change(connection, Interest::Read, Token::Events);
                }
            }
        }
    }

    fn accept(&mut self) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        while let Ok(fd) = accept4(self.listener.as_raw_fd(), flags) {
            let connection = Connection::new(crate::sys::socket::accepted(fd));
            if !connection.is_from_same_user() {
                self.log.warn("refused a connection of another user");
                continue;
            }
            let key = self.connections.next_key();
            if self.poll.add(&connection, Interest::Read, Token::Connection(key)).is_ok() {
                self.connections.insert(connection);
            }
        }
    }

    /// A client has something to say, or room for more answers.
    fn talk(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let was_backed_up = connection.is_backed_up();
        let open = connection.flush().is_ok() && connection.receive().is_ok();
        if was_backed_up && !connection.is_backed_up() {
            let _ = self.poll.change(&*connection, Interest::Read, Token::Connection(key));
        }
        while let Some(frame) = self.connections.get_mut(key).and_then(Connection::next) {
            let caller = Caller { connection: key, stream: frame.stream };
            match frame.body.and_then(|body| Request::read(&body)) {
                Ok(request) if frame.kind == REQUEST => self.admit(caller, request),
                Ok(_) => {}
                Err(failure) => self.answer(caller, Err(failure)),
            }
        }
        if !open {
            self.hang_up(key);
        }
    }

    /// A call is made, or held if it would make more events than containerd takes: they would fill the memory. All others (Kill,
    /// State, Wait…) are always made, so that nobody waits for somebody who is held.
    fn admit(&mut self, caller: Caller, request: Request) {
        let makes_events = matches!(request.method.as_str(), "Create" | "Start" | "Exec" | "Delete");
        if makes_events && (self.events.is_behind() || !self.held.is_empty()) {
            self.held.push_back((caller, request));
        } else {
            self.call(caller, &request);
        }
    }

    /// Makes calls that were held.
    fn let_in(&mut self) {
        while !self.events.is_behind()
            && let Some((caller, request)) = self.held.pop_front()
        {
            self.call(caller, &request);
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
    }

    fn hang_up(&mut self, key: Key) {
        if let Some(connection) = self.connections.remove(key) {
            self.poll.remove(&connection);
        }
        if self.connections.is_empty() {
            self.alarms.replace(Instant::now() + LONELY, Alarm::Lonely);
        }
        // Who waited on it waits no more.
        self.held.retain(|(caller, _)| caller.connection != key);
        for process in self.table.processes.keys() {
            if let Some(process) = self.table.processes.get_mut(process) {
                process.waiters.retain(|caller| caller.connection != key);
            }
        }
    }

    pub(crate) fn answer(&mut self, caller: Caller, result: Result<Vec<u8>, Failure>) {
        if let Err(failure) = &result {
            self.log.debug(&format!("refused: {failure}"));
        }
        let Some(connection) = self.connections.get_mut(caller.connection) else { return };
        let was_backed_up = connection.is_backed_up();
        if connection.send(&encode_response(caller.stream, result)).is_err() {
            self.hang_up(caller.connection);
        } else if !was_backed_up && connection.is_backed_up() {
            let _ = self.poll.change(&*connection, Interest::Both, Token::Connection(caller.connection));
        }
    }

    fn send_events(&mut self, now: Instant) {
        if self.events.is_overdue(now) {
            self.drop_events(now);
        }
        if self.events.advance(now)
            && let Some(connection) = self.events.connection()
        {
            let _ = self.poll.add(connection, Interest::Read, Token::Events);
        }
        if let Some(connection) = self.events.connection()
            && connection.is_backed_up()
        {
            let _ = self.poll.change(connection, Interest::Both, Token::Events);
        }
        let lost = self.events.take_lost();
        if lost > 0 {
            self.log.warn(&format!("gave up {lost} events that containerd did not take"));
        }
    }

    fn drop_events(&mut self, now: Instant) {
        if let Some(connection) = self.events.connection() {
            self.poll.remove(connection);
        }
        self.events.disconnect(now);
    }

    /// Nobody is connected. A containerd that restarts takes a moment; one that has given up on this server has removed the bundles.
    fn mind_loneliness(&mut self) {
        // Somebody may be at the door, if this process had no processor for a while.
        self.accept();
        if !self.connections.is_empty() {
            return;
        }
        if self.table.tasks.iter().all(|(_, task)| !task.bundle.exists()) {
            self.begin_end();
        } else {
            self.alarms.replace(Instant::now() + LONELY, Alarm::Lonely);
        }
    }

    /// containerd needs this server no more. Its socket goes before anybody is told so: who starts a server for the same container next
    /// (Docker does that a tenth of a second after an exit) must not find one that is about to end.
    pub(crate) fn begin_end(&mut self) {
        if self.end.is_none() {
            self.leave();
            self.end = Some(Instant::now() + LAST_WORDS);
        }
    }
}
