//! The text of steps that no other tests show, the list of a whole plan, and the hints.

use super::*;
use crate::plan::cgroup::{CgroupPlan, Place};
use crate::plan::limits::Limits;
use crate::plan::step::{CapSets, CopyUp, Exec, Ids, Slot, Target, TargetKind};
use crate::plan::{ContainerFacts, IdMap, IdMaps, ParentSettings};
use crate::sys::cstr::CStrArray;

#[test]
fn each_step_has_a_text() {
    let group = Ids { uid: 1, gid: 2, groups: Some(vec![3, 4]), groups_may_be_denied: false };
    for (step, line) in [
        (Step::Wait(Gate::Hooks), "wait at gate: hooks"),
        (Step::Wait(Gate::Start), "wait at gate: start"),
        (Step::Join { ns: Slot(12), flag: 0, name: "pid" }, "join pid namespace"),
        (Step::Unshare { flags: libc::CLONE_NEWUTS as u64 }, "unshare uts"),
        (
            Step::TimeNamespace { offsets: c"monotonic 1 0\nboottime 2 0\n".into() },
            "new time namespace: monotonic 1 0, boottime 2 0",
        ),
        (Step::Fork { flags: libc::CLONE_NEWPID as u64 }, "continue in a child with new namespaces: pid"),
        (Step::Fork { flags: 0 }, "continue in a child"),
        (Step::Sysctl { file: c"net/x".into(), value: c"1 2".into() }, "write sysctl net/x = \"1 2\""),
        (Step::Mask { path: c"/proc/kcore".into() }, "mask /proc/kcore"),
        (Step::Ids(group), "become user 1:2 with groups [3, 4]"),
        (Step::Umask(0o22), "set umask 0022"),
        (Step::Cwd(c"".into()), "change directory to \"\""),
        (
            Step::Capabilities(CapSets { effective: 0x21, ..CapSets::default() }),
            "set capabilities effective 0x21 permitted 0x0 inheritable 0x0 ambient 0x0",
        ),
        (Step::RootPropagation { flags: libc::MS_SHARED }, "make / shared"),
        (Step::Exec, "exec"),
    ] {
        assert_eq!(step.describe(), line);
    }
}

#[test]
fn a_plan_lists_the_parents_part_and_the_childs_steps_by_number() {
    let maps = IdMaps { uids: vec![IdMap { inside: 0, outside: 9, count: 1 }], ..IdMaps::default() };
    let process = ProcessPlan {
        clone_into_cgroup: true,
        clone_flags: (libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64,
        clone_into_pids: false,
        opens: vec![
            Open::UserNamespace { slot: Slot(12), maps },
            Open::Tree {
                slot: Slot(13),
                path: "/x".into(),
                recursive: true,
                idmap: Some(Slot(12)),
                idmap_recursive: false,
            },
        ],
        child: vec![Step::Undumpable, Step::Exec],
        exec: Exec {
            candidates: vec![],
            argv: CStrArray::new(vec![], 0),
            envp: CStrArray::new(vec![], 0),
            home_of: None,
        },
        maps: None,
        joined_maps: None,
        parent: ParentSettings::default(),
        slots: 14,
    };
    let cgroup = CgroupPlan {
        place: Place::Own("c1".into()),
        limits: Limits::default(),
        devices: None,
        owner: None,
        tolerant: false,
        may_lack: false,
    };
    let (facts, warnings) = (ContainerFacts::default(), vec!["mind the gap".into()]);
    let plan = Plan { process, cgroup, facts, joined: 0, warnings };
    let text = "\u{20} p1  make id map: uids 0:9:1, gids \n  p2  clone tree \"/x\", id-mapped\n  p3  clone with new namespaces: pid, mount\n   1  make the process undumpable\n   2  exec\n   !  mind the gap\n";
    assert_eq!(plan.to_string(), text);
}

#[test]
fn a_refused_mount_comes_with_what_may_help() {
    let target =
        |no_symlinks, proc| Target { path: c"/t".into(), kind: TargetKind::Directory, no_symlinks, proc };
    let fs = |fstype: &CStr, no_symlinks| {
        Step::Mount(NewFs {
            fstype: fstype.into(),
            source: c"none".into(),
            options: vec![],
            data: c"".into(),
            flags: 0,
            classic: false,
            attr: MountAttr::default(),
            target: target(no_symlinks, ProcGuard::NotOnProcfs),
            copy_up: None,
            inherit_mode: false,
            label: None,
            or_bind: None,
        })
    };
    let bind = |source, clear| Step::Bind {
        source,
        recursive: false,
        attr: MountAttr { clear, ..MountAttr::default() },
        target: target(false, ProcGuard::NotOnProcfs),
    };
    let path = || Source::Path(c"/x".into());
    let mapped = Source::InsideMapped { path: c"/x".into(), userns: Slot(12), recursive: false };
    let copied = || match fs(c"tmpfs", false) {
        Step::Mount(fs) => {
            Step::Mount(NewFs { copy_up: Some(CopyUp { uid: true, gid: true, mode: true }), ..fs })
        }
        other => other,
    };
    let node = Step::Node {
        name: c"null".into(),
        mode: 0,
        major: 1,
        minor: 3,
        uid: 0,
        gid: 0,
        shown: c"/dev/null".into(),
    };
    for (step, errno, part) in [
        (copied(), libc::ENOSPC, Some("raise its size")),
        (copied(), libc::ELOOP, Some("at most 64 deep")),
        (fs(c"tmpfs", false), libc::ENOSPC, Some("mount-max")),
        (node, libc::EEXIST, Some("a different file exists")),
        (fs(c"proc", true), libc::ELOOP, Some("must be mounted on ordinary directory")),
        (fs(c"proc", true), libc::EPERM, Some("pid namespace")),
        (fs(c"sysfs", true), libc::EPERM, Some("network namespace")),
        (fs(c"ext4", false), libc::EPERM, Some("user namespace may not")),
        (fs(c"nofs", false), libc::ENODEV, Some("kernel does not support")),
        (fs(c"tmpfs", false), libc::EXDEV, Some("leads into /proc")),
        (bind(path(), 0), libc::ENOENT, Some("source does not exist")),
        (bind(path(), 1), libc::EPERM, Some("cannot be cleared")),
        (bind(path(), 0), libc::EPERM, None),
        (bind(mapped, 0), libc::EINVAL, Some("does not support id-mapped")),
        (Step::Unshare { flags: 0 }, libc::ENOSPC, Some("max_*_namespaces")),
        (Step::Exec, libc::ENOENT, None),
    ] {
        match (hint(&step, errno), part) {
            (Some(hint), Some(part)) => assert!(hint.contains(part), "{hint}"),
            (hint, part) => assert_eq!(hint, part, "{step:?}"),
        }
    }
}
