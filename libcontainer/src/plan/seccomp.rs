//! `linux.seccomp` compiled to a BPF program, through libseccomp, with runc's results for system calls that are not in the
//! profile: those newer than the newest one named fail with ENOSYS, so that programs fall back instead of failing. Calls that libseccomp
//! does not know are handled by `front`, with the numbers in `numbers` (docs/decisions/0024).
//!
//! It installs nothing, and does not use the cache (`crate::seccomp`).

#[cfg(feature = "seccomp")]
mod front;
#[cfg(feature = "seccomp")]
mod numbers;
#[cfg(feature = "seccomp")]
mod program;

/// SECCOMP_FILTER_FLAG_* of linux/seccomp.h.
#[cfg(feature = "seccomp")]
mod flag {
    pub(super) const LOG: u64 = 1 << 1;
    pub(super) const SPEC_ALLOW: u64 = 1 << 2;
    pub(super) const NEW_LISTENER: u64 = 1 << 3;
    pub(super) const WAIT_KILLABLE_RECV: u64 = 1 << 5;
}

/// A filter that is ready for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Filter {
    /// struct sock_filter, each in one word as it lies in memory.
    pub(crate) bpf: Vec<u64>,
    pub(crate) flags: u64,
    /// The call returns a descriptor for `listenerPath`.
    pub(crate) listener: bool,
    pub(crate) warnings: Vec<String>,
}

#[cfg(not(feature = "seccomp"))]
pub(crate) fn compile(
    _profile: &oci_spec::runtime::LinuxSeccomp,
    _kernel: (u32, u32),
) -> crate::Result<Filter> {
    Err(crate::Error::unsupported("linux.seccomp: this library was built without seccomp"))
}

/// The version of libseccomp, for the cache.
#[cfg(not(feature = "seccomp"))]
pub(crate) fn library_version() -> (u32, u32, u32) {
    (0, 0, 0)
}

#[cfg(feature = "seccomp")]
pub(crate) use with_library::{compile, library_version};

#[cfg(feature = "seccomp")]
mod with_library {
    use super::front::Front;
    use super::program::{Compare, Condition, Judgement};
    use super::{Filter, flag, numbers};
    use crate::error::{Context, Error, Result};
    use libseccomp::error::SeccompError;
    use libseccomp::{
        ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, ScmpVersion,
    };
    use oci_spec::runtime::{
        Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
        LinuxSeccompOperator, LinuxSyscall,
    };
    use std::collections::BTreeSet;
    use std::io::{Read, Seek};

    /// From this number of rules libseccomp sorts them into a tree. Up to 2.5.4 it fails on an empty one.
    const TREE: usize = 32;

    pub(crate) fn library_version() -> (u32, u32, u32) {
        ScmpVersion::current().map_or((0, 0, 0), |v| (v.major, v.minor, v.micro))
    }

    /// Compiles a profile for a kernel of this version.
    pub(crate) fn compile(profile: &LinuxSeccomp, kernel: (u32, u32)) -> Result<Filter> {
        let mut filter = Filter { listener: listens(profile)?, ..Filter::default() };
        filter.flags = flags(profile, kernel)?;
        if filter.listener {
            if kernel < (5, 0) {
                return Err(Error::unsupported("linux.seccomp: SCMP_ACT_NOTIFY needs Linux 5.0"));
            }
            filter.flags |= flag::NEW_LISTENER;
        } else {
            // The flag without a listener is EINVAL.
            filter.flags &= !flag::WAIT_KILLABLE_RECV;
            if profile.listener_path().as_ref().is_some_and(|p| !p.as_os_str().is_empty()) {
                filter
                    .warnings
                    .push("linux.seccomp.listenerPath is ignored: no rule has SCMP_ACT_NOTIFY".to_owned());
            }
        }
        let mut archs: Vec<ScmpArch> = Vec::new();
        for arch in profile.architectures().iter().flatten() {
            archs.push(architecture(*arch)?);
        }
        filter.bpf = rules(profile, &archs, &mut filter.warnings)?;
        if filter.bpf.len() > 4096 {
            let length = filter.bpf.len();
            return Err(Error::invalid(format!(
                "linux.seccomp: {length} BPF instructions; the kernel accepts 4096"
            )));
        }
        Ok(filter)
    }

    /// Whether a rule notifies the listener. The child must be able to pass the listener on before anyone answers.
    fn listens(profile: &LinuxSeccomp) -> Result<bool> {
        let notify = LinuxSeccompAction::ScmpActNotify;
        if profile.default_action() == notify {
            return Err(Error::invalid(
                "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
            ));
        }
        let mut asked = false;
        for call in profile.syscalls().iter().flatten().filter(|call| call.action() == notify) {
            if call.names().iter().any(|name| name == "write") {
                return Err(Error::invalid(
                    "linux.seccomp.syscalls: SCMP_ACT_NOTIFY cannot be used for the write syscall",
                ));
            }
            asked |= !call.names().is_empty();
        }
        if asked && profile.listener_path().as_ref().is_none_or(|p| p.as_os_str().is_empty()) {
            return Err(Error::invalid(
                "linux.seccomp.listenerPath: seccomp listenerPath is not set, but SCMP_ACT_NOTIFY needs it",
            ));
        }
        Ok(asked)
    }

    fn flags(profile: &LinuxSeccomp, kernel: (u32, u32)) -> Result<u64> {
        let Some(list) = profile.flags() else {
            return Ok(if kernel >= (4, 17) { flag::SPEC_ALLOW } else { 0 });
        };
        let mut flags = 0;
        for name in list {
            let (bit, since) = match name {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => (flag::LOG, (4, 14)),
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => (flag::SPEC_ALLOW, (4, 17)),
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                    (flag::WAIT_KILLABLE_RECV, (5, 19))
                }
                // The filter is installed in a single-threaded process.
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => (0, (3, 17)),
            };
            if kernel < since {
                return Err(Error::unsupported(format!(
                    "linux.seccomp.flags: {name:?} needs Linux {}.{}",
                    since.0, since.1
                )));
            }
            flags |= bit;
        }
        Ok(flags)
    }

    fn rules(profile: &LinuxSeccomp, archs: &[ScmpArch], warnings: &mut Vec<String>) -> Result<Vec<u64>> {
        let default = action(profile.default_action(), profile.default_errno_ret());
        let mut context = ScmpFilterContext::new(default).map_err(|e| failed(&e, "seccomp_init"))?;
        for arch in archs {
            context
                .add_arch(*arch)
                .map_err(|e| failed(&e, "seccomp_arch_add").wrap(format!("architecture {arch:?}")))?;
        }
        let mut count = 0;
        let mut unknown = BTreeSet::new();
        let mut front = Front::default();
        for call in profile.syscalls().iter().flatten() {
            let action = action(call.action(), call.errno_ret());
            // libseccomp refuses a rule that is equal to the default.
            if action == default {
                let plain = call.names().iter().filter(|_| arguments(call).is_empty());
                plain.for_each(|name| front.note_default(name, answer(default)));
                continue;
            }
            for name in call.names() {
                if name.is_empty() {
                    return Err(Error::invalid(
                        "linux.seccomp.syscalls: empty string is not a valid syscall",
                    ));
                }
                let alternatives = alternatives(call, name)?;
                front.note(name, || Judgement::new(alternatives.clone(), answer(action)));
                match ScmpSyscall::from_name(name) {
                    Ok(number) => count += add(&mut context, action, number, name, &alternatives)?,
                    Err(_) if numbers::listed(name) => {}
                    Err(_) => {
                        unknown.insert(name.as_str());
                    }
                }
            }
        }
        if !unknown.is_empty() {
            let names: Vec<_> = unknown.into_iter().collect();
            warnings.push(format!("unknown seccomp syscalls ignored: {}", names.join(", ")));
        }
        if count > TREE {
            // Older libraries have no trees; the filter is correct without one.
            let _ = context.set_ctl_optimize(2);
        }
        let mut program = front.assemble(profile, archs, answer(default));
        program.extend(export(&context)?);
        Ok(program)
    }

    fn arguments(call: &LinuxSyscall) -> &[LinuxSeccompArg] {
        call.args().as_deref().unwrap_or_default()
    }

    /// The conditions of a call's rule, or one rule for each condition if two check the same argument, which a single rule cannot.
    fn alternatives(call: &LinuxSyscall, name: &str) -> Result<Vec<Vec<Condition>>> {
        let args = arguments(call);
        let conditions = args.iter().map(|arg| condition(arg, name)).collect::<Result<Vec<_>>>()?;
        let indexes: BTreeSet<_> = args.iter().map(LinuxSeccompArg::index).collect();
        if indexes.len() == args.len() {
            return Ok(vec![conditions]);
        }
        Ok(conditions.into_iter().map(|one| vec![one]).collect())
    }

    fn add(
        context: &mut ScmpFilterContext,
        action: ScmpAction,
        number: ScmpSyscall,
        name: &str,
        alternatives: &[Vec<Condition>],
    ) -> Result<usize> {
        let what =
            |e: SeccompError| failed(&e, "seccomp_rule_add").wrap(format!("seccomp rule for syscall {name}"));
        for conditions in alternatives {
            let conditions: Vec<_> = conditions.iter().map(for_library).collect();
            context.add_rule_conditional(action, number, &conditions).map_err(what)?;
        }
        Ok(alternatives.len())
    }

    fn condition(arg: &LinuxSeccompArg, name: &str) -> Result<Condition> {
        let argument = u32::try_from(arg.index()).ok().filter(|i| *i < 6).ok_or_else(|| {
            Error::invalid(format!(
                "linux.seccomp.syscalls: {name}: argument index {} must be 0 to 5",
                arg.index()
            ))
        })?;
        let (compare, negated) = match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => (Compare::Equal, true),
            LinuxSeccompOperator::ScmpCmpLt => (Compare::GreaterOrEqual, true),
            LinuxSeccompOperator::ScmpCmpLe => (Compare::Greater, true),
            LinuxSeccompOperator::ScmpCmpEq => (Compare::Equal, false),
            LinuxSeccompOperator::ScmpCmpGe => (Compare::GreaterOrEqual, false),
            LinuxSeccompOperator::ScmpCmpGt => (Compare::Greater, false),
            LinuxSeccompOperator::ScmpCmpMaskedEq => (Compare::Masked(arg.value()), false),
        };
        let value = match compare {
            Compare::Masked(_) => arg.value_two().unwrap_or(0),
            _ => arg.value(),
        };
        Ok(Condition { argument, compare, value, negated })
    }

    /// A condition as libseccomp has it.
    fn for_library(condition: &Condition) -> ScmpArgCompare {
        let operator = match (condition.compare, condition.negated) {
            (Compare::Equal, false) => ScmpCompareOp::Equal,
            (Compare::Equal, true) => ScmpCompareOp::NotEqual,
            (Compare::Greater, false) => ScmpCompareOp::Greater,
            (Compare::Greater, true) => ScmpCompareOp::LessOrEqual,
            (Compare::GreaterOrEqual, false) => ScmpCompareOp::GreaterEqual,
            (Compare::GreaterOrEqual, true) => ScmpCompareOp::Less,
            (Compare::Masked(mask), _) => ScmpCompareOp::MaskedEqual(mask),
        };
        ScmpArgCompare::new(condition.argument, operator, condition.value)
    }

    /// SECCOMP_RET_* of linux/seccomp.h.
    fn answer(action: ScmpAction) -> u32 {
        match action {
            ScmpAction::KillProcess => 0x8000_0000,
            ScmpAction::Trap => 0x0003_0000,
            ScmpAction::Errno(errno) => 0x0005_0000 | (errno.cast_unsigned() & 0xffff),
            ScmpAction::Notify => 0x7fc0_0000,
            ScmpAction::Trace(data) => 0x7ff0_0000 | u32::from(data),
            ScmpAction::Log => 0x7ffc_0000,
            ScmpAction::Allow => 0x7fff_0000,
            _ => 0,
        }
    }

    fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
        // The kernel keeps 16 bits of it.
        let data = u16::try_from(errno.unwrap_or(libc::EPERM.cast_unsigned()) & 0xffff).unwrap_or(0);
        match action {
            LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
            LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
            LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
            LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::from(data)),
            LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
            LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(data),
            LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
            LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        }
    }

    fn architecture(arch: Arch) -> Result<ScmpArch> {
        Ok(match arch {
            Arch::ScmpArchNative => ScmpArch::native(),
            Arch::ScmpArchX86 => ScmpArch::X86,
            Arch::ScmpArchX86_64 => ScmpArch::X8664,
            Arch::ScmpArchX32 => ScmpArch::X32,
            Arch::ScmpArchArm => ScmpArch::Arm,
            Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
            Arch::ScmpArchMips => ScmpArch::Mips,
            Arch::ScmpArchMips64 => ScmpArch::Mips64,
            Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
            Arch::ScmpArchMipsel => ScmpArch::Mipsel,
            Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
            Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
            Arch::ScmpArchPpc => ScmpArch::Ppc,
            Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
            Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
            Arch::ScmpArchS390 => ScmpArch::S390,
            Arch::ScmpArchS390x => ScmpArch::S390X,
            Arch::ScmpArchParisc => ScmpArch::Parisc,
            Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
            Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
            other => {
                return Err(Error::unsupported(format!(
                    "linux.seccomp.architectures: unknown architecture {other:?} (libseccomp 2.5)"
                )));
            }
        })
    }

    /// The program, through a file in memory: up to 2.6 libseccomp only writes to a descriptor.
    fn export(context: &ScmpFilterContext) -> Result<Vec<u64>> {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let memory = nix::sys::memfd::memfd_create(c"seccomp", flags)
            .map_err(|e| Error::os("memfd_create", e.into()))?;
        context.export_bpf(&memory).map_err(|e| failed(&e, "seccomp_export_bpf"))?;
        let mut file = std::fs::File::from(memory);
        let mut bytes = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut bytes))
            .context("read the compiled seccomp filter")?;
        let words =
            bytes.chunks_exact(8).filter_map(|chunk| Some(u64::from_ne_bytes(chunk.try_into().ok()?)));
        Ok(words.collect())
    }

    fn failed(error: &SeccompError, call: &'static str) -> Error {
        let source = match error.sysrawrc() {
            Some(errno) => std::io::Error::from_raw_os_error(errno.abs()),
            None => std::io::Error::other(error.to_string()),
        };
        Error::os(call, source).wrap("linux.seccomp").with_kind(crate::error::ErrorKind::InvalidSpec)
    }
}

#[cfg(all(test, feature = "seccomp"))]
mod tests;
