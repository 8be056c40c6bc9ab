//! serde accepts an array for a structure whose members all have defaults: `"resources": []` would mean no limits. This module checks
//! that such members of config.json are objects.

use crate::error::{Error, ErrorKind, Result};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A JSON object with the members of `T`, but not an array that `T` would accept.
struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Object(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|_| self)
    }
}

/// An object with any content.
type Any = Option<Object<std::collections::HashMap<String, IgnoredAny>>>;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the shape counts")]
struct Spec {
    root: Any,
    process: Option<Object<Process>>,
    hooks: Any,
    linux: Option<Object<Linux>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the shape counts")]
struct Process {
    user: Any,
    capabilities: Any,
    scheduler: Any,
    io_priority: Any,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the shape counts")]
struct Linux {
    resources: Option<Object<Resources>>,
    seccomp: Any,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the shape counts")]
struct Resources {
    memory: Any,
    cpu: Any,
    pids: Any,
    #[serde(rename = "blockIO")]
    block_io: Any,
    network: Any,
}

/// Refuses a config.json that has an array where the specification has an object.
pub(super) fn check(text: &[u8]) -> Result<()> {
    is::<Spec>(text)
}

/// The same for `linux.resources` alone.
pub(super) fn check_resources(text: &[u8]) -> Result<()> {
    is::<Resources>(text)
}

fn is<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<()> {
    let shape: serde_json::Result<Object<T>> = serde_json::from_slice(text);
    shape.map(drop).map_err(|e| Error::new(ErrorKind::InvalidSpec, format!("parse JSON: {e}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn arrays_are_no_objects() {
        assert!(
            super::check(br#"{"linux":{"resources":{"memory":{"limit":1}}},"process":{"user":{}}}"#).is_ok()
        );
        assert!(super::check(br#"{"linux":null,"process":{"user":null}}"#).is_ok());
        for bad in [
            r#"[]"#,
            r#"{"linux":[]}"#,
            r#"{"linux":{"resources":[]}}"#,
            r#"{"linux":{"resources":{"pids":[1]}}}"#,
        ] {
            assert!(super::check(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
