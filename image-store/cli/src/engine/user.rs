//! The user of a container's process: `user[:group]`, looked up in the image's /etc/passwd and /etc/group.
//!
//! A number is never looked up as a name (CVE-2016-3697), IDs must be in range (CVE-2024-40635), and the files are read inside the
//! root, as regular files, up to a limit (CVE-2026-47262).

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use image_store::ErrorKind;
use libcontainer::spec;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::failure::{Failure, Result};

const LIMIT: u64 = 1 << 20;

/// The IDs of a user, with the home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

impl User {
    /// The same as config.json's user.
    pub(crate) fn ids(&self) -> spec::User {
        let mut ids = spec::User::default();
        ids.set_uid(self.uid).set_gid(self.gid).set_additional_gids(Some(self.groups.clone()));
        ids
    }
}

/// Resolves `user[:group]` in the root file system `root`, with further groups; an empty user is root.
pub(crate) fn resolve(root: &OwnedFd, text: &str, more: &[String]) -> Result<User> {
    let group = read(root, "etc/group")?;
    let mut user = resolve_in(text, &read(root, "etc/passwd")?, &group)?;
    for name in more {
        let line = || {
            group
                .lines()
                .map(|line| line.split(':').collect())
                .find(|f: &Vec<&str>| f[0] == name && f.len() >= 3)
        };
        let gid = match number(name)? {
            Some(gid) => Some(gid),
            None => line().and_then(|fields| fields[2].parse().ok()),
        };
        let gid = gid.ok_or_else(|| {
            Failure::new(ErrorKind::NotFound, format!("--group-add {name:?}: no such group in the image"))
        })?;
        if gid != user.gid && !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

/// A file of the root; empty if it does not exist.
fn read(root: &OwnedFd, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) else {
        return Ok(String::new());
    };
    let file = File::from(fd);
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(Failure::new(
            ErrorKind::Limit,
            format!("/{path} of the image: larger than {LIMIT} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolve_in(text: &str, passwd: &str, group: &str) -> Result<User> {
    let missing = |what: &str, name: &str| {
        Failure::new(ErrorKind::NotFound, format!("user {text:?}: no {what} {name:?} in the image"))
    };
    let (name, wanted) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let lines: Vec<Vec<&str>> =
        passwd.lines().map(|line| line.split(':').collect()).filter(|f: &Vec<&str>| f.len() >= 6).collect();
    let line = match number(name)? {
        Some(uid) => lines.iter().find(|fields| fields[2].parse() == Ok(uid)),
        None => Some(lines.iter().find(|fields| fields[0] == name).ok_or_else(|| missing("user", name))?),
    };
    let parse = |field: &str| number(field)?.ok_or_else(|| missing("numeric ID", field));
    let uid = match number(name)? {
        Some(uid) => uid,
        None => parse(line.map_or("", |fields| fields[2]))?,
    };
    let groups: Vec<Vec<&str>> =
        group.lines().map(|line| line.split(':').collect()).filter(|f: &Vec<&str>| f.len() >= 4).collect();
    let gid = match wanted.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) => match number(wanted)? {
            Some(gid) => gid,
            None => parse(
                groups.iter().find(|fields| fields[0] == wanted).ok_or_else(|| missing("group", wanted))?[2],
            )?,
        },
        None => line.map_or(Ok(0), |fields| parse(fields[3]))?,
    };
    // A group that was named is the only one.
    let member = |fields: &&Vec<&str>| {
        wanted.is_none() && line.is_some_and(|line| fields[3].split(',').any(|m| m == line[0]))
    };
    let more = groups.iter().filter(member).filter_map(|fields| fields[2].parse().ok());
    let mut all: Vec<u32> = more.filter(|other| *other != gid).collect();
    all.sort_unstable();
    all.dedup();
    let home = line.map_or("/", |fields| fields[5]);
    Ok(User { uid, gid, groups: all, home: if home.is_empty() { "/".to_owned() } else { home.to_owned() } })
}

/// A numeric ID; `None` for a name.
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
    id.map(Some)
        .ok_or_else(|| Failure::new(ErrorKind::Invalid, format!("user or group {text:?}: out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/evil:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:web,root\nwww:x:35:web\n";

    #[test]
    fn names_and_numbers_are_resolved_by_the_image() {
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, vec![4], "/root"),
            ("web", 33, 34, vec![4, 35], "/var/www"),
            ("33", 33, 34, vec![4, 35], "/var/www"),
            ("1000", 1000, 0, vec![], "/"),
            ("web:adm", 33, 4, vec![], "/var/www"),
            ("5:6", 5, 6, vec![], "/"),
            (":adm", 0, 4, vec![], "/root"),
            ("web:", 33, 34, vec![], "/var/www"),
        ] {
            let user = resolve_in(text, PASSWD, GROUP).unwrap();
            assert_eq!(
                (user.uid, user.gid, user.groups, user.home.as_str()),
                (uid, gid, groups, home),
                "{text}"
            );
        }
        for bad in ["nobody", "web:nobody", "4294967295", "2147483648", "-1", "1x"] {
            assert!(resolve_in(bad, PASSWD, GROUP).is_err(), "{bad}");
        }
    }
}
