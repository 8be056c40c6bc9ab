//! Numbers of system calls: those that libseccomp knows, and newer ones that it may be too old for.
//!
//! Debian 12 has libseccomp 2.5.4, and this library may be linked with an older one, so each call that Linux has added since libseccomp
//! 2.5.0 is here (docs/decisions/0024). A new call is one more line of [`NEWER`].

use libseccomp::{ScmpArch, ScmpSyscall};

/// x32 calls are x86-64 calls with this bit.
pub(super) const X32: u32 = 1 << 30;

/// The architectures that have a call.
enum On {
    All,
    AllBut(ScmpArch),
    Only(&'static [ScmpArch]),
}

use On::{All, AllBut, Only};
use ScmpArch::{Aarch64, Riscv64, X86, X8664};

/// scripts/syscall.tbl of Linux 7.1 from 440 on, and arch/x86/entry/syscalls/syscall_64.tbl. Since Linux 5.1 a new call has one
/// number on all architectures, but for the offsets of [`offset`].
const NEWER: &[(&str, u32, On)] = &[
    ("riscv_hwprobe", 258, Only(&[Riscv64])),
    ("uretprobe", 335, Only(&[X8664])),
    ("uprobe", 336, Only(&[X8664])),
    ("process_madvise", 440, All),
    ("epoll_pwait2", 441, All),
    ("mount_setattr", 442, All),
    ("quotactl_fd", 443, All),
    ("landlock_create_ruleset", 444, All),
    ("landlock_add_rule", 445, All),
    ("landlock_restrict_self", 446, All),
    ("memfd_secret", 447, Only(&[X8664, X86, ScmpArch::X32, Aarch64, Riscv64])),
    ("process_mrelease", 448, All),
    ("futex_waitv", 449, All),
    ("set_mempolicy_home_node", 450, All),
    ("cachestat", 451, All),
    ("fchmodat2", 452, All),
    ("map_shadow_stack", 453, AllBut(ScmpArch::X32)),
    ("futex_wake", 454, All),
    ("futex_wait", 455, All),
    ("futex_requeue", 456, All),
    ("statmount", 457, All),
    ("listmount", 458, All),
    ("lsm_get_self_attr", 459, All),
    ("lsm_set_self_attr", 460, All),
    ("lsm_list_modules", 461, All),
    ("mseal", 462, All),
    ("setxattrat", 463, All),
    ("getxattrat", 464, All),
    ("listxattrat", 465, All),
    ("removexattrat", 466, All),
    ("open_tree_attr", 467, All),
    ("file_getattr", 468, All),
    ("file_setattr", 469, All),
    ("listns", 470, All),
    ("rseq_slice_yield", 471, All),
];

/// The number of a call on an architecture: libseccomp's, or ours.
pub(super) fn number(name: &str, arch: ScmpArch) -> Option<u32> {
    known_to_library(name, arch).or_else(|| newer(name, arch))
}

/// The number of a call on an architecture where libseccomp does not know it.
pub(super) fn missing(name: &str, arch: ScmpArch) -> Option<u32> {
    if known_to_library(name, arch).is_some() {
        return None;
    }
    newer(name, arch)
}

/// Whether a call is in our table, on whatever architecture.
pub(super) fn listed(name: &str) -> bool {
    NEWER.iter().any(|(other, ..)| *other == name)
}

/// Calls that an architecture lacks have negative numbers in libseccomp.
pub(super) fn known_to_library(name: &str, arch: ScmpArch) -> Option<u32> {
    ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall().try_into().ok()
}

pub(super) fn newer(name: &str, arch: ScmpArch) -> Option<u32> {
    let arch = if arch == ScmpArch::Native { ScmpArch::native() } else { arch };
    let (_, number, on) = NEWER.iter().find(|(other, ..)| *other == name)?;
    let has = match on {
        All => true,
        AllBut(other) => arch != *other,
        Only(list) => list.contains(&arch),
    };
    has.then(|| number + offset(arch))
}

/// What an architecture adds to the common numbers.
fn offset(arch: ScmpArch) -> u32 {
    match arch {
        ScmpArch::X32 => X32,
        ScmpArch::Mips | ScmpArch::Mipsel => 4000,
        ScmpArch::Mips64 | ScmpArch::Mipsel64 => 5000,
        ScmpArch::Mips64N32 | ScmpArch::Mipsel64N32 => 6000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHS: [ScmpArch; 12] = [
        X8664,
        X86,
        ScmpArch::X32,
        Aarch64,
        ScmpArch::Arm,
        Riscv64,
        ScmpArch::Ppc64Le,
        ScmpArch::S390X,
        ScmpArch::Mips,
        ScmpArch::Mips64,
        ScmpArch::Mips64N32,
        ScmpArch::Mipsel,
    ];

    #[test]
    fn the_table_says_what_libseccomp_says_of_the_calls_that_both_know() {
        let mut both = 0;
        for (name, ..) in NEWER {
            for arch in ARCHS {
                // s390x got memfd_secret later than libseccomp has it.
                if let (Some(library), Some(ours)) = (known_to_library(name, arch), newer(name, arch)) {
                    assert_eq!(library, ours, "{name} on {arch:?}");
                    both += 1;
                }
            }
        }
        assert!(both > 50, "{both} numbers were compared");
    }

    #[test]
    fn no_two_calls_have_one_number() {
        for arch in ARCHS {
            let mut numbers: Vec<u32> = NEWER.iter().filter_map(|(name, ..)| newer(name, arch)).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "{arch:?}");
        }
    }

    #[test]
    fn new_calls_have_their_numbers_on_each_architecture() {
        let table = [
            ("mseal", X8664, Some(462)),
            ("mseal", X86, Some(462)),
            ("mseal", ScmpArch::X32, Some(462 | X32)),
            ("mseal", ScmpArch::Arm, Some(462)),
            ("mseal", ScmpArch::Mips, Some(4462)),
            ("mseal", ScmpArch::Mips64N32, Some(6462)),
            ("uretprobe", X8664, Some(335)),
            ("uretprobe", ScmpArch::X32, None),
            ("uretprobe", Aarch64, None),
            ("map_shadow_stack", ScmpArch::X32, None),
            ("riscv_hwprobe", Riscv64, Some(258)),
            ("riscv_hwprobe", X8664, None),
            ("read", Aarch64, Some(63)),
            ("no_such_call", X8664, None),
        ];
        for (name, arch, expected) in table {
            assert_eq!(number(name, arch), expected, "{name} on {arch:?}");
        }
    }
}
