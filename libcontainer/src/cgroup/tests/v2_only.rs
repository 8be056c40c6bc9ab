//! What only a pure v2 host has.

use super::*;

#[test]
fn parents_that_are_made_hand_on_all_controllers() {
    let Some(mut scratch) = Scratch::new("parents") else {
        return;
    };
    let CgroupHost::V2 { mount } = scratch.host.clone() else {
        println!("skipped: no pure v2 host");
        return;
    };
    let top = scratch.path.clone();
    scratch.path = top.join("a/b");
    scratch.create("{}").expect("create");
    let listed =
        |path: PathBuf| std::fs::read_to_string(path.join("cgroup.controllers")).expect("controllers");
    let (ours, all) = (listed(mount.join(&scratch.path)), listed(mount.clone()));
    scratch.path = top;
    for controller in ["memory", "pids", "hugetlb"].iter().filter(|c| all.contains(*c)) {
        assert!(ours.contains(controller), "{controller}: {ours} of {all}");
    }
}

#[test]
fn a_cgroup_can_be_handed_over() {
    use std::os::unix::fs::MetadataExt;
    let Some(scratch) = Scratch::new("owner") else {
        return;
    };
    if !matches!(scratch.host, CgroupHost::V2 { .. }) {
        println!("skipped: no pure v2 host");
        return;
    }
    let mut plan = scratch.plan("{}");
    plan.owner = Some(100_000);
    made(&plan, &scratch.host).expect("create");
    let dir = &scratch.dirs()[0];
    let owner = |name: &str| std::fs::metadata(dir.join(name)).expect(name).uid();
    for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        assert_eq!(owner(name), 100_000, "{name:?}");
    }
    // What limits the container stays the host's.
    for name in ["cgroup.max.depth", "cgroup.controllers"] {
        assert_eq!(owner(name), 0, "{name:?}");
    }
}

#[test]
fn the_cgroup_of_a_nested_init_is_found() {
    let Some(scratch) = Scratch::new("init") else {
        return;
    };
    if !matches!(scratch.host, CgroupHost::V2 { .. }) {
        println!("skipped: no pure v2 host");
        return;
    }
    let cgroup = scratch.create("{}").expect("create");
    let nested = scratch.dirs()[0].join("nested");
    std::fs::create_dir(&nested).expect("mkdir");
    let process = Waiting::new("exec sleep 100");
    std::fs::write(nested.join("cgroup.procs"), process.pid().to_string()).expect("move");
    let pidfd = crate::sys::pidfd::open(process.pid()).expect("pidfd");
    let fd = cgroup.clone_fd_of(pidfd.as_fd()).expect("find").expect("v2");
    let found = nix::sys::stat::fstat(&fd).expect("stat").st_ino;
    assert_eq!(found, nix::sys::stat::stat(&nested).expect("stat").st_ino);
}

#[test]
fn a_cgroup_without_a_path_is_beside_or_below_the_callers() {
    let Some(scratch) = Scratch::new("own") else {
        return;
    };
    let mut plan = scratch.plan("{}");
    plan.place = Place::Own(scratch.path.clone());
    let Cgroup::V2(location) = Cgroup::planned(&plan, &scratch.host).expect("planned") else {
        println!("skipped: no pure v2 host");
        return;
    };
    let cgroup = made(&plan, &scratch.host).expect("create");
    restrict(&cgroup, &plan);
    assert_eq!(cgroup, Cgroup::V2(location.clone()));
    assert!(location.full().is_dir() && location.path.ends_with(&scratch.path));
    cgroup.remove().expect("remove");
}

/// A cgroup of a v2 host whose children are made below it, and which a test may make threaded; `None` on other hosts.
fn parent(name: &str) -> Option<(Scratch, PathBuf)> {
    let scratch = Scratch::new(name)?;
    let CgroupHost::V2 { mount } = scratch.host.clone() else {
        println!("skipped: no pure v2 host");
        return None;
    };
    let above = mount.join(&scratch.path);
    std::fs::create_dir(&above).expect("mkdir");
    Some((scratch, above))
}

/// The plan for a cgroup at `path` below that of `scratch`.
fn below(scratch: &Scratch, path: &str, resources: &str) -> CgroupPlan {
    CgroupPlan { place: Place::Root(scratch.path.join(path)), ..scratch.plan(resources) }
}

fn read(dir: &std::path::Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).expect(file).trim().to_owned()
}

#[test]
fn below_a_threaded_cgroup_a_new_one_is_threaded_and_takes_processes() {
    let Some((scratch, above)) = parent("threaded") else { return };
    std::fs::create_dir(above.join("other")).expect("mkdir");
    std::fs::write(above.join("other/cgroup.type"), "threaded").expect("make threaded");
    assert_eq!(read(&above, "cgroup.type"), "domain threaded");
    for path in ["c", "new/c"] {
        let cgroup = made(&below(&scratch, path, "{}"), &scratch.host).expect("create");
        assert_eq!(read(&above.join(path), "cgroup.type"), "threaded", "{path}");
        let process = Waiting::in_cgroup("exec sleep 100", &cgroup);
        assert_eq!(cgroup.processes().expect("processes"), [process.pid()], "{path}");
        cgroup.freeze().expect("freeze");
        cgroup.thaw().expect("thaw");
        cgroup.kill(Signal::KILL).expect("kill");
        drop(process);
        cgroup.remove().expect("remove");
    }
    std::fs::remove_dir(above.join("other")).expect("rmdir");
}

#[test]
fn below_a_threaded_cgroup_a_limit_of_another_controller_is_refused_by_name() {
    let Some((scratch, above)) = parent("threaded-limit") else { return };
    std::fs::create_dir(above.join("other")).expect("mkdir");
    std::fs::write(above.join("other/cgroup.type"), "threaded").expect("make threaded");
    let plan = below(&scratch, "new/c", r#"{"memory": {"limit": 1000000}}"#);
    let e = made(&plan, &scratch.host).expect_err("a limit of memory");
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("memory cannot be limited in it"), "{e}");
    assert!(!above.join("new").exists(), "nothing is left");
    std::fs::remove_dir(above.join("other")).expect("rmdir");
}

#[test]
fn a_parent_with_processes_stays_what_it_is_when_the_creation_fails() {
    let Some((scratch, above)) = parent("occupied") else { return };
    let controllers = read(&above, "cgroup.controllers");
    let limits = [
        ("memory", r#""memory": {"limit": 1000000}"#),
        ("hugetlb", r#""hugepageLimits": [{"pageSize": "2MB", "limit": 0}]"#),
        ("pids", r#""pids": {"limit": 7}"#),
    ];
    let (names, limits): (Vec<_>, Vec<_>) =
        limits.into_iter().filter(|(name, _)| controllers.split(' ').any(|c| c == *name)).unzip();
    if !names.contains(&"memory") && !names.contains(&"hugetlb") {
        println!("skipped: neither memory nor hugetlb is on cgroup v2");
        return;
    }
    let process = Waiting::new("exec sleep 100");
    std::fs::write(above.join("cgroup.procs"), process.pid().to_string()).expect("move");
    for path in ["c", "new/c"] {
        let e = made(&below(&scratch, path, &format!("{{{}}}", limits.join(","))), &scratch.host);
        let e = e.expect_err("limits beside processes");
        assert!(e.to_string().contains("cannot be limited below it: it has processes of its own"), "{e}");
        let now = (read(&above, "cgroup.type"), read(&above, "cgroup.subtree_control"));
        assert_eq!(now, ("domain".to_owned(), String::new()), "{names:?}");
        assert!(!above.join(path).exists(), "nothing is left");
        // A container without limits is not kept from being made.
        let cgroup = made(&below(&scratch, path, "{}"), &scratch.host).expect("create");
        assert_eq!(read(&above.join(path), "cgroup.type"), "domain");
        cgroup.remove().expect("remove");
    }
    drop(process);
}
