//! The container's /dev: the default nodes, those of `linux.devices`, and the links that every program expects.
//!
//! It decides on names and numbers; `devfilter` decides whether the cgroup allows a device.

use super::mounts::{Mounts, clean};
use super::step::{MountAttr, ProcGuard, Source, Step, Target, TargetKind};
use super::{Draft, Inputs, NamespaceFacts, c_string};
use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Character devices that every container has: name, major, minor.
const DEFAULTS: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];
const DEFAULT_MODE: u32 = 0o666;

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// The kernel's dev_t has 12 bits for the major and 20 for the minor number.
const MAX_MAJOR: i64 = 0xfff;
const MAX_MINOR: i64 = 0xf_ffff;

struct Node {
    path: PathBuf,
    mode: u32,
    major: u32,
    minor: u32,
    uid: u32,
    gid: u32,
}

/// Appends the steps that fill /dev; none when /dev itself is a bind mount.
pub(crate) fn append(
    inputs: &Inputs<'_>,
    mounts: &Mounts<'_>,
    ns: NamespaceFacts,
    draft: &mut Draft,
) -> Result<()> {
    let nodes = nodes(inputs)?;
    if mounts.dev_is_bound() {
        return Ok(());
    }
    // mknod(2) needs the initial user namespace.
    let bind = ns.own(libc::CLONE_NEWUSER as u64) || inputs.host.in_user_namespace;
    let mut open = None;
    for node in nodes {
        if bind {
            draft.push(bound(&node)?);
        } else {
            append_node(&node, &mut open, draft)?;
        }
    }
    append_links(inputs, open.as_deref(), draft)
}

fn nodes(inputs: &Inputs<'_>) -> Result<Vec<Node>> {
    let linux = inputs.spec.linux().as_ref();
    let wanted = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let mut given = Vec::new();
    for (i, device) in wanted.iter().enumerate() {
        given.extend(node(device, &format!("linux.devices[{i}]"))?);
    }
    let mut nodes: Vec<_> = DEFAULTS
        .iter()
        .map(|&(path, major, minor)| Node {
            path: path.into(),
            mode: libc::S_IFCHR | DEFAULT_MODE,
            major,
            minor,
            uid: 0,
            gid: 0,
        })
        .filter(|default| given.iter().all(|node| node.path != default.path))
        .collect();
    nodes.extend(given);
    // /dev/ptmx is a link to the container's own devpts.
    nodes.retain(|node| node.path != Path::new("/dev/ptmx"));
    Ok(nodes)
}

/// `None` for a device without a path, which exists for its cgroup rule only.
fn node(device: &LinuxDevice, field: &str) -> Result<Option<Node>> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => {
            return Err(Error::invalid(format!("{field}.type: \"a\" is for rules only; use b, c, u or p")));
        }
    };
    if device.path().as_os_str().is_empty() {
        return Ok(None);
    }
    if !device.path().is_absolute() {
        return Err(Error::invalid(format!("{field}.path: {:?} is not absolute", device.path())));
    }
    let path = clean(device.path());
    if path == Path::new("/") {
        return Err(Error::invalid(format!("{field}.path: {:?} is the root itself", device.path())));
    }
    let (major, minor) = match kind {
        libc::S_IFIFO => (0, 0),
        _ => (
            number(device.major(), MAX_MAJOR, &format!("{field}.major"))?,
            number(device.minor(), MAX_MINOR, &format!("{field}.minor"))?,
        ),
    };
    Ok(Some(Node {
        path,
        mode: kind | device.file_mode().unwrap_or(DEFAULT_MODE) & 0o7777,
        major,
        minor,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    }))
}

fn number(value: i64, max: i64, field: &str) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|_| value <= max)
        .ok_or_else(|| Error::invalid(format!("{field}: {value} must be between 0 and {max}")))
}

/// Binds the host's node instead of making one.
fn bound(node: &Node) -> Result<Step> {
    let path = c_string("linux.devices", node.path.as_os_str().as_bytes())?;
    Ok(Step::Bind {
        source: Source::Path(path.clone()),
        recursive: false,
        attr: MountAttr::default(),
        target: Target {
            path,
            kind: TargetKind::LikeSource,
            no_symlinks: false,
            proc: ProcGuard::NotOnProcfs,
        },
    })
}

fn append_node(node: &Node, open: &mut Option<PathBuf>, draft: &mut Draft) -> Result<()> {
    let (Some(parent), Some(name)) = (node.path.parent(), node.path.file_name()) else {
        return Err(Error::invalid(format!(
            "linux.devices: {:?} is not a valid path for a device",
            node.path
        )));
    };
    if open.as_deref() != Some(parent) {
        draft.push(Step::OpenDir { path: c_string("linux.devices", parent.as_os_str().as_bytes())? });
        *open = Some(parent.to_owned());
    }
    draft.push(Step::Node {
        name: c_string("linux.devices", name.as_bytes())?,
        mode: node.mode,
        major: node.major,
        minor: node.minor,
        uid: node.uid,
        gid: node.gid,
        shown: c_string("linux.devices", node.path.as_os_str().as_bytes())?,
    });
    Ok(())
}

fn append_links(inputs: &Inputs<'_>, open: Option<&Path>, draft: &mut Draft) -> Result<()> {
    if open != Some(Path::new("/dev")) {
        draft.push(Step::OpenDir { path: c"/dev".to_owned() });
    }
    // A ptmx of the image would open a terminal of another devpts.
    let mut link = |name: &str, to: &str, replace: bool| -> Result<()> {
        draft.push(Step::Link {
            name: c_string("link", name)?,
            to: c_string("link", to)?,
            shown: c_string("link", format!("/dev/{name}"))?,
            replace,
        });
        Ok(())
    };
    link("ptmx", "pts/ptmx", true)?;
    for (name, to) in LINKS {
        link(name, to, false)?;
    }
    if inputs.host.kcore {
        link("core", "/proc/kcore", false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
