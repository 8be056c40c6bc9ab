//! Documents as Go's programs write them: an empty list, map or text may be `null`. No I/O.

use serde::{Deserialize, Deserializer};

/// Deserializes a field whose `null` means that it is absent. With `#[serde(default)]` it may be missing, too.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
