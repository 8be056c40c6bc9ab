//! System calls a container may make: Docker's default profile, or one from a file in Docker's format or config.json's. Pure.

use image_store::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::options::{Options, Seccomp, invalid};

/// Docker's profile for its default capabilities; what others add is in [`EXTRA`].
const SECCOMP: &str = include_str!("seccomp.json");

/// Calls that a capability adds to the default profile.
const EXTRA: &[(&str, &[&str])] = &[
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("SYS_PACCT", &["acct"]),
    (
        "SYS_PTRACE",
        &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
    ),
    ("SYS_RAWIO", &["iopl", "ioperm"]),
    ("SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYSLOG", &["syslog"]),
    ("BPF", &["bpf"]),
    ("PERFMON", &["perf_event_open"]),
];

/// config.json's `linux.seccomp`; `None` for no filter.
pub(super) fn seccomp(options: &Options, capabilities: &[String]) -> Result<Option<Value>> {
    match &options.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Profile(profile) => return Ok(Some(resolve(profile, capabilities))),
        Seccomp::Default if options.privileged => return Ok(None),
        Seccomp::Default => {}
    }
    let mut profile: Value =
        serde_json::from_str(SECCOMP).map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()))?;
    let has = |name: &str| capabilities.iter().any(|other| other.strip_prefix("CAP_") == Some(name));
    let Some(rules) = profile["syscalls"].as_array_mut() else { return Ok(Some(profile)) };
    if has("SYS_ADMIN") {
        // clone3's flags are out of a filter's sight, so it is refused unless everything it can do is allowed.
        rules.retain(|rule| !["clone", "clone3"].contains(&rule["names"][0].as_str().unwrap_or_default()));
    }
    if !has("SYS_CHROOT") {
        rules.retain(|rule| rule["names"][0] != "chroot");
    }
    for (_, names) in EXTRA.iter().filter(|(capability, _)| has(capability)) {
        rules.push(json!({ "names": names, "action": "SCMP_ACT_ALLOW" }));
    }
    Ok(Some(profile))
}

/// A profile as a file has it: JSON with a default action.
pub(super) fn profile(path: &str, bytes: &[u8]) -> Result<Value> {
    let profile: Value =
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("seccomp profile {path:?}: {e}")))?;
    if !profile["defaultAction"].is_string() {
        return Err(invalid(format!("seccomp profile {path:?}: has no \"defaultAction\"")));
    }
    Ok(profile)
}

/// Docker's format has rules that hold for some capabilities, machines and kernels only, and a table of machines.
fn resolve(profile: &Value, capabilities: &[String]) -> Value {
    let mut resolved = profile.clone();
    let Some(fields) = resolved.as_object_mut() else { return resolved };
    if let Some(machines) = fields.remove("archMap") {
        let own = |machine: &&Value| machine["architecture"] == OWN_MACHINE.0;
        let own = machines.as_array().into_iter().flatten().find(own);
        let more = own.and_then(|m| m["subArchitectures"].as_array()).into_iter().flatten().cloned();
        fields.insert("architectures".to_owned(), [json!(OWN_MACHINE.0)].into_iter().chain(more).collect());
    }
    let rules = fields.get("syscalls").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept = rules.into_iter().filter(|rule| holds(rule, capabilities)).map(|mut rule| {
        if let Some(rule) = rule.as_object_mut() {
            rule.retain(|key, value| {
                ["names", "action", "errnoRet", "args"].contains(&&**key) && !value.is_null()
            });
        }
        rule
    });
    fields.insert("syscalls".to_owned(), kept.collect());
    resolved
}

/// This machine as libseccomp and as Go name it.
const OWN_MACHINE: (&str, &str) = if cfg!(target_arch = "x86_64") {
    ("SCMP_ARCH_X86_64", "amd64")
} else if cfg!(target_arch = "aarch64") {
    ("SCMP_ARCH_AARCH64", "arm64")
} else if cfg!(target_arch = "riscv64") {
    ("SCMP_ARCH_RISCV64", "riscv64")
} else {
    ("SCMP_ARCH_PPC64LE", "ppc64le")
};

fn holds(rule: &Value, capabilities: &[String]) -> bool {
    let has = |name: &Value| capabilities.iter().any(|own| name == own.as_str());
    let list = |side: &str, key: &str| rule[side][key].as_array().cloned().unwrap_or_default();
    let machines = list("includes", "arches");
    let kernel = rule["includes"]["minKernel"].as_str().unwrap_or_default();
    list("includes", "caps").iter().all(has)
        && !list("excludes", "caps").iter().any(has)
        && (machines.is_empty() || machines.iter().any(|m| m == OWN_MACHINE.1))
        && !list("excludes", "arches").iter().any(|m| m == OWN_MACHINE.1)
        && version(kernel) <= version(&rustix::system::uname().release().to_string_lossy())
}

/// `6.18.5-cloud` as (6, 18).
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_format_becomes_that_of_config_json() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","comment":"x","includes":{},"excludes":{}},
            {"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["c"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
            {"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390"]}}]}"#;
        let profile = profile("x", text.as_bytes()).unwrap();
        let names = |capabilities: &[&str]| {
            let owned: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
            let rules = resolve(&profile, &owned)["syscalls"].clone();
            rules
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["names"][0].as_str().unwrap().to_owned())
                .collect::<String>()
        };
        assert_eq!(names(&[]), "ac");
        assert_eq!(names(&["CAP_SYS_ADMIN"]), "ab");
        let resolved = resolve(&profile, &[]);
        assert!(resolved["archMap"].is_null() && resolved["syscalls"][0]["comment"].is_null());
        assert!(super::profile("x", b"{}").is_err() && super::profile("x", b"{").is_err());
    }
}
