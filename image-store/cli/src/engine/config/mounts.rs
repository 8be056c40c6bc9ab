//! The mounts of a container: Docker's list, changed by flags, volumes and the caller's privileges. Pure, except that `--ipc host`
//! depends on what the host has mounted.

use std::path::{Path, PathBuf};

use libcontainer::spec::Mount;

use super::context::Context;
use crate::container::record::Mounted;
use crate::engine::options::{Mode, Options};
use crate::places::ETC_FILES;

pub(crate) fn mounts(options: &Options, context: &Context<'_>) -> Vec<Mount> {
    let mut list = system(options, context);
    for name in ETC_FILES {
        let target = format!("/etc/{name}");
        if !context.volumes.iter().any(|volume| volume.target == target) {
            list.push(bind(context.directory.etc(name), &target, false, "rprivate"));
        }
    }
    if let Some(init) = &context.init {
        list.push(bind(init, "/dev/init", true, "rprivate"));
    }
    if context.ids.is_some() {
        // Device nodes cannot be created in a user namespace: the host's are mounted.
        list.extend(options.devices.iter().map(|d| bind(&d.source, &d.target, false, "rprivate")));
    }
    // Outer directories before inner ones, whatever the order of the flags.
    let depth = |target: &str| target.split('/').count();
    let mut rest: Vec<(usize, Mount)> = Vec::new();
    for (target, given) in &options.tmpfs {
        let mut words = vec!["nosuid", "nodev", "noexec"];
        words.extend(given.split(',').filter(|word| !word.is_empty()));
        rest.push((depth(target), mount(target, "tmpfs", "tmpfs", &words)));
    }
    let volume = |v: &Mounted| (depth(&v.target), bind(&v.source, &v.target, v.read_only, &v.propagation));
    rest.extend(context.volumes.iter().map(volume));
    rest.sort_by_key(|(depth, _)| *depth);
    list.extend(rest.into_iter().map(|(_, mount)| mount));
    list
}

fn mount(target: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn bind(source: impl Into<PathBuf>, target: &str, read_only: bool, propagation: &str) -> Mount {
    mount(target, "bind", source, &["rbind", propagation, if read_only { "ro" } else { "rw" }])
}

fn system(options: &Options, context: &Context<'_>) -> Vec<Mount> {
    let access = if options.privileged { "rw" } else { "ro" };
    let host = |target: &str, access: &str| {
        mount(target, "bind", target, &["rbind", "nosuid", "noexec", "nodev", access])
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
        _ => mount("/proc", "proc", "proc", &proc),
    }];
    list.push(mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]));
    list.push(mount("/dev/pts", "devpts", "devpts", &terminals));
    match &options.namespaces.ipc {
        Mode::Host => {
            // Many hosts have not mounted message queues.
            let there = ["/dev/shm", "/dev/mqueue"].into_iter().filter(|target| Path::new(target).is_dir());
            list.extend(there.map(|target| host(target, "rw")));
        }
        _ => {
            let size = format!("size={}", options.limits.shm);
            if !options.namespaces.no_shm {
                let words = ["nosuid", "noexec", "nodev", "mode=1777", &size];
                list.push(mount("/dev/shm", "tmpfs", "shm", &words));
            }
            list.push(mount("/dev/mqueue", "mqueue", "mqueue", &proc));
        }
    }
    match (&options.namespaces.network, &context.ids) {
        // The same holds for sysfs and the network namespace.
        (Mode::Host, Some(_)) => list.push(host("/sys", "ro")),
        _ => {
            list.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]));
            list.push(mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &["nosuid", "noexec", "nodev", "relatime", access],
            ));
        }
    }
    list
}
