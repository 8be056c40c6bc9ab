//! Tables of config.json's mounts and the steps that they become. The tests of other modules use the samples, too.

use super::*;
use crate::host::{CgroupHost, Host, V1Hierarchy};
use crate::plan::PlanOptions;
use oci_spec::runtime::Spec;

pub(crate) const NEWNS: u64 = libc::CLONE_NEWNS as u64;
pub(crate) const PLAIN: NamespaceFacts =
    NamespaceFacts { new: NEWNS | libc::CLONE_NEWCGROUP as u64, joined: 0 };
pub(crate) const USER: NamespaceFacts = NamespaceFacts { new: PLAIN.new | NEWUSER, joined: 0 };

pub(crate) fn host() -> Host {
    Host {
        kernel: (6, 18),
        euid: 0,
        egid: 0,
        in_user_namespace: false,
        cgroup: CgroupHost::V2 { mount: "/sys/fs/cgroup".into() },
        apparmor: false,
        selinux: false,
        traces: true,
        last_cap: 40,
        bounding: u64::MAX,
        kcore: true,
    }
}

pub(crate) fn rootless() -> Host {
    Host { euid: 1000, egid: 1000, in_user_namespace: true, ..host() }
}

pub(crate) fn hybrid() -> Host {
    let hierarchy = |mount: &str, controllers: &[&str]| V1Hierarchy {
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        mount: Path::new("/sys/fs/cgroup").join(mount),
        own: "/own".into(),
    };
    let hierarchies = vec![
        hierarchy("cpu,cpuacct", &["cpu", "cpuacct"]),
        hierarchy("memory", &["memory"]),
        hierarchy("systemd", &["name=systemd"]),
    ];
    Host { cgroup: CgroupHost::V1 { hierarchies, unified: Some("/sys/fs/cgroup/unified".into()) }, ..host() }
}

/// A specification with this root, these mounts and this `linux`, in JSON.
pub(crate) fn spec(mounts: &str, linux: &str) -> Spec {
    let text = format!(
        r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},"mounts":[{mounts}],"linux":{{{linux}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn draft_of(
    spec: &Spec,
    host: &Host,
    append: impl FnOnce(&Inputs<'_>, &Mounts<'_>, &mut Draft) -> Result<()>,
) -> std::result::Result<Draft, String> {
    let options = PlanOptions::default();
    let inputs = Inputs {
        id: "c1",
        spec,
        host,
        bundle: Path::new("/b"),
        options: &options,
        overlay: None,
        filter: None,
    };
    let mut draft = Draft::new();
    Mounts::read(&inputs)
        .and_then(|mounts| append(&inputs, &mounts, &mut draft))
        .map_err(|e| e.to_string())?;
    Ok(draft)
}

pub(crate) fn words(draft: &Draft) -> Vec<String> {
    draft.child.iter().map(Step::describe).collect()
}

fn planned(mounts: &str, linux: &str, host: &Host, ns: NamespaceFacts) -> std::result::Result<Draft, String> {
    draft_of(&spec(mounts, linux), host, |inputs, mounts, draft| {
        mounts.append(inputs, ns, &Place::Root("c/c1".into()), draft)
    })
}

/// The descriptions of the steps after the root's.
fn lines(mounts: &str, host: &Host, ns: NamespaceFacts) -> Vec<String> {
    words(&planned(mounts, "", host, ns).unwrap()).split_off(2)
}

fn one(mount: &str) -> String {
    lines(mount, &host(), PLAIN).join("; ")
}

fn error(mount: &str, host: &Host, ns: NamespaceFacts) -> String {
    planned(mount, "", host, ns).unwrap_err()
}

#[test]
fn the_mounts_of_runc_spec_become_these_steps() {
    let mounts = r#"
        {"destination":"/proc","type":"proc","source":"proc"},
        {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]},
        {"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},
        {"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777","size=65536k"]},
        {"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]},
        {"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},
        {"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","noexec","nodev","relatime","ro"]}"#;
    let draft = planned(mounts, "", &host(), PLAIN).unwrap();
    assert_eq!(
        words(&draft),
        [
            "make the host's mounts rslave",
            "mount root /b/rootfs on itself (private)",
            "mount proc on /proc",
            "mount tmpfs on /dev (nosuid,strictatime,mode=755,size=65536k)",
            "mount devpts on /dev/pts (nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5)",
            "mount tmpfs on /dev/shm (nosuid,nodev,noexec,mode=1777,size=65536k)",
            "mount mqueue on /dev/mqueue (nosuid,nodev,noexec)",
            "mount sysfs on /sys (ro,nosuid,nodev,noexec)",
            "mount cgroup2 on /sys/fs/cgroup (ro,nosuid,nodev,noexec), or bind /sys/fs/cgroup/c/c1",
        ]
    );
    assert!(draft.opens.is_empty() && draft.warnings.is_empty());
    for step in &draft.child {
        if let Step::Mount(fs) = step {
            assert_eq!(
                fs.target.no_symlinks,
                fs.target.path == *c"/proc" || fs.target.path == *c"/sys",
                "{fs:?}"
            );
            assert!(!fs.inherit_mode && fs.copy_up.is_none() && !fs.classic, "{fs:?}");
        }
    }
}

#[test]
fn binds_come_from_the_bundle_the_host_or_the_root() {
    for (mount, line) in [
        (r#"{"destination":"/a","source":"x","options":["bind"]}"#, "bind /b/x on /a"),
        (r#"{"destination":"/a","source":"/x","type":"bind"}"#, "bind /x on /a"),
        (
            r#"{"destination":"/a","source":"/x","options":["rbind","ro","rprivate"]}"#,
            "bind /x on /a (rbind,ro,rprivate)",
        ),
        (r#"{"destination":"/a","source":"/x","options":["bind","rw"]}"#, "bind /x on /a (rw)"),
        (
            r#"{"destination":"/a","source":"/x","options":["rbind","rro","rslave","rshared"]}"#,
            "bind /x on /a (rbind,rro,rslave,rshared)",
        ),
        (r#"{"destination":"/a","source":"rootfs/x/../y","options":["bind"]}"#, "bind /y of the root on /a"),
        // the root's own path on the host is not a place inside it
        (r#"{"destination":"/b/rootfs/a","source":"/x","options":["bind"]}"#, "bind /x on /a"),
        (r#"{"destination":"a/../c//d/.","source":"/x","options":["bind"]}"#, "bind /x on /c/d"),
        (
            r#"{"destination":"/proc","source":"/proc","options":["rbind"]}"#,
            "bind /proc on /proc (rbind), if it is a procfs",
        ),
        (r#"{"destination":"/proc/uptime","source":"/x","options":["bind"]}"#, "bind /x on /proc/uptime"),
        (r#"{"destination":"/a b","source":"/x","options":["bind"]}"#, r#"bind /x on "/a b""#),
    ] {
        assert_eq!(one(mount), line, "{mount}");
    }
    let relative =
        planned(r#"{"destination":"a","source":"/x","options":["bind"]}"#, "", &host(), PLAIN).unwrap();
    assert_eq!(relative.warnings, [r#"mounts[0].destination: "a" is relative: using "/a""#]);
    let sync = planned(r#"{"destination":"/a","source":"/x","options":["bind","sync"]}"#, "", &host(), PLAIN)
        .unwrap();
    assert_eq!(sync.warnings, [r#"mounts[0].options: "sync" has no effect on a bind mount"#]);
}

#[test]
fn other_file_systems_are_mounted_as_they_are_named() {
    for (mount, line) in [
        (
            r#"{"destination":"/o","type":"overlay","source":"overlay","options":["ro","lowerdir=/l1:/l2"]}"#,
            "mount overlay on /o (ro,ro,lowerdir=/l1:/l2)",
        ),
        (r#"{"destination":"/t","type":"tmpfs","options":["tmpcopyup"]}"#, "mount tmpfs on /t (tmpcopyup)"),
        (
            r#"{"destination":"/e","type":"ext4","source":"/dev/x","options":["iversion"]}"#,
            "mount ext4 on /e (by mount(2))",
        ),
        (
            r#"{"destination":"/e","type":"ext4","source":"/dev/x","options":["sync"]}"#,
            "mount ext4 on /e (sync)",
        ),
        (r#"{"destination":"/c","type":"cgroup2"}"#, "mount cgroup2 on /c"),
        (r#"{"destination":"/a","type":"none","options":["remount","ro"]}"#, "remount /a (ro)"),
        (r#"{"destination":"/p","type":"proc"}"#, "mount proc on /p"),
    ] {
        assert_eq!(one(mount), line, "{mount}");
    }
}

#[test]
fn a_tmpfs_without_a_mode_takes_that_of_its_mount_point() {
    for (options, inherits) in [("[]", true), (r#"["mode=755"]"#, false), (r#"["size=1k,mode=0700"]"#, false)]
    {
        let mount = format!(r#"{{"destination":"/t","type":"tmpfs","options":{options}}}"#);
        let draft = planned(&mount, "", &host(), PLAIN).unwrap();
        let Some(Step::Mount(fs)) = draft.child.last() else { panic!("{draft:?}") };
        assert_eq!(fs.inherit_mode, inherits, "{options}");
    }
}

#[test]
fn what_must_stay_writable_for_a_while_becomes_read_only_later() {
    let mounts = r#"
        {"destination":"/t","type":"tmpfs","source":"tmpfs","options":["ro","nosuid"]},
        {"destination":"/dev","type":"devtmpfs","options":["ro"]},
        {"destination":"/sys","type":"sysfs","options":["ro"]}"#;
    assert_eq!(
        lines(mounts, &host(), PLAIN),
        ["mount tmpfs on /t (nosuid)", "mount devtmpfs on /dev", "mount sysfs on /sys (ro)"]
    );
    let spec = spec(mounts, "");
    let later = draft_of(&spec, &host(), |_, mounts, draft| {
        draft.child.extend(mounts.read_only_later()?);
        Ok(())
    });
    assert_eq!(words(&later.unwrap()), ["remount /t (ro)", "remount /dev (ro)"]);
}

#[test]
fn in_a_user_namespace_the_parent_prepares_a_mount_of_each_source() {
    let mount = r#"{"destination":"/a","source":"/x","options":["rbind","shared"]}"#;
    let draft = planned(mount, "", &host(), USER).unwrap();
    assert_eq!(words(&draft)[2], "bind /x (or prepared mount 12) on /a (rbind,rslave,shared)");
    assert_eq!(
        draft.opens,
        [Open::Tree {
            slot: Slot(12),
            path: "/x".into(),
            recursive: true,
            idmap: None,
            idmap_recursive: false
        }]
    );
    // The parent of a rootless container can reach no more than its child; a source in the root is opened by the child.
    assert!(planned(mount, "", &rootless(), USER).unwrap().opens.is_empty());
    let inside = r#"{"destination":"/a","source":"rootfs/x","options":["rbind"]}"#;
    assert!(planned(inside, "", &host(), USER).unwrap().opens.is_empty());
}

#[test]
fn id_mapped_mounts_share_a_user_namespace_when_their_maps_are_equal() {
    let map = r#""uidMappings":[{"containerID":0,"hostID":1000,"size":10}],"gidMappings":[{"containerID":0,"hostID":2000,"size":10}]"#;
    let mounts = format!(
        r#"{{"destination":"/a","source":"/x","options":["bind"],{map}}},
           {{"destination":"/b","source":"rootfs/x","options":["rbind","ridmap"],{map}}}"#
    );
    let draft = planned(&mounts, "", &host(), PLAIN).unwrap();
    let range = |outside| vec![IdMap { inside: 0, outside, count: 10 }];
    let maps = IdMaps { uids: range(1000), gids: range(2000), ..IdMaps::default() };
    assert_eq!(
        draft.opens,
        [
            Open::UserNamespace { slot: Slot(12), maps },
            Open::Tree {
                slot: Slot(13),
                path: "/x".into(),
                recursive: false,
                idmap: Some(Slot(12)),
                idmap_recursive: false
            },
        ]
    );
    assert_eq!(
        words(&draft)[2..],
        [
            "bind prepared mount 13 on /a (rslave)".to_owned(),
            "bind /x of the root on /b (rbind,idmap)".to_owned(),
        ]
    );
    let Step::Bind { source: Source::InsideMapped { userns, recursive, .. }, .. } = &draft.child[3] else {
        panic!("{draft:?}")
    };
    assert_eq!((*userns, *recursive), (Slot(12), true));
}

#[test]
fn an_id_mapped_mount_without_maps_takes_those_of_the_container() {
    let mount = r#"{"destination":"/a","source":"/x","options":["bind","idmap"]}"#;
    let maps = r#""uidMappings":[{"containerID":0,"hostID":5,"size":1}],"gidMappings":[{"containerID":0,"hostID":6,"size":1}]"#;
    let draft = planned(mount, maps, &host(), USER).unwrap();
    let Open::UserNamespace { maps, .. } = &draft.opens[0] else { panic!("{draft:?}") };
    assert_eq!((maps.uids[0].outside, maps.gids[0].outside), (5, 6));

    let joined = NamespaceFacts { new: PLAIN.new, joined: NEWUSER };
    let linux = r#""namespaces":[{"type":"user","path":"/proc/7/ns/user"}]"#;
    let draft = planned(mount, linux, &host(), joined).unwrap();
    assert_eq!(
        draft.opens[0],
        Open::Namespace { slot: Slot(12), path: "/proc/7/ns/user".into(), flag: NEWUSER, foreign: false }
    );
}

#[test]
fn rootfs_propagation_applies_to_the_hosts_tree() {
    for (value, line) in [
        ("", "make the host's mounts rslave"),
        ("rprivate", "make the host's mounts rprivate"),
        ("shared", "make the host's mounts shared"),
        ("runbindable", "make the host's mounts runbindable"),
    ] {
        let linux = format!(r#""rootfsPropagation":"{value}""#);
        assert_eq!(words(&planned("", &linux, &host(), PLAIN).unwrap())[0], line);
    }
    // A shared tree of the parent stays what it is, unless the container is in another user namespace.
    let mapped = r#"{"destination":"/a","source":"/x","options":["bind"],"uidMappings":[{"containerID":0,"hostID":1,"size":1}],"gidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#;
    for (ns, line) in
        [(PLAIN, "bind prepared mount 13 on /a"), (USER, "bind prepared mount 13 on /a (rslave)")]
    {
        let draft = planned(mapped, r#""rootfsPropagation":"rshared""#, &host(), ns).unwrap();
        assert_eq!(words(&draft)[2], line);
    }
    let error = planned("", r#""rootfsPropagation":"sideways""#, &host(), PLAIN).unwrap_err();
    assert_eq!(error, r#"linux.rootfsPropagation: unknown value "sideways""#);
}

#[test]
fn a_root_that_is_to_be_a_slave_is_never_private() {
    let propagation = |linux: &str| {
        let draft = planned("", linux, &host(), PLAIN).unwrap();
        let root = draft.child.iter().find_map(|step| match step {
            Step::Root { propagation, .. } => Some(*propagation),
            _ => None,
        });
        root.unwrap()
    };
    for (value, expected) in [
        ("slave", libc::MS_SLAVE),
        ("rslave", libc::MS_SLAVE),
        ("", libc::MS_PRIVATE),
        ("private", libc::MS_PRIVATE),
        ("rshared", libc::MS_PRIVATE),
        ("unbindable", libc::MS_PRIVATE),
    ] {
        assert_eq!(propagation(&format!(r#""rootfsPropagation":"{value}""#)), expected, "{value}");
    }
}

#[test]
fn a_mount_on_the_root_is_planned_like_any_other() {
    let mounts = r#"{"destination":"/","source":"/x","type":"bind","options":["rbind"]},{"destination":"/x/..","type":"tmpfs"}"#;
    assert_eq!(lines(mounts, &host(), PLAIN), ["bind /x on / (rbind)", "mount tmpfs on /"]);
}

#[test]
fn sysfs_without_a_network_namespace_may_be_the_hosts() {
    let sysfs = r#"{"destination":"/sys","type":"sysfs","source":"sysfs","options":["ro"]}"#;
    let with_network = NamespaceFacts { new: USER.new | NEWNET, joined: 0 };
    for (host, ns, line) in [
        (host(), PLAIN, "mount sysfs on /sys (ro)"),
        (host(), USER, "mount sysfs on /sys (ro), or bind /sys"),
        (host(), with_network, "mount sysfs on /sys (ro)"),
        (rootless(), USER, "mount sysfs on /sys (ro), or bind /sys"),
    ] {
        assert_eq!(lines(sysfs, &host, ns), [line]);
    }
}

#[test]
fn an_selinux_label_goes_to_every_file_system_that_takes_one() {
    let mounts = r#"{"destination":"/t","type":"tmpfs"},{"destination":"/proc","type":"proc"},{"destination":"/q","type":"mqueue"}"#;
    let label = r#""mountLabel":"u:r:t:s0:c1,c2""#;
    let selinux = Host { selinux: true, ..host() };
    let draft = planned(mounts, label, &selinux, PLAIN).unwrap();
    assert_eq!(
        words(&draft)[2..],
        ["mount tmpfs on /t (context=u:r:t:s0:c1,c2)", "mount proc on /proc", "mount mqueue on /q"]
    );
    let Some(Step::Mount(mqueue)) = draft.child.last() else { panic!("{draft:?}") };
    assert_eq!(mqueue.label.as_deref(), Some(c"u:r:t:s0:c1,c2"));
    assert!(planned(mounts, label, &host(), PLAIN).unwrap_err().starts_with("linux.mountLabel: "));
}

#[test]
fn bad_mounts_are_refused_by_the_name_of_the_field() {
    let mapping = r#""uidMappings":[{"containerID":0,"hostID":1,"size":1}]"#;
    let empty = r#""uidMappings":[{"containerID":0,"hostID":1,"size":0}],"gidMappings":[]"#;
    for (mount, message) in [
        (r#"{"destination":"","type":"tmpfs"}"#.to_owned(), "mounts[0].destination: is empty"),
        (
            r#"{"destination":"/x/..","type":"cgroup"}"#.to_owned(),
            r#"mounts[0].destination: "/x/.." is the root itself"#,
        ),
        (r#"{"destination":"/a"}"#.to_owned(), "mounts[0].type: "),
        (r#"{"destination":"/a","type":"none","options":["ro"]}"#.to_owned(), "mounts[0].type: "),
        (
            r#"{"destination":"/a","options":["bind"]}"#.to_owned(),
            "mounts[0].source: is required for a bind mount",
        ),
        (
            r#"{"destination":"/a","source":"/x","options":["bind","size=1"]}"#.to_owned(),
            r#"mounts[0].options: "size=1": bind mounts cannot have any filesystem-specific options applied"#,
        ),
        (
            r#"{"destination":"/a","type":"tmpfs","options":["remount","size=1"]}"#.to_owned(),
            r#"mounts[0].options: "size=1": a remount"#,
        ),
        (
            r#"{"destination":"/a","type":"tmpfs","options":["remount","sync"]}"#.to_owned(),
            r#"mounts[0].options: "sync": a remount"#,
        ),
        (
            r#"{"destination":"/proc/self","source":"/x","options":["bind"]}"#.to_owned(),
            r#"mounts[0].destination: "/proc/self" cannot be mounted because it is inside /proc"#,
        ),
        (
            r#"{"destination":"/x/../proc","type":"tmpfs"}"#.to_owned(),
            r#"mounts[0].destination: "/proc" cannot be mounted because it is not of type proc"#,
        ),
        (
            r#"{"destination":"/a","type":"proc","options":["tmpcopyup"]}"#.to_owned(),
            "mounts[0].options: tmpcopyup",
        ),
        (
            r#"{"destination":"/a","type":"tmpfs","options":["idmap"]}"#.to_owned(),
            "mounts[0]: id-mapped mounts are only supported for bind-mounts",
        ),
        (
            format!(r#"{{"destination":"/a","source":"/x","options":["bind"],{mapping}}}"#),
            "mounts[0]: id-mapped mounts must have both uid and gid mappings specified",
        ),
        (
            format!(r#"{{"destination":"/a","source":"/x","options":["bind"],{empty}}}"#),
            "mounts[0].uidMappings[0]: invalid range: 0 ids",
        ),
        (
            r#"{"destination":"/a","source":"/x","options":["bind","idmap"]}"#.to_owned(),
            "mounts[0]: id-mapped mounts must have both uid and gid mappings specified",
        ),
        (
            r#"{"destination":"/a\u0000b","type":"tmpfs"}"#.to_owned(),
            "mounts[0].destination: contains a NUL byte",
        ),
        (
            r#"{"destination":"/a","type":"tmpfs","options":["slave","shared","private"]}"#.to_owned(),
            "mounts[0].options: more than two propagation options",
        ),
    ] {
        let error = error(&mount, &host(), PLAIN);
        assert!(error.starts_with(message), "{mount}: {error}");
    }
    let mapped = r#"{"destination":"/a","source":"/x","options":["bind","idmap"]}"#;
    assert_eq!(
        error(mapped, &rootless(), USER),
        "mounts[0]: id-mapped mounts are not supported for rootless containers"
    );
}

#[test]
fn a_second_mount_is_named_by_its_own_number() {
    let mounts = r#"{"destination":"/a","type":"tmpfs"},{"destination":"/b"}"#;
    assert!(error(mounts, &host(), PLAIN).starts_with("mounts[1].type: "));
}
