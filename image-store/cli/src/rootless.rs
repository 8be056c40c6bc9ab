//! Without root: commands run as root of a user namespace, with the ranges of IDs that newuidmap(1) gives this user, or with
//! the user's own ID alone. All commands of a user share the namespace of the running containers, which can be reached from
//! inside it only.
//!
//! Called once, before threads are started.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image_store::ErrorKind;
use nix::sched::{CloneFlags, setns, unshare};
use procfs::process::Process;

use crate::cli::Args;
use crate::failure::{Failure, Result, os};
use crate::{caller, places};

/// The IDs of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// First and count.
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
}

impl Ids {
    /// Those of the current user namespace; `None` in the initial one, which has them all.
    pub(crate) fn current() -> Option<Self> {
        let read = |path: &str| ranges(&fs::read_to_string(path).unwrap_or_default());
        let (users, groups) = (read("/proc/self/uid_map"), read("/proc/self/gid_map"));
        (users != [(0, u32::MAX)]).then_some(Self { users, groups })
    }

    /// The same ranges for users and groups.
    #[cfg(test)]
    pub(crate) fn of(ranges: &[(u32, u32)]) -> Self {
        Self { users: ranges.to_vec(), groups: ranges.to_vec() }
    }

    pub(crate) fn has_user(&self, id: u32) -> bool {
        within(&self.users, id)
    }

    pub(crate) fn has_group(&self, id: u32) -> bool {
        within(&self.groups, id)
    }
}

fn within(ranges: &[(u32, u32)], id: u32) -> bool {
    ranges.iter().any(|(first, count)| id.checked_sub(*first).is_some_and(|at| at < *count))
}

fn ranges(map: &str) -> Vec<(u32, u32)> {
    let line = |line: &str| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if let [first, _, count] = numbers[..] { Some((first, count)) } else { None }
    };
    map.lines().filter_map(line).collect()
}

/// Becomes root of a user namespace, unless it is root already.
pub(crate) fn enter(args: &Args) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        caller::inherit(Ids::current().is_some());
        return places::choose(args);
    }
    places::choose(args)?;
    let uid = caller::uid();
    if !join_running() {
        make(uid)?;
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| failed(errno, "unshare the mount namespace"))
}

/// A system call of nix failed.
fn failed(errno: nix::errno::Errno, doing: &str) -> Failure {
    os(std::io::Error::from(errno), doing)
}

/// Joins the namespace of a running container, if there is one.
fn join_running() -> bool {
    let Ok(directory) = places::supervisors() else { return false };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let path = PathBuf::from("/proc").join(&name).join("ns/user");
        let other = fs::read_link(&path)
            .ok()
            .filter(|link| fs::read_link("/proc/self/ns/user").is_ok_and(|own| own != *link));
        let joined =
            other.and_then(|_| fs::File::open(&path).ok()).map(|file| setns(file, CloneFlags::CLONE_NEWUSER));
        match joined {
            Some(Ok(())) => return true,
            // It exited without removing its file.
            _ if !PathBuf::from("/proc").join(&name).exists() => drop(fs::remove_file(entry.path())),
            _ => {}
        }
    }
    false
}

/// A file that names this process as one whose namespace can be joined, until this is dropped.
#[derive(Debug)]
pub(crate) struct Holder(Option<PathBuf>);

impl Holder {
    pub(crate) fn register() -> Result<Self> {
        if caller::uid() == 0 {
            return Ok(Self(None));
        }
        let directory = places::supervisors()?;
        let failed = |e: std::io::Error| os(e, format!("write in {directory:?}"));
        fs::create_dir_all(&directory).map_err(failed)?;
        let path = directory.join(std::process::id().to_string());
        fs::write(&path, b"").map_err(failed)?;
        Ok(Self(Some(path)))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// Creates a new namespace. Maps of several IDs are written by newuidmap(1), from outside.
fn make(uid: u32) -> Result<()> {
    let gid = rustix::process::getegid().as_raw();
    let (users, groups) = (granted("/etc/subuid", uid), granted("/etc/subgid", uid));
    let mapper =
        if users.is_empty() || groups.is_empty() { None } else { start_mapper(uid, gid, &users, &groups) };
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| {
        failed(
            errno,
            "create a user namespace (disabled? see kernel.unprivileged_userns_clone, user.max_user_namespaces and \
             kernel.apparmor_restrict_unprivileged_userns): unshare",
        )
    })?;
    if mapper.is_some_and(finish_mapper) {
        return Ok(());
    }
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1\n")),
        ("/proc/self/gid_map", format!("0 {gid} 1\n")),
    ] {
        fs::write(path, text).map_err(|e| os(e, format!("write {path:?}")))?;
    }
    Ok(())
}

/// `name:first:count` of subuid(5), by name or number.
fn granted(path: &str, uid: u32) -> Vec<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let own = passwd.lines().find(|line| line.split(':').nth(2) == Some(&number));
    let name = own.and_then(|line| line.split(':').next()).unwrap_or(&number);
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [who, first, count] = fields[..] else { return None };
        let range = (first.parse().ok()?, count.parse().ok()?);
        (who == name || who == number).then_some(range)
    };
    text.lines().filter_map(line).collect()
}

/// An ID map: `0 own 1`, then the ranges one after the other.
fn map(own: u32, granted: &[(u32, u32)]) -> Vec<String> {
    let mut words = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut next: u32 = 1;
    for (first, count) in granted {
        words.extend([next, *first, *count].map(|number| number.to_string()));
        next = next.saturating_add(*count);
    }
    words
}

fn start_mapper(
    uid: u32,
    gid: u32,
    users: &[(u32, u32)],
    groups: &[(u32, u32)],
) -> Option<std::process::Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("map-ids").arg(std::process::id().to_string());
    command.arg(map(uid, users).join(" ")).arg(map(gid, groups).join(" "));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

fn finish_mapper(mut mapper: std::process::Child) -> bool {
    let sent = mapper.stdin.take().is_some_and(|mut stdin| stdin.write_all(b"\n").is_ok());
    sent && mapper.wait().is_ok_and(|status| status.success())
}

/// `map-ids PID USERS GROUPS`, hidden: waits for a byte, then maps the IDs of PID's new user namespace from outside.
pub(crate) fn map_ids(args: &Args) -> Result<u8> {
    let _ = std::io::stdin().read(&mut [0])?;
    for (program, map) in [("newuidmap", &args.positional[1]), ("newgidmap", &args.positional[2])] {
        let status = Command::new(program).arg(&args.positional[0]).args(map.split(' ')).status();
        if !status.is_ok_and(|status| status.success()) {
            return Ok(1);
        }
    }
    Ok(0)
}

/// The parent of the cgroups of a user's containers: that of this process's own cgroup, if it was delegated to the user. The own one
/// cannot be it, since a cgroup with controllers enabled for its children has no processes (cgroups(7), "no internal processes").
pub(crate) fn cgroup_parent() -> Result<String> {
    let unified = Path::new("/sys/fs/cgroup");
    let ours = |path: &str| {
        let directory = unified.join(path.trim_start_matches('/'));
        rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok()
    };
    let own = Process::myself().and_then(|process| process.cgroups());
    let own = own.map(|cgroups| cgroups.0).unwrap_or_default();
    let own = own.iter().find(|cgroup| cgroup.hierarchy == 0).map_or("", |cgroup| &cgroup.pathname);
    let above = own.rsplit_once('/').map_or("", |(above, _)| above);
    if !above.is_empty() && ours(above) {
        return Ok(above.to_owned());
    }
    if !unified.join("cgroup.controllers").exists() || ours("knarr-image") {
        return Ok("knarr-image".to_owned());
    }
    Err(Failure::new(
        ErrorKind::Denied,
        "limits: no writable cgroup: run under `systemd-run --user --scope`, or use --cgroup-parent",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_ranges_one_after_the_other() {
        assert_eq!(
            map(1000, &[(100_000, 65_536), (300_000, 5)]).join(" "),
            "0 1000 1 1 100000 65536 65537 300000 5"
        );
        let ids = Ids { users: ranges("0 1000 1\n1 100000 65536\n"), groups: ranges("0 1000 1\n") };
        assert!(ids.has_user(0) && ids.has_user(65_536) && !ids.has_user(65_537));
        assert!(ids.has_group(0) && !ids.has_group(5));
    }
}
