//! Roots with shifted owners: for a pod in a user namespace, containerd lists mounts with `uidmap=` and `gidmap=`, so that the files of an
//! image, which belong to root, belong to the namespace's root.
//!
//! For workers. This module does not know what else is mounted.

use crate::sys::{mount as trees, process};
use crate::wire::code::{Code, Failure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pause, pipe2, read, write};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The id mappings of a mount's options, in the format of proc_pid_uid_map(5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    users: String,
    groups: String,
}

/// An option that is not a valid id mapping.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("option {0:?}: must be CONTAINER:HOST:SIZE")]
pub(crate) struct BadMapping(String);

impl Shift {
    /// Takes an option if it is an id mapping: `uidmap=` or `gidmap=` and CONTAINER:HOST:SIZE, several of them with commas. Returns
    /// whether it is one.
    pub(crate) fn take(&mut self, word: &str) -> Result<bool, BadMapping> {
        let (map, list) = if let Some(list) = word.strip_prefix("uidmap=") {
            (&mut self.users, list)
        } else if let Some(list) = word.strip_prefix("gidmap=") {
            (&mut self.groups, list)
        } else {
            return Ok(false);
        };
        for one in list.split(',') {
            let numbers: Vec<u32> = one.split(':').map_while(|number| number.parse().ok()).collect();
            let [inside, outside, count] = numbers[..] else {
                return Err(BadMapping(word.to_owned()));
            };
            map.push_str(&format!("{inside} {outside} {count}\n"));
        }
        Ok(true)
    }

    pub(crate) fn is_none(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Makes a user namespace with these mappings, without a process.
    fn namespace(&self) -> Result<OwnedFd, Failure> {
        let failed = |call: &str, e: Errno| problem(format!("create a user namespace: {call}: {e}"));
        let (ready, its_end) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| failed("pipe2", e))?;
        let child = process::fork(|| {
            let number = unshare(CloneFlags::CLONE_NEWUSER).err().map_or(0, |e| e as i32);
            let _ = write(&its_end, &number.to_ne_bytes());
            loop {
                pause();
            }
        })
        .map_err(|e| failed("fork", e))?;
        drop(its_end);
        let made = self.fill(&ready, child);
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        let _ = waitpid(Pid::from_raw(child), None);
        made
    }

    fn fill(&self, ready: &OwnedFd, child: i32) -> Result<OwnedFd, Failure> {
        let mut number = [0; 4];
        if read(ready, &mut number) != Ok(4) {
            return Err(problem("create a user namespace: helper process failed".to_owned()));
        }
        let number = i32::from_ne_bytes(number);
        if number != 0 {
            return Err(problem(format!("create a user namespace: unshare: {}", Errno::from_raw(number))));
        }
        for (name, map) in [("uid_map", &self.users), ("gid_map", &self.groups)] {
            let path = format!("/proc/{child}/{name}");
            fs::write(&path, map).map_err(|e| problem(format!("write {map:?} to {path:?}: {e}")))?;
        }
        let path = format!("/proc/{child}/ns/user");
        File::open(&path).map(OwnedFd::from).map_err(|e| problem(format!("open {path:?}: {e}")))
    }

    /// Mounts `source` on `root` with shifted owners.
    pub(crate) fn bind(&self, source: &Path, recursive: bool, root: &Path) -> Result<(), Failure> {
        let namespace = self.namespace()?;
        place(source, recursive, Some(&namespace), root)
    }

    /// Mounts an overlay on `root` with shifted owners in its lower directories. Those of the upper directory are right already.
    ///
    /// The shifted layers must be mounted while the overlay is mounted (kernels before 6.15 refuse detached trees): in a tmpfs on `root`.
    /// Everything is on `root`, so if a worker dies meanwhile `rootfs::unmount` finds it.
    pub(crate) fn overlay(&self, options: &[String], flags: MsFlags, root: &Path) -> Result<(), Failure> {
        let failed = |call: &str, e: Errno| problem(format!("mount overlay on {root:?}: {call}: {e}"));
        let namespace = self.namespace()?;
        mount(Some("layers"), root, Some("tmpfs"), MsFlags::empty(), Some("mode=700"))
            .map_err(|e| failed("tmpfs", e))?;
        // Mounts in the tmpfs must not propagate.
        mount(None::<&str>, root, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(|e| failed("propagation", e))?;
        let mut data = Vec::new();
        for option in options {
            let Some(list) = option.strip_prefix("lowerdir=") else {
                data.push(option.clone());
                continue;
            };
            let mut places = Vec::new();
            for (number, layer) in list.split(':').enumerate() {
                let dir = root.join(number.to_string());
                fs::create_dir(&dir)?;
                place(Path::new(layer), false, Some(&namespace), &dir)?;
                places.push(number.to_string());
            }
            data.push(format!("lowerdir={}", places.join(":")));
        }
        let merged = root.join("merged");
        fs::create_dir(&merged)?;
        nix::unistd::chdir(root).map_err(|e| failed("chdir", e))?;
        mount(Some("overlay"), &merged, Some("overlay"), flags, Some(data.join(",").as_str()))
            .map_err(|e| failed("mount", e))?;
        let tree = trees::copy_tree(&path(&merged)?, false).map_err(|e| failed("open_tree", e))?;
        nix::unistd::chdir("/").map_err(|e| failed("chdir", e))?;
        umount2(root, MntFlags::MNT_DETACH).map_err(|e| failed("umount", e))?;
        trees::attach(tree.as_fd(), &path(root)?).map_err(|e| failed("move_mount", e))
    }
}

fn place(source: &Path, recursive: bool, userns: Option<&OwnedFd>, target: &Path) -> Result<(), Failure> {
    let failed = |call: &str, e: Errno| problem(format!("mount {source:?} on {target:?}: {call}: {e}"));
    let tree = trees::copy_tree(&path(source)?, recursive).map_err(|e| failed("open_tree", e))?;
    if let Some(userns) = userns {
        trees::map_ids(tree.as_fd(), recursive, userns.as_fd())
            .map_err(|e| failed("mount_setattr with other ids", e))?;
    }
    trees::attach(tree.as_fd(), &path(target)?).map_err(|e| failed("move_mount", e))
}

fn path(path: &Path) -> Result<CString, Failure> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| problem(format!("{path:?}: contains a NUL byte")))
}

fn problem(message: String) -> Failure {
    Failure::new(Code::Unknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read_and_bad_ones_are_errors() {
        let mut shift = Shift::default();
        assert!(shift.is_none());
        assert_eq!(shift.take("lowerdir=/a"), Ok(false));
        assert_eq!(shift.take("uidmap=0:100000:65536"), Ok(true));
        assert_eq!(shift.take("gidmap=0:1000:1,1:200000:65535"), Ok(true));
        assert_eq!(shift.users, "0 100000 65536\n");
        assert_eq!(shift.groups, "0 1000 1\n1 200000 65535\n");
        for bad in ["uidmap=", "uidmap=0:1", "gidmap=0:1:2:3", "uidmap=0:-1:2", "uidmap=a:b:c"] {
            assert!(Shift::default().take(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
