//! Which namespaces a container has of its own, and which it shares with the host or another container. No I/O.

use image_store::ErrorKind;

use crate::cli::Args;
use crate::failure::{Failure, Result, invalid};

/// Where a namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Own,
    Host,
    /// That of this running container.
    Container(String),
}

/// One mode for each kind that can be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) network: Mode,
    pub(crate) pid: Mode,
    pub(crate) ipc: Mode,
    pub(crate) uts: Mode,
    pub(crate) cgroup: Option<Mode>,
    /// No /dev/shm at all.
    pub(crate) no_shm: bool,
}

pub(crate) fn parse(args: &Args) -> Result<Namespaces> {
    let ipc = args.get("ipc");
    let cgroup =
        args.get("cgroupns").map(|text| mode("cgroupns", Some(text), &["private"], false)).transpose()?;
    match args.get("userns") {
        None | Some("" | "host") => {}
        Some(other) => {
            return Err(invalid(format!(
                "--userns {other:?}: must be host; without root, containers always have a user namespace"
            )));
        }
    }
    let network = args.get("network").or_else(|| args.get("net"));
    Ok(Namespaces {
        network: network_mode(network)?,
        pid: mode("pid", args.get("pid"), &["private"], true)?,
        ipc: mode("ipc", ipc.filter(|text| *text != "none"), &["private", "shareable"], true)?,
        uts: mode("uts", args.get("uts"), &["private"], false)?,
        cgroup,
        no_shm: ipc == Some("none"),
    })
}

fn network_mode(text: Option<&str>) -> Result<Mode> {
    let known = |text: &str| ["none", "host"].contains(&text) || text.starts_with("container:");
    if let Some(other) = text.filter(|text| !known(text)) {
        return Err(Failure::new(
            ErrorKind::Unsupported,
            format!(
                "--network {other:?}: not supported: use host, none or container:NAME, or run knarr under Docker, containerd or podman for bridges"
            ),
        ));
    }
    mode("network", text, &["none"], true)
}

fn mode(flag: &str, text: Option<&str>, own: &[&str], container: bool) -> Result<Mode> {
    match text {
        None | Some("") => Ok(Mode::Own),
        Some("host") => Ok(Mode::Host),
        Some(text) if own.contains(&text) => Ok(Mode::Own),
        Some(text) => match text.strip_prefix("container:").filter(|name| container && !name.is_empty()) {
            Some(name) => Ok(Mode::Container(name.to_owned())),
            None => {
                let more = if container { ", container:NAME" } else { "" };
                Err(invalid(format!("--{flag} {text:?}: must be one of {}, host{more}", own.join(", "))))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_need_a_bridge_are_refused_with_a_way_out() {
        assert_eq!(network_mode(Some("host")).unwrap(), Mode::Host);
        assert_eq!(network_mode(None).unwrap(), Mode::Own);
        assert_eq!(network_mode(Some("container:web")).unwrap(), Mode::Container("web".into()));
        for other in ["bridge", "default", "my-net"] {
            let error = network_mode(Some(other)).unwrap_err().to_string();
            assert!(error.contains(other) && error.contains("use host, none"), "{error}");
        }
        assert!(mode("uts", Some("container:x"), &["private"], false).is_err());
        assert!(mode("pid", Some("none"), &["private"], true).is_err());
    }
}
