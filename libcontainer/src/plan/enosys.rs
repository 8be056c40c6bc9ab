//! The front of a seccomp filter that answers ENOSYS to calls with a number above all that the profile names, on each architecture:
//! a profile can not mean to forbid what its author did not know. The same idea, and the same answers, as in runc.
//!
//! Pure. Classic BPF, for which see Documentation/userspace-api/seccomp_filter.rst of the kernel.

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use std::collections::BTreeMap;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// x32 calls are x86-64 calls with this bit.
const X32: u32 = 1 << 30;

const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned();

/// The instructions to put before the filter of `profile`, which falls through to it; empty when unknown calls get through anyway,
/// or fail with ENOSYS by default.
pub(crate) fn stub(profile: &LinuxSeccomp, archs: &[ScmpArch]) -> Vec<u64> {
    let by_default = profile.default_action();
    let passes = matches!(
        by_default,
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    let same = by_default == LinuxSeccompAction::ScmpActErrno
        && profile.default_errno_ret() == Some(libc::ENOSYS.cast_unsigned());
    if passes || same {
        return Vec::new();
    }
    let mut newest: BTreeMap<u32, Newest> = BTreeMap::new();
    for arch in archs.iter().copied().chain([ScmpArch::native()]) {
        if let (Some(audit), Some(number)) = (audit_arch(arch), newest_named(profile, arch)) {
            let entry = newest.entry(audit).or_default();
            let slot = if arch == ScmpArch::X32 { &mut entry.x32 } else { &mut entry.number };
            *slot = Some(number);
            entry.multiplexed |= matches!(arch, ScmpArch::S390 | ScmpArch::S390X);
        }
    }
    assemble(&newest)
}

/// The highest numbers that are named for one architecture.
#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    number: Option<u32>,
    x32: Option<u32>,
    /// s390 reaches numbers above 255 through call 0, which is what the filter sees of one that the kernel does not know.
    multiplexed: bool,
}

fn newest_named(profile: &LinuxSeccomp, arch: ScmpArch) -> Option<u32> {
    let names = profile.syscalls().iter().flatten().flat_map(|call| call.names());
    // Calls that the architecture lacks have negative numbers.
    let numbers = names
        .filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall().try_into().ok());
    numbers.max().filter(|n: &u32| *n > 0)
}

/// struct sock_filter.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    /// How many instructions to pass over when the test holds, and when it does not.
    yes: u8,
    no: u8,
    value: u32,
}

const fn instruction(code: u16, yes: u8, no: u8, value: u32) -> Instruction {
    Instruction { code, yes, no, value }
}

/// A jump over all that is left of the stub.
const TO_FILTER: Instruction = instruction(JUMP, 0, 0, 0);

/// One section for each architecture; each ends with a jump to the filter.
fn assemble(newest: &BTreeMap<u32, Newest>) -> Vec<u64> {
    let mut program: Vec<Instruction> =
        newest.iter().flat_map(|(audit, newest)| section(*audit, *newest)).collect();
    if program.is_empty() {
        return Vec::new();
    }
    let mut left = u32::try_from(program.len()).unwrap_or(0);
    for one in &mut program {
        left -= 1;
        if one.code == JUMP {
            one.value = left;
        }
    }
    program.insert(0, instruction(LOAD, 0, 0, ARCHITECTURE));
    program.into_iter().map(word).collect()
}

fn section(audit: u32, newest: Newest) -> Vec<Instruction> {
    let answer = instruction(RETURN, 0, 0, ENOSYS);
    let above = |number: u32| [instruction(JUMP_GREATER, 0, 1, number), answer];
    let mut plain: Vec<Instruction> = newest.number.into_iter().flat_map(above).collect();
    plain.push(TO_FILTER);
    let mut section = vec![instruction(JUMP_EQUAL, 0, 0, audit), instruction(LOAD, 0, 0, NUMBER)];
    if newest.multiplexed {
        section.extend([instruction(JUMP_EQUAL, 0, 1, 0), answer]);
    }
    if audit == X86_64 {
        section.push(instruction(JUMP_BITS, short(plain.len()), 0, X32));
        section.extend(plain);
        section.extend(newest.x32.into_iter().flat_map(above));
        section.push(TO_FILTER);
    } else {
        section.extend(plain);
    }
    let rest = short(section.len() - 1);
    if let Some(first) = section.first_mut() {
        first.no = rest;
    }
    section
}

/// A section has at most a dozen instructions.
fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// The instruction as it lies in memory.
fn word(instruction: Instruction) -> u64 {
    let [c0, c1] = instruction.code.to_ne_bytes();
    let [v0, v1, v2, v3] = instruction.value.to_ne_bytes();
    u64::from_ne_bytes([c0, c1, instruction.yes, instruction.no, v0, v1, v2, v3])
}

const X86_64: u32 = 0xc000_003e;

/// AUDIT_ARCH_* of linux/audit.h, which is what the filter sees.
fn audit_arch(arch: ScmpArch) -> Option<u32> {
    Some(match arch {
        ScmpArch::Native => return audit_arch(ScmpArch::native()),
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::X8664 | ScmpArch::X32 => X86_64,
        ScmpArch::Arm => 0x4000_0028,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Mips => 0x0000_0008,
        ScmpArch::Mips64 => 0x8000_0008,
        ScmpArch::Mips64N32 => 0xa000_0008,
        ScmpArch::Mipsel => 0x4000_0008,
        ScmpArch::Mipsel64 => 0xc000_0008,
        ScmpArch::Mipsel64N32 => 0xe000_0008,
        ScmpArch::Ppc => 0x0000_0014,
        ScmpArch::Ppc64 => 0x8000_0015,
        ScmpArch::Ppc64Le => 0xc000_0015,
        ScmpArch::S390 => 0x0000_0016,
        ScmpArch::S390X => 0x8000_0016,
        ScmpArch::Riscv64 => 0xc000_00f3,
        ScmpArch::Loongarch64 => 0xc000_0102,
        _ => return None,
    })
}
