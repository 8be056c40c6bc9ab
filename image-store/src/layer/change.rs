//! The change that an entry of a layer makes: create a file, hide one of a lower layer, or none. No I/O.
//!
//! Source: OCI image specification, layer.md, "Whiteouts". Names are resolved lexically against the root: a leading `/` and
//! `.` are dropped, `..` must not lead out of it. `apply` resolves symbolic links.

use crate::error::{Error, Result};
use crate::tar::show;

const PREFIX: &[u8] = b".wh.";
const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Longest path that a system call takes: PATH_MAX without the terminating NUL.
const PATH_LIMIT: usize = 4095;

/// The change that an entry makes, with a clean path: see [`clean`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Create the entry at this path; the empty path is the root.
    Make(Vec<u8>),
    /// Hide this path of the lower layers.
    Whiteout(Vec<u8>),
    /// Hide the contents of this directory in the lower layers.
    Opaque(Vec<u8>),
    /// Metadata of aufs: ignored.
    Skip,
}

/// Parses an entry's name.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for names that lead out of the root and for whiteouts without a name,
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) for names longer than 4095 bytes.
pub fn change(name: &[u8]) -> Result<Change> {
    let path = clean(name)?;
    let (parent, base) = split(&path);
    if base == OPAQUE {
        refuse_marks(parent)?;
        return Ok(Change::Opaque(parent.to_vec()));
    }
    if path.starts_with(META_PREFIX) || base.starts_with(META_PREFIX) {
        return Ok(Change::Skip);
    }
    refuse_marks(parent)?;
    let Some(hidden) = base.strip_prefix(PREFIX) else {
        return Ok(Change::Make(path));
    };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(Error::invalid(format!("{}: invalid whiteout name", show(name))));
    }
    Ok(Change::Whiteout(join(parent, hidden)))
}

/// Refuses directories named `.wh.x`: they would become whiteouts if the layer were written again.
fn refuse_marks(parent: &[u8]) -> Result<()> {
    if parent.split(|b| *b == b'/').any(|component| component.starts_with(PREFIX)) {
        return Err(Error::invalid(format!("{}: a whiteout must not be a directory", show(parent))));
    }
    Ok(())
}

/// The clean path: relative to the root, without empty components, `.` and `..`.
///
/// # Errors
/// Those of [`change`].
pub fn clean(name: &[u8]) -> Result<Vec<u8>> {
    if name.len() > PATH_LIMIT {
        return Err(Error::limit(format!("{}: name too long ({} bytes)", show(name), name.len())));
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if components.pop().is_none() {
                    return Err(Error::invalid(format!("{}: path leads out of the root", show(name))));
                }
            }
            _ if component.contains(&0) => {
                return Err(Error::invalid(format!("{}: contains a NUL byte", show(name))));
            }
            _ => components.push(component),
        }
    }
    Ok(components.join(&b'/'))
}

/// Splits a clean path into directory and last component.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Joins two clean paths.
#[must_use]
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_within_the_root() {
        for (name, path) in [
            ("a", "a"),
            ("./a/b/", "a/b"),
            ("/a//b/.", "a/b"),
            ("a/../b", "b"),
            (".", ""),
            ("./", ""),
            ("/", ""),
            ("a/..", ""),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(change(name.as_bytes()).unwrap(), Change::Make(path.into()), "{name}");
        }
        for bad in ["..", "../a", "a/../../b", "/..", "/../etc/passwd", "./../x", "a\0b"] {
            assert!(change(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(change(&b"a/".repeat(2048)).is_err());
    }

    #[test]
    fn marks_hide_and_bookkeeping_is_skipped() {
        for (name, wanted) in [
            (".wh.a", Change::Whiteout("a".into())),
            ("./d/.wh.a", Change::Whiteout("d/a".into())),
            ("d/.wh..wh..opq", Change::Opaque("d".into())),
            (".wh..wh..opq", Change::Opaque("".into())),
            (".wh..wh.plnk/1.2", Change::Skip),
            (".wh..wh.aufs", Change::Skip),
            ("d/.wh..wh.orph", Change::Skip),
            ("a.wh.b", Change::Make("a.wh.b".into())),
        ] {
            assert_eq!(change(name.as_bytes()).unwrap(), wanted, "{name}");
        }
        for bad in [
            ".wh.",
            "d/.wh.",
            ".wh..",
            ".wh...",
            "d/.wh...",
            ".wh.a/b",
            "d/.wh.x/.wh.y",
            ".wh.a/.wh..wh..opq",
        ] {
            assert!(change(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_yields_a_path_with_dots_or_slashes_to_spare() {
        let parts: [&[u8]; 9] = [b"..", b".", b"/", b"a", b".wh.", b".wh..wh..opq", b"\xff", b"//", b".wh.."];
        let mut state = 3_u64;
        for _ in 0..50_000 {
            let mut name = Vec::new();
            for _ in 0..7 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                name.extend_from_slice(parts[usize::try_from(state >> 33).unwrap() % parts.len()]);
            }
            if let Ok(Change::Make(path) | Change::Whiteout(path) | Change::Opaque(path)) = change(&name) {
                let bad = |c: &[u8]| matches!(c, b"" | b"." | b"..");
                assert!(path.is_empty() || !path.split(|b| *b == b'/').any(bad), "{}", show(&name));
            }
        }
    }
}
