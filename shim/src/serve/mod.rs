//! The server: one process for a container or a pod, one thread, one epoll loop.
//!
//! Nothing in here waits: work that takes time is done by workers (`worker`, `jobs`), streams are moved as far as possible (`copy`),
//! answers and events wait in queues (`connection`, `publish`). An idle server is not woken and keeps no more memory than it needs.
//! This module does not know how a container is made.
//!
//! The state of the server is grouped by the modules that touch it: `clients`, `work`, `publish` and `flow` own their part, and everything
//! else reaches it by their functions. `calls`, `orders`, `notify` and `reap` change the table of tasks.

mod calls;
mod clients;
mod clock;
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
mod notify;
mod oom;
mod orders;
mod place;
mod poll;
mod publish;
mod reap;
mod saved;
mod shifted;
mod slots;
mod streams;
mod table;
mod work;
mod worker;

use crate::invoke::{Call, Error};
use crate::wire::code::Failure;
use crate::wire::method::MethodCall;
use clients::Clients;
use clock::{Alarm, Clock};
use flow::Copies;
use log::Log;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use poll::{Interest, Poll, Token};
use publish::Publisher;
use slots::Key;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::{Caller, Table};
use work::Work;

/// How long a server that is to end waits for its events to be acknowledged.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(2500);
/// How long a server without containers waits for a client: `start` may have been killed.
const UNCONNECTED_LIMIT: Duration = Duration::from_secs(10);

/// The command line of the server, which never changes.
#[derive(Debug)]
pub(crate) struct About {
    namespace: String,
    program: String,
}

#[derive(Debug)]
pub(crate) struct Server {
    about: About,
    log: Log,
    poll: Poll,
    signals: SignalFd,
    clock: Clock,
    clients: Clients,
    table: Table,
    work: Work,
    copies: Copies,
    events: Publisher,
}

/// Runs the server that `start` has started, until containerd does not need it any more.
///
/// # Errors
/// The server cannot start.
pub fn main(call: &Call) -> Result<(), Error> {
    // Containers are made by copies of this process, and must not be able to write to its program file.
    libcontainer::protect_program(std::env::args_os())?;
    let listener = crate::sys::socket::inherited_listener()
        .map_err(|e| Error::call("take over the listener (run \"start\" instead): descriptor 3", e))?;
    let mut server = Server::new(call, listener).map_err(|e| Error::call("start the server", e))?;
    let result = server.serve();
    if server.clock.end.is_none() {
        server.clients.remove_name();
    }
    result.map_err(|e| Error::call("wait for events: epoll_wait", e))
}

/// containerd's socket for events.
fn events_address() -> Option<PathBuf> {
    let address = std::env::var("TTRPC_ADDRESS").ok().filter(|address| !address.is_empty())?;
    Some(PathBuf::from(address.strip_prefix("unix://").unwrap_or(&address)))
}

impl Server {
    fn new(call: &Call, listener: UnixListener) -> Result<Self, Errno> {
        // Signals to the caller's process group or terminal are not for this process. An error means that it leads its group already.
        let _ = nix::unistd::setsid();
        worker::raise_file_limit();
        // The containers' processes become children of this one when their worker ends.
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let poll = Poll::new()?;
        let clients = Clients::new(listener, &poll)?;
        poll.add(&signals, Interest::Read, Token::Signals)?;
        Ok(Server {
            about: About { namespace: call.flags.namespace.clone(), program: call.program.clone() },
            log: Log::open(call.flags.debug),
            poll,
            signals,
            clock: Clock::new(),
            clients,
            table: Table::new(),
            work: Work::new(),
            copies: Copies::new(),
            events: Publisher::new(events_address()),
        })
    }

    fn serve(&mut self) -> Result<(), Errno> {
        self.clock.alarms.replace(Instant::now() + UNCONNECTED_LIMIT, Alarm::Unconnected);
        loop {
            let now = Instant::now();
            self.fire_alarms(now);
            self.send_events(now);
            self.resume_held();
            if self.clock.end.is_some_and(|end| now >= end || self.is_done()) {
                return Ok(());
            }
            let deadlines = [self.clock.alarms.next(), self.events.deadline(), self.clock.end];
            let next = deadlines.into_iter().flatten().min();
            let limit = next.map(|at| at.saturating_duration_since(now));
            if std::mem::take(&mut self.clock.is_idle) {
                // Last of all: code that runs after it comes back into memory.
                idle::tidy();
            }
            let tokens = self.poll.wait(limit)?;
            if !tokens.is_empty() {
                self.clock.alarms.replace(Instant::now() + idle::AFTER, Alarm::Idle);
            }
            for token in tokens {
                self.handle(token);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.events.is_empty() && !self.clients.is_backed_up()
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Listener => self.clients.accept(&self.poll, &self.log),
            Token::Signals => self.take_signals(),
            Token::Connection(key) => self.read_requests(key),
            Token::Worker(key) => self.read_report(key),
            Token::Copy(key) => self.advance_copy(key),
            Token::Oom(key) => self.check_oom(key),
            Token::Events => self.events.handle(Instant::now(), &self.poll),
        }
    }

    /// A client has sent something, or has room for more answers.
    fn read_requests(&mut self, key: Key) {
        let open = self.clients.receive(key, &self.poll);
        while let Some((caller, call)) = self.clients.next_call(key) {
            match call {
                Ok(call) => self.admit_or_hold(caller, call),
                Err(failure) => self.answer(caller, Err(failure)),
            }
        }
        if !open {
            self.hang_up(key);
        }
    }

    /// Makes a call, or holds it if it would make events while containerd is behind: they would fill the memory. All others (Kill,
    /// State, Wait…) are made at once, so that no held call waits for another one.
    fn admit_or_hold(&mut self, caller: Caller, call: MethodCall) {
        if call.method.makes_events() && (self.events.is_behind() || self.clients.has_held()) {
            self.clients.hold(caller, call);
        } else {
            self.call(caller, &call);
        }
    }

    /// Makes the calls that were held, as far as containerd takes their events.
    fn resume_held(&mut self) {
        while !self.events.is_behind()
            && let Some((caller, call)) = self.clients.next_held()
        {
            self.call(caller, &call);
        }
    }

    fn hang_up(&mut self, key: Key) {
        self.clients.hang_up(key, &self.poll);
        if self.clients.is_empty() {
            self.clock.alarms.replace(Instant::now() + UNCONNECTED_LIMIT, Alarm::Unconnected);
        }
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
        if !self.clients.answer(caller, result, &self.poll) {
            self.hang_up(caller.connection);
        }
    }

    fn send_events(&mut self, now: Instant) {
        let lost = self.events.send(now, &self.poll);
        if lost > 0 {
            self.log.warn(&format!("dropped {lost} events that containerd did not accept"));
        }
    }

    /// No client is connected. If containerd restarts, that takes a moment; if it has given up on this server, it has removed the
    /// bundles.
    fn check_unconnected(&mut self) {
        // A connection may be pending, if this process was not scheduled for a while.
        self.clients.accept(&self.poll, &self.log);
        if !self.clients.is_empty() {
            return;
        }
        if self.table.tasks.iter().all(|(_, task)| !task.bundle.exists()) {
            self.begin_end();
        } else {
            self.clock.alarms.replace(Instant::now() + UNCONNECTED_LIMIT, Alarm::Unconnected);
        }
    }

    /// containerd does not need this server any more. Its socket is removed before containerd gets the answer: when a server for the same
    /// container is started next (Docker does that a tenth of a second after an exit), `start` must not find one that is about to end.
    pub(crate) fn begin_end(&mut self) {
        if self.clock.end.is_none() {
            self.clients.remove_name();
            self.clock.end = Some(Instant::now() + SHUTDOWN_TIMEOUT);
        }
    }
}
