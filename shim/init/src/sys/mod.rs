//! The kernel: one thin safe function for each system call, the way into the program and what the compiler needs of a
//! program without std. All `unsafe` of knarr-init is here and in `sys/`. It must not know what the program is for.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char};
use core::ptr;

use linux_raw_sys::general as nr;
use linux_raw_sys::{ioctl, prctl};

#[cfg_attr(bare, path = "bare.rs")]
#[cfg_attr(not(bare), path = "hosted.rs")]
mod entry;

/// An error number.
pub(crate) type Errno = u32;
type Outcome<T> = Result<T, Errno>;

/// Makes a system call; never inlined, because there are thirty of them, and a few bytes each way matter.
///
/// # Safety
/// Pointers among the arguments must be good for what the call does with them.
#[inline(never)]
unsafe fn call(number: u32, a: usize, b: usize, c: usize, d: usize, e: usize) -> Outcome<usize> {
    // SAFETY: the caller's promise
    let result = unsafe { entry::syscall(number as usize, [a, b, c, d, e]) };
    // the kernel returns -4095 to -1 for errors
    u32::try_from(result.wrapping_neg()).ok().filter(|e| (1..4096).contains(e)).map_or(Ok(result), Err)
}

/// Makes a system call whose arguments are numbers and pointers to live borrows, never to memory that the call hands on.
macro_rules! call {
    ($number:ident) => { call!($number, 0) };
    ($number:ident, $a:expr) => { call!($number, $a, 0) };
    ($number:ident, $a:expr, $b:expr) => { call!($number, $a, $b, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr) => { call!($number, $a, $b, $c, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr) => { call!($number, $a, $b, $c, $d, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {{
        let (a, b, c, d, e) = ($a, $b, $c, $d, $e);
        // SAFETY: every pointer given is one of a borrow that lives across the call, of the size the kernel expects
        unsafe { call(nr::$number, a, b, c, d, e) }
    }};
}

fn signed(number: i32) -> usize {
    isize::try_from(number).unwrap_or(0).cast_unsigned()
}

fn id(result: usize) -> i32 {
    i32::try_from(result).unwrap_or(0)
}

pub(crate) fn getpid() -> i32 {
    call!(__NR_getpid).map_or(0, id)
}

pub(crate) fn getppid() -> i32 {
    call!(__NR_getppid).map_or(0, id)
}

pub(crate) fn getpgrp() -> i32 {
    call!(__NR_getpgid, 0).map_or(0, id)
}

pub(crate) fn setpgid(pid: i32) -> Outcome<usize> {
    call!(__NR_setpgid, signed(pid), signed(pid))
}

pub(crate) fn setsid() -> Outcome<usize> {
    call!(__NR_setsid)
}

/// Sends a signal; a negative number is a process group, -1 is everyone.
pub(crate) fn kill(pid: i32, signal: u8) -> Outcome<usize> {
    call!(__NR_kill, signed(pid), signal.into())
}

/// What came with a signal: the kernel's `siginfo_t`.
#[repr(C, align(8))]
pub(crate) struct Info([i32; 32]);

impl Info {
    pub(crate) fn signal(&self) -> u8 {
        self.0[0].to_le_bytes()[0]
    }

    /// Sent by the kernel itself, not by a process: a key on the terminal, a timer.
    pub(crate) fn of_kernel(&self) -> bool {
        self.0[2] > 0
    }

    /// Carries a value of its sender's, or of a timer or message queue.
    pub(crate) fn has_value(&self) -> bool {
        [nr::SI_QUEUE, nr::SI_TIMER, nr::SI_MESGQ].contains(&self.0[2])
    }
}

/// Sends a process what came with a signal, as this or another signal.
pub(crate) fn queue(pid: i32, signal: u8, info: &mut Info) -> Outcome<usize> {
    info.0[0] = signal.into();
    call!(__NR_rt_sigqueueinfo, signed(pid), signal.into(), ptr::from_ref(info).expose_provenance())
}

/// As `queue`, to all of a process group (Linux 6.9).
pub(crate) fn queue_group(leader: i32, signal: u8, info: &mut Info) -> Outcome<usize> {
    const PROCESS_GROUP: usize = 4;
    info.0[0] = signal.into();
    let fd = call!(__NR_pidfd_open, signed(leader), 0)?;
    let sent = call!(
        __NR_pidfd_send_signal,
        fd,
        signal.into(),
        ptr::from_ref(info).expose_provenance(),
        PROCESS_GROUP
    );
    let _ = close(fd);
    sent
}

/// A set of signals, one bit each.
pub(crate) const ALL: u64 = u64::MAX;

/// Sets which signals wait until they are asked for, and returns the former set.
pub(crate) fn block(set: u64) -> u64 {
    let mut old = 0u64;
    let (new, old_at) =
        (ptr::from_ref(&set).expose_provenance(), ptr::from_mut(&mut old).expose_provenance());
    let _ = call!(__NR_rt_sigprocmask, nr::SIG_SETMASK as usize, new, old_at, 8);
    old
}

/// A caller that ignored SIGCHLD would have left us without the ends of our children.
pub(crate) fn default_sigchld() {
    let action = [0usize; 4];
    let _ = call!(__NR_rt_sigaction, nr::SIGCHLD as usize, action.as_ptr().expose_provenance(), 0, 8);
}

/// Waits for a signal.
pub(crate) fn next_signal() -> Info {
    let mut info = Info([0; 32]);
    let set = ALL;
    loop {
        let info_at = ptr::from_mut(&mut info).expose_provenance();
        if call!(__NR_rt_sigtimedwait, ptr::from_ref(&set).expose_provenance(), info_at, 0, 8).is_ok() {
            return info;
        }
    }
}

/// Forgets these signals if they are waiting.
pub(crate) fn forget(set: u64) {
    let no_time = [0u64; 2];
    while call!(
        __NR_rt_sigtimedwait,
        ptr::from_ref(&set).expose_provenance(),
        0,
        no_time.as_ptr().expose_provenance(),
        8
    )
    .is_ok()
    {}
}

/// The kernel sends SIGALRM after so many seconds.
pub(crate) fn alarm(seconds: u32) {
    let timer: [usize; 4] = [0, 0, seconds as usize, 0];
    let _ = call!(__NR_setitimer, nr::ITIMER_REAL as usize, timer.as_ptr().expose_provenance(), 0);
}

/// The end of a child.
pub(crate) enum Reaped {
    /// One child ended: its pid and its wait status.
    Ended(i32, u32),
    /// There are children, and all live.
    NoneYet,
    /// There are no children.
    NoChildren,
}

pub(crate) fn reap() -> Reaped {
    let mut status = 0u32;
    match call!(
        __NR_wait4,
        signed(-1),
        ptr::from_mut(&mut status).expose_provenance(),
        nr::WNOHANG as usize,
        0
    ) {
        Ok(0) => Reaped::NoneYet,
        Ok(pid) => Reaped::Ended(id(pid), status),
        Err(_) => Reaped::NoChildren,
    }
}

/// A second process like this one; 0 is what it sees itself.
pub(crate) fn fork() -> Outcome<i32> {
    let flags = nr::SIGCHLD as usize;
    // CONFIG_CLONE_BACKWARDS2: there the stack comes first
    let args = if cfg!(target_arch = "s390x") { [0, flags] } else { [flags, 0] };
    // without CLONE_VM and a stack of its own the child has a copy of everything, as after fork(2)
    call!(__NR_clone, args[0], args[1], 0, 0, 0).map(id)
}

pub(crate) fn exit(status: u8) -> ! {
    loop {
        let _ = call!(__NR_exit_group, status.into());
    }
}

pub(crate) fn subreaper() -> Outcome<usize> {
    call!(__NR_prctl, prctl::PR_SET_CHILD_SUBREAPER as usize, 1, 0, 0, 0)
}

pub(crate) fn parent_death(signal: u8) -> Outcome<usize> {
    call!(__NR_prctl, prctl::PR_SET_PDEATHSIG as usize, signal.into(), 0, 0, 0)
}

/// Writes all of it, if that can be done.
pub(crate) fn write(fd: usize, mut bytes: &[u8]) {
    while let Ok(written @ 1..) = call!(__NR_write, fd, bytes.as_ptr().expose_provenance(), bytes.len()) {
        bytes = bytes.get(written..).unwrap_or_default();
    }
}

pub(crate) fn chdir(path: &CStr) {
    let _ = call!(__NR_chdir, path.as_ptr().expose_provenance());
}

pub(crate) fn close(fd: usize) -> Outcome<usize> {
    call!(__NR_close, fd)
}

/// Closes this descriptor and all above it.
pub(crate) fn close_from(first: u32) {
    // close_range is Linux 5.9
    if call!(__NR_close_range, first as usize, u32::MAX as usize, 0).is_err() {
        (first..1024).for_each(|fd| _ = close(fd as usize));
    }
}

/// The terminal that controls this session.
pub(crate) fn open_terminal() -> Outcome<usize> {
    let flags = nr::O_RDWR | nr::O_NOCTTY | nr::O_CLOEXEC | nr::O_NONBLOCK;
    call!(__NR_openat, signed(nr::AT_FDCWD), c"/dev/tty".as_ptr().expose_provenance(), flags as usize, 0)
}

/// The process group in the foreground of a terminal.
pub(crate) fn foreground(fd: usize) -> Outcome<i32> {
    let mut group = 0i32;
    call!(__NR_ioctl, fd, ioctl::TIOCGPGRP as usize, ptr::from_mut(&mut group).expose_provenance())?;
    Ok(group)
}

pub(crate) fn set_foreground(fd: usize, group: i32) -> Outcome<usize> {
    call!(__NR_ioctl, fd, ioctl::TIOCSPGRP as usize, ptr::from_ref(&group).expose_provenance())
}

/// Lets go of the controlling terminal.
pub(crate) fn leave_terminal(fd: usize) -> Outcome<usize> {
    call!(__NR_ioctl, fd, ioctl::TIOCNOTTY as usize, 0)
}

/// Makes a terminal the controlling one of this session.
pub(crate) fn take_terminal(fd: usize) -> Outcome<usize> {
    call!(__NR_ioctl, fd, ioctl::TIOCSCTTY as usize, 0)
}

/// The words this process was called with, and its environment: arrays of strings, each with a null pointer at its end.
pub(crate) struct Words {
    argv: *mut *const c_char,
    argc: usize,
    envp: *mut *const c_char,
}

impl Words {
    /// # Safety
    /// Both arrays and their strings live as long as the process and nobody else changes them; `argv` has `argc` strings.
    unsafe fn new(argv: *mut *const c_char, argc: usize, envp: *mut *const c_char) -> Self {
        Self { argv, argc, envp }
    }

    /// One word of the command line.
    pub(crate) fn arg(&self, n: usize) -> Option<&'static CStr> {
        // SAFETY: the array has argc strings that live for ever
        (n < self.argc).then(|| unsafe { string(self.argv, n) })?
    }

    #[inline(never)]
    fn position(&self, name: &[u8]) -> Option<(usize, &'static [u8])> {
        // SAFETY: no string before n was null, so the array goes on to n
        let strings = (0..).map_while(|n| unsafe { string(self.envp, n) });
        let value = |line: &'static CStr| line.to_bytes().strip_prefix(name)?.strip_prefix(b"=");
        strings.enumerate().find_map(|(n, line)| value(line).map(|v| (n, v)))
    }

    /// A variable's value.
    pub(crate) fn env(&self, name: &str) -> Option<&'static [u8]> {
        self.position(name.as_bytes()).map(|(_, value)| value)
    }

    /// Gives a variable that is there a number for its value. Only one variable's number is kept.
    pub(crate) fn set_env(&mut self, name: &str, number: u32) {
        static mut ROOM: [u8; 32] = [0; 32];
        let at = &raw mut ROOM;
        // SAFETY: there is one thread, and `&mut self` lets nobody in here twice; the array keeps what was written
        let room = unsafe { &mut *at };
        if let Some((n, _)) = self.position(name.as_bytes())
            && let Some(line) = knarr_init::line::variable(room, name, number)
        {
            // SAFETY: the array has a string at n, and is ours to change
            unsafe { *self.envp.wrapping_add(n) = line.as_ptr() };
        }
    }

    /// Becomes a program, with the words from a place on.
    pub(crate) fn exec(&self, path: &CStr, from: usize) -> Errno {
        let argv = self.argv.wrapping_add(from.min(self.argc));
        call!(
            __NR_execve,
            path.as_ptr().expose_provenance(),
            argv.expose_provenance(),
            self.envp.expose_provenance()
        )
        .err()
        .unwrap_or(0)
    }

    /// Becomes a shell that runs a script without a first line that names one. Needs a word before it, to overwrite.
    pub(crate) fn exec_shell(&mut self, path: &CStr, from: usize) -> Errno {
        if from == 0 || from >= self.argc {
            return linux_raw_sys::errno::EINVAL;
        }
        let shell = c"/bin/sh";
        let place = self.argv.wrapping_add(from - 1);
        // SAFETY: from is a place in the array, and not the first; the place before it is the shell's
        unsafe { place.write(shell.as_ptr()) };
        // SAFETY: as above; the path lives until the call that replaces this program
        unsafe { place.wrapping_add(1).write(path.as_ptr()) };
        self.exec(shell, from - 1)
    }
}

/// # Safety
/// The array goes on to `n`, and its strings live for ever.
unsafe fn string(array: *mut *const c_char, n: usize) -> Option<&'static CStr> {
    // SAFETY: the caller's promise
    let at = unsafe { *array.wrapping_add(n) };
    // SAFETY: the caller's promise, and not null
    (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) })
}
