//! The mounts of a container: Docker's list, changed by flags, volumes and the caller's privileges. Pure, except that `--ipc host`
//! depends on what the host has mounted.

use serde_json::{Value, json};

use super::context::Context;
use crate::container::record::Mounted;
use crate::engine::options::{Mode, Options};

pub(crate) fn mounts(options: &Options, context: &Context<'_>) -> Value {
    let mut list = system(options, context);
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        if !context.volumes.iter().any(|volume| volume.target == target) {
            list.push(bind(json!(context.directory.join(name)), &target, false, "rprivate"));
        }
    }
    if let Some(init) = &context.init {
        list.push(bind(json!(init), "/dev/init", true, "rprivate"));
    }
    if context.ids.is_some() {
        // Device nodes cannot be created in a user namespace: the host's are mounted.
        list.extend(options.devices.iter().map(|d| bind(json!(d.source), &d.target, false, "rprivate")));
    }
    // Outer directories before inner ones, whatever the order of the flags.
    let depth = |target: &str| target.split('/').count();
    let mut rest: Vec<(usize, Value)> = Vec::new();
    for (target, given) in &options.tmpfs {
        let mut words = vec!["nosuid", "nodev", "noexec"];
        words.extend(given.split(',').filter(|word| !word.is_empty()));
        let mount = json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": words });
        rest.push((depth(target), mount));
    }
    let volume =
        |v: &Mounted| (depth(&v.target), bind(json!(v.source), &v.target, v.read_only, &v.propagation));
    rest.extend(context.volumes.iter().map(volume));
    rest.sort_by_key(|(depth, _)| *depth);
    list.extend(rest.into_iter().map(|(_, mount)| mount));
    list.into()
}

fn bind(source: Value, target: &str, read_only: bool, propagation: &str) -> Value {
    let mode = if read_only { "ro" } else { "rw" };
    json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", propagation, mode] })
}

fn system(options: &Options, context: &Context<'_>) -> Vec<Value> {
    let access = if options.privileged { "rw" } else { "ro" };
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let host = |target: &str, access: &str| {
        json!({ "destination": target, "type": "bind", "source": target,
            "options": ["rbind", "nosuid", "noexec", "nodev", access] })
    };
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // The group tty, if it is mapped.
    if context.ids.as_ref().is_none_or(|ids| ids.has_group(5)) {
        terminals.push("gid=5");
    }
    let proc = ["nosuid", "noexec", "nodev"];
    let mut list = vec![match (&options.namespaces.pid, &context.ids) {
        // proc can be mounted only in a pid namespace that the user namespace owns.
        (Mode::Host, Some(_)) => host("/proc", "rw"),
        _ => mount("/proc", "proc", &proc),
    }];
    list.push(mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]));
    list.push(mount("/dev/pts", "devpts", &terminals));
    match &options.namespaces.ipc {
        Mode::Host => {
            // Many hosts have not mounted message queues.
            let there = ["/dev/shm", "/dev/mqueue"]
                .into_iter()
                .filter(|target| std::path::Path::new(target).is_dir());
            list.extend(there.map(|target| host(target, "rw")));
        }
        _ => {
            let size = format!("size={}", options.limits.shm);
            if !options.namespaces.no_shm {
                let words = ["nosuid", "noexec", "nodev", "mode=1777", &size];
                list.push(
                    json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": words }),
                );
            }
            list.push(mount("/dev/mqueue", "mqueue", &proc));
        }
    }
    match (&options.namespaces.network, &context.ids) {
        // The same holds for sysfs and the network namespace.
        (Mode::Host, Some(_)) => list.push(host("/sys", "ro")),
        _ => {
            list.push(mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]));
            list.push(mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]));
        }
    }
    list
}
