//! How long a container's life takes in one process, without a command line: launch (its seccomp filter comes from the
//! cache), exec, delete, reading its cgroup. As root, with a static busybox.

use benches::{DOCKER_SECCOMP, Dir, bundle, config};
use criterion::{BatchSize, Criterion};
use libcontainer::{
    Bundle, Container, ContainerId, CreateOptions, Delete, ExecOptions, ExitStatus, Runtime, Signal, Stdio,
};
use serde_json::json;
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// A bundle whose container executes an applet of busybox, in a cgroup of its own.
fn with_busybox(dir: &Path, busybox: &Path, name: &str, args: &[&str], seccomp: Option<&str>) -> Bundle {
    let mut config = config(&[&["/busybox"], args].concat(), seccomp);
    config["linux"]["cgroupsPath"] = json!(format!("/knarr-bench-{}-{name}", std::process::id()));
    let path = bundle(dir, name, &config);
    std::fs::copy(busybox, path.join("rootfs/busybox")).expect("a busybox");
    Bundle::load(path).expect("a bundle")
}

fn create(runtime: &Runtime, bundle: &Bundle) -> Container {
    let id = ContainerId::new("bench").expect("an id");
    runtime.create(&id, bundle, CreateOptions::new(Stdio::Inherit)).expect("a container")
}

/// From nothing to the end of `true` and back to nothing.
fn launch(c: &mut Criterion, runtime: &Runtime, name: &str, bundle: &Bundle) {
    c.bench_function(&format!("launch/{name}"), |b| {
        b.iter(|| {
            let mut container = create(runtime, bundle);
            container.start().expect("a start");
            assert_eq!(container.wait().expect("an end"), ExitStatus::Exited(0));
            container.delete(Delete::Stopped).expect("a delete");
        });
    });
}

fn delete(c: &mut Criterion, runtime: &Runtime, bundle: &Bundle) {
    let stopped = || {
        let mut container = create(runtime, bundle);
        container.start().expect("a start");
        container.wait().expect("an end");
        container
    };
    c.bench_function("delete", |b| {
        b.iter_batched(
            stopped,
            |container| container.delete(Delete::Stopped).expect("a delete"),
            BatchSize::PerIteration,
        );
    });
}

/// What is done to a container that runs.
fn running(c: &mut Criterion, runtime: &Runtime, bundle: &Bundle) {
    let mut container = create(runtime, bundle);
    container.start().expect("a start");
    let mut process = container.process_spec().clone();
    process.set_args(Some(vec!["/busybox".into(), "true".into()]));
    c.bench_function("exec", |b| {
        b.iter(|| {
            let child = container.exec(&process, ExecOptions::new(Stdio::Inherit)).expect("an exec");
            assert_eq!(child.wait().expect("an end"), ExitStatus::Exited(0));
        });
    });
    c.bench_function("cgroup/stats", |b| b.iter(|| black_box(container.stats().expect("figures"))));
    c.bench_function("cgroup/processes", |b| b.iter(|| black_box(container.processes().expect("pids"))));
    container.kill(Signal::KILL).expect("a kill");
    container.wait().expect("an end");
    container.delete(Delete::Force).expect("a delete");
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file())
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    let Some(busybox) = busybox().filter(|_| nix::unistd::geteuid().is_root()) else {
        c.bench_function("skipped: needs root and a static busybox", |b| b.iter(|| ()));
        return;
    };
    let dir = Dir::new("container");
    let runtime = Runtime::open(dir.0.join("state")).expect("a runtime");
    let plain = with_busybox(&dir.0, &busybox, "plain", &["true"], None);
    let filtered = with_busybox(&dir.0, &busybox, "docker-seccomp", &["true"], Some(DOCKER_SECCOMP));
    let sleeping = with_busybox(&dir.0, &busybox, "sleeping", &["sleep", "1000"], None);
    launch(&mut c, &runtime, "plain", &plain);
    launch(&mut c, &runtime, "docker-seccomp-cached", &filtered);
    delete(&mut c, &runtime, &plain);
    running(&mut c, &runtime, &sleeping);
    c.final_summary();
}
