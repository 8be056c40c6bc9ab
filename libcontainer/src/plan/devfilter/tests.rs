//! The eBPF program is run here by a small machine, and compared with what cgroup v1's controller does with the lines for it
//! (security/device_cgroup.c), for rules at random.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a machine of 32 bits")]

use super::*;
use crate::plan::devprogram::program;

fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_str(json).expect("rules")
}

/// What the program answers.
fn allowed(program: &[u64], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(access) << 16 | kind as u32, major, minor];
    let mut registers = [0u64; 6];
    let mut at = 0usize;
    loop {
        let [code, pair, o0, o1, i0, i1, i2, i3] = program[at].to_ne_bytes();
        let (dst, src) = (usize::from(pair & 15), usize::from(pair >> 4));
        let offset = i16::from_ne_bytes([o0, o1]);
        let immediate = i32::from_ne_bytes([i0, i1, i2, i3]);
        let word = |n: usize| registers[n] as u32;
        at += 1;
        match code {
            0x61 => {
                assert_eq!(src, 1, "the context");
                registers[dst] = u64::from(context[usize::try_from(offset).expect("offset") / 4]);
            }
            0x54 => registers[dst] = u64::from(word(dst) & immediate as u32),
            0x74 => registers[dst] = u64::from(word(dst) >> immediate),
            0xbc => registers[dst] = u64::from(word(src)),
            0xb4 => registers[dst] = u64::from(immediate as u32),
            0x56 if word(dst) != immediate as u32 => at += usize::try_from(offset).expect("forward"),
            0x16 if word(dst) == immediate as u32 => at += usize::try_from(offset).expect("forward"),
            0x46 if word(dst) & immediate as u32 != 0 => at += usize::try_from(offset).expect("forward"),
            0x05 => at += usize::try_from(offset).expect("forward"),
            0x56 | 0x16 | 0x46 => {}
            0x95 => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// cgroup v1's devices controller, as it treats what is written to its files.
#[derive(Default)]
struct Controller {
    default_allow: bool,
    exceptions: Vec<(char, Option<u32>, Option<u32>, u8)>,
}

impl Controller {
    fn write(&mut self, file: &str, line: &str) {
        let allow = file == "devices.allow";
        if line == "a" {
            *self = Controller { default_allow: allow, exceptions: Vec::new() };
            return;
        }
        assert_ne!(
            allow, self.default_allow,
            "exceptions only are written after the first line: {file} {line}"
        );
        let mut words = line.split([' ', ':']);
        let mut word = || words.next().expect("word");
        let kind = word().chars().next().expect("kind");
        let mut number = || Some(word()).filter(|w| *w != "*").map(|w| w.parse().expect("number"));
        let (major, minor) = (number(), number());
        let access = word().chars().fold(0, |bits, c| {
            bits | [('r', READ), ('w', WRITE), ('m', MKNOD)].iter().find(|x| x.0 == c).expect("access").1
        });
        self.exceptions.push((kind, major, minor, access));
    }

    fn allows(&self, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let letter = if kind == Kind::Char { 'c' } else { 'b' };
        let here = |e: &&(char, Option<u32>, Option<u32>, u8)| {
            e.0 == letter && e.1.is_none_or(|n| n == major) && e.2.is_none_or(|n| n == minor)
        };
        let mut matching = self.exceptions.iter().filter(here);
        if self.default_allow {
            !matching.any(|e| e.3 & access != 0)
        } else {
            matching.any(|e| access & !e.3 == 0)
        }
    }
}

#[test]
fn the_default_devices_and_no_others_are_allowed_without_rules() {
    let program = program(&policy(&[], &[]).expect("policy")).expect("program");
    let check = |kind, major, minor, access| allowed(&program, kind, major, minor, access);
    for (major, minor) in
        [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77), (10, 200)]
    {
        assert!(check(Kind::Char, major, minor, ALL), "{major}:{minor}");
    }
    for (kind, major, minor) in
        [(Kind::Char, 1, 1), (Kind::Char, 1, 11), (Kind::Block, 8, 0), (Kind::Block, 1, 3)]
    {
        assert!(check(kind, major, minor, MKNOD), "{major}:{minor}");
        for access in [READ, WRITE, READ | WRITE, READ | MKNOD] {
            assert!(!check(kind, major, minor, access), "{kind:?} {major}:{minor} {access}");
        }
    }
}

#[test]
fn rules_are_taken_in_order() {
    let list = rules(
        r#"[{"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "rw"},
            {"allow": true, "type": "c", "major": 10, "access": "r"},
            {"allow": true, "type": "c", "major": 4, "minor": 1, "access": "rw"},
            {"allow": false, "type": "c", "major": 4, "minor": 1, "access": "w"}]"#,
    );
    let policy = policy(&list, &[]).expect("policy");
    let program = program(&policy).expect("program");
    assert!(
        allowed(&program, Kind::Block, 8, 0, READ | WRITE) && !allowed(&program, Kind::Block, 8, 1, READ)
    );
    assert!(allowed(&program, Kind::Char, 10, 5, READ) && !allowed(&program, Kind::Char, 10, 5, WRITE));
    assert!(allowed(&program, Kind::Char, 4, 1, READ) && !allowed(&program, Kind::Char, 4, 1, READ | WRITE));
    let lines = policy.v1_lines();
    assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
    for line in ["b 8:0 rw", "c 10:* r", "c 4:1 r", "c *:* m", "c 136:* rwm"] {
        assert!(lines.contains(&("devices.allow", line.to_owned())), "{line}: {lines:?}");
    }
}

#[test]
fn a_denied_part_of_an_access_denies_the_whole() {
    let list = rules(
        r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 8, "access": "w"}]"#,
    );
    let policy = policy(&list, &[]).expect("policy");
    assert!(policy.default_allow && !policy.allows_all());
    let program = program(&policy).expect("program");
    assert!(allowed(&program, Kind::Block, 8, 0, READ) && allowed(&program, Kind::Char, 8, 0, WRITE));
    assert!(
        !allowed(&program, Kind::Block, 8, 0, WRITE) && !allowed(&program, Kind::Block, 8, 0, READ | WRITE)
    );
}

#[test]
fn everything_allowed_needs_no_program() {
    assert!(policy(&rules(r#"[{"allow": true, "access": "rwm"}]"#), &[]).expect("policy").allows_all());
}

#[test]
fn a_device_of_the_spec_takes_the_place_of_a_default_one() {
    let device: LinuxDevice =
        serde_json::from_str(r#"{"path": "/dev/random", "type": "c", "major": 1, "minor": 9}"#)
            .expect("device");
    let program = program(&policy(&[], &[device]).expect("policy")).expect("program");
    assert!(!allowed(&program, Kind::Char, 1, 8, READ) && allowed(&program, Kind::Char, 1, 9, READ));
}

#[test]
fn rules_that_make_no_sense_are_refused_by_name() {
    for (json, text) in [
        (
            r#"[{"allow": true, "type": "c", "access": ""}]"#,
            "linux.resources.devices[0].access: cannot be empty",
        ),
        (r#"[{"allow": true, "type": "c"}]"#, "linux.resources.devices[0].access"),
        (r#"[{"allow": true, "type": "c", "access": "x"}]"#, "must contain r, w or m"),
        (r#"[{"allow": true, "type": "p", "access": "r"}]"#, "linux.resources.devices[0].type"),
        (r#"[{"allow": true, "type": "c", "major": -2, "access": "r"}]"#, "linux.resources.devices[0].major"),
        (
            r#"[{"allow": true, "type": "c", "minor": 4294967296, "access": "r"}]"#,
            "linux.resources.devices[0].minor",
        ),
        (
            r#"[{"allow": true, "type": "c", "major": 10, "access": "rw"},
                {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "w"}]"#,
            "cannot punch hole in existing wildcard rule c 10:* rw",
        ),
    ] {
        let error = policy(&rules(json), &[]).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}

/// A generator that needs no library, and gives the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn number(&mut self) -> Option<u32> {
        [None, Some(0), Some(1), Some(5), Some(u32::MAX)][self.below(5) as usize]
    }
}

#[test]
fn the_program_and_the_v1_controller_always_agree() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut permitted) = (0, 0);
    for _ in 0..5000 {
        let mut list = Policy { default_allow: random.below(2) == 0, ..Policy::default() };
        for _ in 0..random.below(8) {
            let kind = if random.below(2) == 0 { Kind::Char } else { Kind::Block };
            let target = Match { major: random.number(), minor: random.number(), kind };
            let access = 1 + random.below(7) as u8;
            accepted += u32::from(list.apply(random.below(3) > 0, target, access).is_ok());
        }
        let mut controller = Controller::default();
        list.v1_lines().iter().for_each(|(file, line)| controller.write(file, line));
        let program = program(&list).expect("program");
        for kind in [Kind::Char, Kind::Block] {
            for (major, minor) in [(0, 0), (0, 1), (1, 0), (5, 1), (7, 7), (u32::MAX, 5)] {
                for access in 1..8 {
                    let here = allowed(&program, kind, major, minor, access);
                    permitted += u32::from(here);
                    assert_eq!(
                        here,
                        controller.allows(kind, major, minor, access),
                        "{list:?} {kind:?} {major}:{minor} {access}"
                    );
                }
            }
        }
    }
    assert!(accepted > 5000 && permitted > 10_000, "{accepted} {permitted}");
}
