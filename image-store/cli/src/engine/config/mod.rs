//! config.json from an image's config and the flags of `run`, with Docker's defaults. Pure, except for rootless cgroups.

pub(crate) mod context;
pub(crate) mod devices;
mod mounts;

use std::path::PathBuf;

use image_store::ErrorKind;
use image_store::manifest::RunConfig;
use libcontainer::spec::{
    Capabilities, Linux, LinuxBlockIo, LinuxCapabilities, LinuxCpu, LinuxDevice, LinuxDeviceCgroup,
    LinuxMemory, LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources, Process, Root, Spec,
};

use context::{Context, Node};
use mounts::mounts;

use super::capabilities::{capabilities, set};
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
) -> Result<Spec> {
    let names = capabilities(&options.cap_add, &options.cap_drop, options.privileged);
    let own_name = options.namespaces.uts == Mode::Own;
    let mut root = Root::default();
    root.set_path(context.directory.rootfs()).set_readonly(Some(options.read_only));
    // The default is an example: all of its fields are set.
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned())
        .set_process(Some(process(image, options, command, context, &names)?))
        .set_root(Some(root))
        .set_mounts(Some(mounts(options, context)))
        .set_hostname(own_name.then(|| context.hostname.to_owned()))
        .set_domainname(options.domainname.clone().filter(|_| own_name))
        .set_annotations(Some(options.annotations.clone().into_iter().collect()))
        .set_linux(Some(linux(options, context, &names)?));
    Ok(spec)
}

fn process(
    image: &RunConfig,
    options: &Options,
    command: &[String],
    context: &Context<'_>,
    capabilities: &[String],
) -> Result<Process> {
    let bounding = set(capabilities)?;
    // As with the kernel, users other than root have capabilities only in the bounding set.
    let effective = if context.user.uid == 0 { bounding.clone() } else { Capabilities::new() };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(bounding))
        .set_effective(Some(effective.clone()))
        .set_permitted(Some(effective))
        .set_inheritable(None)
        .set_ambient(None);
    let directory = options.workdir.as_deref().or(image.working_dir.as_deref());
    // As above: all fields of the default are set.
    let mut process = Process::default();
    process
        .set_terminal(Some(options.terminal))
        .set_user(context.user.ids())
        .set_args(Some(arguments(image, options, command)?))
        .set_env(Some(environment(image, options, context)))
        .set_cwd(directory.unwrap_or("/").into())
        .set_capabilities(Some(sets))
        .set_no_new_privileges(Some(options.no_new_privileges))
        .set_rlimits(Some(options.limits.rlimits.clone()))
        .set_oom_score_adj(options.limits.oom_score)
        .set_apparmor_profile(options.apparmor.clone())
        .set_selinux_label(options.selinux.clone());
    Ok(process)
}

fn linux(options: &Options, context: &Context<'_>, capabilities: &[String]) -> Result<Linux> {
    let resources = resources(options, context);
    let limited = resources.memory().is_some()
        || resources.cpu().is_some()
        || resources.block_io().is_some()
        || resources.pids().is_some();
    let masked = !options.privileged && !options.unmasked;
    let paths = |list: &[&str]| masked.then(|| list.iter().map(|path| (*path).to_owned()).collect());
    // As above: all fields of the default are set.
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(options)))
        .set_resources(Some(resources))
        .set_masked_paths(paths(MASKED))
        .set_readonly_paths(paths(READ_ONLY))
        .set_seccomp(seccomp(&options.seccomp, options.socketcall, options.privileged, capabilities)?);
    // Without permissions for cgroups, a container that needs none gets none.
    if context.ids.is_none() || limited || options.cgroup_parent.is_some() {
        let parent = match &options.cgroup_parent {
            Some(parent) => parent.clone(),
            None if context.ids.is_some() => rootless::cgroup_parent()?,
            None => "knarr-image".to_owned(),
        };
        let path = format!("/{}/{}", parent.trim_matches('/'), context.id);
        linux.set_cgroups_path(Some(path.into()));
    }
    if !options.sysctls.is_empty() {
        linux.set_sysctl(Some(options.sysctls.clone().into_iter().collect()));
    }
    if context.ids.is_none() {
        linux.set_devices(Some(context.nodes.iter().map(device).collect()));
    }
    Ok(linux)
}

fn device(node: &Node) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device
        .set_path((&node.target).into())
        .set_typ(node.kind)
        .set_major(node.major.into())
        .set_minor(node.minor.into())
        .set_file_mode(Some(node.mode))
        .set_uid(Some(node.uid))
        .set_gid(Some(node.gid));
    device
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
        return Err(Failure::new(
            ErrorKind::Invalid,
            "no command given, and the image has no default command",
        ));
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

fn namespaces(options: &Options) -> Vec<LinuxNamespace> {
    let own = &options.namespaces;
    let cgroup = own.cgroup.clone().unwrap_or(if options.privileged { Mode::Host } else { Mode::Own });
    // Those of another container are added when the container starts.
    let all = [
        (LinuxNamespaceType::Pid, &own.pid),
        (LinuxNamespaceType::Ipc, &own.ipc),
        (LinuxNamespaceType::Uts, &own.uts),
        (LinuxNamespaceType::Network, &own.network),
        (LinuxNamespaceType::Cgroup, &cgroup),
        (LinuxNamespaceType::Mount, &Mode::Own),
    ];
    all.into_iter().filter(|(_, mode)| **mode == Mode::Own).map(|(kind, _)| namespace(kind, None)).collect()
}

/// A new namespace, or the one at `path`.
pub(crate) fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

fn resources(options: &Options, context: &Context<'_>) -> LinuxResources {
    let limits = &options.limits;
    let (mut memory, mut cpu, mut block_io) =
        (LinuxMemory::default(), LinuxCpu::default(), LinuxBlockIo::default());
    memory.set_limit(limits.memory).set_swap(limits.swap).set_reservation(limits.reservation);
    cpu.set_quota(limits.quota)
        .set_period(limits.period)
        .set_shares(limits.shares)
        .set_cpus(limits.cpus.clone())
        .set_mems(limits.mems.clone());
    block_io.set_weight(limits.weight);
    let pids = limits.pids.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    });
    let mut resources = LinuxResources::default();
    resources
        .set_devices(Some(device_rules(options, context)))
        .set_memory(unless_empty(memory))
        .set_cpu(unless_empty(cpu))
        .set_block_io(unless_empty(block_io))
        .set_pids(pids);
    resources
}

fn unless_empty<T: Default + PartialEq>(limits: T) -> Option<T> {
    Some(limits).filter(|limits| *limits != T::default())
}

fn device_rules(options: &Options, context: &Context<'_>) -> Vec<LinuxDeviceCgroup> {
    let mut all = LinuxDeviceCgroup::default();
    all.set_allow(options.privileged).set_access(Some("rwm".to_owned()));
    // A privileged container may use all devices anyway.
    let listed = if options.privileged { &[] } else { context.nodes };
    let rule = |node: &Node| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(node.kind))
            .set_major(Some(node.major.into()))
            .set_minor(Some(node.minor.into()))
            .set_access(Some(node.access.clone()));
        rule
    };
    [all].into_iter().chain(listed.iter().map(rule)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::user::User;
    use crate::places::ContainerDir;

    fn built(image: &str, options: &Options, command: &[&str]) -> Result<Value> {
        let image: RunConfig = serde_json::from_str(image).unwrap();
        let user = User { uid: 0, gid: 0, groups: vec![], home: "/root".into() };
        let context = Context {
            directory: &ContainerDir("/c".into()),
            hostname: "h",
            user: &user,
            volumes: &[],
            nodes: &[],
            init: None,
            id: "abc",
            ids: None,
        };
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        Ok(serde_json::to_value(build(&image, options, &command, &context)?).unwrap())
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
        let removed = r#"{"Entrypoint":[""],"Cmd":["c"],"WorkingDir":""}"#;
        let process = &built(removed, &Options::default(), &[]).unwrap()["process"];
        assert_eq!((&process["args"], &process["cwd"]), (&json!(["c"]), &json!("/")));
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
