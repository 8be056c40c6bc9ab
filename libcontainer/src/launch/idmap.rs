//! Id maps: of the child's user namespace, and of mounts through a user namespace made only for that.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::fault;
use crate::plan::{IdMap, IdMaps};
use crate::sys::mount::{self, SetAttr};
use crate::sys::{clone, fs, is_absent, pidfd};
use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Command;

/// Writes the maps of the user namespace that `pid` has just been cloned into.
pub(super) fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    if maps.deny_setgroups {
        put(pid, "setgroups", "deny")?;
    }
    if maps.with_helpers {
        helper("newgidmap", pid, &maps.gids)?;
        return helper("newuidmap", pid, &maps.uids);
    }
    put(pid, "gid_map", &lines(&maps.gids))?;
    put(pid, "uid_map", &lines(&maps.uids))
}

/// Checks that the joined user namespace, which `pid` is in, has these maps.
pub(super) fn compare(pid: i32, maps: &IdMaps) -> Result<()> {
    for (file, field, given) in
        [("uid_map", "linux.uidMappings", &maps.uids), ("gid_map", "linux.gidMappings", &maps.gids)]
    {
        let path = format!("/proc/{pid}/{file}");
        let real = std::fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
        if !same(given, &real) {
            return Err(Error::invalid(format!(
                "{field}: user namespace path and mappings are given, but the namespace has other mappings: {}",
                real.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
            ))
            .hint("leave the mappings out, or give those of the namespace"));
        }
    }
    Ok(())
}

/// The same ranges, in any order: the kernel sorts a map of more than five.
fn same(given: &[IdMap], real: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<Vec<String>> =
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        lines.sort_unstable();
        lines
    };
    sorted(&lines(given)) == sorted(real)
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut text, m| {
        let _ = writeln!(text, "{} {} {}", m.inside, m.outside, m.count);
        text
    })
}

fn put(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).with_context(|| format!("write {:?} to {path:?}", text.trim_end())).map_err(|e| {
        let own = e.kind() == ErrorKind::Permission && file != "setgroups";
        if own { e.hint("mapping ids other than the caller's own needs root, or newuidmap and newgidmap with ranges in /etc/subuid and /etc/subgid") } else { e }
    })
}

/// newuidmap(1) and newgidmap(1), which check /etc/subuid and /etc/subgid.
fn helper(program: &str, pid: i32, maps: &[IdMap]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for m in maps {
        command.args([m.inside, m.outside, m.count].map(|n| n.to_string()));
    }
    let output = command
        .output()
        .with_context(|| format!("execute {program}"))
        .map_err(|e| e.hint("on Debian, install the package uidmap"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::new(ErrorKind::Permission, format!("{program}: {why}"))
        .hint("see /etc/subuid and /etc/subgid"))
}

/// A detached clone of the tree at `path`, with its ids mapped as in the user namespace `map` (kernel 5.12). `None`: the kernel has no
/// such trees, and no mapping is requested.
pub(super) fn open_tree(
    path: &Path,
    recursive: bool,
    map: Option<BorrowedFd<'_>>,
    map_recursive: bool,
) -> Result<Option<OwnedFd>> {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::invalid(format!("mount source {path:?} contains a NUL byte")))?;
    let flags = mount::OPEN_TREE_CLONE | if recursive { mount::AT_RECURSIVE } else { 0 };
    let tree = match mount::open_tree(fs::CWD, &name, flags) {
        Err(e) if map.is_none() && is_absent(libc::SYS_open_tree, e) => return Ok(None),
        other => {
            other.with_context(|| format!("open mount source {path:?}: open_tree")).map_err(without_calls)?
        }
    };
    if let Some(namespace) = map {
        map_ids(tree.as_fd(), map_recursive, namespace)
            .map_err(|e| e.wrap(format!("map ids of mount source {path:?}")))?;
    }
    // The clone is still a peer of the host's mount, but nothing may propagate back.
    let slave = SetAttr { propagation: libc::MS_SLAVE, ..SetAttr::default() };
    match mount::mount_setattr(tree.as_fd(), recursive, &slave) {
        // The child does it after attaching the tree.
        Err(e) if is_absent(libc::SYS_mount_setattr, e) => {}
        other => other.with_context(|| format!("make {path:?} a slave: mount_setattr"))?,
    }
    Ok(Some(tree))
}

fn without_calls(e: Error) -> Error {
    if e.errno() == Some(libc::ENOSYS) { e.hint("id-mapped mounts need Linux 5.12") } else { e }
}

/// Sets the id map of a detached tree.
pub(super) fn map_ids(tree: BorrowedFd<'_>, recursive: bool, userns: BorrowedFd<'_>) -> Result<()> {
    mount::map_ids(tree, recursive, userns).context("mount_setattr(MOUNT_ATTR_IDMAP)").map_err(|e| {
        match e.errno() {
            Some(libc::ENOSYS) => without_calls(e),
            _ => e.hint("the file system must support id-mapped mounts"),
        }
    })
}

/// A user namespace with these maps, kept alive by its descriptor alone. Making it takes a process, for a moment.
pub(super) fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let creator = pidfd::open(std::process::id().cast_signed()).context("pidfd_open")?;
    // Until it is killed below, or its creator has died.
    let wait = || {
        let _ = pidfd::readable(creator.as_fd(), -1);
    };
    let blocked = clone::BlockedSignals::new().context("pthread_sigmask")?;
    let (pid, process) =
        clone::spawn(libc::CLONE_NEWUSER as u64, None, wait).context("clone3 for an id-mapped mount")?;
    drop(blocked);
    fault::point();
    let made = write(pid, maps).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        std::fs::File::open(&path).map(OwnedFd::from).with_context(|| format!("open {path:?}"))
    });
    drop(process);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_the_same_in_any_order_and_only_whole() {
        let given =
            [(0, 100_000, 10), (10, 5, 1)].map(|(inside, outside, count)| IdMap { inside, outside, count });
        assert!(same(&given, "        10          5          1\n         0     100000         10\n"));
        assert!(same(&[], ""));
        assert!(!same(&given, "0 100000 10\n"));
        assert!(!same(&given, "0 100000 10\n10 5 2\n"));
        assert!(!same(&given[..1], "0 100000 10\n10 5 1\n"));
    }
}
