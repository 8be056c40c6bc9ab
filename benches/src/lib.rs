//! What the benchmarks share: bundles to load, plan and run. `lifecycle.py` and `shim.py` compare whole programs.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Docker's default profile.
pub const DOCKER_SECCOMP: &str = include_str!("../docker-seccomp.json");

/// A configuration like that of `runc spec`, with these arguments and this seccomp profile.
pub fn config(args: &[&str], seccomp: Option<&str>) -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let safe = ["nosuid", "noexec", "nodev"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|t| json!({"type": t}));
    json!({
        "ociVersion": "1.2.0", "hostname": "bench", "root": {"path": "rootfs", "readonly": true},
        "process": {"user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": safe},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": safe},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": safe}],
        "linux": {"namespaces": namespaces,
            "seccomp": seccomp.map(|text| serde_json::from_str::<Value>(text).expect("a profile")),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]}})
}

/// Writes a bundle with an empty root file system.
pub fn bundle(dir: &Path, name: &str, config: &Value) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.join("rootfs")).expect("a root file system");
    std::fs::write(path.join("config.json"), config.to_string()).expect("config.json");
    path
}

/// A directory of its own for one benchmark, removed with it. On a tmpfs where there is one: no disk is measured.
#[derive(Debug)]
pub struct Dir(pub PathBuf);

impl Dir {
    /// Makes it.
    pub fn new(name: &str) -> Self {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("knarr-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
