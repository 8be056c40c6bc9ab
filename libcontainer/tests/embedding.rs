//! The example engine does what it says. Needs root and a static busybox.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a skipped test says why; a test may panic")]

use libcontainer::Bundle;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bundle whose program is a shell script, and a state root; gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    /// `None`, with the reason printed, if this machine cannot run it.
    fn new(name: &str, script: &str) -> Option<Self> {
        let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists())
        else {
            println!("skipped: there is no static busybox");
            return None;
        };
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            println!("skipped: needs root");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("knarr-{name}-{}", std::process::id()));
        for inside in ["bin", "proc", "dev"] {
            std::fs::create_dir_all(dir.join("rootfs").join(inside)).unwrap();
        }
        std::fs::copy(busybox, dir.join("rootfs/bin/busybox")).unwrap();
        symlink("busybox", dir.join("rootfs/bin/sh")).unwrap();
        let config = serde_json::json!({
            "ociVersion": "1.0.0",
            "process": {
                "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
            },
            "root": {"path": "rootfs"},
            "hostname": "embedded",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            },
        });
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        Some(Scratch(dir))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A bundle with a cgroup of its own for each container.
fn bundle(scratch: &Scratch, id: &str) -> Bundle {
    let mut bundle = Bundle::load(&scratch.0).unwrap();
    let mut linux = bundle.spec().linux().clone().unwrap();
    linux.set_cgroups_path(Some(format!("/knarr-{id}").into()));
    bundle.spec_mut().set_linux(Some(linux));
    bundle
}

#[test]
fn the_example_engine_runs_a_process_in_a_container_and_leaves_nothing() {
    let Some(scratch) = Scratch::new("engine", "exec busybox sleep 1000") else { return };
    let id = format!("engine-{}", std::process::id());
    std::fs::write(scratch.0.join("config.json"), serde_json::to_vec(bundle(&scratch, &id).spec()).unwrap())
        .unwrap();
    // Cargo builds examples beside the directory of the tests.
    let engine = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("engine");
    let output = Command::new(engine)
        .args([&scratch.path("state"), &id, &scratch.path(""), "/bin/sh", "-c"])
        .arg("busybox echo \"$(busybox hostname) $$\"; exit 7")
        .output()
        .expect("run the example, which `cargo test -p libcontainer` builds");
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{text}{error}");
    assert!(text.starts_with("embedded ") && text.contains(" is running, with 1 processes"), "{text}{error}");
    assert!(!Path::new(&scratch.path("state")).join(&id).exists());
}

#[test]
fn handles_go_from_thread_to_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<libcontainer::Container>();
    shared::<libcontainer::Runtime>();
    shared::<libcontainer::Plan>();
    shared::<libcontainer::OomWatch>();
}
