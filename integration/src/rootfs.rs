//! A root file system for a test: static busybox, the inspector, a few files; or a hostile one.
//!
//! Programs are hard links to one copy made per run, so a container can't change the originals.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::outcome::{Outcome, Stop, fail};

const APPLETS: &str = "[ awk basename cat chgrp chmod chown cp cut date dd df dirname echo env expr false find free \
    grep head hostname id ifconfig ip kill killall ln ls mkdir mkfifo mknod mktemp mount mv nc nproc ps pwd readlink \
    renice rm rmdir route sed seq sh sleep sort stat stty sync tail tee test time timeout top touch tr true tty umount \
    uname unshare wc which whoami xargs yes";

/// The programs that every root file system of a run links to.
#[derive(Debug, Clone)]
pub struct Programs {
    busybox: PathBuf,
    inspector: PathBuf,
}

impl Programs {
    /// Copies the machine's static busybox and the built inspector to `dir`.
    pub fn gather(dir: &Path) -> Result<Self, Stop> {
        let Some(busybox) = static_busybox() else {
            return fail("no static busybox on this machine: apt-get install busybox-static");
        };
        let Some(inspector) = beside_this_program("inspector") else {
            return fail("no inspector beside the test program: cargo build -p integration");
        };
        fs::create_dir_all(dir)?;
        let programs = Programs { busybox: dir.join("busybox"), inspector: dir.join("inspector") };
        fs::copy(busybox, &programs.busybox)?;
        fs::copy(inspector, &programs.inspector)?;
        Ok(programs)
    }

    /// Builds an ordinary root file system in the new directory `root`.
    pub fn build(&self, root: &Path) -> Outcome {
        for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var/log", "run", "home/user", "mnt"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::hard_link(&self.busybox, root.join("bin/busybox"))?;
        fs::hard_link(&self.inspector, root.join("bin/inspector"))?;
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )?;
        fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")?;
        Ok(())
    }
}

/// Busybox without a dynamic loader, where Debian and its relatives put it.
pub fn static_busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"].iter().map(PathBuf::from).find(|p| p.exists())
}

/// A program of this workspace: in the directory of this test program or the one above it.
pub fn beside_this_program(name: &str) -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    here.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// Puts a symlink, FIFO, device or file where something else is expected.
#[derive(Debug, Clone, Copy)]
pub enum Trap<'a> {
    /// A symbolic link to this target.
    Link(&'a str),
    /// A FIFO: opening it to read blocks forever.
    Fifo,
    /// A regular file with this text.
    File(&'a str),
    /// An empty directory.
    Directory,
    /// The character device with these numbers.
    Device(u64, u64),
}

/// Replaces whatever is at `path` by the trap.
pub fn lay(path: &Path, trap: Trap<'_>) -> Outcome {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = Mode::from_bits_truncate(0o666);
    match trap {
        Trap::Link(target) => symlink(target, path)?,
        Trap::Fifo => mknod(path, SFlag::S_IFIFO, mode, 0)?,
        Trap::File(text) => fs::write(path, text)?,
        Trap::Directory => fs::create_dir(path)?,
        Trap::Device(major, minor) => {
            mknod(path, SFlag::S_IFCHR, mode, nix::sys::stat::makedev(major, minor))?;
        }
    }
    Ok(())
}
