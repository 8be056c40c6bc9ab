//! The mounts that make up a container's root: what containerd lists, one after the other, on `rootfs` in the bundle.
//!
//! For a worker: it may change the working directory. It must not know tasks. Taking mounts away is `crate::rootfs`'s.

use super::shifted::Shift;
use crate::wire::code::{Code, Failure};
use crate::wire::types::Mount;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// mount(2) takes one page of options, with its end.
const LONGEST: usize = 4095;

/// What mount options say in words, to set or to clear.
const WORDS: &[(&str, MsFlags, bool)] = &[
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("atime", MsFlags::MS_NOATIME, false),
    ("bind", MsFlags::MS_BIND, true),
    ("defaults", MsFlags::empty(), true),
    ("dev", MsFlags::MS_NODEV, false),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("mand", MsFlags::MS_MANDLOCK, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("nodev", MsFlags::MS_NODEV, true),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("nomand", MsFlags::MS_MANDLOCK, false),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), true),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("remount", MsFlags::MS_REMOUNT, true),
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
];

const PROPAGATION: &[(&str, MsFlags)] = &[
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// Mounts all, one after the other. When one can not be mounted, those before it are gone again.
pub(crate) fn mount_all(mounts: &[Mount], bundle: &Path) -> Result<(), Failure> {
    if mounts.is_empty() {
        return Ok(());
    }
    let root = bundle.join("rootfs");
    match DirBuilder::new().mode(0o711).create(&root) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failure("mkdir", &root, Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))));
        }
        _ => {}
    }
    for one in mounts {
        if let Err(e) = Options::parse(one).and_then(|options| options.mount(one, &root)) {
            let _ = crate::rootfs::unmount(bundle);
            return Err(e);
        }
    }
    Ok(())
}

fn failure(call: &str, root: &Path, e: Errno) -> Failure {
    let mut failure = Failure::from(std::io::Error::from(e));
    failure.message = format!("prepare the root {root:?}: {call}: {}", failure.message);
    failure
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MsFlags,
    propagation: Vec<MsFlags>,
    data: Vec<String>,
    shift: Shift,
}

impl Options {
    fn parse(mount: &Mount) -> Result<Self, Failure> {
        let refuse = |why: String| {
            Err(Failure::new(
                Code::InvalidArgument,
                format!("mount the root: {} {:?}: {why}", mount.r#type, mount.source),
            ))
        };
        if !mount.target.trim_matches('/').is_empty() {
            return refuse(format!("a place inside the root ({:?}) is not supported", mount.target));
        }
        let mut options = Options {
            flags: MsFlags::empty(),
            propagation: Vec::new(),
            data: Vec::new(),
            shift: Shift::default(),
        };
        for word in &mount.options {
            if let Some((_, flag, set)) = WORDS.iter().find(|(name, _, _)| name == word) {
                options.flags.set(*flag, *set);
            } else if let Some((_, flag)) = PROPAGATION.iter().find(|(name, _)| name == word) {
                options.propagation.push(*flag);
            } else if word == "loop" {
                return refuse(format!("option {word:?} is not supported"));
            } else {
                match options.shift.take(word) {
                    Ok(true) => {}
                    Ok(false) => options.data.push(word.clone()),
                    Err(why) => return refuse(why),
                }
            }
        }
        if mount.r#type == "bind" {
            options.flags |= MsFlags::MS_BIND;
        }
        let shiftable = mount.r#type == "overlay" || options.flags.contains(MsFlags::MS_BIND);
        if !options.shift.is_none() && !shiftable {
            return refuse(
                "options uidmap and gidmap are supported for overlays and bind mounts only".to_owned(),
            );
        }
        Ok(options)
    }

    fn mount(mut self, what: &Mount, root: &Path) -> Result<(), Failure> {
        let name = || format!("{} on", what.r#type);
        let failed = |call: &str, e: Errno| failure(&format!("mount {} {call}", name()), root, e);
        if !self.shift.is_none() && what.r#type == "overlay" {
            self.shift.overlay(&self.data, self.flags, root)?;
            return self.propagate(root);
        }
        let mut data = self.data.join(",");
        if data.len() > LONGEST && what.r#type == "overlay" {
            if let Some(folder) = shorten(&mut self.data) {
                nix::unistd::chdir(&folder).map_err(|e| failed("chdir", e))?;
            }
            data = self.data.join(",");
        }
        if data.len() > LONGEST {
            return Err(failed("options longer than a page", Errno::E2BIG));
        }
        let data = Some(data.as_str()).filter(|data| !data.is_empty());
        let (source, kind) = (what.source.as_str(), what.r#type.as_str());
        if self.flags.contains(MsFlags::MS_BIND) {
            // A bind mount is made first, and gets its attributes by a second call (mount(2), MS_REMOUNT).
            let attributes = self.flags - (MsFlags::MS_BIND | MsFlags::MS_REC);
            let first = self.flags - attributes;
            if self.shift.is_none() {
                mount(Some(source), root, None::<&str>, first, None::<&str>)
                    .map_err(|e| failed("bind", e))?;
            } else {
                self.shift.bind(source, first.contains(MsFlags::MS_REC), root)?;
            }
            if !attributes.is_empty() {
                let flags = attributes | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
                mount(None::<&str>, root, None::<&str>, flags, None::<&str>)
                    .map_err(|e| failed("remount", e))?;
            }
        } else {
            mount(Some(source), root, Some(kind), self.flags, data).map_err(|e| failed("mount", e))?;
        }
        self.propagate(root)
    }

    fn propagate(&self, root: &Path) -> Result<(), Failure> {
        for flags in &self.propagation {
            mount(None::<&str>, root, None::<&str>, *flags, None::<&str>)
                .map_err(|e| failure("propagation", root, e))?;
        }
        Ok(())
    }
}

/// Makes the lower folders of an overlay relative to the folder that they have in common, which is the result.
fn shorten(data: &mut [String]) -> Option<PathBuf> {
    let option = data.iter_mut().find(|word| word.starts_with("lowerdir="))?;
    let list = option.strip_prefix("lowerdir=")?;
    let folders: Vec<&str> = list.split(':').collect();
    let mut common = Path::new(folders.first()?).parent()?;
    while !folders.iter().all(|folder| Path::new(folder).starts_with(common)) {
        common = common.parent()?;
    }
    if !common.is_absolute() {
        return None;
    }
    let relative = |folder: &&str| Some(Path::new(folder).strip_prefix(common).ok()?.to_str()?.to_owned());
    let short: Vec<String> = folders.iter().map(relative).collect::<Option<_>>()?;
    let common = common.to_owned();
    *option = format!("lowerdir={}", short.join(":"));
    Some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|word| (*word).to_owned()).collect();
        Mount { r#type: kind.to_owned(), source: "x".to_owned(), target: String::new(), options }
    }

    #[test]
    fn words_become_flags_and_the_rest_is_the_file_systems() {
        let parsed =
            Options::parse(&mount("overlay", &["ro", "nodev", "index=off", "rprivate", "rw"])).unwrap();
        assert_eq!(parsed.flags, MsFlags::MS_NODEV);
        assert_eq!(parsed.data, ["index=off"]);
        assert_eq!(parsed.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC]);
        let bind = Options::parse(&mount("bind", &["rbind", "ro"])).unwrap();
        assert_eq!(bind.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (word, part) in [("loop", "loop"), ("uidmap=0:1:2", "uidmap")] {
            let why = Options::parse(&mount("ext4", &[word])).unwrap_err();
            assert!(why.message.contains(part), "{why}");
        }
        let inside = Mount { target: "/etc".to_owned(), ..mount("bind", &[]) };
        assert!(Options::parse(&inside).unwrap_err().message.contains("/etc"));
    }

    #[test]
    fn long_lists_of_lower_folders_are_made_relative() {
        let mut data = vec!["workdir=/w".to_owned(), "lowerdir=/a/b/1/fs:/a/b/22/fs:/a/b/3/fs".to_owned()];
        assert_eq!(shorten(&mut data), Some(PathBuf::from("/a/b")));
        assert_eq!(data, ["workdir=/w", "lowerdir=1/fs:22/fs:3/fs"]);
        let mut one = vec!["lowerdir=/a/b".to_owned()];
        assert_eq!(shorten(&mut one), Some(PathBuf::from("/a")));
        assert_eq!(one, ["lowerdir=b"]);
        assert_eq!(shorten(&mut ["lowerdir=a:b".to_owned()]), None);
    }
}
