//! Image layers: compressed tar archives, unpacked to lower directories for overlay and written from its upper directories.

pub mod apply;
pub mod change;
pub mod compare;
pub mod compression;
pub mod diff;
pub mod encoder;
mod pipe;
pub mod same;
pub mod unpack;

/// Limits of a layer, against malicious images; ordinary layers are far below.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of the uncompressed layer in bytes. Default: 64 GiB.
    pub bytes: u64,
    /// Number of entries. Default: 4 million.
    pub entries: u64,
    /// Uncompressed bytes per compressed byte. Default: 1100; gzip reaches 1032.
    pub ratio: u64,
    /// Uncompressed size in bytes up to which any ratio is allowed: ordinary layers may be mostly zeros. Default: 1 GiB.
    pub ratio_floor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4 << 20, ratio: 1100, ratio_floor: 1 << 30 }
    }
}

/// The extended attributes that overlay uses (Documentation/filesystems/overlayfs.rst): `trusted.` requires CAP_SYS_ADMIN in
/// the initial user namespace, `user.` the mount option `userxattr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Marks {
    /// `trusted.overlay.*`
    Trusted,
    /// `user.overlay.*`
    User,
}

impl Marks {
    /// The attribute that marks a directory as opaque.
    #[must_use]
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
