//! The parent's side: sleeps until a signal arrives, reaps children and forwards all other signals. This module does not
//! know how the program was started.
use knarr_init::{Options, Target, signals, status};

use crate::report::{message, print};
use crate::sys::{self, Info, Reaped};

/// Waits for the program's end and returns the exit status.
#[inline(never)]
pub(crate) fn until_end(options: &Options, child: i32) -> u8 {
    loop {
        let mut info = sys::next_signal();
        if info.signal() != signals::CHLD {
            forward(options, child, &mut info);
        } else if let Some(wait_status) = reap(options, child).end {
            let code = status::of_wait(wait_status);
            end_others(options, child);
            return if options.zero.has(code) { 0 } else { code };
        }
    }
}

/// Reaps until SIGTERM or SIGINT.
#[inline(never)]
pub(crate) fn pause(options: &Options) -> u8 {
    loop {
        match sys::next_signal().signal() {
            signals::CHLD => _ = reap(options, 0),
            signals::TERM | signals::INT => return 0,
            _ => {}
        }
    }
}

/// The result of reaping.
struct Reaping {
    /// The program's wait status, if it has ended.
    end: Option<u32>,
    /// Whether there are more children.
    more: bool,
}

fn reap(options: &Options, child: i32) -> Reaping {
    let mut end = None;
    loop {
        match sys::reap() {
            Reaped::Ended(pid, wait_status) if pid == child => end = Some(wait_status),
            Reaped::Ended(pid, _) if options.warn => {
                print(message().text("reaped process ").number(pid.cast_unsigned()))
            }
            Reaped::Ended(..) => {}
            Reaped::NoneYet => return Reaping { end, more: true },
            Reaped::NoChildren => return Reaping { end, more: false },
        }
    }
}

#[inline(never)]
fn forward(options: &Options, child: i32, info: &mut Info) {
    let got = info.signal();
    let stops = [signals::TSTP, signals::TTIN, signals::TTOU].contains(&got);
    // from the kernel these are about knarr-init's own use of the terminal, not the program's
    if stops && info.of_kernel() && options.target != Target::Session {
        return;
    }
    let Some(signal) = options.rewrite.of(got) else { return };
    let sent = send(options, child, signal, info);
    match sent {
        Ok(_) if options.verbosity >= 3 => {
            print(message().text("forwarded ").signal(got).text(" as ").signal(signal));
        }
        Err(error) if options.verbosity > 0 => {
            print(message().text("forward ").signal(signal).text(": kill: ").error(error));
        }
        _ => {}
    }
    if stops && options.target == Target::Session {
        let _ = sys::kill(sys::getpid(), signals::STOP);
    }
}

#[inline(never)]
fn send(options: &Options, child: i32, signal: u8, info: &mut Info) -> Result<usize, sys::Errno> {
    let group = options.target != Target::Child;
    let queued = match (info.has_value(), group) {
        (true, true) => sys::queue_group(child, signal, info),
        (true, false) => sys::queue(child, signal, info),
        (false, _) => Err(0),
    };
    // with a full queue or an old kernel the value is lost, but not the signal; a new child may not have its group yet
    let to_group = || if group { sys::kill(-child, signal) } else { Err(0) };
    queued.or_else(|_| to_group()).or_else(|_| sys::kill(child, signal))
}

/// After the program: asks the remaining processes of its group, or of the container, to end, and waits for them.
#[inline(never)]
fn end_others(options: &Options, child: i32) {
    let first = sys::getpid() == 1;
    let everyone = if first { -1 } else { -child };
    let Some(seconds) = options.grace else {
        if options.target == Target::Session {
            let _ = sys::kill(-child, signals::TERM);
        }
        return;
    };
    let _ = sys::kill(everyone, signals::TERM);
    // a stopped process handles SIGTERM when it continues
    let _ = sys::kill(everyone, signals::CONT);
    sys::alarm(seconds);
    while reap(options, 0).more {
        let info = sys::next_signal();
        if info.signal() == signals::ALRM && info.of_kernel() {
            break;
        }
    }
    if !first {
        // as happens in a container at the end of its first process
        let _ = sys::kill(everyone, signals::KILL);
    }
}
