//! A config.json under construction.
//!
//! It starts as what `runc spec` writes (without a terminal) and is changed by JSON pointer, so that a test can also
//! write what no honest engine would. It must not check anything.

use serde_json::{Value, json};

/// The text of a config.json as a tree.
#[derive(Debug, Clone)]
pub struct Config(pub Value);

impl Config {
    /// The default of `runc spec`, with this cgroup and without a terminal.
    pub fn new(cgroup: &str) -> Self {
        let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        Config(json!({
            "ociVersion": "1.2.0",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": ["true"],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
                "noNewPrivileges": true
            },
            "root": {"path": "rootfs", "readonly": true},
            "hostname": "box",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
            ],
            "linux": {
                "cgroupsPath": cgroup,
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                               {"type": "mount"}, {"type": "cgroup"}],
                "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                                "/proc/scsi"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            }
        }))
    }

    /// Sets the value at a JSON pointer; objects on the way are made as needed.
    pub fn set(&mut self, pointer: &str, value: impl Into<Value>) -> &mut Self {
        let mut at = &mut self.0;
        for key in pointer.split('/').skip(1) {
            at = match at {
                Value::Array(list) => {
                    let index = key.parse().unwrap_or(list.len());
                    while list.len() <= index {
                        list.push(Value::Null);
                    }
                    &mut list[index]
                }
                other => {
                    if !other.is_object() {
                        *other = json!({});
                    }
                    &mut other[key]
                }
            };
        }
        *at = value.into();
        self
    }

    /// Adds a value to the list at a JSON pointer.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        match self.0.pointer_mut(pointer) {
            Some(Value::Array(list)) => list.push(value),
            _ => drop(self.set(pointer, json!([value]))),
        }
        self
    }

    /// Removes the member at a JSON pointer, if it is there.
    pub fn remove(&mut self, pointer: &str) -> &mut Self {
        if let Some((parent, key)) = pointer.rsplit_once('/') {
            match self.0.pointer_mut(parent) {
                Some(Value::Object(map)) => drop(map.remove(key)),
                Some(Value::Array(list)) => drop(key.parse().ok().map(|i: usize| list.remove(i))),
                _ => {}
            }
        }
        self
    }

    /// The command that the container runs.
    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.set("/process/args", json!(args))
    }

    /// A shell script that the container runs.
    pub fn sh(&mut self, script: &str) -> &mut Self {
        self.args(&["sh", "-c", script])
    }

    /// The root file system can be written to.
    pub fn writable(&mut self) -> &mut Self {
        self.set("/root/readonly", false)
    }

    /// One more mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut Self {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.push("/mounts", mount)
    }

    /// No mount on this destination.
    pub fn without_mount(&mut self, destination: &str) -> &mut Self {
        if let Some(Value::Array(mounts)) = self.0.pointer_mut("/mounts") {
            mounts.retain(|m| m["destination"] != destination);
        }
        self
    }

    /// One more namespace, made new.
    pub fn unshare(&mut self, kind: &str) -> &mut Self {
        self.share(kind).push("/linux/namespaces", json!({"type": kind}))
    }

    /// A namespace that exists already.
    pub fn join(&mut self, kind: &str, path: &str) -> &mut Self {
        self.share(kind).push("/linux/namespaces", json!({"type": kind, "path": path}))
    }

    /// No namespace of this kind: the container shares the host's.
    pub fn share(&mut self, kind: &str) -> &mut Self {
        if let Some(Value::Array(list)) = self.0.pointer_mut("/linux/namespaces") {
            list.retain(|n| n["type"] != kind);
        }
        self
    }

    /// A user namespace that maps container ids from 0 to host ids from `host`.
    pub fn user_namespace(&mut self, host: u32, size: u32) -> &mut Self {
        let map = json!([{"containerID": 0, "hostID": host, "size": size}]);
        self.unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// The same list for the given capability sets.
    pub fn caps(&mut self, sets: &[&str], names: &[&str]) -> &mut Self {
        for set in sets {
            self.set(&format!("/process/capabilities/{set}"), json!(names));
        }
        self
    }

    /// All capabilities that matter for tests of mounts and devices, in the sets of an ordinary root process.
    pub fn privileged(&mut self) -> &mut Self {
        let names =
            ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL"];
        self.caps(&["bounding", "effective", "permitted"], &names)
    }
}
