//! The child's side: a copy of knarr-init executes the program. It does not know what its parent does meanwhile.
use core::ffi::CStr;

use knarr_init::search::{Name, directories, may_continue};
use knarr_init::{Options, Target, status};
use linux_raw_sys::errno::{EACCES, ENAMETOOLONG, ENOENT, ENOEXEC};

use crate::report::{message, print};
use crate::sys;

/// Executes the program, or returns the exit status for the error. `mask` and `group` are the blocked signals and the
/// process group with which the parent was started.
#[inline(never)]
pub(crate) fn execute(options: &Options, words: &mut sys::Words, mask: u64, group: i32) -> u8 {
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
    print(message().text("run ").quoted(program.to_bytes()).text(": execve: ").error(error));
    status::of_exec(error)
}

/// Gives the terminal to the program if its parent had it: a container's first process has it, one in the background not.
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

/// sd_listen_fds(3): the descriptors are for the process in LISTEN_PID, which was knarr-init.
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

/// execvp(3): executes the program by its path or from PATH, or a script without an interpreter by the shell.
#[inline(never)]
fn exec(words: &mut sys::Words, program: &CStr, at: usize) -> u32 {
    let mut name = Name::new();
    let mut found = ENOENT;
    for dir in directories(program.to_bytes(), words.env("PATH")) {
        let Some(path) = name.join(dir, program.to_bytes()) else {
            found = ENAMETOOLONG;
            continue;
        };
        let error = match words.exec(path, at) {
            ENOEXEC => words.exec_shell(path, at),
            error => error,
        };
        if !may_continue(error) {
            return error;
        }
        // permission denied is more informative than not found
        if error != ENOENT && found != EACCES {
            found = error;
        }
    }
    found
}
