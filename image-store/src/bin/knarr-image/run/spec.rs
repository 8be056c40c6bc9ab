//! config.json from an image's config and the flags of `run`: Docker's defaults, put together in one place. Pure.

use std::path::Path;

use image_store::manifest::RunConfig;
use image_store::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::options::{Bind, Network, Options, Seccomp};
use super::user::User;

/// All capabilities up to Linux 5.9, by number.
pub(super) const CAPABILITIES: &[&str] = &[
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

/// Those Docker leaves a container.
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

/// What does not come from image or flags.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) folder: &'a Path,
    pub(super) hostname: &'a str,
    pub(super) user: &'a User,
    pub(super) volumes: &'a [Bind],
    pub(super) id: &'a str,
}

pub(super) fn build(
    image: &RunConfig,
    options: &Options,
    command: &[String],
    context: &Context<'_>,
) -> Result<Value> {
    let capabilities = capabilities(options);
    let args = arguments(image, options, command)?;
    let user = context.user;
    // As the kernel has it: another user than root keeps capabilities only in the bounding set.
    let effective = if user.uid == 0 { capabilities.clone() } else { Vec::new() };
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": options.terminal && !options.detach,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
            "args": args,
            "env": environment(image, options, context),
            "cwd": options.workdir.as_deref().or(image.working_dir.as_deref()).filter(|dir| !dir.is_empty()).unwrap_or("/"),
            "capabilities": { "bounding": capabilities, "effective": effective, "permitted": effective },
            "noNewPrivileges": options.no_new_privileges,
        },
        "root": { "path": context.folder.join("rootfs"), "readonly": options.read_only },
        "hostname": context.hostname,
        "mounts": mounts(options, context)?,
        "linux": {
            "cgroupsPath": format!("/knarr-image/{}", context.id),
            "namespaces": namespaces(options),
            "resources": resources(options),
        },
    });
    if let Some(profile) = &options.apparmor {
        spec["process"]["apparmorProfile"] = json!(profile);
    }
    if !options.labels.is_empty() {
        spec["annotations"] =
            options.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    }
    if !options.privileged {
        spec["linux"]["maskedPaths"] = json!(MASKED);
        spec["linux"]["readonlyPaths"] = json!(READ_ONLY);
    }
    if let Some(profile) = seccomp(options, &capabilities)? {
        spec["linux"]["seccomp"] = profile;
    }
    Ok(spec)
}

fn arguments(image: &RunConfig, options: &Options, command: &[String]) -> Result<Vec<String>> {
    let mut args = Vec::new();
    if options.init {
        args.extend(["/dev/init".to_owned(), "--".to_owned()]);
    }
    match &options.entrypoint {
        // An empty one takes the image's away; with another, the image's arguments mean nothing.
        Some(program) => args.extend(Some(program.clone()).filter(|program| !program.is_empty())),
        None => args.extend(image.entrypoint.iter().flatten().cloned()),
    }
    if !command.is_empty() {
        args.extend_from_slice(command);
    } else if options.entrypoint.is_none() {
        args.extend(image.cmd.iter().flatten().cloned());
    }
    if args.is_empty() || args.len() == 2 && options.init {
        return Err(Error::new(ErrorKind::Invalid, "the image says no command: give one after its name"));
    }
    Ok(args)
}

/// The image's, over a path and home, under the flags'.
fn environment(image: &RunConfig, options: &Options, context: &Context<'_>) -> Vec<String> {
    let mut all = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={}", context.hostname),
        format!("HOME={}", context.user.home),
    ];
    if options.terminal {
        all.push("TERM=xterm".to_owned());
    }
    for line in image.env.iter().flatten().chain(&options.env) {
        let name = line.split('=').next().unwrap_or_default();
        match all.iter_mut().find(|known| known.split('=').next() == Some(name)) {
            Some(known) => known.clone_from(line),
            None => all.push(line.clone()),
        }
    }
    all
}

fn capabilities(options: &Options) -> Vec<String> {
    let all = || CAPABILITIES.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let has = |list: &[String], name: &str| list.iter().any(|other| other == name);
    let mut names = if options.privileged || has(&options.cap_add, "ALL") {
        all()
    } else if has(&options.cap_drop, "ALL") {
        Vec::new()
    } else {
        DEFAULT.iter().map(|name| (*name).to_owned()).collect()
    };
    if !options.privileged {
        names.retain(|name| !has(&options.cap_drop, name));
        for name in options.cap_add.iter().filter(|name| *name != "ALL") {
            if !has(&names, name) {
                names.push(name.clone());
            }
        }
    }
    names.sort();
    names.into_iter().map(|name| format!("CAP_{name}")).collect()
}

fn namespaces(options: &Options) -> Value {
    let mut list = vec!["pid", "ipc", "uts", "mount"];
    if options.network == Network::None {
        list.push("network");
    }
    if !options.privileged {
        list.push("cgroup");
    }
    list.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn resources(options: &Options) -> Value {
    let mut resources = json!({ "devices": [{ "allow": options.privileged, "access": "rwm" }] });
    if let Some(memory) = options.memory {
        resources["memory"] = json!({ "limit": memory });
    }
    if let Some(cpus) = options.cpus {
        // In microseconds of each tenth of a second.
        resources["cpu"] = json!({ "period": 100_000, "quota": whole(cpus * 100_000.0) });
    }
    if let Some(pids) = options.pids {
        resources["pids"] = json!({ "limit": pids });
    }
    resources
}

/// The parser bounds the number, so it fits.
#[allow(clippy::cast_possible_truncation)]
fn whole(number: f64) -> i64 {
    number as i64
}

fn mounts(options: &Options, context: &Context<'_>) -> Result<Value> {
    let system = if options.privileged { "rw" } else { "ro" };
    let mut list = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", system] }),
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", system] }),
    ];
    let bind = |source: Value, target: &str, read_only: bool| {
        let mode = if read_only { "ro" } else { "rw" };
        json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", "rprivate", mode] })
    };
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        if !context.volumes.iter().any(|volume| volume.target == target) {
            list.push(bind(json!(context.folder.join(name)), &target, false));
        }
    }
    if options.init {
        let init = init_program()?;
        list.push(bind(json!(init), "/dev/init", true));
    }
    for (target, given) in &options.tmpfs {
        let mut words = vec!["nosuid", "nodev", "noexec"];
        words.extend(given.split(',').filter(|word| !word.is_empty()));
        list.push(json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": words }));
    }
    // Outer folders before inner ones, whatever the order of the flags.
    let mut volumes: Vec<&Bind> = context.volumes.iter().collect();
    volumes.sort_by_key(|volume| volume.target.split('/').count());
    list.extend(
        volumes.into_iter().map(|volume| bind(json!(volume.source), &volume.target, volume.read_only)),
    );
    Ok(list.into())
}

/// Beside this program, or where packages put it.
fn init_program() -> Result<String> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("knarr-init"));
    let places =
        beside.into_iter().chain(["/usr/libexec/knarr/knarr-init", "/usr/bin/knarr-init"].map(Into::into));
    let found = places.into_iter().find(|path| path.is_file());
    let found = found.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "--init: knarr-init is neither beside this program nor in /usr/libexec/knarr",
        )
    })?;
    Ok(found.display().to_string())
}

fn seccomp(options: &Options, capabilities: &[String]) -> Result<Option<Value>> {
    match &options.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Profile(profile) => return Ok(Some(profile.clone())),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn built(image: &str, options: &Options, command: &[&str]) -> Result<Value> {
        let image: RunConfig = serde_json::from_str(image).unwrap();
        let user = User { uid: 0, gid: 0, groups: vec![], home: "/root".into() };
        let context =
            Context { folder: Path::new("/c"), hostname: "h", user: &user, volumes: &[], id: "abc" };
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
        assert_eq!(count(&with(&["ALL"], &["SYS_ADMIN"])), CAPABILITIES.len() - 1);
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
