//! `-info`: what the runtime can do, for Docker, CRI and containerd's own checks.
//!
//! It never fails for the options: who asks with none, or with another runtime's, still wants to know.

use super::{Call, REVISION, VERSION};
use crate::wire::info::{FEATURES, RuntimeInfo, RuntimeVersion};
use crate::wire::types::Any;
use libcontainer::Features;
use prost::Message;
use std::collections::BTreeMap;
use std::io::Read;

/// More than any options have.
const LIMIT: u64 = 1 << 20;

pub(super) fn info(call: &Call) -> Result<Vec<u8>, String> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(LIMIT).read_to_end(&mut input);
    read.map_err(|error| format!("read standard input: {error}"))?;
    let options = Any::decode(input.as_slice()).ok();
    let features = Features::new([
        ("io.github.knarr.commit", REVISION.to_owned()),
        ("io.github.knarr.version", VERSION.to_owned()),
    ]);
    let features = serde_json::to_vec(&features).map_err(|error| format!("features: {error}"))?;
    let info = RuntimeInfo {
        name: call.runtime_name(),
        version: Some(RuntimeVersion { version: VERSION.to_owned(), revision: REVISION.to_owned() }),
        options: options.filter(|any| !any.type_url.is_empty()),
        features: Some(Any { type_url: FEATURES.to_owned(), value: features }),
        annotations: BTreeMap::new(),
    };
    Ok(info.encode_to_vec())
}
