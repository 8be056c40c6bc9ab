//! Ctrl-C and SIGTERM during long work: it fails, so that it can clean up. During a pull or load, reading fails, so that complete
//! layers are kept for the next attempt and the rest is removed. A second signal kills the program, except during `deferred` work.

use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image_store::manifest::Descriptor;
use image_store::store::{Going, Source};
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
pub(crate) fn checked<T, E: From<Error>>(work: impl FnOnce(&Going<'_>) -> Result<T, E>) -> Result<T, E> {
    ending("interrupted", |stop| work(&|| going(stop)))
}

/// An error after the first signal.
fn going(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(interrupted()) } else { Ok(()) }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Busy, "interrupted")
}

#[allow(clippy::exit, reason = "all is cleaned up, and the program ends as a signal ends one")]
fn ending<T, E: From<Error>>(message: &str, work: impl FnOnce(&AtomicBool) -> Result<T, E>) -> Result<T, E> {
    let (before, signals) = block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let (result, signal) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&signals, &stop, &done, message));
        let result = work(&stop);
        done.store(true, Ordering::Relaxed);
        (result, watching.join().unwrap_or(None))
    });
    restore(&before)?;
    match (result, signal) {
        (Ok(value), None) => Ok(value),
        (Err(error), None) => Err(error),
        (_, Some(number)) => std::process::exit(128 + number),
    }
}

/// Runs `work` with a check that fails once a signal has arrived that would end the program. The signal waits until the work has
/// returned and cleaned up, however many follow, and then has its usual effect.
pub(crate) fn deferred<T, E: From<Error>>(work: impl FnOnce(&Going<'_>) -> Result<T, E>) -> Result<T, E> {
    let (before, signals) = block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT])?;
    let result =
        work(&|| match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) {
            // It is not read, so it is still pending.
            Ok(ready) if ready > 0 => Err(interrupted()),
            _ => Ok(()),
        });
    restore(&before)?;
    result
}

/// Blocks those of the signals that are not ignored. Returns the mask before, and a descriptor that is readable when one is pending.
fn block(signals: &[Signal]) -> Result<(SigSet, SignalFd)> {
    let ignored = ignored();
    let set: SigSet =
        signals.iter().copied().filter(|signal| ignored & (1 << (*signal as u64 - 1)) == 0).collect();
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).map_err(io::Error::from)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok((before, SignalFd::with_flags(&set, flags).map_err(io::Error::from)?))
}

fn restore(before: &SigSet) -> Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(before), None).map_err(io::Error::from)?)
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
