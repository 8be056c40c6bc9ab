//! The parent's side: asleep until a signal comes; ends of children are reaped, all other signals passed on. It must not
//! know how the program was started.
use knarr_init::{Options, Target, signals, status};

use crate::sys::{self, Info, Reaped};
use crate::{message, say};

/// Waits for the program's end, and returns the exit status that it means.
#[inline(never)]
pub(crate) fn until_end(options: &Options, child: i32) -> u8 {
    loop {
        let mut info = sys::next_signal();
        if info.signal() != signals::CHLD {
            pass_on(options, child, &mut info);
        } else if let Some(wait_status) = reap(options, child).end {
            let code = status::of_wait(wait_status);
            clear_away(options, child);
            return if options.zero.has(code) { 0 } else { code };
        }
    }
}

/// Reaps until a signal says that it is over.
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

/// What one sweep over the dead found.
struct Sweep {
    /// The program's wait status, if it was among them.
    end: Option<u32>,
    /// Whether other children live.
    more: bool,
}

fn reap(options: &Options, child: i32) -> Sweep {
    let mut end = None;
    loop {
        match sys::reap() {
            Reaped::Ended(pid, wait_status) if pid == child => end = Some(wait_status),
            Reaped::Ended(pid, _) if options.warn => {
                say(message().text("reaped process ").number(pid.cast_unsigned()))
            }
            Reaped::Ended(..) => {}
            Reaped::NoneYet => return Sweep { end, more: true },
            Reaped::NoChildren => return Sweep { end, more: false },
        }
    }
}

#[inline(never)]
fn pass_on(options: &Options, child: i32, info: &mut Info) {
    let got = info.signal();
    let stops = [signals::TSTP, signals::TTIN, signals::TTOU].contains(&got);
    // from the kernel these are about our own use of the terminal, not about the program's
    if stops && info.of_kernel() && options.target != Target::Session {
        return;
    }
    let Some(signal) = options.rewrite.of(got) else { return };
    let sent = send(options, child, signal, info);
    match sent {
        Ok(_) if options.verbosity >= 3 => {
            say(message().text("passed on ").signal(got).text(" as ").signal(signal));
        }
        Err(error) if options.verbosity > 0 => {
            say(message().text("pass on ").signal(signal).text(": kill: ").error(error));
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
    // a full queue or an old kernel loses the value, not the signal; a child too young for its own group is alone
    let to_group = || if group { sys::kill(-child, signal) } else { Err(0) };
    queued.or_else(|_| to_group()).or_else(|_| sys::kill(child, signal))
}

/// After the program: what is left of its group, or of the container, is asked to end, and gets time for it.
#[inline(never)]
fn clear_away(options: &Options, child: i32) {
    let first = sys::getpid() == 1;
    let everyone = if first { -1 } else { -child };
    let Some(seconds) = options.grace else {
        if options.target == Target::Session {
            let _ = sys::kill(-child, signals::TERM);
        }
        return;
    };
    let _ = sys::kill(everyone, signals::TERM);
    // a stopped process acts on SIGTERM when it goes on
    let _ = sys::kill(everyone, signals::CONT);
    sys::alarm(seconds);
    while reap(options, 0).more {
        let info = sys::next_signal();
        if info.signal() == signals::ALRM && info.of_kernel() {
            break;
        }
    }
    if !first {
        // as the end of the first process does in a container
        let _ = sys::kill(everyone, signals::KILL);
    }
}
