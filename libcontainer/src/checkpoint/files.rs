//! Open files of a container that lie outside of it: the streams it was given, and /dev/null of the host. CRIU saves what is in the
//! container's own mounts; of these it has to be told, and at a restore to be given others in their stead.
//!
//! They are saved in the order of runc's list: the files of descriptors 0, 1 and 2, and from the fourth on, where runc reads
//! nothing, the names of files that are /dev/null.

use super::rpc::InheritFd;
use crate::error::{Context, Result};
use crate::sys::fs;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Before the name of a file that is the host's /dev/null.
const NULL: &str = "null:";

/// The files outside that a dump has to name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outside {
    /// For `descriptors.json`.
    pub(super) descriptors: Vec<String>,
    /// For CRIU's option `external`.
    pub(super) external: Vec<String>,
}

/// An open file as /proc tells of it.
#[derive(Debug)]
struct Open {
    link: String,
    /// CRIU's name for it, when it is not in one of the container's mounts.
    outside: Option<String>,
    null: bool,
}

/// Looks at the streams of the first process, `init`, and for /dev/null in all `processes`, with the container's /proc/PID/mountinfo.
pub(super) fn outside(init: i32, processes: &[i32], mountinfo: &str) -> Result<Outside> {
    let mounts: BTreeSet<&str> = mountinfo.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut found = Outside::default();
    for number in 0..3 {
        let open = look(init, number, &mounts)
            .with_context(|| format!("inspect descriptor {number} of the container"))?;
        found.descriptors.push(match open {
            Some(Open { outside: Some(name), null: false, .. }) => {
                found.external.push(name.clone());
                name
            }
            Some(open) => open.link,
            None => String::new(),
        });
    }
    let mut nulls = BTreeSet::new();
    for pid in processes {
        // One that has just ended has none; one that opens another now is too late, and CRIU says so.
        let Ok(list) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        for number in numbers {
            if let Ok(Some(Open { outside: Some(name), null: true, .. })) = look(*pid, number, &mounts) {
                nulls.insert(name);
            }
        }
    }
    for name in nulls {
        found.descriptors.push(format!("{NULL}{name}"));
        found.external.push(name);
    }
    Ok(found)
}

/// `None`: it is not open.
fn look(pid: i32, number: i32, mounts: &BTreeSet<&str>) -> std::io::Result<Option<Open>> {
    let path = format!("/proc/{pid}/fd/{number}");
    let link = match std::fs::read_link(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?.to_string_lossy().into_owned(),
    };
    // stat(2) only: opening a FIFO or a device could do more than look.
    let meta = std::fs::metadata(&path)?;
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
    let null = meta.file_type().is_char_device() && meta.rdev() == fs::device(1, 3);
    let outside = (link.starts_with('/') && (null || can_be_named(&meta)) && !mounts.contains(mount))
        .then(|| name_of(mount, meta.ino()))
        .flatten();
    Ok(Some(Open { link, outside, null }))
}

/// CRIU takes regular files and FIFOs as external; pipes and sockets it knows by other means, and a device it has to save.
fn can_be_named(meta: &Metadata) -> bool {
    meta.file_type().is_file() || meta.file_type().is_fifo()
}

/// criu(8), `--external file[MNT_ID:INODE]`, both hexadecimal.
fn name_of(mount: &str, inode: u64) -> Option<String> {
    Some(format!("file[{:x}:{inode:x}]", mount.parse::<u64>().ok()?))
}

/// The replacements that CRIU gets for the files that were outside: its own streams, unless `terminal`, and `null`.
pub(super) fn replaced(descriptors: &[String], terminal: bool, null: &OwnedFd) -> Vec<InheritFd> {
    let (streams, rest) = descriptors.split_at(descriptors.len().min(3));
    let outside = |name: &str| name.starts_with("pipe:[") || name.starts_with("file[");
    let mut list: Vec<InheritFd> = Vec::new();
    for (fd, key) in (0..3).zip(streams).filter(|(_, key)| !terminal && outside(key)) {
        // Two numbers may be the same pipe: one entry serves both.
        if !list.iter().any(|entry| entry.key == *key) {
            list.push(InheritFd { key: key.clone(), fd });
        }
    }
    let nulls =
        rest.iter().filter_map(|entry| entry.strip_prefix(NULL)).filter(|name| name.starts_with("file["));
    list.extend(nulls.map(|name| InheritFd { key: name.to_owned(), fd: null.as_raw_fd() }));
    list
}

/// The host's /dev/null.
pub(super) fn null() -> Result<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).context("open \"/dev/null\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_null_devices_outside_are_told_from_those_inside() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let null = null().unwrap();
        let none = outside(pid, &[pid], "").unwrap();
        assert_eq!(none.descriptors.iter().filter(|entry| entry.starts_with(NULL)).count(), 1, "{none:?}");
        let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(outside(pid, &[pid], &own).unwrap().external, Vec::<String>::new());
        drop(null);
    }

    #[test]
    fn pipes_files_and_null_devices_are_replaced_and_nothing_else() {
        let null = null().unwrap();
        let entries = ["pipe:[12]", "pipe:[12]", "file[1:a]", "null:file[2:b]", "pipe:[9]", "null:pipe:[9]"];
        let entries = entries.map(str::to_owned);
        let list = replaced(&entries, false, &null);
        let keys: Vec<_> = list.iter().map(|entry| (entry.key.as_str(), entry.fd)).collect();
        assert_eq!(keys, [("pipe:[12]", 0), ("file[1:a]", 2), ("file[2:b]", null.as_raw_fd())]);
        assert_eq!(replaced(&entries, true, &null).len(), 1);
        assert_eq!(replaced(&["/dev/pts/0".to_owned()], false, &null), []);
    }
}
