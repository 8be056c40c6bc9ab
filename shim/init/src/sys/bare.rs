//! The entry point of a program without std and libc, and the functions that the compiler requires: x86-64, AArch64 and
//! RISC-V.
use core::arch::{asm, global_asm};
use core::ffi::c_char;

use super::Words;

// At the first instruction the stack pointer points to argc, argv, null, envp, null. It becomes the argument.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {0}", "ud2", sym enter);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "mov x0, sp", "bl {0}", "brk #1", sym enter);
#[cfg(target_arch = "riscv64")]
global_asm!(
    ".globl _start", "_start:",
    ".option push", ".option norelax", "lla gp, __global_pointer$", ".option pop",
    "mv a0, sp", "andi sp, sp, -16", "call {0}", "unimp", sym enter
);

/// # Safety
/// Only for `_start`, with the initial stack pointer.
unsafe extern "C" fn enter(stack: *mut usize) -> ! {
    // SAFETY: argc is on top of the stack
    let argc = unsafe { *stack };
    let argv = stack.wrapping_add(1).cast::<*const c_char>();
    let envp = argv.wrapping_add(argc + 1);
    // SAFETY: the kernel made these arrays for this process; they live as long as it and have no other user
    let words = unsafe { Words::new(argv, argc, envp) };
    super::exit(crate::run(words))
}

/// # Safety
/// Pointers among the arguments must be valid for the call.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn syscall(number: usize, args: [usize; 5]) -> usize {
    let result;
    // SAFETY: the kernel changes rax, rcx, r11 and the memory behind the pointers, which the caller guarantees
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// # Safety
/// Pointers among the arguments must be valid for the call.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn syscall(number: usize, args: [usize; 5]) -> usize {
    let result;
    // SAFETY: the kernel changes x0 and the memory behind the pointers, which the caller guarantees
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], options(nostack));
    }
    result
}

/// # Safety
/// Pointers among the arguments must be valid for the call.
#[cfg(target_arch = "riscv64")]
pub(super) unsafe fn syscall(number: usize, args: [usize; 5]) -> usize {
    let result;
    // SAFETY: the kernel changes a0 and the memory behind the pointers, which the caller guarantees
    unsafe {
        asm!("ecall", in("a7") number, inlateout("a0") args[0] => result, in("a1") args[1], in("a2") args[2],
            in("a3") args[3], in("a4") args[4], options(nostack));
    }
    result
}

/// A bug in this program: prints that and exits, without the code for printing the place.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    super::write(2, b"knarr-init: internal error\n");
    super::exit(70)
}

/// Referenced by the unwind tables of the core library, which was built for unwinding programs; never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The compiler makes calls of these from copies and comparisons. The accesses are volatile, else the compiler would make
/// of them a call of the function itself.
mod memory {
    use core::ffi::{c_char, c_int};

    /// # Safety
    /// As of memcpy(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        for n in 0..len {
            // SAFETY: by the contract of this function
            let byte = unsafe { from.wrapping_add(n).read_volatile() };
            // SAFETY: by the contract of this function
            unsafe { to.wrapping_add(n).write_volatile(byte) };
        }
        to
    }

    /// # Safety
    /// As of memmove(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        if to.addr() <= from.addr() {
            // SAFETY: by the contract of this function; upwards, nothing is overwritten before it is read
            return unsafe { memcpy(to, from, len) };
        }
        for n in (0..len).rev() {
            // SAFETY: by the contract of this function
            let byte = unsafe { from.wrapping_add(n).read_volatile() };
            // SAFETY: by the contract of this function
            unsafe { to.wrapping_add(n).write_volatile(byte) };
        }
        to
    }

    /// # Safety
    /// As of memset(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: c_int, len: usize) -> *mut u8 {
        for n in 0..len {
            // SAFETY: by the contract of this function
            unsafe { to.wrapping_add(n).write_volatile(byte.to_le_bytes()[0]) };
        }
        to
    }

    /// # Safety
    /// As of memcmp(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> c_int {
        for n in 0..len {
            // SAFETY: by the contract of this function
            let left = unsafe { a.wrapping_add(n).read_volatile() };
            // SAFETY: by the contract of this function
            let right = unsafe { b.wrapping_add(n).read_volatile() };
            if left != right {
                return c_int::from(left) - c_int::from(right);
            }
        }
        0
    }

    /// # Safety
    /// As of bcmp(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> c_int {
        // SAFETY: by the contract of this function
        unsafe { memcmp(a, b, len) }
    }

    /// # Safety
    /// As of strlen(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const c_char) -> usize {
        let mut len = 0;
        // SAFETY: by the contract of this function, there is a terminating zero
        while unsafe { text.wrapping_add(len).read_volatile() } != 0 {
            len += 1;
        }
        len
    }
}
