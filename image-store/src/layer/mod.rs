//! Layers: a compressed tar on one side, a folder that overlay can use as a lower directory on the other.

pub mod apply;
pub mod change;
pub mod compare;
pub mod compression;
pub mod diff;
mod pipe;
pub mod unpack;

/// What one layer may cost. Hostile layers are refused at these bounds, honest ones do not get near.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the uncompressed layer. Default 64 GiB.
    pub bytes: u64,
    /// Entries. Default 4 million.
    pub entries: u64,
    /// Uncompressed bytes per compressed byte. Default 1100: gzip can do 1032.
    pub ratio: u64,
    /// Up to so many uncompressed bytes any ratio will do, for small honest layers are mostly zeros. Default 1 GiB.
    pub ratio_floor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4 << 20, ratio: 1100, ratio_floor: 1 << 30 }
    }
}

/// Where overlay keeps its marks: `trusted.` wants CAP_SYS_ADMIN in the first user namespace, `user.` the mount option `userxattr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Marks {
    /// `trusted.overlay.*`
    Trusted,
    /// `user.overlay.*`
    User,
}

impl Marks {
    /// The attribute that hides what lies below a folder.
    #[must_use]
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
