//! Filters are run here by a small machine for classic BPF, so that a test says which call gets which answer.

#![allow(clippy::cast_possible_truncation, reason = "a machine of 32 bits")]

mod moby;

use super::*;
use oci_spec::runtime::LinuxSeccomp;

const KERNEL: (u32, u32) = (6, 18);
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;
const NOTIFY: u32 = 0x7fc0_0000;

fn errno(number: i32) -> u32 {
    0x0005_0000 | number.cast_unsigned()
}

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).expect("profile")
}

fn compiled(json: &str) -> Filter {
    compile(&profile(json), KERNEL).expect("compile")
}

/// What the kernel would answer to a call.
fn answer(filter: &Filter, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(arch.to_ne_bytes());
    data.extend(0u64.to_ne_bytes());
    args.iter().for_each(|a| data.extend(a.to_ne_bytes()));
    let (mut a, mut at) = (0u32, 0usize);
    loop {
        let [c0, c1, yes, no, v0, v1, v2, v3] = filter.bpf[at].to_ne_bytes();
        let (code, value) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes([v0, v1, v2, v3]));
        at += 1;
        let taken = match code {
            0x00 => {
                a = value;
                continue;
            }
            0x20 => {
                a = u32::from_ne_bytes(data[value as usize..value as usize + 4].try_into().expect("word"));
                continue;
            }
            0x54 => {
                a &= value;
                continue;
            }
            0x05 => {
                at += value as usize;
                continue;
            }
            0x06 => return value,
            0x15 => a == value,
            0x25 => a > value,
            0x35 => a >= value,
            0x45 => a & value != 0,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if taken { yes } else { no });
    }
}

fn number(name: &str) -> u32 {
    libseccomp::ScmpSyscall::from_name(name).expect(name).as_raw_syscall().cast_unsigned()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_get_the_answers_of_their_rules() {
    let filter = compiled(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
              {"names": ["read", "write", "no_such_call", "statx"], "action": "SCMP_ACT_ALLOW"},
              {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
              {"names": ["reboot"], "action": "SCMP_ACT_KILL"},
              {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
              {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
               "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
              {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
               "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}
            ]}"#,
    );
    let call = |name: &str, a0: u64| answer(&filter, X86_64, number(name), [a0, 0, 0, 0, 0, 0]);
    assert_eq!(call("read", 0), ALLOW);
    assert_eq!(call("mkdir", 0), errno(95));
    assert_eq!(call("reboot", 0), KILL);
    assert_eq!([call("socket", 2), call("socket", 40)], [ALLOW, errno(13)]);
    assert_eq!([0, 8, 1].map(|n| call("personality", n)), [ALLOW, ALLOW, errno(13)]);
    assert_eq!([0, 0x1000_0000].map(|n| call("clone", n)), [ALLOW, errno(13)]);
    assert_eq!(call("chroot", 0), errno(13));
    // statx is the newest that is named: what lies above did not exist for the author.
    assert_eq!([call("statx", 0), call("clone3", 0)], [ALLOW, errno(libc::ENOSYS)]);
    assert_eq!(answer(&filter, X86_64, 9999, [0; 6]), errno(libc::ENOSYS));
    assert_eq!(answer(&filter, X86, 3, [0; 6]), ALLOW);
    assert_eq!([383, 384].map(|n| answer(&filter, X86, n, [0; 6])), [ALLOW, errno(libc::ENOSYS)]);
    let x32 = |n: u32| answer(&filter, X86_64, 0x4000_0000 | n, [0; 6]);
    assert_eq!([x32(0), x32(number("chroot")), x32(9999)], [ALLOW, errno(13), errno(libc::ENOSYS)]);
    assert_eq!(filter.warnings, ["unknown seccomp syscalls ignored: no_such_call"]);
    assert_eq!((filter.flags, filter.listener), (4, false));
}

/// file_setattr is for the front to answer, kcmp for libseccomp; on x86 they are 469 and 349, on x86-64 469 and 312.
#[test]
#[cfg(target_arch = "x86_64")]
fn conditions_mean_the_same_whether_libseccomp_knows_the_call_or_not() {
    let low = |n: i32| u64::from(n.cast_unsigned());
    let far = low(libc::AT_FDCWD) | 0xffff_ffff_0000_0000;
    for (condition, arguments) in [
        (r#""value": 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ""#.to_owned(), [0, 1, 2, 3, 5]),
        (format!(r#""value": {far}, "op": "SCMP_CMP_EQ""#), [0, 1, low(libc::AT_FDCWD), far, 5]),
        (format!(r#""value": {far}, "op": "SCMP_CMP_NE""#), [0, 1, low(libc::AT_FDCWD), far, 5]),
        (format!(r#""value": {}, "op": "SCMP_CMP_GE""#, (1u64 << 32) + 2), [0, 1, 2, 3, (1 << 32) + 2]),
    ] {
        let filter = compiled(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [{{"names": ["getpid"], "action": "SCMP_ACT_KILL"}},
                  {{"names": ["kcmp", "file_setattr"], "action": "SCMP_ACT_ERRNO", "args": [{{"index": 0, {condition}}}]}}]}}"#
        ));
        for argument in arguments {
            for (arch, kcmp) in [(X86_64, 312), (X86, 349)] {
                let says = |number| answer(&filter, arch, number, [argument, 0, 0, 0, 0, 0]);
                assert_eq!(says(469), says(kcmp), "{condition} of {argument:#x} on {arch:#x}");
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_default_that_allows_does_not_open_socketcall() {
    let filter = compiled(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
              {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
              {"names": ["socketcall", "read"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    // socketcall(SYS_SOCKET, ...), whose own arguments a filter does not see.
    assert_eq!(answer(&filter, X86, 102, [1, 0, 0, 0, 0, 0]), errno(1));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_architecture_that_is_not_listed_is_killed() {
    let filter = compiled(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    assert_eq!(answer(&filter, X86, 3, [0; 6]), KILL);
    assert_eq!(answer(&filter, X86_64, 0x4000_0000, [0; 6]), KILL);
}

#[test]
fn permissive_and_enosys_defaults_need_no_stub() {
    for default in [r#""SCMP_ACT_ALLOW""#, r#""SCMP_ACT_LOG""#, r#""SCMP_ACT_ERRNO", "defaultErrnoRet": 38"#]
    {
        let filter = compiled(&format!(
            r#"{{"defaultAction": {default}, "syscalls": [{{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        ));
        let expected = match default {
            r#""SCMP_ACT_ALLOW""# => ALLOW,
            r#""SCMP_ACT_LOG""# => 0x7ffc_0000,
            _ => errno(38),
        };
        let native = if cfg!(target_arch = "x86_64") {
            X86_64
        } else {
            return;
        };
        assert_eq!(answer(&filter, native, 9999, [0; 6]), expected, "{default}");
        assert_eq!(answer(&filter, native, number("mkdirat"), [0; 6]), errno(libc::EPERM), "{default}");
    }
}

#[test]
fn flags_become_bits() {
    let with = |flags: &str| compiled(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW"{flags}}}"#)).flags;
    assert_eq!(with(""), 4);
    assert_eq!(with(r#", "flags": []"#), 0);
    assert_eq!(with(r#", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]"#), 0);
    assert_eq!(with(r#", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#), 6);
    let old = compile(
        &profile(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#),
        (4, 4),
    );
    assert!(old.expect_err("old kernel").to_string().contains("needs Linux 4.14"));
    assert_eq!(
        compile(&profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#), (4, 4)).expect("old kernel").flags,
        0
    );
}

#[test]
fn a_listener_is_needed_and_used_for_notify_only() {
    let rules = |names: &str, rest: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": [{names}], "action": "SCMP_ACT_NOTIFY"}}]{rest}}}"#
        )
    };
    let path = r#", "listenerPath": "/run/agent.sock""#;
    let filter = compiled(&rules(r#""mkdirat""#, path));
    assert!(filter.listener);
    assert_eq!(filter.flags & 8, 8);
    if cfg!(target_arch = "x86_64") {
        assert_eq!(answer(&filter, X86_64, number("mkdirat"), [0; 6]), NOTIFY);
    }
    let killable =
        r#", "listenerPath": "/run/agent.sock", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
    assert_eq!(compiled(&rules(r#""mkdirat""#, killable)).flags, 8 | 32);
    let idle = compiled(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock"}"#);
    assert!(!idle.listener && idle.warnings.iter().any(|w| w.contains("listenerPath")));
    for (json, text) in [
        (rules(r#""mkdirat""#, ""), "listenerPath"),
        (rules(r#""write""#, path), "SCMP_ACT_NOTIFY cannot be used for the write syscall"),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(),
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ),
    ] {
        let error = compile(&profile(&json), KERNEL).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn nonsense_is_refused_by_name() {
    for (json, text) in [
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "read: argument index 6",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [""], "action": "SCMP_ACT_ERRNO"}]}"#,
            "empty string",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_M68K"]}"#, "architectures"),
    ] {
        let error = compile(&profile(json), KERNEL).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn long_profiles_answer_as_short_ones_do() {
    let names: Vec<String> = (0..330)
        .filter_map(|n| libseccomp::ScmpSyscall::from(n).get_name().ok())
        .filter(|name| !["chroot", "mount", "reboot"].contains(&name.as_str()))
        .map(|name| format!("{name:?}"))
        .collect();
    let filter = compiled(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{{"names": [{}], "action": "SCMP_ACT_ALLOW"}}]}}"#,
        names.join(",")
    ));
    for n in 0..330 {
        let Ok(name) = libseccomp::ScmpSyscall::from(n).get_name() else {
            continue;
        };
        let expected =
            if ["chroot", "mount", "reboot"].contains(&name.as_str()) { errno(libc::EPERM) } else { ALLOW };
        assert_eq!(answer(&filter, X86_64, n.cast_unsigned(), [0; 6]), expected, "{name}");
    }
}

/// Calls that libseccomp 2.5.4 does not know, in the same form as one that it knows.
#[test]
#[cfg(target_arch = "x86_64")]
fn calls_that_libseccomp_does_not_know_get_the_answers_of_their_rules() {
    let rules = |name: &str| {
        let rule = |action: &str, args: &str| {
            format!(
                r#"{{"names": [{name:?}], "action": "SCMP_ACT_{action}", "errnoRet": 71, "args": [{args}]}}"#
            )
        };
        let arg = |index: u32, op: &str, value: u64, two: u64| {
            format!(r#"{{"index": {index}, "op": "SCMP_CMP_{op}", "value": {value}, "valueTwo": {two}}}"#)
        };
        let high = 5 << 32;
        let mut all = vec![
            rule("ALLOW", ""),
            rule("ERRNO", ""),
            rule("KILL_PROCESS", ""),
            rule("TRAP", ""),
            rule("TRACE", ""),
            rule("LOG", ""),
            format!("{},{}", rule("ALLOW", &arg(0, "EQ", 7, 0)), rule("ERRNO", &arg(0, "EQ", 9, 0))),
            format!("{},{}", rule("ALLOW", &arg(0, "EQ", 7, 0)), rule("ERRNO", "")),
            rule("ALLOW", &[arg(0, "EQ", 7, 0), arg(0, "EQ", 9, 0)].join(",")),
            rule("ALLOW", &[arg(0, "GE", 7, 0), arg(5, "NE", 9, 0), arg(2, "LT", high, 0)].join(",")),
        ];
        for op in ["EQ", "NE", "LT", "LE", "GE", "GT"] {
            all.extend([0, 7, high, high + 7, u64::MAX].map(|value| rule("ALLOW", &arg(0, op, value, 0))));
        }
        all.push(rule("ALLOW", &arg(0, "MASKED_EQ", 0xf0, 0x50)));
        all.push(rule("ALLOW", &arg(0, "MASKED_EQ", 0xf0_0000_00f0, 0x50_0000_0050)));
        all
    };
    let filter = |rules: &str| {
        compiled(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
                "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}, {rules}]}}"#
        ))
    };
    // pidfd_open is known to each libseccomp, and has one number on all architectures too.
    let wide = [(X86_64, 0), (0xc000_00b7, 0)];
    let narrow = [(X86, 0), (0x4000_0028, 0), (X86_64, 1 << 30)];
    let values = [0, 6, 7, 8, 9, 0x50, 0x5f, 5 << 32, (5 << 32) + 7, (5 << 32) + 8, 0x50_0000_0050, u64::MAX];
    for (known, new) in rules("pidfd_open").iter().zip(rules("mseal")) {
        let (by_library, by_us) = (filter(known), filter(&new));
        assert_eq!(by_us.warnings, Vec::<String>::new());
        for (audit, bit) in wide.into_iter().chain(narrow) {
            for (first, sixth) in values.into_iter().flat_map(|first| [0, 9].map(|sixth| (first, sixth))) {
                // libseccomp looks at the lower half only where arguments have 32 bits, so there neither has more.
                let long = known.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 10);
                if narrow.contains(&(audit, bit)) && (first >> 32 != 0 || long) {
                    continue;
                }
                let args = [first, 0, first, 0, 0, sixth];
                let wanted = answer(&by_library, audit, bit | 434, args);
                assert_eq!(
                    answer(&by_us, audit, bit | 462, args),
                    wanted,
                    "{new} {audit:x} {bit:x} {args:x?}"
                );
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_32_bit_arguments_can_not_hold_is_not_seen() {
    let filter = compiled(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["mseal"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_NE"}]}]}"#,
    );
    let call = |audit: u32, first: u64| answer(&filter, audit, 462, [first, 0, 0, 0, 0, 0]);
    // A 64-bit program may leave anything in the upper half of a register when it makes a 32-bit call.
    assert_eq!([call(X86, 38), call(X86, 1 << 32 | 38), call(X86, 39)], [errno(1), errno(1), ALLOW]);
    assert_eq!([call(X86_64, 38), call(X86_64, 1 << 32 | 38)], [errno(1), ALLOW]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn long_rules_for_calls_that_libseccomp_does_not_know_are_passed_over() {
    let one = |value: usize| {
        format!(
            r#"{{"names": ["mseal", "statmount"], "action": "SCMP_ACT_ALLOW", "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#
        )
    };
    let rules: Vec<String> = (0..200).map(one).collect();
    let filter = compiled(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{{"names": ["read", "listmount"], "action": "SCMP_ACT_ALLOW"}}, {}]}}"#,
        rules.join(",")
    ));
    for audit in [X86_64, X86] {
        for number in [457, 462] {
            let call = |first: u64| answer(&filter, audit, number, [first, 0, 0, 0, 0, 0]);
            assert_eq!([call(0), call(199), call(200)], [ALLOW, ALLOW, errno(1)], "{audit:x} {number}");
        }
        assert_eq!(answer(&filter, audit, 458, [0; 6]), ALLOW);
        assert_eq!(answer(&filter, audit, if audit == X86 { 3 } else { 0 }, [0; 6]), ALLOW, "read");
        assert_eq!(answer(&filter, audit, 463, [0; 6]), errno(libc::ENOSYS));
    }
}

/// libseccomp adds rules for `socketcall` to those for `socket`, and for `ipc` to those for `semop`.
#[test]
#[cfg(target_arch = "x86_64")]
fn calls_for_other_calls_are_refused_when_the_profile_names_them() {
    for (refusal, answered) in [
        (r#""SCMP_ACT_ERRNO", "errnoRet": 38"#, errno(38)),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 13"#, errno(13)),
    ] {
        for order in [[0, 1], [1, 0]] {
            let rules = [
                r#"{"names": ["socket", "bind", "semop", "statx"], "action": "SCMP_ACT_ALLOW"}"#.to_owned(),
                format!(r#"{{"names": ["socketcall", "ipc"], "action": {refusal}}}"#),
            ];
            let filter = compiled(&format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                    "syscalls": [{},{}]}}"#,
                rules[order[0]], rules[order[1]]
            ));
            for number in [102, 117] {
                assert_eq!(answer(&filter, X86, number, [1, 0, 0, 0, 0, 0]), answered, "{number} {refusal}");
            }
            assert_eq!(answer(&filter, X86, 359, [2, 0, 0, 0, 0, 0]), ALLOW);
        }
    }
}
