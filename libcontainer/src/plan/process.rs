//! A process description in the kernel's terms: arguments, environment, the paths of its program, ids, limits, scheduling.
//!
//! Users and groups are numbers here; nothing is looked up. It does not depend on whether the process is a container's first.

use super::step::{Exec, Ids, Rlimit, Step};
use super::{IdMaps, ParentSettings, c_string, ids, scheduling};
use crate::error::{Error, Result};
use crate::sys::cstr::CStrArray;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process};
use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// The search path when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// execve(2): one argument or variable, with its NUL, may have 32 pages (MAX_ARG_STRLEN).
const MAX_STRING: usize = 131_072;
/// A file name may have this many bytes (NAME_MAX).
const MAX_NAME: usize = 255;
/// setgroups(2): NGROUPS_MAX.
const MAX_GROUPS: usize = 65_536;

/// The program to execute: `args`, `env` and the candidates for its path.
pub(crate) fn exec(process: &Process) -> Result<Exec> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(name) = args.first() else {
        return Err(Error::invalid("process.args: args must not be empty"));
    };
    let argv = args
        .iter()
        .enumerate()
        .map(|(i, arg)| string(&format!("process.args[{i}]"), arg))
        .collect::<Result<_>>()?;
    let environment = environment(process.env().as_deref().unwrap_or_default())?;
    let candidates = candidates(name, environment.path.unwrap_or(DEFAULT_PATH))?;
    let spare = usize::from(environment.home_missing);
    Ok(Exec {
        candidates,
        argv: CStrArray::new(argv, 0),
        envp: CStrArray::new(environment.strings, spare),
        home_of: environment.home_missing.then_some(process.user().uid()),
    })
}

struct Environment<'a> {
    strings: Vec<CString>,
    path: Option<&'a str>,
    home_missing: bool,
}

/// The variables in order, the last one of duplicates; an empty HOME counts as none.
fn environment(env: &[String]) -> Result<Environment<'_>> {
    let mut seen = HashSet::with_capacity(env.len());
    let (mut strings, mut path, mut home_missing) = (Vec::with_capacity(env.len()), None, true);
    for (i, variable) in env.iter().enumerate().rev() {
        let field = || format!("process.env[{i}]");
        let Some((name, value)) = variable.split_once('=') else {
            return Err(Error::invalid(format!("{}: invalid environment variable: missing '='", field())));
        };
        if name.is_empty() {
            return Err(Error::invalid(format!(
                "{}: invalid environment variable: name cannot be empty",
                field()
            )));
        }
        let c = string(&field(), variable)?;
        if !seen.insert(name) {
            continue;
        }
        match name {
            "PATH" => path = Some(value),
            "HOME" if value.is_empty() => continue,
            "HOME" => home_missing = false,
            _ => {}
        }
        strings.push(c);
    }
    strings.reverse();
    Ok(Environment { strings, path, home_missing })
}

/// A name with a slash is a path; any other is searched for in the directories of PATH. Relative directories are left out: the working
/// directory must not decide which program runs.
fn candidates(name: &str, path: &str) -> Result<Vec<CString>> {
    if name.contains('/') {
        return Ok(vec![c_string("process.args[0]", name)?]);
    }
    let found: Vec<CString> = path
        .split(':')
        .filter(|dir| dir.starts_with('/') && !name.is_empty() && name.len() <= MAX_NAME)
        .map(|dir| c_string("process.args[0]", format!("{}/{name}", dir.trim_end_matches('/'))))
        .collect::<Result<_>>()?;
    if found.is_empty() {
        return Err(Error::not_in_path(name));
    }
    Ok(found)
}

fn string(field: &str, value: &str) -> Result<CString> {
    if value.len() >= MAX_STRING {
        let text = format!("{field}: has {} bytes; execve(2) accepts {}", value.len(), MAX_STRING - 1);
        return Err(Error::invalid(text));
    }
    c_string(field, value)
}

/// The working directory.
pub(crate) fn cwd(process: &Process) -> Result<CString> {
    let cwd = process.cwd();
    if cwd.as_os_str().is_empty() {
        return Err(Error::invalid("process.cwd: Cwd property must not be empty"));
    }
    if !cwd.is_absolute() {
        return Err(Error::invalid(format!("process.cwd: Cwd must be an absolute path, not {cwd:?}")));
    }
    c_string("process.cwd", cwd.as_os_str().as_bytes())
}

/// Whether setgroups(2) is allowed in the user namespace of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setgroups {
    Allowed,
    /// An outer user namespace may have denied it.
    Unknown,
    Denied,
}

/// The user, its group and the supplementary groups; all of them must be mapped, if the maps are known.
pub(crate) fn user(
    process: &Process,
    maps: Option<&IdMaps>,
    setgroups: Setgroups,
    warnings: &mut Vec<String>,
) -> Result<Ids> {
    let user = process.user();
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    if groups.len() > MAX_GROUPS {
        let text = format!(
            "process.user.additionalGids: {} groups; setgroups(2) accepts {MAX_GROUPS}",
            groups.len()
        );
        return Err(Error::invalid(text));
    }
    let uids = maps.map(|m| &m.uids[..]);
    let gids = maps.map(|m| &m.gids[..]);
    mapped("process.user.uid", "setuid to unmapped uid", user.uid(), uids)?;
    mapped("process.user.gid", "setgid to unmapped gid", user.gid(), gids)?;
    if let Some(username) = user.username().as_ref().filter(|name| !name.is_empty()) {
        warnings.push(format!("process.user.username: ignoring {username:?}: only for Windows"));
    }
    if setgroups == Setgroups::Denied {
        if !groups.is_empty() {
            warnings
                .push("process.user.additionalGids: ignored: setgroups is denied without newgidmap".into());
        }
        return Ok(Ids { uid: user.uid(), gid: user.gid(), groups: None, groups_may_be_denied: true });
    }
    for (i, group) in groups.iter().enumerate() {
        mapped(&format!("process.user.additionalGids[{i}]"), "setgroups to unmapped gid", *group, gids)?;
    }
    let groups_may_be_denied = setgroups == Setgroups::Unknown;
    Ok(Ids { uid: user.uid(), gid: user.gid(), groups: Some(groups.to_vec()), groups_may_be_denied })
}

fn mapped(field: &str, what: &str, id: u32, ranges: Option<&[super::IdMap]>) -> Result<()> {
    // (uid_t)-1 means "leave unchanged" to setresuid(2): the process would stay root (like CVE-2024-40635).
    if id == u32::MAX {
        return Err(Error::invalid(format!("{field}: invalid id {id}")));
    }
    match ranges {
        Some(ranges) if ids::inside(ranges, id).is_none() => {
            Err(Error::invalid(format!("{field}: cannot {what} {id} in user namespace")))
        }
        _ => Ok(()),
    }
}

/// The umask, 0022 when there is none.
pub(crate) fn umask(process: &Process) -> Result<u32> {
    match process.user().umask() {
        None => Ok(0o022),
        Some(mask) if mask <= 0o777 => Ok(mask),
        Some(mask) => Err(Error::invalid(format!("process.user.umask: {mask:#o} has bits beyond 0777"))),
    }
}

/// (rows, columns) of the terminal; 0 in one of them means the kernel's default.
pub(crate) fn console_size(process: &Process) -> Result<Option<(u16, u16)>> {
    let Some(size) = process.console_size() else {
        return Ok(None);
    };
    let number = |field: &str, value: u64| {
        let text =
            || Error::invalid(format!("process.consoleSize.{field}: {value} is more than {}", u16::MAX));
        u16::try_from(value).map_err(|_| text())
    };
    let (rows, columns) = (number("height", size.height())?, number("width", size.width())?);
    Ok((rows != 0 && columns != 0).then_some((rows, columns)))
}

/// The settings that the parent makes from outside.
pub(crate) fn settings(process: &Process) -> Result<ParentSettings> {
    Ok(ParentSettings {
        rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
        scheduler: process.scheduler().as_ref().map(scheduling::scheduler).transpose()?,
        io_priority: process.io_priority().as_ref().map(scheduling::io_priority).transpose()?,
        ..ParentSettings::default()
    })
}

/// `oomScoreAdj`; if absent, the caller's stays.
pub(crate) fn oom_score_adj(process: &Process) -> Result<Option<CString>> {
    let Some(score) = process.oom_score_adj() else {
        return Ok(None);
    };
    if !(-1000..=1000).contains(&score) {
        return Err(Error::invalid(format!("process.oomScoreAdj: {score} must be between -1000 and 1000")));
    }
    c_string("process.oomScoreAdj", score.to_string()).map(Some)
}

/// linux/keyctl.h: the permissions that the processes of a container need to find their session keyring: as others in a new user
/// namespace (KEY_OTH_SEARCH), else as its owner (KEY_USR_SEARCH).
pub(crate) fn keyring_permissions(own_user: bool) -> u32 {
    if own_user { 0x8 } else { 0x8_0000 }
}

/// The session keyring of a container; `permit` is for its first process, which makes it.
pub(crate) fn keyring(id: &str, permit: u32) -> Result<Step> {
    Ok(Step::Keyring { name: c_string("id", format!("_ses.{id}"))?, permit })
}

fn rlimits(list: &[PosixRlimit]) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<Rlimit> = Vec::with_capacity(list.len());
    for (i, limit) in list.iter().enumerate() {
        let (resource, name) = resource(limit.typ());
        if limits.iter().any(|other| other.resource == resource) {
            return Err(Error::invalid(format!("process.rlimits[{i}].type: duplicate {}", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            let text =
                format!("process.rlimits[{i}].soft: {} is more than hard, {}", limit.soft(), limit.hard());
            return Err(Error::invalid(text));
        }
        limits.push(Rlimit { name, resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(limits)
}

fn resource(kind: PosixRlimitType) -> (u32, &'static str) {
    match kind {
        PosixRlimitType::RlimitCpu => (libc::RLIMIT_CPU, "RLIMIT_CPU"),
        PosixRlimitType::RlimitFsize => (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
        PosixRlimitType::RlimitData => (libc::RLIMIT_DATA, "RLIMIT_DATA"),
        PosixRlimitType::RlimitStack => (libc::RLIMIT_STACK, "RLIMIT_STACK"),
        PosixRlimitType::RlimitCore => (libc::RLIMIT_CORE, "RLIMIT_CORE"),
        PosixRlimitType::RlimitRss => (libc::RLIMIT_RSS, "RLIMIT_RSS"),
        PosixRlimitType::RlimitNproc => (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
        PosixRlimitType::RlimitNofile => (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        PosixRlimitType::RlimitMemlock => (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
        PosixRlimitType::RlimitAs => (libc::RLIMIT_AS, "RLIMIT_AS"),
        PosixRlimitType::RlimitLocks => (libc::RLIMIT_LOCKS, "RLIMIT_LOCKS"),
        PosixRlimitType::RlimitSigpending => (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
        PosixRlimitType::RlimitMsgqueue => (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
        PosixRlimitType::RlimitNice => (libc::RLIMIT_NICE, "RLIMIT_NICE"),
        PosixRlimitType::RlimitRtprio => (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
        PosixRlimitType::RlimitRttime => (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
