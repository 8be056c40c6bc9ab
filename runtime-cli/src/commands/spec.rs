//! `spec`: writes a template config.json, with the contents of `runc spec` in the same order.

use super::{Command, Context, Failure, Outcome};
use goflags::{Flag, Order, Parsed};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Both files in one. Lines that start with `-` are only in the file for root, lines with `+` only in the rootless one.
const CONFIG: &str = include_str!("spec.diff");

pub(super) const COMMAND: Command = Command {
    name: "spec",
    summary: "create a new specification file",
    usage: "",
    about: "Writes a template config.json that runs sh with a terminal in ./rootfs.",
    flags: &[
        Flag::text(&["bundle", "b"], "directory to write to (default: the current directory)"),
        Flag::bool(&["rootless"], "write a config.json for rootless containers, with a user namespace"),
    ],
    order: Order::Anywhere,
    arguments: (0, Some(0)),
    own: false,
    hidden: false,
    run,
};

fn run(_: &Context, parsed: &Parsed) -> Outcome {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let path = Path::new(parsed.text("bundle")).join("config.json");
    // Never over an existing file.
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Failure::new("File config.json exists. Remove it first"),
            _ => Failure::os(format_args!("write {path:?}"), "open", e),
        })?;
    let text = config(parsed.is("rootless").then_some((uid, gid)), Hierarchy::of_host());
    file.write_all(text.as_bytes()).map_err(|e| {
        let _ = std::fs::remove_file(&path);
        Failure::os(format_args!("write {path:?}"), "write", e)
    })?;
    Ok(0)
}

/// The version of the cgroups on /sys/fs/cgroup.
#[derive(Clone, Copy, PartialEq)]
enum Hierarchy {
    V2,
    V1,
}

impl Hierarchy {
    fn of_host() -> Hierarchy {
        use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
        match statfs("/sys/fs/cgroup") {
            Ok(found) if found.filesystem_type() == CGROUP2_SUPER_MAGIC => Hierarchy::V2,
            _ => Hierarchy::V1,
        }
    }
}

/// The text of config.json; `rootless` is the caller's user and group. On cgroup v2 it has a cgroup namespace, as with runc: without
/// one the container sees the paths of the host.
fn config(rootless: Option<(u32, u32)>, hierarchy: Hierarchy) -> String {
    let skipped = if rootless.is_some() { '-' } else { '+' };
    let shown =
        |line: &&str| !line.starts_with(skipped) && (hierarchy == Hierarchy::V2 || !line.starts_with('2'));
    let lines = CONFIG.lines().filter(shown).map(|line| &line[1..]);
    let text = lines.collect::<Vec<_>>().join("\n");
    match rootless {
        Some((uid, gid)) => text.replace("$uid", &uid.to_string()).replace("$gid", &gid.to_string()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcontainer::spec::{LinuxNamespaceType, Spec};

    #[test]
    fn both_configs_are_valid_and_differ_in_what_needs_root() {
        let root: Spec = serde_json::from_str(&config(None, Hierarchy::V1)).unwrap();
        let rootless: Spec = serde_json::from_str(&config(Some((1000, 100)), Hierarchy::V2)).unwrap();
        for spec in [&root, &rootless] {
            assert_eq!(spec.process().as_ref().unwrap().terminal(), Some(true));
            assert_eq!(spec.mounts().as_ref().unwrap().len(), 7);
        }
        let linux = rootless.linux().as_ref().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 100);
        assert!(linux.resources().is_none());
        let user = |spec: &Spec| {
            let linux = spec.linux().as_ref().unwrap();
            linux.namespaces().iter().flatten().any(|n| n.typ() == LinuxNamespaceType::User)
        };
        assert!(user(&rootless) && !user(&root));
        let cgroup = |spec: &Spec| {
            let linux = spec.linux().as_ref().unwrap();
            linux.namespaces().iter().flatten().any(|n| n.typ() == LinuxNamespaceType::Cgroup)
        };
        assert!(cgroup(&rootless) && !cgroup(&root));
        let text = config(None, Hierarchy::V2);
        assert!(text.ends_with('}') && !text.contains('$') && serde_json::from_str::<Spec>(&text).is_ok());
    }
}
