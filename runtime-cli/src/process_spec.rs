//! Descriptions of processes. The one that `exec` runs is that of the container, changed by flags, or a process.json.

use crate::failure::Failure;
use goflags::Parsed;
use libcontainer::Bundle;
use libcontainer::spec::{Capability, LinuxCapabilities, Process};
use serde_json::Value;
use std::collections::HashSet;

/// A description and the warnings about it.
type Described = (Process, Vec<String>);

/// The process that the flags describe.
pub(crate) fn for_exec(base: &Process, parsed: &Parsed) -> Result<Described, Failure> {
    let (process, warnings) = match parsed.text("process") {
        "" => from_flags(base.clone(), parsed)?,
        path => libcontainer::load_process(path)?,
    };
    if !process.cwd().is_absolute() {
        return Err(Failure::new(match process.cwd().as_os_str().is_empty() {
            true => "Cwd property must not be empty",
            false => "Cwd must be an absolute path",
        }));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Failure::new("args must not be empty"));
    }
    Ok((process, warnings))
}

fn from_flags(mut process: Process, parsed: &Parsed) -> Result<Described, Failure> {
    if parsed.positional.len() < 2 {
        return Err(Failure::new("exec args cannot be empty"));
    }
    process.set_args(Some(parsed.positional[1..].to_vec()));
    // The setting of the container is not inherited: without --tty there is no terminal.
    process.set_terminal(Some(parsed.is("tty")));
    if !parsed.text("cwd").is_empty() {
        process.set_cwd(parsed.text("cwd").into());
    }
    if !parsed.text("apparmor").is_empty() {
        process.set_apparmor_profile(Some(parsed.text("apparmor").to_owned()));
    }
    if !parsed.text("process-label").is_empty() {
        process.set_selinux_label(Some(parsed.text("process-label").to_owned()));
    }
    if parsed.is_set("no-new-privs") {
        process.set_no_new_privileges(Some(parsed.is("no-new-privs")));
    }
    if parsed.is_set("env") {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(parsed.all("env").map(str::to_owned));
        process.set_env(Some(env));
    }
    if !parsed.text("user").is_empty() {
        let (uid, gid) = user(parsed.text("user")).map_err(Failure::new)?;
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if parsed.is_set("additional-gids") {
        let mut gids = process.user().additional_gids().clone().unwrap_or_default();
        for gid in parsed.all("additional-gids") {
            gids.push(
                id(gid).ok_or_else(|| {
                    Failure::new(format!("additional-gids must be a positive number {gid}"))
                })?,
            );
        }
        process.user_mut().set_additional_gids(Some(gids));
    }
    let mut warnings = Vec::new();
    if parsed.is_set("cap") {
        let sets = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(with_capabilities(sets, parsed.all("cap"), &mut warnings)));
    }
    Ok((process, warnings))
}

/// Adds capabilities to the bounding, effective and permitted sets. Never to the inheritable set (CVE-2022-29162), and so to the
/// ambient set only if the container has inheritable ones already.
fn with_capabilities<'a>(
    mut sets: LinuxCapabilities,
    names: impl Iterator<Item = &'a str>,
    warnings: &mut Vec<String>,
) -> LinuxCapabilities {
    let mut added = HashSet::new();
    for name in names {
        match capability(name) {
            Some(capability) => _ = added.insert(capability),
            None => warnings.push(format!("ignoring unknown capability {name:?}")),
        }
    }
    let union =
        |set: &Option<HashSet<Capability>>| Some(set.iter().flatten().chain(&added).copied().collect());
    let (bounding, effective, permitted) =
        (union(sets.bounding()), union(sets.effective()), union(sets.permitted()));
    let ambient = if sets.inheritable().is_some() { union(sets.ambient()) } else { sets.ambient().clone() };
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_ambient(ambient);
    sets
}

fn capability(name: &str) -> Option<Capability> {
    serde_json::from_value(Value::from(name)).ok()
}

/// Parses `uid` or `uid:gid`, decimal digits only (CVE-2026-30892: a lax parser gave the rights of another user).
fn user(text: &str) -> Result<(u32, Option<u32>), String> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let parse = |what: &str, text: &str| {
        id(text).ok_or_else(|| format!("bad {what} {text:?}: must be a number from 0 to 4294967294"))
    };
    let gid = gid.map(|gid| parse("gid", gid)).transpose()?;
    Ok((parse("uid", uid)?, gid))
}

/// Parses an id. 4294967295 is not one: to the kernel it is -1, "leave unchanged".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// Adds variables to the environment of the container's first process.
pub(crate) fn add_env<const N: usize>(bundle: &mut Bundle, variables: [String; N]) {
    let spec = bundle.spec_mut();
    let Some(mut process) = spec.process().clone() else {
        return;
    };
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(variables);
    process.set_env(Some(env));
    spec.set_process(Some(process));
}

#[cfg(test)]
mod tests {
    use super::*;
    use goflags::{Flag, Order, parse};

    #[test]
    fn a_user_is_a_decimal_uid_and_perhaps_a_decimal_gid() {
        for (text, ids) in [
            ("0", (0, None)),
            ("1", (1, None)),
            ("1:2", (1, Some(2))),
            ("007:0", (7, Some(0))),
            ("4294967294", (u32::MAX - 1, None)),
        ] {
            assert_eq!(user(text), Ok(ids), "{text}");
        }
        let bad = [
            "",
            ":",
            ":5",
            "1:",
            "-1",
            "+1",
            "1x",
            " 1",
            "1 ",
            "0x10",
            "root",
            "1:2:3",
            "4294967295",
            "4294967296",
            "1:-1",
            "1:99999999999",
            "1,2",
            "١",
        ];
        for bad in bad {
            assert!(user(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_json_needs_only_args_and_a_directory() {
        let (process, warnings) = libcontainer::parse_process(br#"{"args":["ls"],"cwd":"/"}"#).unwrap();
        assert_eq!(
            (process.user().uid(), process.user().gid(), process.terminal(), warnings.len()),
            (0, 0, None, 0)
        );
        let (process, warnings) = libcontainer::parse_process(
            br#"{"user":null,"args":["ls"],"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_WARP"]}}"#,
        )
        .unwrap();
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
        assert_eq!(warnings, ["ignoring unknown capability \"CAP_WARP\" in process.capabilities"]);
        for bad in [
            "",
            "[]",
            "7",
            "{",
            r#"{"args":7,"cwd":"/"}"#,
            r#"{"cwd":"/","user":{"uid":-1}}"#,
            r#"{"cwd":"/","capabilities":{"bounding":[7]}}"#,
        ] {
            assert!(libcontainer::parse_process(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_is_not_read_from_a_device() {
        let flags = ["--process=/dev/zero".to_owned(), "id".to_owned()];
        let parsed = parse(&[FLAGS], &flags, Order::First).unwrap();
        let message = for_exec(&Process::default(), &parsed).unwrap_err().message;
        assert!(message.ends_with("is not a regular file"), "{message}");
    }

    const FLAGS: &[Flag] = &[
        Flag::text(&["process"], ""),
        Flag::text(&["user"], ""),
        Flag::texts(&["env"], ""),
        Flag::bool(&["tty"], ""),
        Flag::text(&["cwd"], ""),
        Flag::bool(&["no-new-privs"], ""),
        Flag::texts(&["cap"], ""),
        Flag::integers(&["additional-gids"], ""),
    ];

    fn changed(base: &str, args: &[&str]) -> Result<Process, String> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let parsed = parse(&[FLAGS], &args, Order::First).unwrap();
        for_exec(&libcontainer::parse_process(base.as_bytes()).unwrap().0, &parsed)
            .map(|(p, _)| p)
            .map_err(|f| f.message)
    }

    #[test]
    fn flags_change_the_containers_own_process() {
        let base = r#"{"args":["sh"],"cwd":"/home","terminal":true,"env":["A=1"],"noNewPrivileges":true,
            "user":{"uid":5,"gid":6,"additionalGids":[7]},
            "capabilities":{"bounding":["CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"],"ambient":[]}}"#;
        let same = changed(base, &["id", "ls", "-l"]).unwrap();
        assert_eq!(same.args().as_ref().unwrap(), &["ls", "-l"]);
        assert_eq!(
            (same.terminal(), same.user().uid(), same.user().gid(), same.no_new_privileges()),
            (Some(false), 5, 6, Some(true))
        );
        let args = [
            "--user",
            "9",
            "--env",
            "B=2",
            "--tty",
            "--cwd",
            "/x",
            "--no-new-privs=false",
            "--additional-gids",
            "8",
            "--cap",
            "CAP_CHOWN",
            "id",
            "ls",
        ];
        let process = changed(base, &args).unwrap();
        assert_eq!(
            (process.terminal(), process.user().uid(), process.user().gid(), process.no_new_privileges()),
            (Some(true), 9, 6, Some(false))
        );
        assert_eq!(process.env().as_ref().unwrap(), &["A=1", "B=2"]);
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[7, 8]);
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(
            [sets.bounding(), sets.effective(), sets.permitted()].map(|s| s.as_ref().unwrap().len()),
            [2, 2, 2]
        );
        assert_eq!((sets.inheritable(), sets.ambient().as_ref().unwrap().len()), (&None, 0));
    }

    #[test]
    fn an_invalid_process_is_refused() {
        let base = r#"{"args":["sh"],"cwd":"/"}"#;
        for (args, error) in [
            (["id"].as_slice(), "exec args cannot be empty"),
            (&["--cwd", "x", "id", "ls"], "Cwd must be an absolute path"),
            (&["--additional-gids", "-1", "id", "ls"], "additional-gids must be a positive number -1"),
            (&["--user", ":5", "id", "ls"], "bad uid \"\": must be a number from 0 to 4294967294"),
            (&["--user", "5:", "id", "ls"], "bad gid \"\": must be a number from 0 to 4294967294"),
        ] {
            assert_eq!(changed(base, args).unwrap_err(), error, "{args:?}");
        }
    }
}
