//! A bundle: a directory with a config.json, parsed once; only here do relative paths become absolute.
//!
//! config.json, and files with parts of it, are read with limits: a huge or deeply nested file is an error within milliseconds, not a
//! crash.

mod file;
mod strict;

use crate::error::{Context, Error, ErrorKind, Object, Result, Stage};
use crate::rootfs::overlay::Overlay;
use file::{check_size, read, read_or_receive};
use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A parsed bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) spec: Box<Spec>,
    /// The copy-on-write root, mounted on the directory at `root.path`.
    pub(crate) overlay: Option<Overlay>,
    /// Problems that were tolerated while parsing.
    pub(crate) warnings: Vec<String>,
}

impl Bundle {
    /// Reads `config.json` in the directory `path`.
    ///
    /// # Errors
    /// `NotFound`, about the `Bundle`, without config.json; `InvalidSpec` if it is not valid JSON, has a value of the wrong type or is
    /// larger than 16 MiB.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Bundle::read(path).map_err(|e| e.about(Object::Bundle).at(Stage::Plan))
    }

    fn read(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("bundle {path:?}"))?;
        let file = path.join("config.json");
        let text = read(&file)?;
        let (spec, warnings) = parse(&text).map_err(|e| e.wrap(format!("read {file:?}")))?;
        Ok(Bundle { path, spec, overlay: None, warnings })
    }

    /// A bundle from the text of its config.json, with `path` as for [`Bundle::new`].
    ///
    /// # Errors
    /// `InvalidSpec` as [`Bundle::load`].
    pub fn parse(path: impl Into<PathBuf>, config: &[u8]) -> Result<Self> {
        let parsed = check_size("config.json", config.len() as u64).and_then(|()| parse(config));
        let (spec, warnings) = parsed.map_err(|e| e.about(Object::Bundle).at(Stage::Plan))?;
        Ok(Bundle { spec, warnings, ..Bundle::new(path, Spec::default()) })
    }

    /// A bundle from a specification built in memory; relative paths in it are relative to `path`. If that is empty, they are refused.
    pub fn new(path: impl Into<PathBuf>, spec: Spec) -> Self {
        let path = path.into();
        // An empty path stays empty: then the plan refuses relative paths.
        let path = std::path::absolute(&path).unwrap_or(path);
        Bundle { path, spec: Box::new(spec), overlay: None, warnings: Vec::new() }
    }

    /// Sets a copy-on-write root: `root.path` is then only the directory on which it is mounted, in the container's mount namespace.
    pub fn with_rootfs(mut self, overlay: Overlay) -> Self {
        self.overlay = Some(overlay);
        self
    }

    /// The specification.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The specification, to be changed before a container is created from it.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// The absolute path of the bundle.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Warnings for the user about problems in config.json that were tolerated.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Parses config.json. Any value of the wrong type is an error, except for those that `tolerate` and `tolerate_limits` repair.
fn parse(text: &[u8]) -> Result<(Box<Spec>, Vec<String>)> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| json_error(&e))?;
    value.pointer_mut("/linux/resources").map(tolerate_limits);
    let warnings = value.get_mut("process").map(tolerate).unwrap_or_default();
    Ok((strict::from_value(&value)?, warnings))
}

/// Makes limits acceptable to oci-spec 0.10: a `pids` without a limit, which oci-spec would read as 0; `pagesize` for `pageSize`, which is
/// common because Go's decoder ignores case; `CPU` with the names of Go's structure, `{"CPU": {"Cpus": "0"}}`, which runc's own tests have;
/// and limits of huge pages above 63 bits. JSON of others has to be
/// repaired as JSON, before it has a type.
fn tolerate_limits(resources: &mut Value) {
    let unset =
        |pids: &Value| pids.as_object().is_some_and(|pids| pids.get("limit").is_none_or(Value::is_null));
    if let Some(fields) = resources.as_object_mut().filter(|fields| fields.get("pids").is_some_and(unset)) {
        fields.remove("pids");
    }
    if let Some(fields) = resources.as_object_mut() {
        take_go_cpu(fields);
    }
    let pages = resources.pointer_mut("/hugepageLimits").and_then(Value::as_array_mut);
    for limit in pages.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(size) = limit.remove("pagesize") {
            limit.entry("pageSize").or_insert(size);
        }
        if limit.get("limit").and_then(Value::as_u64).is_some_and(|bytes| bytes > i64::MAX.cast_unsigned()) {
            limit.insert("limit".to_owned(), i64::MAX.into());
        }
    }
}

fn take_go_cpu(resources: &mut Map<String, Value>) {
    if !resources.get("CPU").is_some_and(Value::is_object) {
        return;
    }
    let mut cpu = match resources.remove("cpu") {
        Some(Value::Object(cpu)) => cpu,
        _ => Map::new(),
    };
    for (name, value) in resources.remove("CPU").iter().filter_map(Value::as_object).flatten() {
        let (first, rest) = name.split_at_checked(1).unwrap_or((name, ""));
        cpu.insert(first.to_ascii_lowercase() + rest, value.clone());
    }
    resources.insert("cpu".to_owned(), Value::Object(cpu));
}

/// Reads limits from a file, with config.json's limits of size, and parses them as [`parse_resources`] does.
///
/// # Errors
/// `NotFound`; `InvalidSpec` if it is neither a regular file nor a pipe, too large, not of that form, or a pipe that is not closed within
/// ten seconds.
pub fn load_resources(path: impl AsRef<Path>) -> Result<LinuxResources> {
    let path = path.as_ref();
    parse_resources(&read_or_receive(path)?).map_err(|e| e.wrap(format!("read {path:?}")))
}

/// Reads the description of a process from a file, with config.json's limits of size, and parses it as [`parse_process`] does.
///
/// # Errors
/// `NotFound`; `InvalidSpec` if it is neither a regular file nor a pipe, too large, not of that form, or a pipe that is not closed within
/// ten seconds.
pub fn load_process(path: impl AsRef<Path>) -> Result<(Process, Vec<String>)> {
    let path = path.as_ref();
    parse_process(&read_or_receive(path)?).map_err(|e| e.wrap(format!("read {path:?}")))
}

/// Parses limits alone, as for [`Container::update`](crate::Container::update): a JSON object of the form of `linux.resources`.
///
/// # Errors
/// `InvalidSpec` if it is not a JSON object of that form.
pub fn parse_resources(text: &[u8]) -> Result<LinuxResources> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| json_error(&e))?;
    tolerate_limits(&mut value);
    strict::from_value(&value)
}

/// Parses the description of a process alone, as for `exec`, and returns warnings about tolerated problems in it. `user` and `cwd` may
/// be left out.
///
/// # Errors
/// `InvalidSpec` if it is not a JSON object of that form.
pub fn parse_process(text: &[u8]) -> Result<(Process, Vec<String>)> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| json_error(&e))?;
    let Some(fields) = value.as_object_mut() else {
        return Err(Error::invalid("parse JSON: not an object"));
    };
    if fields.get("cwd").is_none_or(Value::is_null) {
        fields.insert("cwd".to_owned(), Value::from(""));
    }
    let warnings = tolerate(&mut value);
    Ok((strict::from_value(&value)?, warnings))
}

fn json_error(e: &serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidSpec, format!("parse JSON: {e}"))
}

/// Makes a process acceptable to oci-spec: a user that is left out is root, as the schema of the specification has it; unknown capabilities
/// are dropped with a warning, as runc does; and the one scheduler flag that oci-spec 0.10 knows by another name than the specification
/// gets that name.
fn tolerate(process: &mut Value) -> Vec<String> {
    if let Some(fields) =
        process.as_object_mut().filter(|fields| fields.get("user").is_none_or(Value::is_null))
    {
        fields.insert("user".to_owned(), Value::Object(serde_json::Map::new()));
    }
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten().filter(|flag| **flag == "SCHED_FLAG_RESET_ON_FORK") {
        *flag = "SCHED_RESET_ON_FORK".into();
    }
    let mut unknown: Vec<Value> = Vec::new();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for names in sets.into_iter().flatten().filter_map(|(_, names)| names.as_array_mut()) {
        names.retain(|name| {
            let known = serde_json::from_value::<oci_spec::runtime::Capability>(name.clone()).is_ok();
            if !known && name.is_string() && !unknown.contains(name) {
                unknown.push(name.clone());
            }
            known || !name.is_string()
        });
    }
    unknown.iter().map(|name| format!("ignoring unknown capability {name} in process.capabilities")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_a_bounded_size_is_read() {
        let dir = std::env::temp_dir().join(format!("knarr-bundle-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name);
        std::fs::write(path("good"), r#"{"args":["x"],"cwd":"/"}"#).unwrap();
        std::fs::File::create(path("sparse")).unwrap().set_len(3 << 30).unwrap();
        for (file, message) in [
            (path("good"), None),
            ("/dev/zero".into(), Some("is not a regular file")),
            (dir.clone(), Some("is not a regular file")),
            (path("sparse"), Some("must be at most 16777216")),
            (path("missing"), Some("no such file or directory (ENOENT)")),
        ] {
            let process = load_process(&file).map(drop).map_err(|e| e.to_string());
            let resources = load_resources(&file).map(drop).map_err(|e| e.to_string());
            match message {
                None => assert_eq!((process, resources), (Ok(()), Ok(()))),
                Some(message) => {
                    assert!(process.as_ref().unwrap_err().contains(message), "{file:?}: {process:?}");
                    assert_eq!(process, resources);
                }
            }
        }
        std::fs::remove_dir_all(dir).unwrap();
        let config = br#"{"ociVersion":"1.0.0","root":{"path":"/r"}}"#;
        assert_eq!(Bundle::parse("/b", config).unwrap().path(), Path::new("/b"));
        let error = Bundle::parse("/b", b"{").unwrap_err();
        assert_eq!((error.kind(), error.object()), (ErrorKind::InvalidSpec, Some(Object::Bundle)));
    }

    #[test]
    fn unknown_capabilities_are_dropped_with_a_warning_and_other_errors_stay() {
        let text = br#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":0,"gid":0},"capabilities":{"bounding":["CAP_KILL","CAP_WARP"],"effective":["CAP_WARP"]}}}"#;
        let (spec, warnings) = parse(text).unwrap();
        assert_eq!(warnings, [r#"ignoring unknown capability "CAP_WARP" in process.capabilities"#]);
        let bounding =
            spec.process().as_ref().unwrap().capabilities().as_ref().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding.len(), 1);
        assert!(parse(br#"{"ociVersion":7}"#).is_err());
        for user in ["", r#","user":null"#, r#","user":{}"#] {
            let text = format!(r#"{{"ociVersion":"1.0.0","process":{{"cwd":"/"{user}}}}}"#);
            let spec = parse(text.as_bytes()).unwrap().0;
            let user = spec.process().clone().unwrap().user().clone();
            assert_eq!((user.uid(), user.gid()), (0, 0), "{text}");
        }
        assert!(parse(b"{").is_err());
        let flag =
            br#"{"args":["x"],"scheduler":{"policy":"SCHED_FIFO","flags":["SCHED_FLAG_RESET_ON_FORK"]}}"#;
        assert!(parse_process(flag).unwrap().0.scheduler().is_some());
        for (text, pids) in [("{}", None), (r#"{"pids":{}}"#, None), (r#"{"pids":{"limit":0}}"#, Some(0))] {
            let found = parse_resources(text.as_bytes()).unwrap();
            assert_eq!(found.pids().map(|pids| pids.limit()), pids, "{text}");
            let whole = format!(r#"{{"ociVersion":"1.0.0","linux":{{"resources":{text}}}}}"#);
            let (spec, _) = parse(whole.as_bytes()).unwrap();
            assert_eq!(
                spec.linux().clone().unwrap().resources().clone().unwrap().pids(),
                found.pids(),
                "{text}"
            );
        }
        let pages = br#"{"hugepageLimits":[{"pagesize":"2MB","limit":18446744073709551615}]}"#;
        let pages = parse_resources(pages).unwrap().hugepage_limits().clone().unwrap();
        assert_eq!((pages[0].page_size().as_str(), pages[0].limit()), ("2MB", i64::MAX));
        let go = br#"{"cpu":{"shares":7,"mems":"1"},"CPU":{"Mems":"0","RealtimePeriod":5}}"#;
        let cpu = parse_resources(go).unwrap().cpu().clone().unwrap();
        assert_eq!(
            (cpu.shares(), cpu.mems().as_deref(), cpu.realtime_period()),
            (Some(7), Some("0"), Some(5))
        );
        assert!(
            parse_resources(br#"{"CPU":{"SHARES":7}}"#).is_err() && parse_resources(br#"{"CPU":7}"#).is_err()
        );
        assert!(parse_resources(b"[]").is_err() && parse_resources(br#"{"pids":[1]}"#).is_err());
        let nested = "[".repeat(100_000);
        assert!(parse(nested.as_bytes()).is_err());
    }
}
