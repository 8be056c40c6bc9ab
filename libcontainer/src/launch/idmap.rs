//! Id maps: of the child's user namespace, and of mounts through a user namespace made only for that.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{IdMap, IdMaps};
use crate::sys::mount::{self, SetAttr};
use crate::sys::{clone, fs, pidfd};
use std::fmt::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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
        if own { e.hint("ids that are not the caller's own need root, or newuidmap and newgidmap with ranges in /etc/subuid and /etc/subgid") } else { e }
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
        .map_err(|e| e.hint("it comes with Debian's package uidmap"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::new(ErrorKind::Permission, format!("{program}: {why}"))
        .hint("see /etc/subuid and /etc/subgid"))
}

/// A detached clone of the tree at `path`, with its ids mapped as in the user namespace `map` (kernel 5.12).
pub(super) fn open_tree(
    path: &Path,
    recursive: bool,
    map: Option<BorrowedFd<'_>>,
    map_recursive: bool,
) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::invalid(format!("mount source {path:?} contains a NUL byte")))?;
    let flags = mount::OPEN_TREE_CLONE | if recursive { mount::AT_RECURSIVE } else { 0 };
    let tree = mount::open_tree(fs::CWD, &name, flags)
        .with_context(|| format!("open mount source {path:?}: open_tree"))?;
    if let Some(namespace) = map {
        let attr = SetAttr {
            set: mount::MOUNT_ATTR_IDMAP,
            userns_fd: u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX),
            ..SetAttr::default()
        };
        mount::mount_setattr(tree.as_fd(), map_recursive, &attr)
            .with_context(|| format!("map ids of mount source {path:?}: mount_setattr"))
            .map_err(|e| e.hint("the file system must support id-mapped mounts"))?;
    }
    // The clone is still a peer of the host's mount: nothing may propagate back.
    let slave = SetAttr { propagation: libc::MS_SLAVE, ..SetAttr::default() };
    mount::mount_setattr(tree.as_fd(), recursive, &slave)
        .with_context(|| format!("make {path:?} a slave: mount_setattr"))?;
    Ok(tree)
}

/// A user namespace with these maps, kept alive by its descriptor alone. It needs a process for the moment of its making.
pub(super) fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let blocked = clone::BlockedSignals::new().context("pthread_sigmask")?;
    let (pid, process) = clone::spawn(libc::CLONE_NEWUSER as u64, None, clone::pause)
        .context("clone3 for an id-mapped mount")?;
    drop(blocked);
    let made = write(pid, maps).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        std::fs::File::open(&path).map(OwnedFd::from).with_context(|| format!("open {path:?}"))
    });
    let _ = pidfd::send_signal(process.as_fd(), libc::SIGKILL);
    let _ = pidfd::wait(process.as_fd(), 0);
    made
}
