//! How long it takes to read a bundle and to plan a container: what a runtime does before the first system call for the container.
//! Without privileges; `cargo bench -p benches`. Whole commands are measured by `lifecycle.py`.

use criterion::Criterion;
use libcontainer::{Bundle, ContainerId, CreateOptions, Runtime, Stdio};
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// A config like that of `runc spec`, with this seccomp profile.
fn bundle(folder: &Path, name: &str, seccomp: Option<&str>) -> PathBuf {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let safe = ["nosuid", "noexec", "nodev"];
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"].map(|t| serde_json::json!({"type": t}));
    let ids = serde_json::json!([{"containerID": 0, "hostID": own_ids().0, "size": 1}]);
    let groups = serde_json::json!([{"containerID": 0, "hostID": own_ids().1, "size": 1}]);
    let config = serde_json::json!({
        "ociVersion": "1.2.0", "hostname": "bench", "root": {"path": "rootfs", "readonly": true},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": safe},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": safe},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": safe}],
        "linux": {"namespaces": namespaces, "uidMappings": ids, "gidMappings": groups,
            "seccomp": seccomp.map(|text| serde_json::from_str::<serde_json::Value>(text).expect("a profile")),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]}});
    let path = folder.join(name);
    std::fs::create_dir_all(path.join("rootfs")).expect("a folder");
    std::fs::write(path.join("config.json"), config.to_string()).expect("config.json");
    path
}

/// The ids of this process: an unprivileged container may map only them.
fn own_ids() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/self").expect("/proc");
    (own.uid(), own.gid())
}

fn plan(c: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("knarr-bench-{}", std::process::id()));
    let id = ContainerId::new("bench").expect("an id");
    let runtime = Runtime::open(folder.join("state")).expect("a runtime");
    for (name, seccomp) in [("plain", None), ("docker-seccomp", Some(include_str!("../docker-seccomp.json")))]
    {
        let path = bundle(&folder, name, seccomp);
        c.bench_function(&format!("load/{name}"), |b| {
            b.iter(|| Bundle::load(black_box(&path)).expect("a bundle"))
        });
        let bundle = Bundle::load(&path).expect("a bundle");
        let options = CreateOptions::new(Stdio::Inherit);
        c.bench_function(&format!("plan/{name}"), |b| {
            b.iter(|| runtime.plan(&id, black_box(&bundle), &options).expect("a plan"))
        });
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    plan(&mut criterion);
    criterion.final_summary();
}
