//! Read-only and masked paths. Read-only paths come first, so that a mask below a read-only path stays a mask.

use super::mounts::Mounts;
use super::step::Step;
use super::{Draft, Inputs, NamespaceFacts, c_string};
use crate::error::{Error, Result};
use std::ffi::CString;

/// Appends the mounts that had to stay writable until now, then `linux.readonlyPaths`.
pub(crate) fn append_read_only(
    inputs: &Inputs<'_>,
    mounts: &Mounts<'_>,
    ns: NamespaceFacts,
    draft: &mut Draft,
) -> Result<()> {
    draft.child.extend(mounts.read_only_later()?);
    let linux = inputs.spec.linux().as_ref();
    let given = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
    for path in paths(given, "linux.readonlyPaths", ns)? {
        draft.push(Step::ReadOnlyPath { path });
    }
    Ok(())
}

/// Appends `linux.maskedPaths`.
pub(crate) fn append_masks(inputs: &Inputs<'_>, ns: NamespaceFacts, draft: &mut Draft) -> Result<()> {
    let linux = inputs.spec.linux().as_ref();
    let given = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
    for path in paths(given, "linux.maskedPaths", ns)? {
        draft.push(Step::Mask { path });
    }
    Ok(())
}

fn paths(given: &[String], field: &str, ns: NamespaceFacts) -> Result<Vec<CString>> {
    if !given.is_empty() && !ns.own(libc::CLONE_NEWNS as u64) {
        return Err(Error::invalid(format!(
            "{field}: unable to restrict sys entries without a private MNT namespace"
        )));
    }
    let mut result = Vec::with_capacity(given.len());
    for (i, path) in given.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let path = match path.as_str() {
            "" => return Err(Error::invalid(format!("{field}: is empty"))),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => format!("/{relative}"),
        };
        let path = c_string(&field, path)?;
        if !result.contains(&path) {
            result.push(path);
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests;
