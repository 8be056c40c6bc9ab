//! What config.json depends on besides the image and the flags.

use std::path::PathBuf;

use libcontainer::spec::LinuxDeviceType;

use crate::container::record::Mounted;
use crate::engine::user::User;
use crate::places::ContainerDir;
use crate::rootless::Ids;

/// What config.json needs besides the image and the flags.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) directory: &'a ContainerDir,
    pub(crate) hostname: &'a str,
    pub(crate) user: &'a User,
    pub(crate) volumes: &'a [Mounted],
    pub(crate) nodes: &'a [Node],
    /// The path of knarr-init on the host.
    pub(crate) init: Option<PathBuf>,
    pub(crate) id: &'a str,
    /// The IDs of the user namespace; `None` for root.
    pub(crate) ids: Option<Ids>,
}

/// A device node of the container.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) target: String,
    pub(crate) access: String,
    pub(crate) kind: LinuxDeviceType,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}
