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
