//! Process descriptions and what the kernel gets of them.

use super::*;

fn strings(list: &[CString]) -> Vec<&str> {
    list.iter().map(|s| s.to_str().unwrap()).collect()
}

#[test]
fn of_duplicate_variables_the_last_wins_in_its_place() {
    let exec = exec(&process(r#"{"env":["A=1","PATH=/a","B=2","A=3","PATH=/b:/c/","HOME=/h"]}"#)).unwrap();
    assert_eq!(strings(exec.envp.strings()), ["B=2", "A=3", "PATH=/b:/c/", "HOME=/h"]);
    assert_eq!(strings(&exec.candidates), ["/b/true", "/c/true"]);
    assert_eq!((exec.home_of, exec.envp.strings().len(), exec.envp.spare()), (None, 4, 0));
}

#[test]
fn a_missing_or_empty_home_leaves_a_place_for_the_users() {
    for env in [r#"[]"#, r#"["HOME="]"#, r#"["HOME=/old","HOME="]"#] {
        let exec = exec(&process(&format!(r#"{{"user":{{"uid":7}},"env":{env}}}"#))).unwrap();
        assert!(exec.envp.strings().is_empty());
        assert_eq!((exec.home_of, exec.envp.spare()), (Some(7), 1));
    }
}

#[test]
fn a_program_is_looked_for_in_absolute_directories_only() {
    let found = |json: &str| exec(&process(json)).map(|e| strings(&e.candidates).join(" "));
    assert_eq!(found(r#"{"env":["PATH=:.:bin:/x"]}"#).unwrap(), "/x/true");
    assert_eq!(found(r#"{"args":["./true"],"env":["PATH=/x"]}"#).unwrap(), "./true");
    assert!(found("{}").unwrap().ends_with("/bin/true"));
    for json in
        [r#"{"args":[""]}"#, r#"{"env":["PATH="]}"#, &format!(r#"{{"args":["{}"]}}"#, "x".repeat(256))]
    {
        let e = found(json).unwrap_err();
        assert!(e.to_string().ends_with("executable file not found in $PATH"), "{e}");
        assert_eq!(e.program_error(), Some(crate::ProgramError::NotFound));
    }
}

#[test]
fn bad_arguments_and_variables_are_refused_with_their_field() {
    for (json, start) in [
        (r#"{"args":[]}"#.to_owned(), "process.args: args must not be empty"),
        (r#"{"args":["a","b\u0000"]}"#.to_owned(), "process.args[1]: contains a NUL byte"),
        (r#"{"env":["A=1","B"]}"#.to_owned(), "process.env[1]: invalid environment variable: missing '='"),
        (
            r#"{"env":["=1"]}"#.to_owned(),
            "process.env[0]: invalid environment variable: name cannot be empty",
        ),
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
        (r#"{"user":{"uid":4294967295}}"#, "process.user.uid: invalid id 4294967295"),
        (r#"{"user":{"gid":4294967295}}"#, "process.user.gid: invalid id 4294967295"),
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
    let twice =
        r#"{"rlimits":[{"type":"RLIMIT_CPU","hard":1,"soft":1},{"type":"RLIMIT_CPU","hard":1,"soft":1}]}"#;
    assert!(
        settings(&process(twice))
            .unwrap_err()
            .to_string()
            .starts_with("process.rlimits[1].type: duplicate RLIMIT_CPU")
    );
    let upside = r#"{"rlimits":[{"type":"RLIMIT_CPU","hard":1,"soft":2}]}"#;
    assert!(settings(&process(upside)).unwrap_err().to_string().starts_with("process.rlimits[0].soft: "));
    let good = r#"{"rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":2}]}"#;
    let limit = Rlimit { name: "RLIMIT_NOFILE", resource: libc::RLIMIT_NOFILE, soft: 2, hard: u64::MAX };
    assert_eq!(settings(&process(good)).unwrap().rlimits, [limit]);
}

/// A process description with the fields that it must have.
pub(crate) fn process(json: &str) -> Process {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    for (key, default) in [("cwd", "\"/\""), ("user", "{}"), ("args", "[\"true\"]")] {
        if value.get(key).is_none() {
            value[key] = serde_json::from_str(default).unwrap();
        }
    }
    serde_json::from_value(value).unwrap()
}
