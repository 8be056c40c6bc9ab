//! Refuses, by the name of the field and before anything is done, a specification that contradicts itself, that this host cannot
//! fulfil or that has unsupported fields. Mounts, devices, ids and cgroups are checked in their own modules.

use super::namespaces::{IPC, MOUNT, NET, Namespaces, TIME, USER, UTS};
use super::{Inputs, c_string};
use crate::error::{Error, Result};
use oci_spec::runtime::{Hook, Hooks, Linux, Process, Spec};
use std::ffi::CString;
use std::path::Path;

/// sethostname(2): __NEW_UTS_LEN.
const MAX_HOSTNAME: usize = 64;

/// Checks all that no other module of the plan checks.
pub(crate) fn create(inputs: &Inputs, ns: &Namespaces) -> Result<()> {
    let spec = inputs.spec;
    version(spec.version())?;
    other_platforms(spec)?;
    root(inputs, ns)?;
    names(spec, ns)?;
    needs_mount_namespace(spec, ns)?;
    if let Some(process) = spec.process() {
        self::process(process)?;
        labels(inputs, process)?;
    }
    if let Some(linux) = spec.linux() {
        self::linux(inputs, linux, ns)?;
    }
    if let Some(hooks) = spec.hooks() {
        self::hooks(hooks)?;
    }
    if inputs.host.euid != 0 && !ns.facts.own(USER) {
        return Err(Error::invalid("linux.namespaces: rootless container requires user namespaces"));
    }
    Ok(())
}

/// Checks for every process, also those of `exec`.
pub(crate) fn process(process: &Process) -> Result<()> {
    if process.command_line().as_ref().is_some_and(|line| !line.is_empty()) {
        return Err(Error::unsupported("process.commandLine: only for Windows; use process.args"));
    }
    Ok(())
}

fn version(version: &str) -> Result<()> {
    let (major, rest) = version.split_once('.').unwrap_or((version, ""));
    if major == "1" && rest.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    Err(Error::unsupported(format!("ociVersion: {version:?} is not supported (must be 1.x)")))
}

#[allow(deprecated)]
fn other_platforms(spec: &Spec) -> Result<()> {
    for (field, present) in [
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
        ("uid_mappings", spec.uid_mappings().is_some()),
        ("gid_mappings", spec.gid_mappings().is_some()),
    ] {
        if present {
            return Err(Error::unsupported(format!("{field}: not supported by this runtime")));
        }
    }
    Ok(())
}

fn root(inputs: &Inputs, ns: &Namespaces) -> Result<()> {
    let Some(root) = inputs.spec.root() else {
        return Err(Error::invalid("root: root must be specified"));
    };
    if root.path().as_os_str().is_empty() {
        return Err(Error::invalid("root.path: is empty"));
    }
    if root.readonly() == Some(true) && !ns.facts.own(MOUNT) {
        return Err(Error::invalid(
            "root.readonly: unable to make the root read-only without a private MNT namespace",
        ));
    }
    Ok(())
}

fn names(spec: &Spec, ns: &Namespaces) -> Result<()> {
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = name.as_ref().filter(|n| !n.is_empty()) else {
            continue;
        };
        if !ns.facts.own(UTS) {
            return Err(Error::invalid(format!(
                "{field}: unable to set {field} without a private UTS namespace"
            )));
        }
        if name.len() > MAX_HOSTNAME {
            return Err(Error::invalid(format!(
                "{field}: {} bytes, must be at most {MAX_HOSTNAME}",
                name.len()
            )));
        }
    }
    Ok(())
}

fn needs_mount_namespace(spec: &Spec, ns: &Namespaces) -> Result<()> {
    if ns.facts.own(MOUNT) {
        return Ok(());
    }
    let filled = |list: Option<&Vec<String>>| list.is_some_and(|l| !l.is_empty());
    let linux = spec.linux().as_ref();
    for (field, present, what) in [
        ("mounts", spec.mounts().as_ref().is_some_and(|m| !m.is_empty()), "mount anything"),
        ("linux.maskedPaths", filled(linux.and_then(|l| l.masked_paths().as_ref())), "restrict sys entries"),
        (
            "linux.readonlyPaths",
            filled(linux.and_then(|l| l.readonly_paths().as_ref())),
            "restrict sys entries",
        ),
        (
            "linux.rootfsPropagation",
            given(linux.and_then(|l| l.rootfs_propagation().as_ref())),
            "set propagation",
        ),
    ] {
        if present {
            return Err(Error::invalid(format!("{field}: unable to {what} without a private MNT namespace")));
        }
    }
    Ok(())
}

fn given(text: Option<&String>) -> bool {
    text.is_some_and(|t| !t.is_empty())
}

/// Labels need their security module.
fn labels(inputs: &Inputs, process: &Process) -> Result<()> {
    let mount_label = inputs.spec.linux().as_ref().and_then(|l| l.mount_label().as_ref());
    if given(mount_label) && !inputs.host.selinux {
        return Err(Error::unsupported(format!("linux.mountLabel: {NO_SELINUX}")));
    }
    process_labels(inputs.host, process)
}

const NO_SELINUX: &str = "selinux label is specified in config, but selinux is disabled or not supported";

/// The labels of a process alone. Without AppArmor only `unconfined` is possible.
pub(crate) fn process_labels(host: &crate::Host, process: &Process) -> Result<()> {
    if given(process.selinux_label().as_ref()) && !host.selinux {
        return Err(Error::unsupported(format!("process.selinuxLabel: {NO_SELINUX}")));
    }
    match process.apparmor_profile().as_deref() {
        None | Some("" | "unconfined") => Ok(()),
        Some(_) if host.apparmor => Ok(()),
        Some(profile) => Err(Error::unsupported(format!(
            "process.apparmorProfile: {profile:?}: apparmor: config provided but apparmor not supported"
        ))),
    }
}

fn linux(inputs: &Inputs, linux: &Linux, ns: &Namespaces) -> Result<()> {
    let mapped = linux.uid_mappings().is_some() || linux.gid_mappings().is_some();
    if mapped && !ns.facts.own(USER) {
        return Err(Error::invalid(
            "linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config",
        ));
    }
    if linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty()) {
        if !ns.facts.own(TIME) {
            return Err(Error::invalid(
                "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config",
            ));
        }
        if ns.facts.joined & TIME != 0 {
            return Err(Error::invalid(
                "linux.timeOffsets: time namespace enabled, but both namespace path and time offsets specified -- \
                 you may only provide one",
            ));
        }
    }
    if linux.intel_rdt().is_some() {
        return Err(Error::unsupported("linux.intelRdt: not supported yet"));
    }
    if linux.personality().as_ref().and_then(|p| p.flags().as_ref()).is_some_and(|flags| !flags.is_empty()) {
        return Err(Error::unsupported(
            "linux.personality.flags: must be empty: the specification defines no flags",
        ));
    }
    if inputs.host.kernel < (5, 6) && ns.facts.own(TIME) {
        return Err(Error::unsupported(
            "linux.namespaces: time namespaces aren't enabled in the kernel (Linux 5.6)",
        ));
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(Error::unsupported("linux.netDevices: not supported yet"));
    }
    Ok(())
}

/// The sysctls ordered by name, as (file below /proc/sys, value). Only those that belong to one of the container's own namespaces are
/// allowed: /proc/sys is not namespaced as a whole.
pub(crate) fn sysctls(linux: &Linux, ns: &Namespaces) -> Result<Vec<(CString, CString)>> {
    let mut list = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let dotted = dotted(name);
        sysctl(&dotted, ns)?;
        let file: String = dotted.chars().map(swap).collect();
        if file.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::invalid(format!("linux.sysctl: invalid sysctl name {name:?}")));
        }
        let field = format!("linux.sysctl[{name:?}]");
        list.push((c_string(&field, file)?, c_string(&field, value.as_str())?));
    }
    list.sort();
    Ok(list)
}

/// sysctl(8): the first separator decides; with `/`, dots belong to the names (`net/ipv4/conf/eno2.100/rp_filter`).
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

fn swap(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

fn sysctl(name: &str, ns: &Namespaces) -> Result<()> {
    const OF_IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let refuse = |why: &str| Err(Error::invalid(format!("linux.sysctl: sysctl {name:?} {why}")));
    if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return if ns.facts.own(IPC) { Ok(()) } else { refuse("is not allowed in the hosts ipc namespace") };
    }
    if name.starts_with("net.") {
        return if ns.facts.own(NET) { Ok(()) } else { refuse("not allowed in host network namespace") };
    }
    match name {
        "kernel.domainname" if ns.facts.own(UTS) => Ok(()),
        "kernel.hostname" if ns.facts.own(UTS) => {
            refuse("is not allowed as it conflicts with the OCI \"hostname\" field")
        }
        _ if name.starts_with("user.") && ns.facts.own(USER) => Ok(()),
        _ => refuse("is not in a separate kernel namespace"),
    }
}

/// The lines for /proc/PID/timens_offsets.
pub(crate) fn time_offsets(linux: &Linux) -> Result<CString> {
    let mut lines = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(format!(
                "linux.timeOffsets: unknown clock {clock:?} (must be monotonic or boottime)"
            )));
        }
        let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if nanosecs >= 1_000_000_000 {
            return Err(Error::invalid(format!(
                "linux.timeOffsets.{clock}.nanosecs: {nanosecs} must be below one second (1000000000)"
            )));
        }
        lines.push(format!("{clock} {secs} {nanosecs}\n"));
    }
    lines.sort();
    c_string("linux.timeOffsets", lines.concat())
}

/// Checks the path, timeout and strings of every hook.
#[allow(deprecated)]
fn hooks(hooks: &Hooks) -> Result<()> {
    for (kind, list) in [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        for (i, hook) in list.iter().flatten().enumerate() {
            self::hook(&format!("hooks.{kind}[{i}]"), hook)?;
        }
    }
    Ok(())
}

fn hook(field: &str, hook: &Hook) -> Result<()> {
    if !Path::is_absolute(hook.path()) {
        return Err(Error::invalid(format!("{field}.path: {:?} is not absolute", hook.path())));
    }
    if let Some(timeout) = hook.timeout().filter(|t| *t <= 0) {
        return Err(Error::invalid(format!("{field}.timeout: {timeout} must be positive")));
    }
    use std::os::unix::ffi::OsStrExt;
    c_string(&format!("{field}.path"), hook.path().as_os_str().as_bytes())?;
    for (list, name) in [(hook.args(), "args"), (hook.env(), "env")] {
        for (i, text) in list.iter().flatten().enumerate() {
            c_string(&format!("{field}.{name}[{i}]"), text.as_str())?;
        }
    }
    Ok(())
}

/// Some hooks run between the mounts and the pivot.
#[allow(deprecated)]
pub(crate) fn has_create_hooks(spec: &Spec) -> bool {
    let filled = |list: &Option<Vec<Hook>>| list.as_ref().is_some_and(|l| !l.is_empty());
    spec.hooks()
        .as_ref()
        .is_some_and(|h| filled(h.prestart()) || filled(h.create_runtime()) || filled(h.create_container()))
}
