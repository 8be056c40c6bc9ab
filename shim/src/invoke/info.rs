//! `-info`: the features of the runtime, for Docker, CRI and containerd's own checks.
//!
//! It works with any options, and without them.

use super::{Call, Error, REVISION, VERSION};
use crate::wire::info::{FEATURES, RuntimeInfo, RuntimeVersion};
use crate::wire::types::Any;
use libcontainer::Features;
use prost::Message;
use std::collections::BTreeMap;
use std::io::Read;

/// The limit of the options' size.
const LIMIT: u64 = 1 << 20;

pub(super) fn info(call: &Call) -> Result<Vec<u8>, Error> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(LIMIT).read_to_end(&mut input);
    read.map_err(|error| Error::io("read standard input", error))?;
    let options = Any::decode(input.as_slice()).ok();
    let features = Features::new([
        ("io.github.knarr.commit", REVISION.to_owned()),
        ("io.github.knarr.version", VERSION.to_owned()),
    ]);
    let features = serde_json::to_vec(&features).map_err(|error| Error::io("features", error.into()))?;
    let info = RuntimeInfo {
        name: call.runtime_name(),
        version: Some(RuntimeVersion { version: VERSION.to_owned(), revision: REVISION.to_owned() }),
        options: options.filter(|any| !any.type_url.is_empty()),
        features: Some(Any { type_url: FEATURES.to_owned(), value: features }),
        annotations: BTreeMap::new(),
    };
    Ok(info.encode_to_vec())
}
