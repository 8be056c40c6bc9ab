//! The library as an engine uses it: the example program does what it says, and a process with many threads that makes containers
//! stays as it was. Needs root and a static busybox.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a skipped test says why; a test may panic")]

use libcontainer::{Bundle, ContainerId, CreateOptions, Delete, ExitStatus, Runtime, Stdio};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// A bundle whose program is a shell script, and a state root; gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    /// `None`, with the reason printed, when this machine can not run it.
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
        let folder = std::env::temp_dir().join(format!("knarr-{name}-{}", std::process::id()));
        for inside in ["bin", "proc", "dev"] {
            std::fs::create_dir_all(folder.join("rootfs").join(inside)).unwrap();
        }
        std::fs::copy(busybox, folder.join("rootfs/bin/busybox")).unwrap();
        symlink("busybox", folder.join("rootfs/bin/sh")).unwrap();
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
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        Some(Scratch(folder))
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
    // Cargo builds examples beside the folder of the tests.
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

/// What a library must not change in its caller.
fn about_this_process() -> (PathBuf, String, bool, Vec<(String, String)>) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let keys =
        ["Umask", "SigBlk", "SigIgn", "SigCgt", "CapEff", "CapBnd", "Groups", "Uid", "NoNewPrivs", "NSpid"];
    let lines = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| keys.contains(key))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect();
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let dumpable = nix::sys::prctl::get_dumpable().unwrap();
    (std::env::current_dir().unwrap(), score, dumpable, lines)
}

#[test]
fn a_process_with_busy_threads_makes_containers_and_stays_as_it_was() {
    let Some(scratch) = Scratch::new("threads", "exit 3") else { return };
    let runtime = Runtime::open(scratch.0.join("state")).unwrap();
    let before = about_this_process();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Somebody holds the allocator's lock at nearly every moment: a child that allocated would hang.
        for _ in 0..2 {
            threads.spawn(|| {
                let mut kept = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    kept.push(vec![0u8; 40_000 + kept.len()]);
                    if kept.len() > 50 {
                        kept.clear();
                    }
                }
            });
        }
        let makers: Vec<_> = (0..2)
            .map(|maker| {
                let (runtime, scratch) = (&runtime, &scratch);
                threads.spawn(move || {
                    for round in 0..5 {
                        let name = format!("threads-{}-{maker}-{round}", std::process::id());
                        let id = ContainerId::new(name.as_str()).unwrap();
                        let options = CreateOptions::new(Stdio::inherit());
                        let mut container = runtime.create(&id, &bundle(scratch, &name), options).unwrap();
                        container.start().unwrap();
                        assert_eq!(container.wait().unwrap(), ExitStatus::Exited(3));
                        container.delete(Delete::Stopped).unwrap();
                    }
                })
            })
            .collect();
        let ended: Vec<_> = makers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    assert_eq!(about_this_process(), before);
    assert_eq!(runtime.list().unwrap(), []);
}
