//! A process description as the kernel wants it: arguments, environment, the paths of its program, ids, limits, scheduling.
//!
//! Users and groups are numbers here; nothing is looked up. It does not know whether the process is a container's first.

use super::step::{CStrArray, Exec, Ids, Step};
use super::{IdMaps, ParentSettings, Scheduler, c_string, ids};
use crate::error::{Error, ErrorKind, Result};
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, PosixRlimit, PosixRlimitType, Process, Scheduler as SchedulerSpec,
};
use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// Where a program is looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// execve(2): one argument or variable, with its NUL, may have 32 pages (MAX_ARG_STRLEN).
const MAX_STRING: usize = 131_072;
/// A file name may have this many bytes (NAME_MAX).
const MAX_NAME: usize = 255;
/// setgroups(2): NGROUPS_MAX.
const MAX_GROUPS: usize = 65_536;
/// The largest CONFIG_NR_CPUS.
pub(crate) const MAX_CPUS: u32 = 8192;
/// The largest MAX_NUMNODES.
const MAX_NODES: u32 = 1024;

/// What is executed: `args`, `env` and the candidates for the program.
pub(crate) fn exec(process: &Process) -> Result<Exec> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(name) = args.first() else {
        return Err(Error::invalid("process.args: args must not be empty"));
    };
    let argv = args.iter().enumerate().map(|(i, arg)| string(&format!("process.args[{i}]"), arg)).collect::<Result<_>>()?;
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

/// The variables in order, of duplicates the last; an empty HOME counts as none.
fn environment(env: &[String]) -> Result<Environment<'_>> {
    let mut seen = HashSet::with_capacity(env.len());
    let (mut strings, mut path, mut home_missing) = (Vec::with_capacity(env.len()), None, true);
    for (i, variable) in env.iter().enumerate().rev() {
        let field = || format!("process.env[{i}]");
        let Some((name, value)) = variable.split_once('=') else {
            return Err(Error::invalid(format!("{}: invalid environment variable: missing '='", field())));
        };
        if name.is_empty() {
            return Err(Error::invalid(format!("{}: invalid environment variable: name cannot be empty", field())));
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

/// A name with a slash is a path; another is looked for in the directories of PATH. Relative directories are left out: what the
/// working directory holds must not decide which program runs.
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
        return Err(Error::new(ErrorKind::NotFound, format!("exec: {name:?}: executable file not found in $PATH")));
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

/// What is known of setgroups(2) in the user namespace of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setgroups {
    Allowed,
    /// An outer user namespace may have denied it.
    Unknown,
    Denied,
}

/// The user, its group and the supplementary groups; all mapped, when the maps are known.
pub(crate) fn user(process: &Process, maps: Option<&IdMaps>, setgroups: Setgroups, warnings: &mut Vec<String>) -> Result<Ids> {
    let user = process.user();
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    if groups.len() > MAX_GROUPS {
        let text = format!("process.user.additionalGids: {} groups; setgroups(2) accepts {MAX_GROUPS}", groups.len());
        return Err(Error::invalid(text));
    }
    let uids = maps.map(|m| &m.uids[..]);
    let gids = maps.map(|m| &m.gids[..]);
    mapped("process.user.uid", "setuid to unmapped uid", user.uid(), uids)?;
    mapped("process.user.gid", "setgid to unmapped gid", user.gid(), gids)?;
    if let Some(username) = user.username().as_ref().filter(|name| !name.is_empty()) {
        warnings.push(format!("process.user.username: ignoring {username:?}: it is for Windows only"));
    }
    if setgroups == Setgroups::Denied {
        if !groups.is_empty() {
            warnings.push("process.user.additionalGids: ignored: setgroups is denied without newgidmap".into());
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
    // (uid_t)-1 means "leave unchanged" to setresuid(2): the process would stay root (CVE-2024-40635's class).
    if id == u32::MAX {
        return Err(Error::invalid(format!("{field}: {id} is no id")));
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
    let Some(size) = process.console_size() else { return Ok(None) };
    let number = |field: &str, value: u64| {
        let text = || Error::invalid(format!("process.consoleSize.{field}: {value} is more than {}", u16::MAX));
        u16::try_from(value).map_err(|_| text())
    };
    let (rows, columns) = (number("height", size.height())?, number("width", size.width())?);
    Ok((rows != 0 && columns != 0).then_some((rows, columns)))
}

/// What the parent sets from outside.
pub(crate) fn settings(process: &Process) -> Result<ParentSettings> {
    Ok(ParentSettings {
        rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
        scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
        ..ParentSettings::default()
    })
}

/// The step that sets `oomScoreAdj`; absent, the caller's stays.
pub(crate) fn oom_score_adj(process: &Process, tolerate: bool) -> Result<Option<Step>> {
    let Some(score) = process.oom_score_adj() else { return Ok(None) };
    if !(-1000..=1000).contains(&score) {
        return Err(Error::invalid(format!("process.oomScoreAdj: {score} is not between -1000 and 1000")));
    }
    Ok(Some(Step::OomScoreAdj { value: c_string("process.oomScoreAdj", score.to_string())?, tolerate }))
}

/// The session keyring of a container. Its processes must find it: as "others" in a user namespace, as its owner else.
pub(crate) fn keyring(id: &str, own_user: bool) -> Result<Step> {
    // linux/keyctl.h: KEY_OTH_SEARCH, KEY_USR_SEARCH
    let permit = if own_user { 0x8 } else { 0x8_0000 };
    Ok(Step::Keyring { name: c_string("id", format!("_ses.{id}"))?, permit })
}

fn rlimits(list: &[PosixRlimit]) -> Result<Vec<(u32, u64, u64)>> {
    let mut limits: Vec<(u32, u64, u64)> = Vec::with_capacity(list.len());
    for (i, limit) in list.iter().enumerate() {
        let resource = resource(limit.typ());
        if limits.iter().any(|(other, _, _)| *other == resource) {
            return Err(Error::invalid(format!("process.rlimits[{i}].type: {} is there twice", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            let text = format!("process.rlimits[{i}].soft: {} is more than hard, {}", limit.soft(), limit.hard());
            return Err(Error::invalid(text));
        }
        limits.push((resource, limit.soft(), limit.hard()));
    }
    Ok(limits)
}

fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// sched_setattr(2)'s rules on which field goes with which policy.
fn scheduler(spec: &SchedulerSpec) -> Result<Scheduler> {
    use LinuxSchedulerPolicy as P;
    let policy = *spec.policy();
    let number = match policy {
        P::SchedOther => libc::SCHED_OTHER,
        P::SchedFifo => libc::SCHED_FIFO,
        P::SchedRr => libc::SCHED_RR,
        P::SchedBatch => libc::SCHED_BATCH,
        P::SchedIso => return Err(Error::unsupported("process.scheduler.policy: SCHED_ISO is not in Linux")),
        P::SchedIdle => libc::SCHED_IDLE,
        P::SchedDeadline => libc::SCHED_DEADLINE,
    };
    let (nice, priority) = (spec.nice().unwrap_or(0), spec.priority().unwrap_or(0));
    if matches!(policy, P::SchedOther | P::SchedBatch) && !(-20..=19).contains(&nice) {
        return Err(Error::invalid(format!("process.scheduler.nice: invalid scheduler.nice: {nice} with {policy}")));
    }
    if priority != 0 && !matches!(policy, P::SchedFifo | P::SchedRr) {
        let text = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy";
        return Err(Error::invalid(format!("process.scheduler.priority: {text}")));
    }
    let priority = u32::try_from(priority)
        .map_err(|_| Error::invalid(format!("process.scheduler.priority: {priority} is negative")))?;
    let (runtime, deadline, period) =
        (spec.runtime().unwrap_or(0), spec.deadline().unwrap_or(0), spec.period().unwrap_or(0));
    if policy != P::SchedDeadline && (runtime, deadline, period) != (0, 0, 0) {
        let text = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
        return Err(Error::invalid(format!("process.scheduler: {text}")));
    }
    let flags = spec.flags().iter().flatten().try_fold(0, |flags, flag| Ok::<_, Error>(flags | scheduler_flag(*flag)?))?;
    let policy = u32::try_from(number).unwrap_or_default();
    Ok(Scheduler { policy, flags, nice, priority, runtime, deadline, period })
}

/// linux/sched.h, SCHED_FLAG_*.
fn scheduler_flag(flag: LinuxSchedulerFlag) -> Result<u64> {
    use LinuxSchedulerFlag as F;
    match flag {
        F::SchedResetOnFork => Ok(0x01),
        F::SchedFlagReclaim => Ok(0x02),
        F::SchedFlagDLOverrun => Ok(0x04),
        F::SchedFlagKeepPolicy => Ok(0x08),
        F::SchedFlagKeepParams => Ok(0x10),
        F::SchedFlagUtilClampMin | F::SchedFlagUtilClampMax => {
            Err(Error::unsupported(format!("process.scheduler.flags: {flag} has no value in the specification")))
        }
    }
}

/// ioprio_set(2).
fn io_priority(spec: &LinuxIOPriority) -> Result<i32> {
    let level = i32::try_from(spec.priority()).ok().filter(|p| (0..=7).contains(p)).ok_or_else(|| {
        Error::invalid(format!("process.ioPriority.priority: invalid ioPriority.Priority: {}", spec.priority()))
    })?;
    let class = match spec.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    Ok(class << 13 | level)
}

/// The CPUs of `execCPUAffinity` before the cgroup is joined, as ranges, and the step that sets the last ones.
pub(crate) fn affinity(process: &Process) -> Result<(Vec<(u32, u32)>, Step)> {
    let spec = process.exec_cpu_affinity().as_ref();
    let list = |field: &str, text: Option<&String>| {
        text.filter(|t| !t.is_empty()).map_or(Ok(Vec::new()), |t| number_list(field, t, MAX_CPUS))
    };
    let initial = list("process.execCPUAffinity.initial", spec.and_then(|s| s.initial().as_ref()))?;
    let last = list("process.execCPUAffinity.final", spec.and_then(|s| s.cpu_affinity_final().as_ref()))?;
    if last.is_empty() {
        return Ok((initial, every_cpu()));
    }
    Ok((initial, Step::Affinity { mask: mask_of(&last), required: true }))
}

/// All CPUs that the cgroup allows: a process must not inherit the narrower set that the caller happens to run on.
pub(crate) fn every_cpu() -> Step {
    Step::Affinity { mask: vec![u64::MAX; MAX_CPUS as usize / 64], required: false }
}

/// `linux.memoryPolicy` for set_mempolicy(2).
pub(crate) fn memory_policy(spec: &LinuxMemoryPolicy) -> Result<Step> {
    use MemoryPolicyModeType as M;
    // linux/mempolicy.h
    let mode = match spec.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flags = spec.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
    });
    let text = spec.nodes().as_deref().unwrap_or_default();
    let nodes = match text {
        "" => Vec::new(),
        text => number_list("linux.memoryPolicy.nodes: invalid memory policy node", text, MAX_NODES)?,
    };
    if matches!(mode, 0 | 4) && !(nodes.is_empty() && flags == 0) {
        return Err(Error::invalid(format!("linux.memoryPolicy: {} takes neither nodes nor flags", spec.mode())));
    }
    if nodes.is_empty() && !matches!(mode, 0 | 1 | 4) {
        return Err(Error::invalid(format!("linux.memoryPolicy.nodes: {} needs nodes", spec.mode())));
    }
    Ok(Step::MemoryPolicy { mode: mode | flags, nodes: mask_of(&nodes) })
}

/// The kernel's list format, `0-3,7`: numbers below `limit`.
fn number_list(field: &str, text: &str, limit: u32) -> Result<Vec<(u32, u32)>> {
    let wrong = |part: &str| Error::invalid(format!("{field}: {part:?} in {text:?} is no number or range below {limit}"));
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| digits.parse().ok()).flatten().filter(|n| *n < limit)
            };
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => Ok((first, last)),
                _ => Err(wrong(part)),
            }
        })
        .collect()
}

fn mask_of(ranges: &[(u32, u32)]) -> Vec<u64> {
    let words = ranges.iter().map(|(_, last)| *last as usize / 64 + 1).max().unwrap_or(0);
    let mut mask = vec![0; words];
    for n in ranges.iter().flat_map(|(first, last)| *first..=*last) {
        mask[n as usize / 64] |= 1 << (n % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process {
        let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
        for (key, default) in [("cwd", "\"/\""), ("user", "{}"), ("args", "[\"true\"]")] {
            if value.get(key).is_none() {
                value[key] = serde_json::from_str(default).unwrap();
            }
        }
        serde_json::from_value(value).unwrap()
    }

    fn strings(list: &[CString]) -> Vec<&str> {
        list.iter().map(|s| s.to_str().unwrap()).collect()
    }

    #[test]
    fn of_duplicate_variables_the_last_wins_in_its_place() {
        let exec = exec(&process(r#"{"env":["A=1","PATH=/a","B=2","A=3","PATH=/b:/c/","HOME=/h"]}"#)).unwrap();
        assert_eq!(strings(exec.envp.strings()), ["B=2", "A=3", "PATH=/b:/c/", "HOME=/h"]);
        assert_eq!(strings(&exec.candidates), ["/b/true", "/c/true"]);
        assert_eq!((exec.home_of, exec.envp.pointers().len()), (None, 5));
    }

    #[test]
    fn a_missing_or_empty_home_leaves_a_place_for_the_users() {
        for env in [r#"[]"#, r#"["HOME="]"#, r#"["HOME=/old","HOME="]"#] {
            let exec = exec(&process(&format!(r#"{{"user":{{"uid":7}},"env":{env}}}"#))).unwrap();
            assert!(exec.envp.strings().is_empty());
            assert_eq!((exec.home_of, exec.envp.pointers().len()), (Some(7), 2));
        }
    }

    #[test]
    fn a_program_is_looked_for_in_absolute_directories_only() {
        let found = |json: &str| exec(&process(json)).map(|e| strings(&e.candidates).join(" "));
        assert_eq!(found(r#"{"env":["PATH=:.:bin:/x"]}"#).unwrap(), "/x/true");
        assert_eq!(found(r#"{"args":["./true"],"env":["PATH=/x"]}"#).unwrap(), "./true");
        assert!(found("{}").unwrap().ends_with("/bin/true"));
        for json in [r#"{"args":[""]}"#, r#"{"env":["PATH="]}"#, &format!(r#"{{"args":["{}"]}}"#, "x".repeat(256))] {
            let e = found(json).unwrap_err();
            assert!(e.to_string().ends_with("executable file not found in $PATH"), "{e}");
        }
    }

    #[test]
    fn bad_arguments_and_variables_are_refused_with_their_field() {
        for (json, start) in [
            (r#"{"args":[]}"#.to_owned(), "process.args: args must not be empty"),
            (r#"{"args":["a","b\u0000"]}"#.to_owned(), "process.args[1]: contains a NUL byte"),
            (r#"{"env":["A=1","B"]}"#.to_owned(), "process.env[1]: invalid environment variable: missing '='"),
            (r#"{"env":["=1"]}"#.to_owned(), "process.env[0]: invalid environment variable: name cannot be empty"),
            (format!(r#"{{"env":["A={}"]}}"#, "x".repeat(MAX_STRING)), "process.env[0]: has"),
        ] {
            let e = exec(&process(&json)).unwrap_err();
            assert!(e.to_string().starts_with(start), "{e}");
        }
        assert!(cwd(&process(r#"{"cwd":"tmp"}"#)).is_err());
        assert!(cwd(&process(r#"{"cwd":""}"#)).is_err());
    }

    #[test]
    fn the_id_that_means_none_is_no_user_and_unmapped_ids_are_refused() {
        let maps = ids_of(&[(0, 100_000, 10)]);
        let check = |json: &str| user(&process(json), Some(&maps), Setgroups::Allowed, &mut Vec::new());
        for (json, start) in [
            (r#"{"user":{"uid":4294967295}}"#, "process.user.uid: 4294967295 is no id"),
            (r#"{"user":{"gid":4294967295}}"#, "process.user.gid: 4294967295 is no id"),
            (r#"{"user":{"uid":10}}"#, "process.user.uid: cannot setuid to unmapped uid 10 in user namespace"),
            (r#"{"user":{"additionalGids":[3,44]}}"#, "process.user.additionalGids[1]: cannot setgroups"),
        ] {
            let e = check(json).unwrap_err();
            assert!(e.to_string().starts_with(start), "{e}");
        }
        assert_eq!(check(r#"{"user":{"uid":9,"additionalGids":[3]}}"#).unwrap().groups, Some(vec![3]));
    }

    fn ids_of(triples: &[(u32, u32, u32)]) -> IdMaps {
        let ranges: Vec<_> =
            triples.iter().map(|t| super::super::IdMap { inside: t.0, outside: t.1, count: t.2 }).collect();
        IdMaps { uids: ranges.clone(), gids: ranges, ..IdMaps::default() }
    }

    #[test]
    fn groups_stay_and_a_warning_tells_where_setgroups_is_denied() {
        let mut warnings = Vec::new();
        let spec = process(r#"{"user":{"additionalGids":[3]}}"#);
        assert_eq!(user(&spec, None, Setgroups::Denied, &mut warnings).unwrap().groups, None);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn limits_are_refused_when_twice_or_upside_down() {
        let twice = r#"{"rlimits":[{"type":"RLIMIT_CPU","hard":1,"soft":1},{"type":"RLIMIT_CPU","hard":1,"soft":1}]}"#;
        assert!(settings(&process(twice)).unwrap_err().to_string().starts_with("process.rlimits[1].type: RLIMIT_CPU"));
        let upside = r#"{"rlimits":[{"type":"RLIMIT_CPU","hard":1,"soft":2}]}"#;
        assert!(settings(&process(upside)).unwrap_err().to_string().starts_with("process.rlimits[0].soft: "));
        let good = r#"{"rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":2}]}"#;
        assert_eq!(settings(&process(good)).unwrap().rlimits, [(libc::RLIMIT_NOFILE, 2, u64::MAX)]);
    }

    #[test]
    fn scheduling_follows_the_rules_of_sched_setattr() {
        let of = |json: &str| settings(&process(json)).map(|s| (s.scheduler, s.io_priority));
        let fifo = of(r#"{"scheduler":{"policy":"SCHED_FIFO","priority":9,"flags":["SCHED_RESET_ON_FORK"]}}"#).unwrap();
        assert_eq!(fifo.0, Some(Scheduler { policy: 1, priority: 9, flags: 1, ..Scheduler::default() }));
        let idle = of(r#"{"ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":3}}"#).unwrap();
        assert_eq!(idle.1, Some(3 << 13 | 3));
        for json in [
            r#"{"scheduler":{"policy":"SCHED_OTHER","nice":20}}"#,
            r#"{"scheduler":{"policy":"SCHED_BATCH","priority":1}}"#,
            r#"{"scheduler":{"policy":"SCHED_FIFO","priority":-1}}"#,
            r#"{"scheduler":{"policy":"SCHED_FIFO","runtime":1}}"#,
            r#"{"scheduler":{"policy":"SCHED_ISO"}}"#,
            r#"{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}"#,
        ] {
            assert!(of(json).is_err(), "{json}");
        }
        assert!(oom_score_adj(&process(r#"{"oomScoreAdj":1001}"#), false).is_err());
        assert!(oom_score_adj(&process("{}"), false).unwrap().is_none());
    }

    #[test]
    fn affinities_are_ranges_first_and_a_mask_at_last() {
        let spec = process(r#"{"execCPUAffinity":{"initial":"0-1","final":"1,64-65"}}"#);
        let (initial, last) = affinity(&spec).unwrap();
        assert_eq!(initial, [(0, 1)]);
        assert_eq!(last, Step::Affinity { mask: vec![2, 3], required: true });
        for list in ["3-1", "99999999999", "8192", "1-", "+1", "1,,2"] {
            assert!(number_list("x", list, MAX_CPUS).is_err(), "{list}");
        }
    }

    #[test]
    fn memory_policies_have_the_kernels_numbers() {
        let of = |json: &str| memory_policy(&serde_json::from_str(json).unwrap());
        let bind = of(r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap();
        assert_eq!(bind, Step::MemoryPolicy { mode: 2 | 1 << 15, nodes: vec![3] });
        for json in [
            r#"{"mode":"MPOL_BIND"}"#,
            r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"a"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"1024"}"#,
        ] {
            assert!(of(json).is_err(), "{json}");
        }
    }
}
