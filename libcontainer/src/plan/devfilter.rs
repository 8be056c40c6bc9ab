//! Which devices a container may make and open: the rules of config.json as one policy, and the policy as lines for cgroup v1's
//! files. `devprogram` turns it into an equivalent program for cgroup v2.
//!
//! Pure: it writes no file.

use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use std::collections::BTreeMap;

/// BPF_DEVCG_ACC_* of linux/bpf.h.
pub(crate) const MKNOD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// Kinds of device, with the numbers of BPF_DEVCG_DEV_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Block = 1,
    Char = 2,
}

/// The devices of an exception; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Match {
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) kind: Kind,
}

/// Allows everything or nothing, with exceptions. It starts with nothing (GHSA-g54h-m393-cpwq).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) default_allow: bool,
    pub(crate) exceptions: BTreeMap<Match, u8>,
}

/// A device that every container gets, as with runc. One with a path can be replaced by one of the specification.
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
    AlwaysAllowed { path, target: Match { major, minor, kind }, access }
}

/// Making any node, and using the following.
const DEFAULTS: &[AlwaysAllowed] = &[
    device("", Kind::Char, None, None, MKNOD),
    device("", Kind::Block, None, None, MKNOD),
    device("/dev/null", Kind::Char, Some(1), Some(3), ALL),
    device("/dev/random", Kind::Char, Some(1), Some(8), ALL),
    device("/dev/full", Kind::Char, Some(1), Some(7), ALL),
    device("/dev/tty", Kind::Char, Some(5), Some(0), ALL),
    device("/dev/zero", Kind::Char, Some(1), Some(5), ALL),
    device("/dev/urandom", Kind::Char, Some(1), Some(9), ALL),
    // Terminals (/dev/pts/*, including /dev/console), /dev/ptmx, and /dev/net/tun, which VPN containers expect.
    device("", Kind::Char, Some(136), None, ALL),
    device("", Kind::Char, Some(5), Some(2), ALL),
    device("", Kind::Char, Some(10), Some(200), ALL),
];

/// The policy of a container: the rules in order, then the default devices, except for those whose path `devices` replaces.
pub(crate) fn policy(rules: &[LinuxDeviceCgroup], devices: &[LinuxDevice]) -> Result<Policy> {
    let mut policy = Policy::default();
    for (i, rule) in rules.iter().enumerate() {
        let field = |name: &str| format!("linux.resources.devices[{i}].{name}");
        let access = access(rule.access().as_deref().unwrap_or_default(), || field("access"))?;
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => {
                policy = Policy { default_allow: rule.allow(), ..Policy::default() };
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

/// Unknown letters are ignored, as runc does; one must be known.
fn access(text: &str, field: impl Fn() -> String) -> Result<u8> {
    let bit = |c| match c {
        'r' => READ,
        'w' => WRITE,
        'm' => MKNOD,
        _ => 0,
    };
    match text.chars().fold(0, |bits, c| bits | bit(c)) {
        0 if text.is_empty() => Err(Error::invalid(format!("{}: cannot be empty", field()))),
        0 => Err(Error::invalid(format!("{}: {text:?} must contain r, w or m", field()))),
        bits => Ok(bits),
    }
}

fn number(value: Option<i64>, field: impl Fn() -> String) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| Error::invalid(format!("{}: invalid device number {n}", field()))),
    }
}

impl Policy {
    fn apply(&mut self, allow: bool, target: Match, access: u8) -> Result<()> {
        if allow == self.default_allow { self.withdraw(target, access) } else { self.except(target, access) }
    }

    fn except(&mut self, target: Match, access: u8) -> Result<()> {
        *self.exceptions.entry(target).or_default() |= access;
        Ok(())
    }

    /// cgroup v1 can only remove whole exceptions, and ignores a request to make a hole in a wider one; refuse that instead.
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

    /// Everything is allowed.
    pub(crate) fn allows_all(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    /// The writes to cgroup v1's files, in order: (file, line).
    pub(crate) fn v1_lines(&self) -> Vec<(&'static str, String)> {
        let (first, then) = if self.default_allow {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let mut lines = vec![(first, "a".to_owned())];
        lines.extend(self.exceptions.iter().map(|(target, access)| (then, line(target, *access))));
        lines
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

#[cfg(test)]
mod tests;
