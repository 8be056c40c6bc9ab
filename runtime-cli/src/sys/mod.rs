//! How the program begins: its first instructions, before the C library is set up, and its `main`, without what std prepares for
//! programs in general. It knows nothing of commands but the names of those that enter containers.
//!
//! A program that enters containers has to run from a read-only mount of itself (docs/decisions/0008). Going there costs a second
//! execution, and the first one should not set up a C library only to throw it away.

#![allow(unsafe_code)]

use nix::libc;

/// `main` of the C library. std's own would look for the stack's bounds in /proc and install handlers for its overflow.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    for stream in 0..3 {
        // SAFETY: F_GETFD has no argument.
        let closed = unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1;
        if closed {
            // What is opened next must not become a stream. SAFETY: the path is NUL-terminated.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
    // Writing into a closed pipe is an error like others. SAFETY: SIG_IGN is no function.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // It does not return to the C library: a `Termination` is std's affair, and this ends with std's clean-up.
    #[allow(clippy::exit, reason = "this is main")]
    std::process::exit(crate::knarr().into())
}

/// The entry point (build.rs). If a command enters containers and the mount that the program was executed from is not read-only, the
/// program is executed again from a read-only mount of itself. Whatever is in the way is left to `libcontainer::protect_program`, which
/// looks anew and has words for it; on other machines than x86-64 it does all of it.
///
/// Nothing is relocated yet and there is no thread-local storage, so this is not for a compiler. The stack shows argc, the arguments
/// and the environment, both ending with a null pointer; rdx is what a dynamic loader wants done at the end.
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
        // The command is among the arguments. Behind the last string the kernel leaves eight bytes, so that these can be read.
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
        // What was not opened is a negative number here, and closing that does nothing.
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
