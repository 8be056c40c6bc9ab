//! How long it takes to read a bundle and to plan a container, its seccomp filter compiled anew each time: what a runtime
//! does before the first system call for the container. Without privileges.

use benches::{DOCKER_SECCOMP, Dir, bundle, config};
use criterion::Criterion;
use libcontainer::{Bundle, ContainerId, CreateOptions, Runtime, Stdio};
use serde_json::json;
use std::hint::black_box;

/// The ids of this process: an unprivileged container may map only them.
fn own_ids() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/self").expect("/proc");
    (own.uid(), own.gid())
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    let dir = Dir::new("plan");
    let id = ContainerId::new("bench").expect("an id");
    let runtime = Runtime::open(dir.0.join("state")).expect("a runtime");
    let (uid, gid) = own_ids();
    for (name, seccomp) in [("plain", None), ("docker-seccomp", Some(DOCKER_SECCOMP))] {
        let mut config = config(&["true"], seccomp);
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
        config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
        let path = bundle(&dir.0, name, &config);
        c.bench_function(&format!("load/{name}"), |b| {
            b.iter(|| Bundle::load(black_box(&path)).expect("a bundle"))
        });
        let bundle = Bundle::load(&path).expect("a bundle");
        let options = CreateOptions::new(Stdio::Inherit);
        c.bench_function(&format!("plan/{name}"), |b| {
            b.iter(|| runtime.plan(&id, black_box(&bundle), &options).expect("a plan"))
        });
    }
    c.final_summary();
}
