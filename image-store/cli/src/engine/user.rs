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
use rustix::io::Errno;

use crate::failure::{Failure, Result, os};

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
    resolve_in(text, more, &read(root, "etc/passwd")?, &read(root, "etc/group")?)
}

/// A file of the root; empty if it does not exist.
fn read(root: &OwnedFd, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(String::new()),
        // A user must not get another group because a file cannot be read.
        Err(errno) => return Err(os(errno, format!("open /{path} of the image"))),
    };
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

/// A line of /etc/passwd or /etc/group. As in the engines, fields at its end may be missing.
struct Line<'a>(Vec<&'a str>);

impl<'a> Line<'a> {
    fn all(text: &'a str) -> Vec<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| Self(line.split(':').collect())).collect()
    }

    fn field(&self, at: usize) -> &'a str {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn name(&self) -> &'a str {
        self.field(0)
    }

    /// The ID in a field; `None` if it is missing or invalid. The engines take 0 for that.
    fn id(&self, at: usize) -> Option<u32> {
        number(self.field(at)).ok().flatten()
    }
}

/// The field with the ID of a line's user or group, and that with the group of a user.
const ID: usize = 2;
const GROUP: usize = 3;
const MEMBERS: usize = 3;
const HOME: usize = 5;

fn resolve_in(text: &str, more: &[String], passwd: &str, group: &str) -> Result<User> {
    let missing = |what: &str, name: &str| {
        Failure::new(ErrorKind::NotFound, format!("user {text:?}: no {what} {name:?} in the image"))
    };
    let broken = |file: &str, what: &str, name: &str| {
        let message = format!(
            "user {text:?}: the line of {name:?} in the image's {file} has no valid {what} ID: use UID:GID"
        );
        Failure::new(ErrorKind::Invalid, message)
    };
    let (name, wanted) = text.split_once(':').unwrap_or((text, ""));
    let name = if name.is_empty() { "0" } else { name };
    let (users, groups) = (Line::all(passwd), Line::all(group));
    // The first line counts, even if it is broken.
    let (uid, line) = match number(name)? {
        Some(uid) => (uid, users.iter().find(|line| line.id(ID) == Some(uid))),
        None => {
            let line = users.iter().find(|line| line.name() == name).ok_or_else(|| missing("user", name))?;
            (line.id(ID).ok_or_else(|| broken("/etc/passwd", "user", name))?, Some(line))
        }
    };
    let group_id = |name: &str| -> Result<Option<u32>> {
        if let Some(gid) = number(name)? {
            return Ok(Some(gid));
        }
        let line = groups.iter().find(|line| line.name() == name);
        line.map(|line| line.id(ID).ok_or_else(|| broken("/etc/group", "group", name))).transpose()
    };
    let gid = match (wanted, line) {
        ("", None) => 0,
        ("", Some(line)) => line.id(GROUP).ok_or_else(|| broken("/etc/passwd", "group", line.name()))?,
        (wanted, _) => group_id(wanted)?.ok_or_else(|| missing("group", wanted))?,
    };
    // A group that was named is the only one.
    let own = line.map(Line::name).filter(|name| wanted.is_empty() && !name.is_empty());
    let member = |line: &&Line<'_>| own.is_some_and(|own| line.field(MEMBERS).split(',').any(|m| m == own));
    let mut all: Vec<u32> =
        groups.iter().filter(member).filter_map(|line| line.id(ID)).filter(|other| *other != gid).collect();
    all.sort_unstable();
    all.dedup();
    for name in more {
        let added = group_id(name)?.ok_or_else(|| {
            Failure::new(ErrorKind::NotFound, format!("--group-add {name:?}: no such group in the image"))
        })?;
        if added != gid && !all.contains(&added) {
            all.push(added);
        }
    }
    let home = line.map_or("", |line| line.field(HOME));
    Ok(User { uid, gid, groups: all, home: if home.is_empty() { "/" } else { home }.to_owned() })
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

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
1000:x:0:0::/evil:/bin/sh
web:x:33:34::/var/www:/bin/false
web:x:99:99::/second:/bin/false

  app:x:1001:1001\r
home:x:1002:1002::/home/app
nogroup:x:1003
badgroup:x:1004:group
emptygroup:x:1005::::
nouser:x
baduser:x:user:7
+::::::
";
    const GROUP: &str = "\
root:x:0:
adm:x:4:web,root
www:x:35:web
short:x:55
extra:x:56:app
nogid:x
badgid:x:gid:web,app
";

    fn ids(text: &str) -> Result<(u32, u32, Vec<u32>, String)> {
        let user = resolve_in(text, &[], PASSWD, GROUP)?;
        Ok((user.uid, user.gid, user.groups, user.home))
    }

    #[test]
    fn names_and_numbers_are_resolved_by_the_image() {
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, vec![4], "/root"),
            ("web", 33, 34, vec![4, 35], "/var/www"),
            ("33", 33, 34, vec![4, 35], "/var/www"),
            ("1000", 1000, 0, vec![], "/"),
            ("web:adm", 33, 4, vec![], "/var/www"),
            ("web:short", 33, 55, vec![], "/var/www"),
            ("5:6", 5, 6, vec![], "/"),
            (":adm", 0, 4, vec![], "/root"),
            ("web:", 33, 34, vec![4, 35], "/var/www"),
            ("app", 1001, 1001, vec![56], "/"),
            ("1001", 1001, 1001, vec![56], "/"),
            ("home", 1002, 1002, vec![], "/home/app"),
            ("nogroup:7", 1003, 7, vec![], "/"),
        ] {
            assert_eq!(ids(text).unwrap(), (uid, gid, groups, home.to_owned()), "{text}");
        }
        for bad in ["nobody", "web:nobody", "4294967295", "2147483648", "-1", "1x"] {
            assert!(ids(bad).is_err(), "{bad}");
        }
        assert_eq!(resolve_in("", &[], "root:x:0:0", "").unwrap().ids().gid(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_not_an_empty_one() {
        let place = std::env::temp_dir().join(format!("knarr-user-{}", std::process::id()));
        std::fs::create_dir_all(place.join("etc")).unwrap();
        let resolved = || resolve(&File::open(&place).unwrap().into(), "1000", &[]);
        assert_eq!(resolved().unwrap().gid, 0);
        // Opening it fails, for root, too.
        let socket = std::os::unix::net::UnixListener::bind(place.join("etc/passwd")).unwrap();
        let error = resolved().unwrap_err().to_string();
        assert!(error.contains("open /etc/passwd of the image"), "{error}");
        drop(socket);
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_missing_or_invalid_id_is_never_0() {
        for (text, file) in [
            ("nogroup", "/etc/passwd has no valid group ID"),
            ("1003", "/etc/passwd has no valid group ID"),
            ("badgroup", "/etc/passwd has no valid group ID"),
            ("1004", "/etc/passwd has no valid group ID"),
            ("emptygroup", "/etc/passwd has no valid group ID"),
            ("nouser", "/etc/passwd has no valid user ID"),
            ("baduser", "/etc/passwd has no valid user ID"),
            ("+", "/etc/passwd has no valid user ID"),
            ("web:nogid", "/etc/group has no valid group ID"),
            ("web:badgid", "/etc/group has no valid group ID"),
        ] {
            let said = ids(text).unwrap_err().to_string();
            assert!(said.contains(file), "{text}: {said}");
        }
        assert!(resolve_in("web", &["badgid".to_owned()], PASSWD, GROUP).is_err());
        assert_eq!(resolve_in("5", &["short".to_owned()], PASSWD, GROUP).unwrap().groups, [55]);
        // Lines without a valid user ID are not those of root.
        assert_eq!(resolve_in("0", &[], "broken:x:user:7\n", "").unwrap().gid, 0);
    }
}
