//! moby's default profile, as knarr-image gives it to containers: resolved by knarr-image's code, compiled by ours, and asked about each
//! system call. What must come out is worked out once more here, from the rules as they lie in the file.

use super::*;
use libseccomp::{ScmpArch, ScmpSyscall};
use resolve::{Machine, refuse_socketcall, resolve};
use serde_json::Value;

#[path = "../../../../../image-store/cli/src/engine/seccomp/resolve.rs"]
mod resolve;

const FILE: &str = include_str!("../../../../../image-store/cli/src/engine/seccomp/moby.json");

/// What decides whether a rule of the file holds.
#[derive(Debug, Clone, Copy)]
struct Around {
    libseccomp: &'static str,
    go: &'static str,
    kernel: (u32, u32),
    caps: &'static [&'static str],
    socketcall: bool,
}

const DOCKERS: &[&str] = &["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_NET_RAW", "CAP_MKNOD"];
const ALL: &[&str] = &[
    "CAP_DAC_READ_SEARCH",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_SYS_NICE",
    "CAP_SYSLOG",
    "CAP_BPF",
    "CAP_PERFMON",
];

fn file() -> Value {
    serde_json::from_str(FILE).expect("moby.json")
}

fn compiled_for(around: Around) -> Filter {
    let Around { libseccomp, go, kernel, .. } = around;
    let caps: Vec<String> = around.caps.iter().map(|c| (*c).to_owned()).collect();
    let mut resolved = resolve(&file(), &Machine { libseccomp, go, kernel }, &caps);
    if !around.socketcall {
        refuse_socketcall(&mut resolved);
    }
    let profile = serde_json::from_value(resolved).expect("a profile of config.json");
    compile(&profile, KERNEL).expect("compile")
}

fn applies(rule: &Value, around: Around) -> bool {
    let side = |side: &str, all_caps: bool| -> Option<bool> {
        let filter = rule[side].as_object()?;
        let mut met = true;
        let mut hit = false;
        for (key, value) in filter {
            let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let this = match key.as_str() {
                "caps" if all_caps => words.iter().all(|c| around.caps.contains(c)),
                "caps" => words.iter().any(|c| around.caps.contains(c)),
                "arches" => words.contains(&around.go),
                "minKernel" => {
                    let (major, minor) = value.as_str().expect("text").split_once('.').expect("two numbers");
                    around.kernel >= (major.parse().expect("number"), minor.parse().expect("number"))
                }
                other => panic!("{other} is new in moby's format"),
            };
            met &= this;
            hit |= this;
        }
        Some(if all_caps { met } else { hit })
    };
    side("includes", true).unwrap_or(true) && !side("excludes", false).unwrap_or(false)
}

fn action_of(rule: &Value) -> u32 {
    match rule["action"].as_str().expect("action") {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => errno(i32::try_from(rule["errnoRet"].as_i64().unwrap_or(1)).expect("errno")),
        other => panic!("{other} is new in moby's profile"),
    }
}

/// Whether the arguments are those of the rule.
fn matches(rule: &Value, args: [u64; 6]) -> bool {
    rule["args"].as_array().into_iter().flatten().all(|arg| {
        let number = |key: &str| arg[key].as_u64().unwrap_or(0);
        let given = args[usize::try_from(number("index")).expect("index")];
        match arg["op"].as_str().expect("op") {
            "SCMP_CMP_EQ" => given == number("value"),
            "SCMP_CMP_NE" => given != number("value"),
            "SCMP_CMP_LT" => given < number("value"),
            "SCMP_CMP_MASKED_EQ" => given & number("value") == number("valueTwo"),
            other => panic!("{other} is new in moby's profile"),
        }
    })
}

/// What moby's rules say to a call, and our one exception.
fn expected(rules: &[Value], around: Around, name: &str, args: [u64; 6]) -> u32 {
    if name == "socketcall" && !around.socketcall {
        return errno(libc::ENOSYS);
    }
    let named =
        rules.iter().filter(|rule| rule["names"].as_array().expect("names").iter().any(|n| n == name));
    let mut mine = named.filter(|rule| applies(rule, around));
    mine.find(|rule| matches(rule, args)).map_or(errno(libc::EPERM), action_of)
}

/// The arguments that decide: none, and those at and beside the bounds of the rules for a call.
fn interesting(rules: &[Value], name: &str) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6]];
    for rule in rules.iter().filter(|rule| rule["names"].as_array().expect("names").iter().any(|n| n == name))
    {
        for arg in rule["args"].as_array().into_iter().flatten() {
            let index = usize::try_from(arg["index"].as_u64().expect("index")).expect("index");
            let value = arg["value"].as_u64().expect("value");
            for value in [value.wrapping_sub(1) & 0xffff_ffff, value, (value + 1) & 0xffff_ffff, 1 << 17] {
                let mut args = [0; 6];
                args[index] = value;
                all.push(args);
            }
        }
    }
    all
}

/// The calls of an architecture by their numbers, without those newer than the profile.
fn calls(arch: ScmpArch, rules: &[Value]) -> Vec<(u32, String)> {
    let base: u32 = if arch == ScmpArch::X32 { 1 << 30 } else { 0 };
    let by_library = |n: u32| {
        let call = ScmpSyscall::from((base | n).cast_signed());
        let name = call.get_name_by_arch(arch).ok().filter(|name| !name.is_empty())?;
        Some((base | n, name))
    };
    // Arm has five of its own far above the others.
    let numbers = (0..600).chain(0xf_0000..0xf_0010);
    let mut all: Vec<(u32, String)> = numbers.filter_map(by_library).collect();
    let names = rules.iter().flat_map(|rule| rule["names"].as_array().expect("names"));
    let names = names.filter_map(Value::as_str);
    all.extend(names.filter_map(|name| Some((numbers::newer(name, arch)?, name.to_owned()))));
    all.sort();
    all.dedup();
    all
}

const AUDIT: [(ScmpArch, u32); 5] = [
    (ScmpArch::X8664, X86_64),
    (ScmpArch::X86, X86),
    (ScmpArch::X32, X86_64),
    (ScmpArch::Aarch64, 0xc000_00b7),
    (ScmpArch::Arm, 0x4000_0028),
];

fn compare(around: Around, archs: &[ScmpArch]) -> usize {
    let value = file();
    let rules = value["syscalls"].as_array().expect("syscalls");
    let filter = compiled_for(around);
    assert_eq!(filter.warnings, Vec::<String>::new());
    let mut compared = 0;
    for (arch, audit) in AUDIT.iter().filter(|(arch, _)| archs.contains(arch)) {
        let calls = calls(*arch, rules);
        let named = |name: &str| {
            rules.iter().any(|rule| {
                applies(rule, around) && rule["names"].as_array().expect("names").contains(&name.into())
            })
        };
        let newest = calls.iter().filter(|(_, name)| named(name)).map(|(n, _)| *n).max().expect("a call");
        for (number, name) in &calls {
            for args in interesting(rules, name) {
                let wanted =
                    if *number > newest { errno(libc::ENOSYS) } else { expected(rules, around, name, args) };
                let got = answer(&filter, *audit, *number, args);
                assert_eq!(got, wanted, "{name} ({number}) {args:x?} on {arch:?}, {around:?}");
                compared += 1;
            }
        }
        assert_eq!(answer(&filter, *audit, newest + 1, [0; 6]), errno(libc::ENOSYS), "{arch:?}");
    }
    compared
}

const AMD64: Around =
    Around { libseccomp: "SCMP_ARCH_X86_64", go: "amd64", kernel: (6, 18), caps: DOCKERS, socketcall: false };
const ARM64: Around = Around { libseccomp: "SCMP_ARCH_AARCH64", go: "arm64", ..AMD64 };

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_profile_does_what_each_of_mobys_rules_says() {
    let mut compared = 0;
    let one = ALL.chunks(1);
    for caps in [&[][..], DOCKERS, ALL].into_iter().chain(one) {
        for (around, archs) in [
            (AMD64, &[ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32][..]),
            (ARM64, &[ScmpArch::Aarch64, ScmpArch::Arm]),
        ] {
            compared += compare(Around { caps, socketcall: caps == ALL, ..around }, archs);
        }
    }
    compared += compare(Around { kernel: (4, 7), ..AMD64 }, &[ScmpArch::X8664]);
    assert!(compared > 30_000, "{compared} answers were compared");
}

/// The rules as a table of our own, so that a file that was spoilt together with its reader is found out.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_profile_keeps_what_it_is_for() {
    let filter = compiled_for(AMD64);
    let admin = compiled_for(Around { caps: ALL, ..AMD64 });
    let (unix, inet, alg, vsock) = (1, 2, 38, 40);
    let denied = errno(libc::EPERM);
    for family in [unix, inet] {
        for (audit, number) in [(X86_64, 41), (X86, 359), (X86_64, 0x4000_0029)] {
            assert_eq!(answer(&filter, audit, number, [family, 0, 0, 0, 0, 0]), ALLOW, "{number}");
        }
    }
    for family in [alg, vsock, 1 << 32 | alg, 1 << 32 | vsock] {
        for (audit, number) in [(X86_64, 41), (X86, 359), (X86_64, 0x4000_0029)] {
            assert_eq!(
                answer(&filter, audit, number, [family, 0, 0, 0, 0, 0]),
                denied,
                "{number} {family:x}"
            );
            assert_eq!(answer(&admin, audit, number, [family, 0, 0, 0, 0, 0]), denied, "{number} {family:x}");
        }
    }
    for call in 0..=20 {
        assert_eq!(
            answer(&filter, X86, 102, [call, 0, 0, 0, 0, 0]),
            errno(libc::ENOSYS),
            "socketcall {call}"
        );
    }
    let new_user = 0x1000_0000;
    for (name, arg, plain, with_admin) in [
        ("clone3", 0, errno(libc::ENOSYS), ALLOW),
        ("clone", 0, ALLOW, ALLOW),
        ("clone", new_user, denied, ALLOW),
        ("unshare", new_user, denied, ALLOW),
        ("setns", 0, denied, ALLOW),
        ("bpf", 0, denied, ALLOW),
        ("mount", 0, denied, ALLOW),
        ("io_uring_setup", 0, denied, denied),
        ("io_uring_enter", 0, denied, denied),
        ("io_uring_register", 0, denied, denied),
        ("keyctl", 0, denied, denied),
        ("add_key", 0, denied, denied),
        ("userfaultfd", 0, denied, denied),
        ("kexec_load", 0, denied, denied),
        ("chroot", 0, ALLOW, ALLOW),
    ] {
        let args = [arg, 0, 0, 0, 0, 0];
        assert_eq!(answer(&filter, X86_64, number(name), args), plain, "{name}");
        assert_eq!(answer(&admin, X86_64, number(name), args), with_admin, "{name} with CAP_SYS_ADMIN");
    }
    for number in 457..=466 {
        let lsm = (459..=461).contains(&number);
        for (audit, number) in [(X86_64, number), (X86, number), (X86_64, 0x4000_0000 | number)] {
            assert_eq!(answer(&filter, audit, number, [0; 6]), if lsm { denied } else { ALLOW }, "{number}");
            assert_eq!(answer(&admin, audit, number, [0; 6]), ALLOW, "{number}");
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_profile_fits() {
    let sizes = [AMD64, Around { caps: ALL, ..AMD64 }, ARM64].map(|around| compiled_for(around).bpf.len());
    assert!(sizes.iter().all(|size| *size < 2048), "{sizes:?} instructions, the kernel takes 4096");
}
