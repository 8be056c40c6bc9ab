//! config.json from an image's config and the flags of `run`, with Docker's defaults. Pure, except for rootless cgroups.

pub(crate) mod context;
pub(crate) mod devices;
mod mounts;

use image_store::ErrorKind;
use image_store::manifest::RunConfig;
use serde_json::{Value, json};

use context::{Context, Node};
use mounts::mounts;

use super::capabilities::capabilities;
use super::options::{Mode, Options};
use super::seccomp::seccomp;
use crate::failure::{Failure, Result};
use crate::rootless;

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(crate) fn build(
    image: &RunConfig,
    options: &Options,
    command: &[String],
    context: &Context<'_>,
) -> Result<Value> {
    let capabilities = capabilities(&options.cap_add, &options.cap_drop, options.privileged);
    let user = context.user;
    // As with the kernel, users other than root have capabilities only in the bounding set.
    let effective = if user.uid == 0 { capabilities.clone() } else { Vec::new() };
    let directory = options.workdir.as_deref().or(image.working_dir.as_deref()).filter(|dir| !dir.is_empty());
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": options.terminal,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
            "args": arguments(image, options, command)?,
            "env": environment(image, options, context),
            "cwd": directory.unwrap_or("/"),
            "capabilities": { "bounding": capabilities, "effective": effective, "permitted": effective },
            "noNewPrivileges": options.no_new_privileges,
            "rlimits": options.limits.rlimits,
        },
        "root": { "path": context.directory.join("rootfs"), "readonly": options.read_only },
        "mounts": mounts(options, context),
        "annotations": options.annotations,
        "linux": linux(options, context)?,
    });
    if options.namespaces.uts == Mode::Own {
        spec["hostname"] = json!(context.hostname);
        if let Some(name) = &options.domainname {
            spec["domainname"] = json!(name);
        }
    }
    let process = &mut spec["process"];
    for (key, value) in [("apparmorProfile", &options.apparmor), ("selinuxLabel", &options.selinux)] {
        if let Some(value) = value {
            process[key] = json!(value);
        }
    }
    if let Some(score) = options.limits.oom_score {
        process["oomScoreAdj"] = json!(score);
    }
    if let Some(profile) = seccomp(&options.seccomp, options.socketcall, options.privileged, &capabilities)? {
        spec["linux"]["seccomp"] = profile;
    }
    Ok(spec)
}

fn linux(options: &Options, context: &Context<'_>) -> Result<Value> {
    let mut linux = json!({ "namespaces": namespaces(options), "resources": resources(options, context) });
    let limited = linux["resources"].as_object().is_some_and(|all| all.keys().any(|key| key != "devices"));
    // Without permissions for cgroups, a container that needs none gets none.
    if context.ids.is_none() || limited || options.cgroup_parent.is_some() {
        let parent = match &options.cgroup_parent {
            Some(parent) => parent.clone(),
            None if context.ids.is_some() => rootless::cgroup_parent()?,
            None => "knarr-image".to_owned(),
        };
        linux["cgroupsPath"] = json!(format!("/{}/{}", parent.trim_matches('/'), context.id));
    }
    if !options.sysctls.is_empty() {
        linux["sysctl"] = json!(options.sysctls);
    }
    if !options.privileged && !options.unmasked {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    if context.ids.is_none() {
        let node = |n: &Node| {
            json!({ "path": n.target, "type": n.kind, "major": n.major, "minor": n.minor, "fileMode": n.mode,
                "uid": n.uid, "gid": n.gid })
        };
        linux["devices"] = context.nodes.iter().map(node).collect();
    }
    Ok(linux)
}

fn arguments(image: &RunConfig, options: &Options, command: &[String]) -> Result<Vec<String>> {
    let mut args = Vec::new();
    match &options.entrypoint {
        // An empty one removes the image's; either way the image's arguments are not used.
        Some(program) => args.extend(Some(program.clone()).filter(|program| !program.is_empty())),
        None => args.extend(image.entrypoint.iter().flatten().cloned()),
    }
    if !command.is_empty() {
        args.extend_from_slice(command);
    } else if options.entrypoint.is_none() {
        args.extend(image.cmd.iter().flatten().cloned());
    }
    if args.is_empty() {
        return Err(Failure::new(ErrorKind::Invalid, "the image says no command: give one after its name"));
    }
    if options.init {
        args.splice(..0, ["/dev/init".to_owned(), "--".to_owned()]);
    }
    Ok(args)
}

/// The environment: defaults, then the image's variables, then the flags'.
fn environment(image: &RunConfig, options: &Options, context: &Context<'_>) -> Vec<String> {
    let mut all = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={}", context.hostname),
        format!("HOME={}", context.user.home),
    ];
    if options.terminal {
        all.push("TERM=xterm".to_owned());
    }
    merge(&mut all, image.env.iter().flatten().chain(&options.env));
    all
}

/// Sets variables, replacing those of the same name.
pub(crate) fn merge<'a>(all: &mut Vec<String>, more: impl IntoIterator<Item = &'a String>) {
    for line in more {
        let name = line.split('=').next().unwrap_or_default();
        match all.iter_mut().find(|known| known.split('=').next() == Some(name)) {
            Some(known) => known.clone_from(line),
            None => all.push(line.clone()),
        }
    }
}

fn namespaces(options: &Options) -> Value {
    let own = &options.namespaces;
    let cgroup = own.cgroup.clone().unwrap_or(if options.privileged { Mode::Host } else { Mode::Own });
    // Those of another container are added when the container starts.
    let all = [
        ("pid", &own.pid),
        ("ipc", &own.ipc),
        ("uts", &own.uts),
        ("network", &own.network),
        ("cgroup", &cgroup),
    ];
    let new = all.into_iter().filter(|(_, mode)| **mode == Mode::Own).map(|(kind, _)| kind);
    new.chain(["mount"]).map(|kind| json!({ "type": kind })).collect()
}

fn resources(options: &Options, context: &Context<'_>) -> Value {
    let limits = &options.limits;
    let mut devices = vec![json!({ "allow": options.privileged, "access": "rwm" })];
    // A privileged container may use all devices anyway.
    let listed = if options.privileged { &[] } else { context.nodes };
    devices.extend(listed.iter().map(
        |n| json!({ "allow": true, "type": n.kind, "major": n.major, "minor": n.minor, "access": n.access }),
    ));
    let mut resources = json!({ "devices": devices });
    let mut set = |group: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            resources[group][key] = value;
        }
    };
    set("memory", "limit", limits.memory.map(Value::from));
    set("memory", "swap", limits.swap.map(Value::from));
    set("memory", "reservation", limits.reservation.map(Value::from));
    set("cpu", "quota", limits.quota.map(Value::from));
    set("cpu", "period", limits.period.map(Value::from));
    set("cpu", "shares", limits.shares.map(Value::from));
    set("cpu", "cpus", limits.cpus.clone().map(Value::from));
    set("cpu", "mems", limits.mems.clone().map(Value::from));
    set("blockIO", "weight", limits.weight.map(Value::from));
    set("pids", "limit", limits.pids.map(Value::from));
    resources
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::user::User;

    fn built(image: &str, options: &Options, command: &[&str]) -> Result<Value> {
        let image: RunConfig = serde_json::from_str(image).unwrap();
        let user = User { uid: 0, gid: 0, groups: vec![], home: "/root".into() };
        let context = Context {
            directory: Path::new("/c"),
            hostname: "h",
            user: &user,
            volumes: &[],
            nodes: &[],
            init: None,
            id: "abc",
            ids: None,
        };
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        build(&image, options, &command, &context)
    }

    #[test]
    fn the_command_is_entry_point_and_arguments_as_docker_has_it() {
        let image = r#"{"Entrypoint":["/e"],"Cmd":["c"],"Env":["A=1","PATH=/p"],"WorkingDir":"/w"}"#;
        let args = |options: &Options, command: &[&str]| {
            built(image, options, command).unwrap()["process"]["args"].clone()
        };
        assert_eq!(args(&Options::default(), &[]), json!(["/e", "c"]));
        assert_eq!(args(&Options::default(), &["x", "y"]), json!(["/e", "x", "y"]));
        let other = Options { entrypoint: Some("/o".into()), ..Options::default() };
        assert_eq!(args(&other, &[]), json!(["/o"]));
        let none = Options { entrypoint: Some(String::new()), ..Options::default() };
        assert_eq!(args(&none, &["x"]), json!(["x"]));
        assert!(built("{}", &Options::default(), &[]).is_err());
        let env = Options { env: vec!["A=2".into(), "B=3".into()], ..Options::default() };
        let process = &built(image, &env, &[]).unwrap()["process"];
        assert_eq!(process["env"], json!(["PATH=/p", "HOSTNAME=h", "HOME=/root", "A=2", "B=3"]));
        assert_eq!(process["cwd"], "/w");
    }

    #[test]
    fn capabilities_and_seccomp_follow_each_other() {
        let with = |add: &[&str], drop: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
            built(
                r#"{"Cmd":["x"]}"#,
                &Options { cap_add: owned(add), cap_drop: owned(drop), ..Options::default() },
                &[],
            )
            .unwrap()
        };
        let count = |spec: &Value| spec["process"]["capabilities"]["bounding"].as_array().unwrap().len();
        assert_eq!(count(&with(&[], &[])), 14);
        assert_eq!(count(&with(&["SYS_ADMIN"], &["MKNOD"])), 14);
        assert_eq!(
            count(&with(&["ALL"], &["SYS_ADMIN"])),
            crate::engine::capabilities::CAPABILITIES.len() - 1
        );
        assert_eq!(count(&with(&["CHOWN"], &["ALL"])), 1);
        let allows = |spec: &Value, name: &str| {
            spec["linux"]["seccomp"]["syscalls"].as_array().unwrap().iter().any(|rule| {
                rule["action"] == "SCMP_ACT_ALLOW"
                    && rule["args"].is_null()
                    && rule["names"].as_array().unwrap().iter().any(|n| n == name)
            })
        };
        assert!(!allows(&with(&[], &[]), "sethostname") && allows(&with(&["SYS_ADMIN"], &[]), "sethostname"));
        assert!(allows(&with(&[], &[]), "chroot") && !allows(&with(&[], &["SYS_CHROOT"]), "chroot"));
        assert!(!allows(&with(&[], &[]), "clone3") && allows(&with(&["SYS_ADMIN"], &[]), "clone3"));
    }

    #[test]
    fn only_a_privileged_container_sees_everything() {
        let spec = built(r#"{"Cmd":["x"]}"#, &Options::default(), &[]).unwrap();
        assert!(spec["linux"]["maskedPaths"].as_array().unwrap().len() > 8);
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
        let all =
            built(r#"{"Cmd":["x"]}"#, &Options { privileged: true, ..Options::default() }, &[]).unwrap();
        assert!(all["linux"]["maskedPaths"].is_null() && all["linux"]["seccomp"].is_null());
    }
}
