//! Reads a type out of JSON more strictly than serde does by itself. A structure must be an object: serde also takes an array, so that
//! `"resources": []` would mean no limits. And a name that is a known one but for its case is an error: runtimes in Go honour
//! `MaskedPaths`, and passing over it as unknown would leave the container less confined than there.

use crate::error::{Error, Result};
use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use std::fmt;

/// Names of the specification that oci-spec 0.10 spells in another way. None of them has an effect here.
const OTHER_SPELLING: [&str; 2] = ["enableCMT", "enableMBM"];

/// A `T` from this value.
///
/// # Errors
/// `InvalidSpec`, naming the member.
pub(super) fn from_value<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T> {
    T::deserialize(Strict(value)).map_err(|e| Error::invalid(format!("parse JSON: {e}")))
}

struct Strict<'de>(&'de Value);

/// What is wrong, and where: names and `[indices]`, the innermost first.
#[derive(Debug)]
struct Wrong {
    what: String,
    place: Vec<String>,
}

impl Wrong {
    fn inside(mut self, place: String) -> Self {
        self.place.push(place);
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.place.iter().rev().enumerate() {
            write!(f, "{}{part}", if i == 0 || part.starts_with('[') { "" } else { "." })?;
        }
        write!(f, "{}{}", if self.place.is_empty() { "" } else { ": " }, self.what)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Wrong { what: what.to_string(), place: Vec::new() }
    }
}

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (None, Some(value), _) => visitor.visit_i64(value),
                (None, None, value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(Items { list, next: 0 }),
            Value::Object(members) => visitor.visit_map(Members { rest: members.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> std::result::Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Wrong> {
        self.0.deserialize_enum(name, variants, visitor).map_err(Wrong::custom)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Wrong> {
        match self.0 {
            Value::Array(_) => return Err(Wrong::invalid_type(Unexpected::Seq, &"an object")),
            Value::Object(members) => check_names(members, fields)?,
            _ => {}
        }
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

fn check_names(members: &Map<String, Value>, fields: &[&'static str]) -> std::result::Result<(), Wrong> {
    let unknown =
        |name: &&String| !fields.contains(&name.as_str()) && !OTHER_SPELLING.contains(&name.as_str());
    for name in members.keys().filter(unknown) {
        if let Some(right) = fields.iter().find(|field| field.eq_ignore_ascii_case(name)) {
            return Err(Wrong::custom(format!("must be spelled {right:?}")).inside(name.clone()));
        }
    }
    Ok(())
}

struct Items<'de> {
    list: &'de [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> std::result::Result<Option<T::Value>, Wrong> {
        let Some(item) = self.list.get(self.next) else { return Ok(None) };
        let value = seed.deserialize(Strict(item)).map_err(|e| e.inside(format!("[{}]", self.next)))?;
        self.next += 1;
        Ok(Some(value))
    }
}

struct Members<'de> {
    rest: serde_json::map::Iter<'de>,
    current: Option<(&'de String, &'de Value)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> std::result::Result<Option<K::Value>, Wrong> {
        self.current = self.rest.next();
        let Some((name, _)) = self.current else { return Ok(None) };
        let name: StrDeserializer<'_, Wrong> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> std::result::Result<V::Value, Wrong> {
        let (name, value) = self.current.ok_or_else(|| Wrong::custom("a value without a name"))?;
        seed.deserialize(Strict(value)).map_err(|e| e.inside(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxResources, Spec};

    fn error<'de, T: Deserialize<'de> + fmt::Debug>(value: &'de Value) -> String {
        from_value::<T>(value).expect_err("it is refused").to_string()
    }

    #[test]
    fn arrays_are_no_objects() {
        let good = [
            r#"{"linux":{"resources":{"memory":{"limit":1}}},"process":{"cwd":"/","user":{}}}"#,
            r#"{"linux":null,"process":null}"#,
        ];
        for text in good {
            from_value::<Spec>(&serde_json::from_str(text).unwrap()).expect(text);
        }
        for text in [
            r#"[]"#,
            r#"{"linux":[]}"#,
            r#"{"linux":{"resources":[]}}"#,
            r#"{"linux":{"resources":{"pids":[1]}}}"#,
            r#"{"linux":{"resources":{"devices":[[]]}}}"#,
            r#"{"root":[]}"#,
            r#"{"mounts":[["/x"]]}"#,
        ] {
            let e = error::<Spec>(&serde_json::from_str(text).unwrap());
            assert!(e.ends_with("invalid type: sequence, expected an object"), "{text}: {e}");
        }
    }

    #[test]
    fn an_error_names_the_member() {
        for (text, expected) in [
            (r#"{"ociVersion":7}"#, "ociVersion: invalid type: integer `7`, expected a string"),
            (
                r#"{"process":{"cwd":"/","user":{"uid":"x","gid":0}}}"#,
                "process.user.uid: invalid type: string \"x\", expected u32",
            ),
            (
                r#"{"process":{"cwd":"/","user":{"uid":-1,"gid":0}}}"#,
                "process.user.uid: invalid value: integer `-1`, expected u32",
            ),
            (r#"{"mounts":[{"destination":"/"},{}]}"#, "mounts[1]: missing field `destination`"),
            (
                r#"{"linux":{"memoryPolicy":{"mode":"MPOL_X"}}}"#,
                "linux.memoryPolicy.mode: unknown variant `MPOL_X`",
            ),
        ] {
            let e = error::<Spec>(&serde_json::from_str(text).unwrap());
            assert!(e.starts_with(&format!("parse JSON: {expected}")), "{text}: {e}");
        }
    }

    /// Every object of config.json that has names, with one in another case.
    #[test]
    fn a_known_name_in_another_case_is_refused_with_the_right_spelling() {
        for (text, place, right) in [
            (r#"{"OCIVersion":"1.0.0"}"#, "OCIVersion", "ociVersion"),
            (r#"{"Linux":{}}"#, "Linux", "linux"),
            (r#"{"root":{"path":"r","readOnly":true}}"#, "root.readOnly", "readonly"),
            (
                r#"{"process":{"cwd":"/","user":{},"nonewprivileges":true}}"#,
                "process.nonewprivileges",
                "noNewPrivileges",
            ),
            (r#"{"process":{"cwd":"/","user":{"UID":7}}}"#, "process.user.UID", "uid"),
            (
                r#"{"process":{"cwd":"/","user":{},"capabilities":{"Bounding":[]}}}"#,
                "process.capabilities.Bounding",
                "bounding",
            ),
            (
                r#"{"process":{"cwd":"/","user":{},"rlimits":[{"type":"RLIMIT_CPU","soft":1,"hard":1,"Soft":2}]}}"#,
                "process.rlimits[0].Soft",
                "soft",
            ),
            (r#"{"linux":{"MaskedPaths":[]}}"#, "linux.MaskedPaths", "maskedPaths"),
            (r#"{"linux":{"resources":{"memory":{"Limit":1}}}}"#, "linux.resources.memory.Limit", "limit"),
            (r#"{"linux":{"resources":{"blockio":{}}}}"#, "linux.resources.blockio", "blockIO"),
            (
                r#"{"linux":{"resources":{"devices":[{"Allow":false}]}}}"#,
                "linux.resources.devices[0].Allow",
                "allow",
            ),
            (
                r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","Syscalls":[]}}}"#,
                "linux.seccomp.Syscalls",
                "syscalls",
            ),
            (r#"{"linux":{"namespaces":[{"type":"pid","Path":"/x"}]}}"#, "linux.namespaces[0].Path", "path"),
            (r#"{"mounts":[{"destination":"/x","Options":["ro"]}]}"#, "mounts[0].Options", "options"),
            (r#"{"hooks":{"CreateRuntime":[]}}"#, "hooks.CreateRuntime", "createRuntime"),
        ] {
            let e = error::<Spec>(&serde_json::from_str(text).unwrap());
            assert_eq!(e, format!("parse JSON: {place}: must be spelled {right:?}"), "{text}");
        }
        let e = error::<LinuxResources>(&serde_json::from_str(r#"{"Pids":{"limit":1}}"#).unwrap());
        assert_eq!(e, "parse JSON: Pids: must be spelled \"pids\"");
    }

    #[test]
    fn other_unknown_names_and_free_ones_are_let_through() {
        for text in [
            r#"{"x-vendor":{"Root":1},"annotations":{"OCIVersion":"x","Linux":"y"}}"#,
            r#"{"linux":{"sysctl":{"Net.Ipv4":"1"},"intelRdt":{"enableCMT":true,"enableMBM":false}}}"#,
            r#"{"linux":{"resources":{"unified":{"Memory.max":"1"}}}}"#,
        ] {
            from_value::<Spec>(&serde_json::from_str(text).unwrap()).expect(text);
        }
    }
}
