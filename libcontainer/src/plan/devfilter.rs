//! Which devices a container may make and open: the rules of config.json as one policy, and the policy as lines for cgroup v1's
//! files and as an eBPF program for cgroup v2. Both say the same.
//!
//! Pure: it loads no program and writes no file.

use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use std::collections::BTreeMap;

/// BPF_DEVCG_ACC_* of linux/bpf.h.
pub(crate) const MKNOD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Kinds of device, with the numbers of BPF_DEVCG_DEV_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Block = 1,
    Char = 2,
}

/// Which devices an exception is about; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Match {
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) kind: Kind,
}

/// What is allowed: everything or nothing, and exceptions from that. It starts with nothing (GHSA-g54h-m393-cpwq).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) default_allow: bool,
    pub(crate) exceptions: BTreeMap<Match, u8>,
}

/// A device that every container gets, by the rules of runc. Those with a path can be replaced by one of the spec's.
struct AlwaysAllowed {
    path: &'static str,
    target: Match,
    access: u8,
}

const fn device(
    path: &'static str,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
) -> AlwaysAllowed {
    AlwaysAllowed {
        path,
        target: Match { major, minor, kind },
        access,
    }
}

/// Making any node, and using these.
const DEFAULTS: &[AlwaysAllowed] = &[
    device("", Kind::Char, None, None, MKNOD),
    device("", Kind::Block, None, None, MKNOD),
    device("/dev/null", Kind::Char, Some(1), Some(3), ALL),
    device("/dev/random", Kind::Char, Some(1), Some(8), ALL),
    device("/dev/full", Kind::Char, Some(1), Some(7), ALL),
    device("/dev/tty", Kind::Char, Some(5), Some(0), ALL),
    device("/dev/zero", Kind::Char, Some(1), Some(5), ALL),
    device("/dev/urandom", Kind::Char, Some(1), Some(9), ALL),
    // Terminals (/dev/pts/*, which /dev/console is one of), /dev/ptmx, and /dev/net/tun, which VPN containers expect.
    device("", Kind::Char, Some(136), None, ALL),
    device("", Kind::Char, Some(5), Some(2), ALL),
    device("", Kind::Char, Some(10), Some(200), ALL),
];

/// The policy of a container: the rules in their order, then the default devices, except those whose path `devices` gives to others.
pub(crate) fn policy(rules: &[LinuxDeviceCgroup], devices: &[LinuxDevice]) -> Result<Policy> {
    let mut policy = Policy::default();
    for (i, rule) in rules.iter().enumerate() {
        let field = |name: &str| format!("linux.resources.devices[{i}].{name}");
        let access = access(rule.access().as_deref().unwrap_or_default(), || field("access"))?;
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => {
                policy = Policy {
                    default_allow: rule.allow(),
                    ..Policy::default()
                };
                continue;
            }
            LinuxDeviceType::B => Kind::Block,
            LinuxDeviceType::C => Kind::Char,
            other => {
                return Err(Error::invalid(format!(
                    "{}: invalid cgroup device type {:?}",
                    field("type"),
                    other.as_str()
                )));
            }
        };
        let target = Match {
            major: number(rule.major(), || field("major"))?,
            minor: number(rule.minor(), || field("minor"))?,
            kind,
        };
        policy
            .apply(rule.allow(), target, access)
            .map_err(|e| e.wrap(format!("linux.resources.devices[{i}]")))?;
    }
    for AlwaysAllowed { path, target, access } in DEFAULTS {
        let replaced = !path.is_empty() && devices.iter().any(|d| d.path().as_os_str() == *path);
        if !replaced {
            policy.apply(true, *target, *access)?;
        }
    }
    Ok(policy)
}

fn access(text: &str, field: impl Fn() -> String) -> Result<u8> {
    let mut bits = 0;
    for c in text.chars() {
        bits |= match c {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                return Err(Error::invalid(format!(
                    "{}: {text:?}: unknown access {c:?}",
                    field()
                )));
            }
        };
    }
    if bits == 0 {
        Err(Error::invalid(format!("{}: cannot be empty", field())))
    } else {
        Ok(bits)
    }
}

fn number(value: Option<i64>, field: impl Fn() -> String) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| Error::invalid(format!("{}: {n} is no device number", field()))),
    }
}

impl Policy {
    fn apply(&mut self, allow: bool, target: Match, access: u8) -> Result<()> {
        if allow == self.default_allow {
            self.withdraw(target, access)
        } else {
            self.except(target, access)
        }
    }

    fn except(&mut self, target: Match, access: u8) -> Result<()> {
        *self.exceptions.entry(target).or_default() |= access;
        Ok(())
    }

    /// cgroup v1 takes back whole exceptions only, and ignores a request to make a hole in a wider one; say so instead.
    fn withdraw(&mut self, target: Match, access: u8) -> Result<()> {
        let wider = [(None, target.minor), (target.major, None), (None, None)].map(|(major, minor)| Match {
            major,
            minor,
            kind: target.kind,
        });
        for wide in wider.into_iter().filter(|w| *w != target) {
            if self.exceptions.get(&wide).is_some_and(|held| held & access != 0) {
                return Err(Error::invalid(format!(
                    "rule {} not supported by devices cgroup: cannot punch hole in existing wildcard rule {}",
                    line(&target, access),
                    line(&wide, self.exceptions[&wide]),
                )));
            }
        }
        if let Some(held) = self.exceptions.get_mut(&target) {
            *held &= !access;
            if *held == 0 {
                self.exceptions.remove(&target);
            }
        }
        Ok(())
    }

    /// Nothing is restricted.
    pub(crate) fn allows_all(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    /// What to write to cgroup v1's files, in order: (file, line).
    pub(crate) fn v1_lines(&self) -> Vec<(&'static str, String)> {
        let (first, then) = if self.default_allow {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let mut lines = vec![(first, "a".to_owned())];
        lines.extend(
            self.exceptions
                .iter()
                .map(|(target, access)| (then, line(target, *access))),
        );
        lines
    }

    /// The program for BPF_CGROUP_DEVICE: returns 1 to allow, 0 to deny.
    pub(crate) fn program(&self) -> Vec<u64> {
        let mut code = Vec::with_capacity(8 * (self.exceptions.len() + 1));
        // struct bpf_cgroup_dev_ctx: u32 access << 16 | kind, u32 major, u32 minor.
        code.extend([
            load(2, 0),
            and(2, 0xffff),
            load(3, 0),
            shift_right(3, 16),
            load(4, 4),
            load(5, 8),
        ]);
        for (target, access) in &self.exceptions {
            self.exception(&mut code, target, *access);
        }
        code.extend([set(0, i32::from(self.default_allow)), EXIT]);
        code
    }

    fn exception(&self, code: &mut Vec<u64>, target: &Match, access: u8) {
        let mut block = Vec::with_capacity(9);
        block.push(Check::NotEqual(2, target.kind as u32));
        if access != ALL {
            block.push(if self.default_allow {
                Check::NoneOf(3, access)
            } else {
                Check::NotWithin(3, access)
            });
        }
        block.extend(target.major.map(|n| Check::NotEqual(4, n)));
        block.extend(target.minor.map(|n| Check::NotEqual(5, n)));
        let total: usize = block.iter().map(Check::len).sum::<usize>() + 2;
        let mut at = 0;
        for check in &block {
            at += check.len();
            check.emit(code, total - at);
        }
        code.extend([set(0, i32::from(!self.default_allow)), EXIT]);
    }
}

/// `c 1:3 rwm`, as in devices.allow and devices.list.
fn line(target: &Match, access: u8) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let kind = if target.kind == Kind::Char { 'c' } else { 'b' };
    let mut text = format!("{kind} {}:{} ", number(target.major), number(target.minor));
    for (bit, c) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if access & bit != 0 {
            text.push(c);
        }
    }
    text
}

/// A test that leaves the block of its exception when it holds.
enum Check {
    NotEqual(u8, u32),
    /// The register has none of the bits: an exception from "everything" denies even a part of what is asked.
    NoneOf(u8, u8),
    /// The register has a bit outside of these: an exception from "nothing" must cover all that is asked.
    NotWithin(u8, u8),
}

impl Check {
    fn len(&self) -> usize {
        match self {
            Check::NotEqual(..) => 1,
            Check::NoneOf(..) | Check::NotWithin(..) => 3,
        }
    }

    fn emit(&self, code: &mut Vec<u64>, skip: usize) {
        // A block has at most 9 instructions.
        let skip = i16::try_from(skip).unwrap_or(i16::MAX);
        match *self {
            Check::NotEqual(register, value) => {
                code.push(instruction(0x56, register, 0, skip, value.cast_signed()));
            }
            Check::NoneOf(register, bits) => {
                code.extend([
                    copy(1, register),
                    and(1, i32::from(bits)),
                    instruction(0x16, 1, 0, skip, 0),
                ]);
            }
            Check::NotWithin(register, bits) => {
                code.extend([
                    copy(1, register),
                    and(1, i32::from(ALL & !bits)),
                    instruction(0x56, 1, 0, skip, 0),
                ]);
            }
        }
    }
}

/// struct bpf_insn in memory: u8 code, u8 registers, s16 offset, s32 immediate.
fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    // The two registers share a byte as bit fields, whose order follows that of the machine's bytes.
    let registers = if cfg!(target_endian = "little") {
        src << 4 | dst
    } else {
        dst << 4 | src
    };
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

const EXIT: u64 = if cfg!(target_endian = "little") {
    0x95
} else {
    0x95 << 56
};

/// Loads a u32 of the context (register 1).
fn load(register: u8, offset: i16) -> u64 {
    instruction(0x61, register, 1, offset, 0)
}
fn and(register: u8, bits: i32) -> u64 {
    instruction(0x54, register, 0, 0, bits)
}
fn shift_right(register: u8, by: i32) -> u64 {
    instruction(0x74, register, 0, 0, by)
}
fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbc, to, from, 0, 0)
}
fn set(register: u8, value: i32) -> u64 {
    instruction(0xb4, register, 0, 0, value)
}

#[cfg(test)]
mod tests;
