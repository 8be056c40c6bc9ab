//! The front of a seccomp filter, which runs before libseccomp's program and falls through to it. On each architecture it decides on the
//! calls that libseccomp does not know, and returns ENOSYS for calls with a number above all that the profile names: a profile cannot
//! forbid what its author did not know. The latter is runc's idea, with runc's results.
//!
//! Pure. Classic BPF, for which see Documentation/userspace-api/seccomp_filter.rst of the kernel.

use super::numbers::{self, X32};
use super::program::{ARCHITECTURE, Instruction, Judgement, NUMBER, jump, load, ret, test, when};
use libseccomp::ScmpArch;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use std::collections::BTreeMap;

const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned();

/// SECCOMP_RET_USER_NOTIF of linux/seccomp.h: lower values refuse the call.
const LETS_THROUGH: u32 = 0x7fc0_0000;

/// Calls that stand for others, with the number of the wanted one as their first argument. libseccomp adds rules for them to those for
/// `socket`, `semop` and so on, and would let such a call through that the profile refuses by its own name.
const MULTIPLEXERS: [&str; 2] = ["socketcall", "ipc"];

/// The decisions made without libseccomp, by the names of calls.
#[derive(Debug, Default)]
pub(super) struct Front<'a> {
    judgements: BTreeMap<&'a str, Judgement>,
}

impl<'a> Front<'a> {
    /// Notes a rule, if its call may be one that libseccomp does not know. Whether it does is seen for each architecture.
    pub(super) fn note(&mut self, name: &'a str, rule: impl FnOnce() -> Judgement) {
        if numbers::listed(name) {
            self.judgements.entry(name).or_default().merge(rule());
        }
    }

    /// Notes that a call is refused by the default action. That needs no rule, but for the calls that libseccomp would let through.
    /// A default that lets calls through must not undo what libseccomp adds to the rules for single calls.
    pub(super) fn note_default(&mut self, name: &'a str, default: u32) {
        if MULTIPLEXERS.contains(&name) && default < LETS_THROUGH {
            self.judgements.entry(name).or_default().merge(Judgement::always(default));
        }
    }

    /// The instructions to put before the filter; empty when there is nothing to answer.
    pub(super) fn assemble(&self, profile: &LinuxSeccomp, archs: &[ScmpArch], default: u32) -> Vec<u64> {
        let newest = answers_enosys(profile);
        let mut machines: BTreeMap<u32, Machine> = BTreeMap::new();
        for arch in archs.iter().copied().chain([ScmpArch::native()]) {
            let Some(audit) = audit_arch(arch) else { continue };
            let calls = self.calls(arch);
            let newest = if newest { newest_named(profile, arch) } else { None };
            if newest.is_none() && calls.is_empty() {
                continue;
            }
            let machine = machines.entry(audit).or_default();
            let section = if arch == ScmpArch::X32 { &mut machine.x32 } else { &mut machine.plain };
            *section = Section { newest, calls, wide: !narrow(arch) };
            // ENOSYS for 0 belongs to the answers for unknown calls.
            machine.multiplexed |= newest.is_some() && matches!(arch, ScmpArch::S390 | ScmpArch::S390X);
        }
        assemble(&machines, default)
    }

    fn calls(&self, arch: ScmpArch) -> BTreeMap<u32, &Judgement> {
        let number = |name: &str| {
            let multiplexer = MULTIPLEXERS.contains(&name).then(|| numbers::known_to_library(name, arch));
            multiplexer.unwrap_or_else(|| numbers::missing(name, arch))
        };
        self.judgements.iter().filter_map(|(name, rule)| Some((number(name)?, rule))).collect()
    }
}

/// Unknown calls need no answer where they get through anyway, or fail with ENOSYS by default.
fn answers_enosys(profile: &LinuxSeccomp) -> bool {
    match profile.default_action() {
        LinuxSeccompAction::ScmpActAllow
        | LinuxSeccompAction::ScmpActLog
        | LinuxSeccompAction::ScmpActTrace => false,
        LinuxSeccompAction::ScmpActErrno => profile.default_errno_ret() != Some(libc::ENOSYS.cast_unsigned()),
        _ => true,
    }
}

fn newest_named(profile: &LinuxSeccomp, arch: ScmpArch) -> Option<u32> {
    let names = profile.syscalls().iter().flatten().flat_map(|call| call.names());
    names.filter_map(|name| numbers::number(name, arch)).max().filter(|n| *n > 0)
}

/// What the filter sees as one architecture: x32 is x86-64 with a bit in the number.
#[derive(Debug, Default)]
struct Machine<'a> {
    plain: Section<'a>,
    x32: Section<'a>,
    /// s390 reaches numbers above 255 through call 0, which is what the filter sees of one that the kernel does not know.
    multiplexed: bool,
}

#[derive(Debug, Default)]
struct Section<'a> {
    /// The highest number that is named.
    newest: Option<u32>,
    calls: BTreeMap<u32, &'a Judgement>,
    /// Arguments have 64 bits.
    wide: bool,
}

/// One part for each architecture; each ends with a jump to the filter.
fn assemble(machines: &BTreeMap<u32, Machine<'_>>, default: u32) -> Vec<u64> {
    let mut program: Vec<Instruction> = Vec::new();
    for (audit, machine) in machines.iter().rev() {
        let mut part = machine.assemble(*audit, default);
        part.push(jump(program.len()));
        program.splice(0..0, when(test::EQUAL, *audit, part));
    }
    if !program.is_empty() {
        program.insert(0, load(ARCHITECTURE));
    }
    program.into_iter().map(Instruction::word).collect()
}

impl Machine<'_> {
    /// Answers, or falls through.
    fn assemble(&self, audit: u32, default: u32) -> Vec<Instruction> {
        let mut part = vec![load(NUMBER)];
        if self.multiplexed {
            part.extend(when(test::EQUAL, 0, vec![ret(ENOSYS)]));
        }
        let plain = self.plain.assemble(default);
        if audit == X86_64 {
            let mut x32 = self.x32.assemble(default);
            x32.push(jump(plain.len()));
            part.extend(when(test::BITS, X32, x32));
        }
        part.extend(plain);
        part
    }
}

impl Section<'_> {
    fn assemble(&self, default: u32) -> Vec<Instruction> {
        let enosys = |newest| when(test::GREATER, newest, vec![ret(ENOSYS)]);
        let mut part: Vec<Instruction> = self.newest.into_iter().flat_map(enosys).collect();
        // The calls are new ones, with high numbers: all others pass by them in one step.
        if let Some(first) = self.calls.keys().next() {
            let calls = self.calls.iter();
            let calls = calls.flat_map(|(n, rule)| when(test::EQUAL, *n, rule.assemble(self.wide, default)));
            part.extend(when(test::GREATER_OR_EQUAL, *first, calls.collect()));
        }
        part
    }
}

const X86_64: u32 = 0xc000_003e;

/// Whether arguments have 32 bits: the kernel drops what is above, and may show it to the filter all the same. x32 has the calls of
/// x86-64, with its arguments.
fn narrow(arch: ScmpArch) -> bool {
    match arch {
        ScmpArch::Native => narrow(ScmpArch::native()),
        ScmpArch::X86
        | ScmpArch::Arm
        | ScmpArch::Mips
        | ScmpArch::Mipsel
        | ScmpArch::Ppc
        | ScmpArch::S390
        | ScmpArch::Parisc => true,
        _ => false,
    }
}

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
        ScmpArch::Parisc => 0x0000_000f,
        ScmpArch::Parisc64 => 0x8000_000f,
        _ => return None,
    })
}
