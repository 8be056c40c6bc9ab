//! The mounts that make up a container's root: the list of containerd, one after the other, on `rootfs` in the bundle.
//!
//! For workers, since it may change the working directory. This module does not know tasks. `crate::rootfs` unmounts.

use super::shifted::Shift;
use crate::sys::loopback::Loop;
use crate::wire::code::{Code, Failure};
use crate::wire::types::Mount;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// mount(2) takes one page of options, including the terminating zero.
const MAX_OPTIONS: usize = 4095;

/// Mount options, the flags they stand for, and whether these are set or cleared.
const FLAGS: &[(&str, MsFlags, bool)] = &[
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

/// Types that the kernel does not mount by itself, and the programs that do.
const HELPERS: [(&str, &str); 2] = [("fuse.", "mount.fuse"), ("fuse3.", "mount.fuse3")];

/// Mounts all, one after the other. If one fails, those before it are unmounted.
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
        let target = Target { root: &root, inside: one.target.trim_matches('/') };
        if let Err(e) = Options::parse(one).and_then(|options| options.mount(one, target)) {
            let _ = crate::rootfs::unmount(bundle);
            return Err(e);
        }
    }
    Ok(())
}

/// A mount point: the root, or a directory or file in it.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    root: &'a Path,
    inside: &'a str,
}

/// A mount point for one mount call. A later mount covers it, so each call needs a new one.
struct Point {
    path: PathBuf,
    _open: Option<OwnedFd>,
}

impl Target<'_> {
    /// Opens the mount point. The contents of the root may come from a container, so links in it must not lead out of it.
    fn point(self) -> Result<Point, Failure> {
        if self.inside.is_empty() {
            return Ok(Point { path: self.root.to_owned(), _open: None });
        }
        let failed = |call: &str, e: Errno| failure(&format!("{call} {:?} in it", self.inside), self.root, e);
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root =
            open(self.root, flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(|e| failed("open", e))?;
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let fd = openat2(&root, self.inside, OpenHow::new().flags(flags).resolve(resolve))
            .map_err(|e| failed("openat2", e))?;
        Ok(Point { path: PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())), _open: Some(fd) })
    }
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
    /// Whether the source is a file to be mounted as a block device.
    loopback: bool,
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
        let mut options = Options {
            flags: MsFlags::empty(),
            propagation: Vec::new(),
            data: Vec::new(),
            loopback: false,
            shift: Shift::default(),
        };
        for word in &mount.options {
            if let Some((_, flag, set)) = FLAGS.iter().find(|(name, _, _)| name == word) {
                options.flags.set(*flag, *set);
            } else if let Some((_, flag)) = PROPAGATION.iter().find(|(name, _)| name == word) {
                options.propagation.push(*flag);
            } else if word == "loop" {
                options.loopback = true;
            } else {
                match options.shift.take(word) {
                    Ok(true) => {}
                    Ok(false) => options.data.push(word.clone()),
                    Err(error) => return refuse(error.to_string()),
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
        if !options.shift.is_none() && !mount.target.trim_matches('/').is_empty() {
            return refuse(format!(
                "options uidmap and gidmap are not supported inside the root ({:?})",
                mount.target
            ));
        }
        if options.loopback && options.flags.contains(MsFlags::MS_BIND) {
            return refuse("options \"loop\" and \"bind\" are mutually exclusive".to_owned());
        }
        Ok(options)
    }

    fn mount(mut self, what: &Mount, target: Target<'_>) -> Result<(), Failure> {
        let failed =
            |call: &str, e: Errno| failure(&format!("mount {} on {call}", what.r#type), target.root, e);
        if !self.shift.is_none() && what.r#type == "overlay" {
            self.shift.overlay(&self.data, self.flags, &target.point()?.path)?;
            return self.propagate(target);
        }
        if let Some((prefix, helper)) = HELPERS.iter().find(|(prefix, _)| what.r#type.starts_with(prefix)) {
            return run_helper(helper, what.r#type.trim_start_matches(prefix), what, target);
        }
        let device = self.attach(what).map_err(|(call, e)| failed(call, e))?;
        let mut data = self.data.join(",");
        if data.len() > MAX_OPTIONS && what.r#type == "overlay" {
            if let Some(dir) = shorten(&mut self.data) {
                nix::unistd::chdir(&dir).map_err(|e| failed("chdir", e))?;
            }
            data = self.data.join(",");
        }
        if data.len() > MAX_OPTIONS {
            return Err(failed("options longer than 4095 bytes", Errno::E2BIG));
        }
        let data = Some(data.as_str()).filter(|data| !data.is_empty());
        let source = device.as_ref().map_or(Path::new(&what.source), Loop::path);
        if self.flags.contains(MsFlags::MS_BIND) {
            self.bind(source, target)?;
        } else {
            mount(Some(source), &target.point()?.path, Some(what.r#type.as_str()), self.flags, data)
                .map_err(|e| failed("mount", e))?;
        }
        self.propagate(target)
    }

    /// Makes a bind mount. It gets its attributes by a second call (mount(2), MS_REMOUNT).
    fn bind(&self, source: &Path, target: Target<'_>) -> Result<(), Failure> {
        let failed = |call: &str, e: Errno| failure(&format!("mount bind on {call}"), target.root, e);
        let attributes = self.flags - (MsFlags::MS_BIND | MsFlags::MS_REC);
        let first = self.flags - attributes;
        let point = target.point()?;
        if self.shift.is_none() {
            mount(Some(source), &point.path, None::<&str>, first, None::<&str>)
                .map_err(|e| failed("bind", e))?;
        } else {
            self.shift.bind(source, first.contains(MsFlags::MS_REC), &point.path)?;
        }
        if !attributes.is_empty() {
            let flags = attributes | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
            mount(None::<&str>, &target.point()?.path, None::<&str>, flags, None::<&str>)
                .map_err(|e| failed("remount", e))?;
        }
        Ok(())
    }

    /// Attaches the loop device, if there is one. It must be kept until it is mounted.
    fn attach(&mut self, what: &Mount) -> Result<Option<Loop>, (&'static str, Errno)> {
        if !self.loopback {
            return Ok(None);
        }
        let before = self.data.len();
        self.data.retain(|word| word != "direct-io");
        let direct = self.data.len() < before;
        Loop::attach(Path::new(&what.source), self.flags.contains(MsFlags::MS_RDONLY), direct).map(Some)
    }

    fn propagate(&self, target: Target<'_>) -> Result<(), Failure> {
        for flags in &self.propagation {
            mount(None::<&str>, &target.point()?.path, None::<&str>, *flags, None::<&str>)
                .map_err(|e| failure("propagation", target.root, e))?;
        }
        Ok(())
    }
}

/// Mounts a FUSE file system with its helper program, which gets the options unchanged.
fn run_helper(helper: &str, kind: &str, what: &Mount, target: Target<'_>) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Code::Unknown, format!("prepare the root {:?}: run {helper}: {why}", target.root))
    };
    if !target.inside.is_empty() {
        return Err(failed(&format_args!(
            "FUSE mounts inside the root ({:?}) are not supported",
            what.target
        )));
    }
    let mut command = Command::new(helper);
    command.arg(&what.source).arg(target.root);
    for option in &what.options {
        command.arg("-o").arg(option);
    }
    let done = command.arg("-t").arg(kind).stdin(Stdio::null()).output().map_err(|e| failed(&e))?;
    if done.status.success() {
        return Ok(());
    }
    Err(failed(&format_args!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim())))
}

/// Makes the lower directories of an overlay relative to their common parent directory, which is returned.
fn shorten(data: &mut [String]) -> Option<PathBuf> {
    let option = data.iter_mut().find(|word| word.starts_with("lowerdir="))?;
    let list = option.strip_prefix("lowerdir=")?;
    let dirs: Vec<&str> = list.split(':').collect();
    let mut common = Path::new(dirs.first()?).parent()?;
    while !dirs.iter().all(|dir| Path::new(dir).starts_with(common)) {
        common = common.parent()?;
    }
    if !common.is_absolute() {
        return None;
    }
    let relative = |dir: &&str| Some(Path::new(dir).strip_prefix(common).ok()?.to_str()?.to_owned());
    let short: Vec<String> = dirs.iter().map(relative).collect::<Option<_>>()?;
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
    fn known_options_become_flags_and_others_are_passed_to_the_file_system() {
        let parsed =
            Options::parse(&mount("overlay", &["ro", "nodev", "index=off", "rprivate", "rw"])).unwrap();
        assert_eq!(parsed.flags, MsFlags::MS_NODEV);
        assert_eq!(parsed.data, ["index=off"]);
        assert_eq!(parsed.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC]);
        let bind = Options::parse(&mount("bind", &["rbind", "ro"])).unwrap();
        assert_eq!(bind.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
    }

    #[test]
    fn unsupported_options_are_errors_with_their_name() {
        for (kind, word, part) in [("bind", "loop", "loop"), ("ext4", "uidmap=0:1:2", "uidmap")] {
            let why = Options::parse(&mount(kind, &[word])).unwrap_err();
            assert!(why.message.contains(part), "{why}");
        }
        let inside = Mount { target: "/etc".to_owned(), ..mount("bind", &["uidmap=0:1:2", "gidmap=0:1:2"]) };
        assert!(Options::parse(&inside).unwrap_err().message.contains("/etc"));
    }

    #[test]
    fn long_lists_of_lower_directories_are_made_relative() {
        let mut data = vec!["workdir=/w".to_owned(), "lowerdir=/a/b/1/fs:/a/b/22/fs:/a/b/3/fs".to_owned()];
        assert_eq!(shorten(&mut data), Some(PathBuf::from("/a/b")));
        assert_eq!(data, ["workdir=/w", "lowerdir=1/fs:22/fs:3/fs"]);
        let mut one = vec!["lowerdir=/a/b".to_owned()];
        assert_eq!(shorten(&mut one), Some(PathBuf::from("/a")));
        assert_eq!(one, ["lowerdir=b"]);
        assert_eq!(shorten(&mut ["lowerdir=a:b".to_owned()]), None);
    }
}
