//! The system calls that a container may make: moby's default profile, or one from a file in the format of moby or config.json. No I/O.

mod resolve;

use image_store::ErrorKind;
use libcontainer::spec::LinuxSeccomp;
use serde_json::Value;

use resolve::{Machine, refuse_socketcall, resolve, version};

use crate::failure::{Failure, Result, invalid};

/// moby's default profile; seccomp/README.md says which one.
const DEFAULT: &str = include_str!("seccomp/moby.json");

/// Which profile is used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Seccomp {
    #[default]
    Default,
    Unconfined,
    Profile(Value),
}

/// config.json's `linux.seccomp`; `None` for no filter.
pub(crate) fn seccomp(
    chosen: &Seccomp,
    socketcall: bool,
    privileged: bool,
    capabilities: &[String],
) -> Result<Option<LinuxSeccomp>> {
    let machine = own_machine();
    match chosen {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default if privileged => Ok(None),
        Seccomp::Profile(profile) => typed(resolve(profile, &machine, capabilities)).map(Some),
        Seccomp::Default => {
            let profile = serde_json::from_str(DEFAULT)
                .map_err(|e| Failure::new(ErrorKind::Invalid, format!("default seccomp profile: {e}")))?;
            let mut resolved = resolve(&profile, &machine, capabilities);
            if !socketcall {
                refuse_socketcall(&mut resolved);
            }
            typed(resolved).map(Some)
        }
    }
}

fn typed(resolved: Value) -> Result<LinuxSeccomp> {
    serde_json::from_value(resolved).map_err(|e| invalid(format!("seccomp profile: {e}")))
}

/// Parses the profile of a file.
pub(crate) fn profile(path: &str, bytes: &[u8]) -> Result<Value> {
    let profile: Value =
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("seccomp profile {path:?}: {e}")))?;
    if !profile["defaultAction"].is_string() {
        return Err(invalid(format!("seccomp profile {path:?}: has no \"defaultAction\"")));
    }
    Ok(profile)
}

fn own_machine() -> Machine {
    let (libseccomp, go) = if cfg!(target_arch = "x86_64") {
        ("SCMP_ARCH_X86_64", "amd64")
    } else if cfg!(target_arch = "aarch64") {
        ("SCMP_ARCH_AARCH64", "arm64")
    } else if cfg!(target_arch = "riscv64") {
        ("SCMP_ARCH_RISCV64", "riscv64")
    } else {
        ("SCMP_ARCH_PPC64LE", "ppc64le")
    };
    let kernel = version(&rustix::system::uname().release().to_string_lossy());
    Machine { libseccomp, go, kernel }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first names of the rules that are left for an x86-64 machine with this kernel and these capabilities.
    fn kept(rules: &str, kernel: (u32, u32), capabilities: &[&str]) -> String {
        let text = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}}],
            "syscalls":[{rules}]}}"#
        );
        let machine = Machine { libseccomp: "SCMP_ARCH_X86_64", go: "amd64", kernel };
        let owned: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
        let resolved = resolve(&profile("x", text.as_bytes()).unwrap(), &machine, &owned);
        assert!(resolved["archMap"].is_null());
        assert_eq!(resolved["architectures"], serde_json::json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        let rules = resolved["syscalls"].as_array().unwrap();
        rules.iter().map(|r| r["names"][0].as_str().unwrap()).collect()
    }

    #[test]
    fn rules_hold_for_the_capabilities_machines_and_kernels_they_name() {
        let rule = |name: &str, rest: &str| {
            format!(r#"{{"names":[{name:?}],"action":"SCMP_ACT_ALLOW","comment":"x",{rest}}}"#)
        };
        let rules = [
            rule("a", r#""includes":{},"excludes":{}"#),
            rule("b", r#""includes":{"caps":["CAP_BPF"]}"#),
            rule("c", r#""excludes":{"caps":["CAP_BPF"]}"#),
            rule("d", r#""includes":{"caps":["CAP_BPF","CAP_SYSLOG"]}"#),
            rule("e", r#""excludes":{"caps":["CAP_BPF","CAP_SYSLOG"]}"#),
            rule("f", r#""includes":{"minKernel":"5.10"}"#),
            rule("g", r#""excludes":{"minKernel":"5.10"}"#),
            rule("h", r#""includes":{"arches":["s390"]}"#),
            rule("i", r#""includes":{"arches":["x32","amd64"]}"#),
            rule("j", r#""excludes":{"arches":["amd64"]}"#),
        ]
        .join(",");
        assert_eq!(kept(&rules, (5, 9), &[]), "acegi");
        assert_eq!(kept(&rules, (5, 10), &[]), "acefi");
        assert_eq!(kept(&rules, (6, 0), &["CAP_BPF"]), "abfi");
        assert_eq!(kept(&rules, (6, 0), &["CAP_SYSLOG"]), "acfi");
        assert_eq!(kept(&rules, (6, 0), &["CAP_SYSLOG", "CAP_BPF"]), "abdfi");
    }

    #[test]
    fn a_profile_is_json_with_a_default_action() {
        assert!(profile("x", b"{}").is_err() && profile("x", b"{").is_err());
        assert_eq!(version("6.18.5-cloud"), (6, 18));
        assert_eq!(version("3.12-1-amd64"), (3, 12));
    }

    #[test]
    fn socketcall_is_refused_unless_it_is_asked_for() {
        let says = |allowed: bool| -> Vec<(Value, Value)> {
            let resolved = seccomp(&Seccomp::Default, allowed, false, &[]).unwrap().unwrap();
            let resolved = serde_json::to_value(resolved).unwrap();
            let rules = resolved["syscalls"].as_array().unwrap();
            let of_it =
                rules.iter().filter(|r| r["names"].as_array().unwrap().contains(&"socketcall".into()));
            of_it.map(|r| (r["action"].clone(), r["errnoRet"].clone())).collect()
        };
        assert_eq!(says(false), [("SCMP_ACT_ERRNO".into(), 38.into())]);
        assert_eq!(says(true), [("SCMP_ACT_ALLOW".into(), Value::Null)]);
    }

    #[test]
    fn no_filter_if_unconfined_or_privileged() {
        assert_eq!(seccomp(&Seccomp::Unconfined, false, false, &[]).unwrap(), None);
        assert_eq!(seccomp(&Seccomp::Default, false, true, &[]).unwrap(), None);
        assert!(seccomp(&Seccomp::Default, false, false, &[]).unwrap().is_some());
    }
}
