//! What sets of flags become in config.json and in exec's process, compared with files. `UPDATE=1` rewrites them.

use std::path::{Path, PathBuf};

use image_store::manifest::RunConfig;
use libcontainer::spec::{LinuxDeviceType, Spec};
use serde_json::Value;

use super::config::build;
use super::config::context::{Context, Node};
use super::user::User;
use crate::cli::{Args, Parsed};
use crate::commands::TABLE;
use crate::container::record::Mounted;
use crate::places::ContainerDir;
use crate::rootless::Ids;

const IMAGE: &str =
    r#"{"Entrypoint":["/entry"],"Cmd":["one","two"],"Env":["A=image","LANG=C"],"WorkingDir":"/srv"}"#;
const PLAIN: &str = r#"{"Cmd":["sh"]}"#;

/// A set of flags, and what else config.json is made of.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    image: &'static str,
    /// Of `run`, with the image and the command.
    line: &'static str,
    user: (u32, &'static [u32]),
    volumes: &'static [(&'static str, &'static str, bool, &'static str)],
    devices: bool,
    init: bool,
    rootless: bool,
}

const CASE: Case = Case {
    name: "",
    image: PLAIN,
    line: "",
    user: (0, &[]),
    volumes: &[],
    devices: false,
    init: false,
    rootless: false,
};

const CASES: &[Case] = &[
    Case { name: "default", line: "image", ..CASE },
    Case {
        name: "image",
        image: IMAGE,
        line: "--security-opt seccomp=unconfined -e A=flag -e B=2 --user web image three",
        user: (33, &[4, 35]),
        ..CASE
    },
    Case {
        name: "entrypoint",
        image: IMAGE,
        line: "--security-opt seccomp=unconfined --entrypoint /other -it --init -w /tmp --read-only image",
        init: true,
        ..CASE
    },
    Case {
        name: "limits",
        line: "--security-opt seccomp=unconfined -m 512m --memory-swap 1g --memory-reservation 256m --cpus 1.5 -c 512 \
               --cpuset-cpus 0-1 --cpuset-mems 0 --blkio-weight 300 --pids-limit 100 --oom-score-adj -500 \
               --ulimit nofile=1024:4096 --ulimit core=-1 --shm-size 128m --cgroup-parent /a/b/ image",
        ..CASE
    },
    Case {
        name: "unlimited",
        line: "--security-opt seccomp=unconfined -m 64m --memory-swap -1 --cpu-period 50000 --cpu-quota 25000 --pids-limit -1 image",
        ..CASE
    },
    Case { name: "privileged", line: "--privileged image", devices: true, ..CASE },
    Case {
        name: "capabilities",
        line: "--cap-add SYS_ADMIN --cap-add cap_sys_ptrace --cap-drop MKNOD --security-opt socketcall=allow image",
        ..CASE
    },
    Case {
        name: "security",
        line: "--cap-drop ALL --security-opt seccomp=PROFILE --security-opt no-new-privileges --security-opt apparmor=strict \
               --security-opt label=user:role:type:s0 --security-opt systempaths=unconfined image",
        ..CASE
    },
    Case {
        name: "mounts",
        line: "--security-opt seccomp=unconfined --tmpfs /run:size=1m,mode=700 --tmpfs /a/b --device /dev/fuse --ipc none image",
        volumes: &[
            ("/host/deep", "/a/b/c", true, "rslave"),
            ("/host/data", "/data", false, "rprivate"),
            ("/host/hosts", "/etc/hosts", true, "rprivate"),
        ],
        devices: true,
        ..CASE
    },
    Case {
        name: "namespaces",
        line: "--security-opt seccomp=unconfined --network host --pid container:other --cgroupns host --domainname example \
               --sysctl kernel.msgmax=65536 --annotation com.example.key=value image",
        ..CASE
    },
    Case { name: "host", line: "--security-opt seccomp=unconfined --uts host --pid host image", ..CASE },
    Case {
        name: "rootless",
        line: "--security-opt seccomp=unconfined --network host --pid host --device /dev/fuse image",
        devices: true,
        rootless: true,
        ..CASE
    },
    Case {
        name: "rootless-cgroup",
        line: "--security-opt seccomp=unconfined --cgroup-parent user.slice image",
        rootless: true,
        ..CASE
    },
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-data/config")
}

fn parsed(command: &str, line: &str) -> Args {
    let profile = directory().join("seccomp-profile");
    let line = line.replace("PROFILE", profile.to_str().unwrap());
    let words = [command].into_iter().chain(line.split_whitespace()).map(str::to_owned);
    match TABLE.parse(&words.collect::<Vec<_>>()).unwrap() {
        Parsed::Run(_, args) => args,
        Parsed::Help(text) => panic!("{text}"),
    }
}

fn built(case: &Case) -> Spec {
    let args = parsed("run", case.line);
    let options = super::options::parse(&args).unwrap();
    let image: RunConfig = serde_json::from_str(case.image).unwrap();
    let (uid, groups) = case.user;
    let home = if uid == 0 { "/root" } else { "/var/www" }.to_owned();
    let user = User { uid, gid: uid, groups: groups.to_vec(), home };
    let volume = |&(source, target, read_only, propagation): &(&str, &str, bool, &str)| Mounted {
        name: String::new(),
        anonymous: false,
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
        propagation: propagation.to_owned(),
    };
    let volumes: Vec<Mounted> = case.volumes.iter().map(volume).collect();
    let node = |target: &str, kind, major, minor| Node {
        target: target.to_owned(),
        access: "rw".to_owned(),
        kind,
        major,
        minor,
        mode: 0o660,
        uid: 0,
        gid: 6,
    };
    let nodes = [node("/dev/fuse", LinuxDeviceType::C, 10, 229), node("/dev/sda", LinuxDeviceType::B, 8, 0)];
    let context = Context {
        directory: &ContainerDir("/store/containers/abc".into()),
        hostname: "box",
        user: &user,
        volumes: &volumes,
        nodes: if case.devices { &nodes } else { &[] },
        init: case.init.then(|| "/usr/libexec/knarr/knarr-init".into()),
        id: "abc",
        ids: case.rootless.then(|| Ids::of(&[(0, 1)])),
    };
    build(&image, &options, &args.positional[1..], &context).unwrap()
}

/// Sets of capabilities have no order.
fn sorted(mut process: Value) -> Value {
    for set in process["capabilities"].as_object_mut().into_iter().flat_map(|sets| sets.values_mut()) {
        let list = set.as_array_mut().unwrap();
        list.sort_by_key(ToString::to_string);
    }
    process
}

fn compare(name: &str, value: &Value) -> bool {
    let path = directory().join(format!("{name}.json"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(value).unwrap() + "\n").unwrap();
    }
    let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap_or_default()).unwrap_or_default();
    if golden != *value {
        eprintln!("{path:?} differs; UPDATE=1 rewrites it. It is now:\n{value:#}");
    }
    golden == *value
}

/// The default profile of seccomp depends on the architecture.
#[cfg(target_arch = "x86_64")]
#[test]
fn flags_make_the_config_of_the_golden_files() {
    let mut same = true;
    for case in CASES {
        let mut config = serde_json::to_value(built(case)).unwrap();
        config["process"] = sorted(config["process"].take());
        same &= compare(case.name, &config);
    }
    assert!(same);
}

#[test]
fn flags_of_exec_make_the_process_of_the_golden_files() {
    let spec = built(&CASES[1]);
    let web = || User { uid: 33, gid: 34, groups: vec![4], home: "/var/www".to_owned() };
    let root = || User { uid: 0, gid: 0, groups: vec![], home: "/root".to_owned() };
    let cases: [(&str, &str, Option<User>); 4] = [
        ("exec", "box ls -l", None),
        ("exec-user", "-it -u web -w /tmp -e A=exec -e NEW=1 box sh", Some(web())),
        ("exec-root", "-i -u 0 box sh", Some(root())),
        ("exec-privileged", "--privileged -u web box sh", Some(web())),
    ];
    let mut same = true;
    for (name, line, user) in cases {
        let args = parsed("exec", line);
        let request = super::commands::exec::further(&args, &spec, user.as_ref()).unwrap();
        let mut request = serde_json::to_value(request).unwrap();
        request["process"] = sorted(request["process"].take());
        same &= compare(name, &request);
    }
    assert!(same);
}
