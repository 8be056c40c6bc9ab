//! The child's side: from a copy of knarr-init to the program. It must not know what its parent does meanwhile.
use core::ffi::CStr;

use knarr_init::search::{Name, folders, goes_on};
use knarr_init::{Options, Target, status};
use linux_raw_sys::errno::{EACCES, ENAMETOOLONG, ENOENT, ENOEXEC};

use crate::{message, say, sys};

/// Becomes the program, or returns the exit status for why not. The signals blocked and the process group are those that
/// the parent was started with.
#[inline(never)]
pub(crate) fn become_it(options: &Options, words: &mut sys::Words, mask: u64, group: i32) -> u8 {
    if options.target == Target::Session {
        let _ = sys::setsid();
        let _ = sys::take_terminal(0);
    } else {
        let _ = sys::setpgid(sys::getpid()).or_else(|_| sys::setpgid(0));
        to_foreground(group);
    }
    sys::block(mask);
    announce_listener(words);
    let Some(program) = words.arg(options.program) else { return status::TROUBLE };
    let error = exec(words, program, options.program);
    say(message().text("run ").quoted(program.to_bytes()).text(": execve: ").error(error));
    status::of_exec(error)
}

/// The program gets the terminal if its parent had it: a container's first process has, one in the background has not.
#[inline(never)]
fn to_foreground(group: i32) {
    let opened = sys::open_terminal();
    let terminal = opened.unwrap_or(0);
    if sys::foreground(terminal) == Ok(group) {
        // SIGTTOU is still blocked, so a process in the background may do this
        let _ = sys::set_foreground(terminal, sys::getpgrp());
    }
    if let Ok(fd) = opened {
        let _ = sys::close(fd);
    }
}

/// sd_listen_fds(3): descriptors are for the process that LISTEN_PID names, which was us.
#[inline(never)]
fn announce_listener(words: &mut sys::Words) {
    let ours = words.env("LISTEN_PID").and_then(knarr_init::signals::number);
    let (Some(ours), Ok(parent), Ok(own)) =
        (ours, u32::try_from(sys::getppid()), u32::try_from(sys::getpid()))
    else {
        return;
    };
    if ours == parent {
        words.set_env("LISTEN_PID", own);
    }
}

/// execvp(3): the program by its path, or from PATH; a script that names no interpreter is the shell's.
#[inline(never)]
fn exec(words: &mut sys::Words, program: &CStr, at: usize) -> u32 {
    let mut name = Name::new();
    let mut found = ENOENT;
    for folder in folders(program.to_bytes(), words.env("PATH")) {
        let Some(path) = name.join(folder, program.to_bytes()) else {
            found = ENAMETOOLONG;
            continue;
        };
        let error = match words.exec(path, at) {
            ENOEXEC => words.exec_shell(path, at),
            error => error,
        };
        if !goes_on(error) {
            return error;
        }
        // one that may not be run tells more than all that are not there
        if error != ENOENT && found != EACCES {
            found = error;
        }
    }
    found
}
