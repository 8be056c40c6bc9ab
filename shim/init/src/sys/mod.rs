//! The kernel: a thin safe function for each system call, the entry point of the program and the functions that the compiler
//! requires of a program without std. All `unsafe` of knarr-init is in `sys/`.
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

/// Makes a system call. Never inlined: there are thirty of them, and a few bytes each matter.
///
/// # Safety
/// Pointers among the arguments must be valid for the call.
#[inline(never)]
unsafe fn call(number: u32, a: usize, b: usize, c: usize, d: usize, e: usize) -> Outcome<usize> {
    // SAFETY: by the contract of this function
    let result = unsafe { entry::syscall(number as usize, [a, b, c, d, e]) };
    // the kernel returns -4095 to -1 for errors
    u32::try_from(result.wrapping_neg()).ok().filter(|e| (1..4096).contains(e)).map_or(Ok(result), Err)
}

/// Makes a system call whose arguments are numbers and pointers to live borrows, not to memory that the kernel keeps using.
macro_rules! call {
    ($number:ident) => { call!($number, 0) };
    ($number:ident, $a:expr) => { call!($number, $a, 0) };
    ($number:ident, $a:expr, $b:expr) => { call!($number, $a, $b, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr) => { call!($number, $a, $b, $c, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr) => { call!($number, $a, $b, $c, $d, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {{
        let (a, b, c, d, e) = ($a, $b, $c, $d, $e);
        // SAFETY: every pointer is from a borrow that outlives the call, of the size that the kernel expects
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

/// Sends a signal. A negative number is a process group, -1 all processes.
pub(crate) fn kill(pid: i32, signal: u8) -> Outcome<usize> {
    call!(__NR_kill, signed(pid), signal.into())
}

/// The details of a signal: the kernel's `siginfo_t`.
#[repr(C, align(8))]
pub(crate) struct Info([i32; 32]);

impl Info {
    pub(crate) fn signal(&self) -> u8 {
        self.0[0].to_le_bytes()[0]
    }

    /// Whether the kernel sent it, not a process: a key on the terminal, a timer.
    pub(crate) fn of_kernel(&self) -> bool {
        self.0[2] > 0
    }

    /// Whether it has a value, of its sender, a timer or a message queue.
    pub(crate) fn has_value(&self) -> bool {
        [nr::SI_QUEUE, nr::SI_TIMER, nr::SI_MESGQ].contains(&self.0[2])
    }
}

/// Sends a signal with the details of another one.
pub(crate) fn queue(pid: i32, signal: u8, info: &mut Info) -> Outcome<usize> {
    info.0[0] = signal.into();
    call!(__NR_rt_sigqueueinfo, signed(pid), signal.into(), ptr::from_ref(info).expose_provenance())
}

/// Like `queue`, to all of a process group (Linux 6.9).
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

/// Sets the blocked signals and returns the former set.
pub(crate) fn block(set: u64) -> u64 {
    let mut old = 0u64;
    let (new, old_at) =
        (ptr::from_ref(&set).expose_provenance(), ptr::from_mut(&mut old).expose_provenance());
    let _ = call!(__NR_rt_sigprocmask, nr::SIG_SETMASK as usize, new, old_at, 8);
    old
}

/// Resets SIGCHLD: if the caller ignored it, children could not be waited for.
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

/// Discards these signals if they are pending.
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

/// Makes the kernel send SIGALRM after `seconds`.
pub(crate) fn alarm(seconds: u32) {
    let timer: [usize; 4] = [0, 0, seconds as usize, 0];
    let _ = call!(__NR_setitimer, nr::ITIMER_REAL as usize, timer.as_ptr().expose_provenance(), 0);
}

/// The result of waiting for a child.
pub(crate) enum Reaped {
    /// A child has ended: its pid and its wait status.
    Ended(i32, u32),
    /// No child has ended.
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

/// Makes a copy of this process and returns its pid, or 0 in the copy.
pub(crate) fn fork() -> Outcome<i32> {
    let flags = nr::SIGCHLD as usize;
    // CONFIG_CLONE_BACKWARDS2: there the stack is the first argument
    let args = if cfg!(target_arch = "s390x") { [0, flags] } else { [flags, 0] };
    // without CLONE_VM and a stack the child has a copy of everything, as after fork(2)
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

/// Writes all bytes, unless there is an error.
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

/// Opens the controlling terminal of this session.
pub(crate) fn open_terminal() -> Outcome<usize> {
    let flags = nr::O_RDWR | nr::O_NOCTTY | nr::O_CLOEXEC | nr::O_NONBLOCK;
    call!(__NR_openat, signed(nr::AT_FDCWD), c"/dev/tty".as_ptr().expose_provenance(), flags as usize, 0)
}

/// The foreground process group of a terminal.
pub(crate) fn foreground(fd: usize) -> Outcome<i32> {
    let mut group = 0i32;
    call!(__NR_ioctl, fd, ioctl::TIOCGPGRP as usize, ptr::from_mut(&mut group).expose_provenance())?;
    Ok(group)
}

pub(crate) fn set_foreground(fd: usize, group: i32) -> Outcome<usize> {
    call!(__NR_ioctl, fd, ioctl::TIOCSPGRP as usize, ptr::from_ref(&group).expose_provenance())
}

/// Gives up the controlling terminal.
pub(crate) fn leave_terminal(fd: usize) -> Outcome<usize> {
    call!(__NR_ioctl, fd, ioctl::TIOCNOTTY as usize, 0)
}

/// Makes a terminal the controlling one of this session.
pub(crate) fn take_terminal(fd: usize) -> Outcome<usize> {
    call!(__NR_ioctl, fd, ioctl::TIOCSCTTY as usize, 0)
}

/// The arguments and the environment of this process: arrays of strings, each with a null pointer at its end.
pub(crate) struct Words {
    argv: *mut *const c_char,
    argc: usize,
    envp: *mut *const c_char,
}

impl Words {
    /// # Safety
    /// Both arrays and their strings must live as long as the process and not be changed elsewhere; `argv` must have `argc`
    /// strings.
    unsafe fn new(argv: *mut *const c_char, argc: usize, envp: *mut *const c_char) -> Self {
        Self { argv, argc, envp }
    }

    /// An argument.
    pub(crate) fn arg(&self, n: usize) -> Option<&'static CStr> {
        // SAFETY: the array has argc strings that live as long as the process
        (n < self.argc).then(|| unsafe { string(self.argv, n) })?
    }

    #[inline(never)]
    fn position(&self, name: &[u8]) -> Option<(usize, &'static [u8])> {
        // SAFETY: no string before n was null, so the array has an element n
        let strings = (0..).map_while(|n| unsafe { string(self.envp, n) });
        let value = |line: &'static CStr| line.to_bytes().strip_prefix(name)?.strip_prefix(b"=");
        strings.enumerate().find_map(|(n, line)| value(line).map(|v| (n, v)))
    }

    /// The value of a variable.
    pub(crate) fn env(&self, name: &str) -> Option<&'static [u8]> {
        self.position(name.as_bytes()).map(|(_, value)| value)
    }

    /// Sets an existing variable to a number. There is memory for one variable only.
    pub(crate) fn set_env(&mut self, name: &str, number: u32) {
        static mut ROOM: [u8; 32] = [0; 32];
        let at = &raw mut ROOM;
        // SAFETY: there is one thread, and `&mut self` is exclusive; the array keeps the pointer
        let room = unsafe { &mut *at };
        if let Some((n, _)) = self.position(name.as_bytes())
            && let Some(line) = knarr_init::line::variable(room, name, number)
        {
            // SAFETY: the array has a string at n, and has no other user
            unsafe { *self.envp.wrapping_add(n) = line.as_ptr() };
        }
    }

    /// Executes a program with the arguments from an index on.
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

    /// Executes a shell for a script without an interpreter line. Overwrites the argument before it.
    pub(crate) fn exec_shell(&mut self, path: &CStr, from: usize) -> Errno {
        if from == 0 || from >= self.argc {
            return linux_raw_sys::errno::EINVAL;
        }
        let shell = c"/bin/sh";
        let place = self.argv.wrapping_add(from - 1);
        // SAFETY: `from` is an index in the array, and not 0; the element before it is for the shell
        unsafe { place.write(shell.as_ptr()) };
        // SAFETY: as above; the path lives until execve
        unsafe { place.wrapping_add(1).write(path.as_ptr()) };
        self.exec(shell, from - 1)
    }
}

/// # Safety
/// The array must have an element `n`, and its strings must live as long as the process.
unsafe fn string(array: *mut *const c_char, n: usize) -> Option<&'static CStr> {
    // SAFETY: by the contract of this function
    let at = unsafe { *array.wrapping_add(n) };
    // SAFETY: by the contract of this function, and it is not null
    (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) })
}
