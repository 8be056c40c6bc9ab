//! The devices of a container: those of `--device`, and with `--privileged` all of the host, as in Docker.

use std::fs::{Metadata, read_dir};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use libcontainer::spec::LinuxDeviceType;

use super::context::Node;
use crate::engine::options::Options;
use crate::failure::{Result, invalid, os};

/// Created for each container, by the runtime or as mounts.
const OWN: &[&str] =
    &["console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"];
/// The depth of directories in /dev.
const DEPTH: usize = 8;
const MOST: usize = 4096;

/// The device nodes, with the numbers of those on the host. Without root only those of `--device`, since most cannot be opened.
pub(crate) fn nodes(options: &Options, rootless: bool) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    if options.privileged && !rootless {
        below(Path::new("/dev"), "/dev", "rwm", 0, &mut nodes);
        nodes.retain(|node| !OWN.iter().any(|own| node.target.strip_prefix("/dev/") == Some(own)));
    }
    for device in &options.devices {
        let path = Path::new(&device.source);
        let meta = path.metadata().map_err(|e| os(e, format!("--device {:?}", device.source)))?;
        let before = nodes.len();
        if meta.is_dir() {
            below(path, &device.target, &device.access, 0, &mut nodes);
        } else {
            nodes.extend(node(&meta, device.target.clone(), &device.access));
        }
        if nodes.len() == before {
            return Err(invalid(format!(
                "--device {:?}: not a device or a directory of devices",
                device.source
            )));
        }
    }
    Ok(nodes)
}

fn node(meta: &Metadata, target: String, access: &str) -> Option<Node> {
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    let (mode, access) = (meta.mode() & 0o777, access.to_owned());
    Some(Node { target, access, kind, major, minor, mode, uid: meta.uid(), gid: meta.gid() })
}

/// All devices below a directory, without following links. What disappears meanwhile, or cannot be read, is left out.
fn below(directory: &Path, target: &str, access: &str, depth: usize, nodes: &mut Vec<Node>) {
    for entry in read_dir(directory).into_iter().flatten().flatten() {
        let (Ok(meta), Some(name)) = (entry.metadata(), entry.file_name().to_str().map(str::to_owned)) else {
            continue;
        };
        let target = format!("{}/{name}", target.trim_end_matches('/'));
        // Separate mounts, and the host's terminals.
        let foreign = depth == 0 && OWN.contains(&name.as_str());
        if meta.is_dir() && depth < DEPTH && !foreign {
            below(&entry.path(), &target, access, depth + 1, nodes);
        } else if nodes.len() < MOST {
            nodes.extend(node(&meta, target, access));
        }
    }
}
