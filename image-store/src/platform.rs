//! Platforms, and which image of an index fits a machine.
//!
//! Names are those of Go's GOOS and GOARCH (OCI image specification, image-index.md, "platform") with the usual aliases.
//! Variants of an architecture are ordered: an older one is chosen if there is no exact match. No I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::absent::or_default;
use crate::error::{Error, Result};

/// Operating system, architecture and variant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct Platform {
    /// The operating system: `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// The architecture: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// The variant of the architecture: `v7`, `v8`; empty if there are none, or for the baseline.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Features that the image requires of the operating system, such as `erofs`.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

impl Platform {
    /// The platform that this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), ..Self::default() }.normalised()
    }

    /// Parses and normalises `os/architecture[/variant]`, or an architecture alone for Linux.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for another number of parts and for other characters.
    pub fn parse(text: &str) -> Result<Self> {
        let part =
            |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|p| part(p)) {
            return Err(Error::invalid(format!("platform {text:?}: must be OS/ARCHITECTURE[/VARIANT]")));
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => {
                return Err(Error::invalid(format!("platform {text:?}: must be OS/ARCHITECTURE[/VARIANT]")));
            }
        };
        let platform = Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_ascii_lowercase(),
            variant: variant.to_ascii_lowercase(),
            os_features: Vec::new(),
        };
        Ok(platform.normalised())
    }

    /// Replaces aliases (`x86_64` by `amd64`, `armhf` by `arm/v7`), adds a default variant and drops a redundant one.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        let (architecture, variant) = match (self.architecture.as_str(), self.variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", "v8"),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5" | "6" | "8") => (
                "arm",
                match self.variant.as_str() {
                    "5" => "v5",
                    "6" => "v6",
                    _ => "v8",
                },
            ),
            (a, v) => (a, v),
        };
        (self.architecture, self.variant) = (architecture.to_owned(), variant.to_owned());
        self
    }

    /// How well an image for `offered` fits this platform: smaller is better, `None` means not at all.
    #[must_use]
    pub fn rank(&self, offered: &Platform) -> Option<u32> {
        let offered = offered.clone().normalised();
        if offered.os != self.os
            || offered.architecture != self.architecture
            || !offered.os_features.is_empty()
        {
            return None;
        }
        let level = |variant: &str| -> Option<u32> {
            match (self.architecture.as_str(), variant) {
                ("amd64", "") => Some(10),
                (_, v) => {
                    let (major, minor) =
                        v.strip_prefix('v')?.split_once('.').unwrap_or((v.strip_prefix('v')?, "0"));
                    Some(major.parse::<u32>().ok()?.checked_mul(10)?.checked_add(minor.parse().ok()?)?)
                }
            }
        };
        if offered.variant == self.variant {
            return Some(0);
        }
        level(&self.variant)?.checked_sub(level(&offered.variant)?)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_replaced() {
        for (typed, normal) in [
            ("x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("aarch64", "linux/arm64/v8"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("Linux/AMD64", "linux/amd64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(Platform::parse(typed).unwrap().to_string(), normal, "{typed}");
        }
        for bad in ["", "/", "a/b/c/d", "linux/", "linux/am d64"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_older_variant_serves_and_a_newer_one_never() {
        let rank = |have: &str, offered: &str| {
            Platform::parse(have).unwrap().rank(&Platform::parse(offered).unwrap())
        };
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/amd64/v2"), None);
        assert_eq!(rank("linux/amd64/v3", "linux/amd64"), Some(20));
        assert_eq!(rank("linux/amd64/v3", "linux/amd64/v2"), Some(10));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), Some(10));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("linux/arm64", "linux/arm/v7"), None);
        assert_eq!(rank("linux/arm64/v8.1", "linux/arm64"), Some(1));
    }

    #[test]
    fn an_image_that_demands_features_is_not_chosen() {
        let host = Platform::parse("linux/amd64").unwrap();
        let offered = Platform { os_features: vec!["erofs".into()], ..host.clone() };
        assert_eq!(host.rank(&offered), None);
    }
}
