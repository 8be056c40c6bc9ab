//! Ctrl-C and SIGTERM during long work: it fails, so that it can clean up. During a pull or load, reading fails, so that complete
//! layers are kept for the next attempt and the rest is removed. A second signal kills the program.

use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image_store::manifest::Descriptor;
use image_store::store::Source;
use image_store::{Error, ErrorKind, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Interval at which the watching thread checks for the end of the work.
const TICK: Duration = Duration::from_millis(50);

/// Runs `work` with a source that fails after the first signal. The program then exits as if killed by it.
pub(crate) fn watched<T>(source: &dyn Source, work: impl FnOnce(&dyn Source) -> Result<T>) -> Result<T> {
    ending("interrupted; complete layers are kept", |stop| work(&Ending { source, stop }))
}

/// Runs `work` with a check that fails after the first signal. The program then exits as if killed by it.
pub(crate) fn checked<T, E: From<Error>>(
    work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<T, E>,
) -> Result<T, E> {
    ending("interrupted", |stop| work(&|| going(stop)))
}

/// An error after the first signal.
fn going(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(Error::new(ErrorKind::Busy, "interrupted")) } else { Ok(()) }
}

#[allow(clippy::exit, reason = "all is cleaned up, and the program ends as a signal ends one")]
fn ending<T, E: From<Error>>(message: &str, work: impl FnOnce(&AtomicBool) -> Result<T, E>) -> Result<T, E> {
    let os = |errno: nix::Error| Error::from(io::Error::from(errno));
    let ignored = ignored();
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        if ignored & (1 << (signal as u64 - 1)) == 0 {
            set.add(signal);
        }
    }
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).map_err(os)?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(os)?;
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let (result, signal) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&signals, &stop, &done, message));
        let result = work(&stop);
        done.store(true, Ordering::Relaxed);
        (result, watching.join().unwrap_or(None))
    });
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(os)?;
    match (result, signal) {
        (Ok(value), None) => Ok(value),
        (Err(error), None) => Err(error),
        (_, Some(number)) => std::process::exit(128 + number),
    }
}

/// The signals that are ignored, as by nohup(1): signalfd(2) would report them too.
fn ignored() -> u64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.map_or(0, |status| status.sigign)
}

/// The first signal received.
#[allow(clippy::exit, reason = "a second signal means now")]
fn watch(signals: &SignalFd, stop: &AtomicBool, done: &AtomicBool, message: &str) -> Option<i32> {
    let mut first = None;
    let tick = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
    while !done.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], tick);
        if let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if first.is_some() {
                std::process::exit(128 + number);
            }
            first = Some(number);
            stop.store(true, Ordering::Relaxed);
            eprintln!("knarr-image: {message}");
        }
    }
    first
}

struct Ending<'a> {
    source: &'a dyn Source,
    stop: &'a AtomicBool,
}

impl Source for Ending<'_> {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Reader { input: self.source.open(descriptor)?, stop: self.stop }))
    }
}

struct Reader<'a> {
    input: Box<dyn Read + Send + 'a>,
    stop: &'a AtomicBool,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        going(self.stop)?;
        self.input.read(buffer)
    }
}
