//! `knarr-init`: the first process of a container. It runs one program, forwards signals to it, reaps orphans and exits with
//! the program's status. It sleeps in one system call and has no timers, threads or heap. It does not know containers or
//! engines, nor any file except the program's and the terminal's.
#![no_main]
#![cfg_attr(bare, no_std)]

mod program;
mod report;
mod sys;
mod watch;

use core::ffi::CStr;

use knarr_init::options::{self, Bad, Options, Request, Target};
use knarr_init::{signals, status};

use crate::report::{message, print};

/// Runs the command line and returns the exit status.
fn run(mut words: sys::Words) -> u8 {
    let request = options::read(|n| words.arg(n).map(CStr::to_bytes), |name| words.env(name));
    match request {
        Ok(Request::Say(text)) => {
            sys::write(1, text.as_bytes());
            0
        }
        Ok(Request::Pause(options)) => {
            prepare(&options);
            release();
            watch::pause(&options)
        }
        Ok(Request::Run(options)) => supervise(&options, &mut words),
        Err(bad) => complain(&bad),
    }
}

fn supervise(options: &Options, words: &mut sys::Words) -> u8 {
    let mask = prepare(options);
    let group = sys::getpgrp();
    match sys::fork() {
        Ok(0) => program::execute(options, words, mask, group),
        Ok(child) => {
            if options.target != Target::Session {
                // the child does the same, so that the group exists before the first signal in any case
                let _ = sys::setpgid(child);
            }
            release();
            watch::until_end(options, child)
        }
        Err(error) => {
            print(message().text("create the program's process: clone: ").error(error));
            status::TROUBLE
        }
    }
}

/// Prepares this process: signals, subreaper, terminal. Returns the signals that were blocked before.
fn prepare(options: &Options) -> u64 {
    let parent = sys::getppid();
    // a blocked signal stays pending even if it would be ignored, as most are by the first process
    let mask = sys::block(sys::ALL);
    sys::default_sigchld();
    if (options.subreaper || sys::getpid() != 1)
        && let Err(error) = sys::subreaper()
        && options.verbosity > 0
    {
        print(message().text("cannot become a subreaper: prctl(PR_SET_CHILD_SUBREAPER): ").error(error));
    }
    if options.target == Target::Session && sys::leave_terminal(0).is_ok() {
        // the kernel sends both to a session that loses its terminal; they are not for the program
        sys::forget(1 << (signals::HUP - 1) | 1 << (signals::CONT - 1));
    }
    if options.parent_death != 0 {
        if let Err(error) = sys::parent_death(options.parent_death) {
            print(message().text("prctl(PR_SET_PDEATHSIG): ").error(error));
        }
        if sys::getppid() != parent {
            // it died before the call above
            let _ = sys::kill(sys::getpid(), options.parent_death);
        }
    }
    mask
}

/// Releases what would otherwise be in use as long as the container: descriptors and the working directory.
fn release() {
    sys::close_from(3);
    sys::chdir(c"/");
}

fn complain(bad: &Bad<'_>) -> u8 {
    let mut line = message();
    if bad.option != 0 {
        line.text("option -").bytes([bad.option].into_iter()).text(": ");
    }
    line.text(bad.why);
    if !bad.word.is_empty() {
        line.text(": ").quoted(bad.word);
    }
    print(&mut line);
    status::TROUBLE
}
