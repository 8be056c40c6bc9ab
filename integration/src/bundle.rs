//! A bundle on disk: a directory with config.json and a root file system.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::outcome::{Outcome, Stop};
use crate::rootfs::{Trap, lay};

/// A bundle directory and its configuration, which is written when a container is made from it.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory.
    pub path: PathBuf,
    /// What config.json will say.
    pub config: Config,
}

impl Bundle {
    /// The root file system's directory.
    pub fn root(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// A path in the root file system as the host sees it.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Writes a file into the root file system.
    pub fn file(&self, path: &str, text: &str) -> Outcome {
        if let Some(parent) = self.inside(path).parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(self.inside(path), text)?;
        Ok(())
    }

    /// Puts a trap into the root file system.
    pub fn trap(&self, path: &str, trap: Trap<'_>) -> Outcome {
        lay(&self.inside(path), trap)
    }

    /// Writes config.json.
    pub fn write(&self) -> Outcome {
        self.write_text(&serde_json::to_string_pretty(&self.config.0)?)
    }

    /// Writes this text as config.json, whatever it is.
    pub fn write_text(&self, text: &str) -> Outcome {
        fs::write(self.path.join("config.json"), text)?;
        Ok(())
    }

    /// Gives everything in the bundle to a user.
    pub fn chown(&self, id: u32) -> Result<(), Stop> {
        chown_tree(&self.path, id)
    }
}

/// Gives a tree to a user and the group of the same number; links are not followed.
pub fn chown_tree(path: &Path, id: u32) -> Result<(), Stop> {
    std::os::unix::fs::lchown(path, Some(id), Some(id))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            chown_tree(&entry?.path(), id)?;
        }
    }
    Ok(())
}
