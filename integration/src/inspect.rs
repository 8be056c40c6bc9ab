//! Reading the inspector's report: the pieces that many tests ask for.
//!
//! The report is the JSON object that `inspector report` prints; see `bin/inspector.rs` for its members.

use serde_json::Value;

use crate::outcome::{Stop, fail};

/// The values after `name:` in the report's /proc/self/status.
#[track_caller]
pub fn status<'a>(report: &'a Value, name: &str) -> Result<&'a str, Stop> {
    let found = report["status"].as_str().unwrap_or_default().lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value.trim())
    });
    found.map_or_else(|| fail(format!("no {name} in the report's status")), Ok)
}

/// One of the capability sets (`CapEff`, `CapBnd`, …) as a number.
#[track_caller]
pub fn caps(report: &Value, set: &str) -> Result<u64, Stop> {
    Ok(u64::from_str_radix(status(report, set)?, 16)?)
}

/// A line of mountinfo: mount point, its options, its optional fields (propagation), type, and the super block's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// The path within the file system that is mounted here.
    pub root: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// `shared:1`, `master:2`, `unbindable`.
    pub propagation: Vec<String>,
    /// The file system's type.
    pub kind: String,
    /// Options of the file system.
    pub fs_options: Vec<String>,
}

impl Mount {
    /// Reads one line.
    pub fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?.to_owned(), left.next()?.to_owned());
        let options = left.next()?.split(',').map(str::to_owned).collect();
        let propagation = left.map(str::to_owned).collect();
        let mut right = right.split(' ');
        let kind = right.next()?.to_owned();
        let fs_options = right.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Mount { point, root, options, propagation, kind, fs_options })
    }

    /// Whether the mount or its file system has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().chain(&self.fs_options).any(|o| o == option)
    }
}

/// The last mount on a path in the report.
#[track_caller]
pub fn mount(report: &Value, point: &str) -> Result<Mount, Stop> {
    let text = report["mountinfo"].as_str().unwrap_or_default();
    let found = text.lines().filter_map(Mount::parse).rfind(|m| m.point == point);
    found.map_or_else(|| fail(format!("nothing is mounted on {point}:\n{text}")), Ok)
}
