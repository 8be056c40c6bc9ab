//! The start of the program: its first instructions, before the C library is set up, and its `main`, without what std prepares for
//! programs in general. Of the commands it knows only the names of those that enter containers.
//!
//! A program that enters containers must run from a read-only mount of itself (docs/decisions/0008). That takes a second execution, and
//! the first one should not set up a C library only to throw it away.

#![allow(unsafe_code)]

use nix::libc;

/// `main` of the C library. That of std would read the stack's bounds from /proc and install handlers for its overflow.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    for stream in 0..3 {
        // SAFETY: F_GETFD has no argument.
        let closed = unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1;
        if closed {
            // The next file to be opened must not become a stream. SAFETY: the path is NUL-terminated.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
    // If the caller ignores SIGCHLD, and with it this process, the kernel would reap our children. SAFETY: SIG_DFL is not a function.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // Writing to a closed pipe is an error like others. SAFETY: SIG_IGN is not a function.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // Not by returning to the C library, so that std cleans up.
    #[allow(clippy::exit, reason = "this is main")]
    std::process::exit(crate::knarr().into())
}

/// The entry point (build.rs). If a command enters containers and the program was not executed from a read-only mount, it is executed
/// again from a read-only mount of itself. Errors are left to `libcontainer::protect_program`, which checks again and reports them; on
/// machines other than x86-64 it does all of this.
///
/// Nothing is relocated yet and there is no thread-local storage, so this cannot be compiled code. The stack has argc, the arguments and
/// the environment, both ending with a null pointer; rdx is a function of the dynamic loader, to be called at exit.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn knarr_entry() -> ! {
    const fn word(text: [u8; 8]) -> u64 {
        u64::from_ne_bytes(text)
    }
    std::arch::naked_asm!(
        "mov r15, rdx",
        "lea r14, [rsp + 8]",
        // The command is among the arguments. After the last string the kernel leaves eight bytes, so these reads are in bounds.
        "mov rbx, r14",
        "2: add rbx, 8",
        "mov rax, [rbx]",
        "test rax, rax",
        "jz 5f",
        "mov rax, [rax]",
        "mov rcx, rax",
        "shl rcx, 32",
        "movabs rdx, {run}",
        "cmp rcx, rdx",
        "je 3f",
        "mov rcx, rax",
        "shl rcx, 24",
        "movabs rdx, {exec}",
        "cmp rcx, rdx",
        "je 3f",
        "shl rax, 8",
        "movabs rdx, {create}",
        "cmp rax, rdx",
        "jne 2b",
        // openat(AT_FDCWD, "/proc/self/exe", O_PATH | O_CLOEXEC)
        "3: mov r13d, -1",
        "mov eax, {openat}",
        "mov edi, {here}",
        "lea rsi, [rip + 6f]",
        "mov edx, {path}",
        "syscall",
        "mov r12d, eax",
        // fstatfs(file): its 120 bytes fit below the stack; the eleventh word is f_flags.
        "mov eax, {fstatfs}",
        "mov edi, r12d",
        "lea rsi, [rsp - 128]",
        "syscall",
        "test eax, eax",
        "jnz 4f",
        "test byte ptr [rsp - 128 + 10 * 8], {read_only}",
        "jnz 4f",
        // open_tree(file, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)
        "mov eax, {open_tree}",
        "mov edi, r12d",
        "lea rsi, [rip + 7f]",
        "mov edx, {clone}",
        "syscall",
        "mov r13d, eax",
        // mount_setattr(tree, "", AT_EMPTY_PATH, struct mount_attr)
        "mov eax, {mount_setattr}",
        "mov edi, r13d",
        "lea rsi, [rip + 7f]",
        "mov edx, {empty_path}",
        "lea r10, [rip + 8f]",
        "mov r8d, 32",
        "syscall",
        "test eax, eax",
        "jnz 4f",
        // execveat(tree, "", arguments, environment, AT_EMPTY_PATH)
        "mov eax, {execveat}",
        "mov edi, r13d",
        "lea rsi, [rip + 7f]",
        "mov rdx, r14",
        "mov r10, [rsp]",
        "lea r10, [r14 + 8 * r10 + 8]",
        "mov r8d, {empty_path}",
        "syscall",
        // The descriptor of a file that was not opened is negative, and closing it does nothing.
        "4: mov eax, {close}",
        "mov edi, r13d",
        "syscall",
        "mov eax, {close}",
        "mov edi, r12d",
        "syscall",
        "5: mov rdx, r15",
        "jmp _start",
        ".pushsection .rodata",
        "6: .asciz \"/proc/self/exe\"",
        "7: .asciz \"\"",
        ".balign 8",
        "8: .quad {attr_read_only}, 0, {private}, 0",
        ".popsection",
        run = const word(*b"\0\0\0\0run\0"),
        exec = const word(*b"\0\0\0exec\0"),
        create = const word(*b"\0create\0"),
        openat = const libc::SYS_openat,
        fstatfs = const libc::SYS_fstatfs,
        open_tree = const libc::SYS_open_tree,
        mount_setattr = const libc::SYS_mount_setattr,
        execveat = const libc::SYS_execveat,
        close = const libc::SYS_close,
        here = const libc::AT_FDCWD,
        path = const libc::O_PATH | libc::O_CLOEXEC,
        read_only = const libc::ST_RDONLY,
        clone = const libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned(),
        empty_path = const libc::AT_EMPTY_PATH,
        attr_read_only = const libc::MOUNT_ATTR_RDONLY,
        private = const libc::MS_PRIVATE,
    )
}
