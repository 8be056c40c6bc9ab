//! Whole plans against golden files, and specifications that are refused. A case is a directory of tests-data/plans: `config.json`,
//! `host.json`, perhaps `options.json` and a `process.json` to exec; `plan.txt` and `exec.txt` are written with `UPDATE=1`.

use super::*;
use crate::error::ErrorKind;
use crate::host::Host;
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};
use std::path::Path;

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}")))
}

fn plan(spec: &Spec, host: &Host, options: &PlanOptions) -> crate::Result<Plan> {
    create(&Inputs {
        id: "c1",
        spec,
        host,
        bundle: Path::new("/bundle"),
        options,
        overlay: None,
        filter: filter(spec, host),
    })
}

fn filter(spec: &Spec, host: &Host) -> Option<super::seccomp::Filter> {
    let profile = spec.linux().as_ref()?.seccomp().as_ref()?;
    Some(super::seccomp::compile(profile, host.kernel).expect("a filter"))
}

fn exec_plan(spec: &Spec, host: &Host, facts: &ContainerFacts, process: &Process) -> crate::Result<ExecPlan> {
    let base = spec.process().as_ref().expect("a process");
    exec(ExecInputs {
        id: "c1",
        host,
        process,
        base,
        container: facts,
        seccomp: None,
        preserve_fds: 0,
        open_files: None,
    })
}

/// The plan as text without the numbers, so that a further step changes one line, and the settings that the parent makes.
fn shown(plan: &ProcessPlan, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(|line| line.get(6..).unwrap_or(line).to_owned()).collect();
    lines.push(format!("cgroup by clone: {}", plan.clone_into_cgroup));
    if let Some(maps) = &plan.maps {
        lines.push(format!("{maps:?}"));
    }
    if plan.parent != ParentSettings::default() {
        lines.push(format!("{:?}", plan.parent));
    }
    let exec = &plan.exec;
    lines.push(format!("argv {:?}", exec.argv));
    lines.push(format!("envp {:?}, home of {:?}", exec.envp, exec.home_of));
    lines.push(format!("candidates {:?}", exec.candidates));
    lines.join("\n") + "\n"
}

fn compare(path: &Path, text: &str) -> bool {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, text).expect("write the golden file");
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    if golden != text {
        eprintln!("{path:?} differs; UPDATE=1 rewrites it. The plan is now:\n{text}");
    }
    golden == text
}

#[test]
fn plans_are_as_the_golden_files_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-data/plans");
    let mut cases: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "{cases:?}");
    let mut same = true;
    for case in cases {
        let spec: Spec = read(&case.join("config.json")).unwrap();
        let host: Host = read(&case.join("host.json")).unwrap();
        let options: PlanOptions = read(&case.join("options.json")).unwrap_or_default();
        let plan = plan(&spec, &host, &options).unwrap_or_else(|e| panic!("{case:?}: {e}"));
        same &= compare(&case.join("plan.txt"), &shown(&plan.process, &plan.to_string()));
        let again = super::create(&Inputs {
            id: "c1",
            spec: &spec,
            host: &host,
            bundle: Path::new("/bundle"),
            options: &options,
            overlay: None,
            filter: filter(&spec, &host),
        });
        assert_eq!(plan, again.unwrap(), "{case:?}: the same inputs give the same plan");
        if let Some(process) = read::<Process>(&case.join("process.json")) {
            let exec =
                exec_plan(&spec, &host, &plan.facts, &process).unwrap_or_else(|e| panic!("{case:?}: {e}"));
            same &= compare(&case.join("exec.txt"), &shown(&exec.process, &exec.to_string()));
        }
    }
    assert!(same, "see above");
}

#[test]
fn the_default_specification_that_the_documentation_starts_from_gives_a_plan() {
    let (_, host) = case("default");
    let plan = plan(&Spec::default(), &host, &PlanOptions::default()).unwrap();
    assert_eq!(plan.process.exec.argv.strings(), [CString::from(c"sh")]);
}

fn case(name: &str) -> (Value, Host) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-data/plans").join(name);
    (read(&dir.join("config.json")).unwrap(), read(&dir.join("host.json")).unwrap())
}

/// Sets the field at a JSON pointer, or removes it with null.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match (value, parent) {
        (Value::Null, Value::Object(map)) => drop(map.remove(key)),
        (value, Value::Object(map)) => drop(map.insert(key.to_owned(), value)),
        (value, parent) => parent[key.parse::<usize>().unwrap()] = value,
    }
}

fn refusal(config: Value, host: &Host) -> crate::Error {
    let spec: Spec = serde_json::from_value(config.clone()).unwrap_or_else(|e| panic!("{config}: {e}"));
    plan(&spec, host, &PlanOptions::default()).err().unwrap_or_else(|| panic!("accepted: {config}"))
}

#[test]
fn a_bad_specification_is_refused_by_the_name_of_its_field() {
    let (default, host) = case("default");
    let hook = json!({"path": "bin/x"});
    for (pointer, value, message) in [
        ("/ociVersion", json!("2.0.0"), "ociVersion: \"2.0.0\" is not supported"),
        ("/ociVersion", json!(""), "ociVersion: "),
        ("/root", Value::Null, "root: root must be specified"),
        ("/root/path", json!(""), "root.path: is empty"),
        ("/process", Value::Null, "process: process property must not be empty"),
        ("/process/args", json!([]), "process.args: args must not be empty"),
        ("/process/cwd", json!("tmp"), "process.cwd: Cwd must be an absolute path"),
        ("/process/commandLine", json!("x"), "process.commandLine: "),
        ("/process/user/uid", json!(4294967295u32), "process.user.uid: "),
        (
            "/process/selinuxLabel",
            json!("a:b:c"),
            "process.selinuxLabel: selinux label is specified in config",
        ),
        ("/process/apparmorProfile", json!("x"), "process.apparmorProfile: "),
        ("/process/oomScoreAdj", json!(5000), "process.oomScoreAdj: "),
        ("/windows", json!({"layerFolders": ["x"]}), "windows: not supported"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt: "),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags: "),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "linux.uidMappings: user namespace mappings",
        ),
        (
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1}}),
            "linux.timeOffsets: time namespace offsets specified",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}]),
            "hostname: unable to set hostname without a private UTS namespace",
        ),
        ("/linux/namespaces", json!([{"type": "uts"}]), "root.readonly: "),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "x"}), "linux.namespaces[0].path: "),
        (
            "/linux/namespaces/0",
            json!({"type": "uts"}),
            "linux.namespaces[3].type: malformed spec file: duplicated ns \"uts\"",
        ),
        ("/linux/namespaces/0", json!({"type": "user"}), "linux.uidMappings: "),
        ("/linux/rootfsPropagation", json!("x"), "linux.rootfsPropagation: "),
        ("/linux/mountLabel", json!("x"), "linux.mountLabel: "),
        ("/linux/netDevices", json!({"eth0": {}}), "linux.netDevices: not supported yet"),
        ("/hostname", json!("x".repeat(65)), "hostname: 65 bytes"),
        ("/hostname", json!("a\u{0}b"), "hostname: contains a NUL byte"),
        ("/hooks", json!({"poststop": [hook]}), "hooks.poststop[0].path: "),
        ("/hooks", json!({"prestart": [{"path": "/x", "timeout": 0}]}), "hooks.prestart[0].timeout: "),
    ] {
        let mut config = default.clone();
        set(&mut config, pointer, value);
        let error = refusal(config, &host);
        assert!(error.to_string().starts_with(message), "{pointer}: {error}");
        assert!(matches!(error.kind(), ErrorKind::InvalidSpec | ErrorKind::Unsupported), "{error:?}");
    }
}

#[test]
fn only_sysctls_of_the_containers_own_namespaces_are_set() {
    let (mut config, host) = case("default");
    for (name, message) in [
        (
            "kernel.core_pattern",
            "linux.sysctl: sysctl \"kernel.core_pattern\" is not in a separate kernel namespace",
        ),
        (
            "kernel/core_pattern",
            "linux.sysctl: sysctl \"kernel.core_pattern\" is not in a separate kernel namespace",
        ),
        (
            "kernel.hostname",
            "linux.sysctl: sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\"",
        ),
        ("user.max_user_namespaces", "linux.sysctl: sysctl \"user.max_user_namespaces\" is not in"),
        ("net....kernel.core_pattern", "linux.sysctl: invalid sysctl name \"net....kernel.core_pattern\""),
        ("net.//.//.kernel.core_pattern", "linux.sysctl: "),
        ("net/../kernel/core_pattern", "linux.sysctl: "),
        ("net", "linux.sysctl: "),
        ("", "linux.sysctl: "),
    ] {
        set(&mut config, "/linux/sysctl", json!({name: "1"}));
        let error = refusal(config.clone(), &host);
        assert!(error.to_string().starts_with(message), "{name}: {error}");
    }
    set(&mut config, "/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    set(&mut config, "/linux/namespaces/1", json!({"type": "cgroup"}));
    let error = refusal(config.clone(), &host);
    assert!(error.to_string().contains("not allowed in host network namespace"), "{error}");
    set(&mut config, "/linux/sysctl", json!({"kernel.shmmax": "1", "fs.mqueue.msg_max": "1"}));
    set(&mut config, "/linux/namespaces/2", json!({"type": "time"}));
    let error = refusal(config, &host);
    assert!(error.to_string().contains("is not allowed in the hosts ipc namespace"), "{error}");
}

#[test]
fn a_sysctl_with_slashes_keeps_the_dots_of_its_names() {
    let (mut config, host) = case("default");
    set(
        &mut config,
        "/linux/sysctl",
        json!({"net/ipv4/conf/eno2.100/rp_filter": "1", "net.ipv4.conf.eno3/7.rp_filter": "2"}),
    );
    let spec: Spec = serde_json::from_value(config).unwrap();
    let plan = plan(&spec, &host, &PlanOptions::default()).unwrap();
    let files: Vec<_> = plan
        .process
        .child
        .iter()
        .filter_map(|s| if let Step::Sysctl { file, .. } = s { file.to_str().ok() } else { None })
        .collect();
    assert_eq!(files, ["net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno3.7/rp_filter"]);
}

#[test]
fn an_unprivileged_caller_needs_a_user_namespace() {
    let (config, host) = case("default");
    let error = refusal(config, &Host { euid: 1000, ..host });
    assert!(error.to_string().contains("rootless container requires user namespaces"), "{error}");
}

#[test]
fn any_damage_to_a_specification_gives_a_plan_or_an_error_and_never_a_panic() {
    let odd = [
        json!(""),
        json!("\u{0}"),
        json!("../.."),
        json!(-1),
        json!(4294967295u64),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!(true),
        json!("x".repeat(5000)),
    ];
    for name in ["docker", "podman", "hybrid", "user", "rootless-newuidmap"] {
        let (config, host) = case(name);
        let mut pointers = Vec::new();
        collect(&config, String::new(), &mut pointers);
        for pointer in &pointers {
            for value in &odd {
                let mut damaged = config.clone();
                *damaged.pointer_mut(pointer).unwrap() = value.clone();
                if let Ok(spec) = serde_json::from_value::<Spec>(damaged) {
                    let _ = plan(&spec, &host, &PlanOptions::default());
                }
            }
        }
    }
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| {
            collect(v, format!("{at}/{}", k.replace('~', "~0").replace('/', "~1")), pointers)
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| collect(v, format!("{at}/{i}"), pointers))
        }
        _ => {}
    }
    if !at.is_empty() {
        pointers.push(at);
    }
}
