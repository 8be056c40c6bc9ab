//! Capabilities: all of them, Docker's default set, and what flags make of it. No I/O.

use libcontainer::spec::Capabilities;

use crate::failure::{Result, invalid};

/// All capabilities up to Linux 5.9, by number.
pub(crate) const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default set.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities of a container by their full names (`CAP_…`), sorted.
pub(crate) fn capabilities(add: &[String], drop: &[String], privileged: bool) -> Vec<String> {
    let all = || CAPABILITIES.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let has = |list: &[String], name: &str| list.iter().any(|other| other == name);
    let mut names = if privileged || has(add, "ALL") {
        all()
    } else if has(drop, "ALL") {
        Vec::new()
    } else {
        DEFAULT.iter().map(|name| (*name).to_owned()).collect()
    };
    if !privileged {
        names.retain(|name| !has(drop, name));
        for name in add.iter().filter(|name| *name != "ALL") {
            if !has(&names, name) {
                names.push(name.clone());
            }
        }
    }
    names.sort();
    names.into_iter().map(|name| format!("CAP_{name}")).collect()
}

/// The same as config.json's set.
pub(crate) fn set(names: &[String]) -> Result<Capabilities> {
    let parse = |name: &String| {
        let short = name.strip_prefix("CAP_").unwrap_or(name);
        short.parse().map_err(|_| invalid(format!("unknown capability {name:?}")))
    };
    names.iter().map(parse).collect()
}
