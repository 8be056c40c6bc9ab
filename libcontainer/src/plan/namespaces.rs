//! Which namespaces are made and which are joined, in which order, and whether one clone is enough.
//!
//! A new namespace belongs to the user namespace of the process that makes it, and setns(2) needs rights over the user namespace that
//! owns the target: hence the order. It does not depend on what happens inside the namespaces.

use super::step::{Slot, Step};
use super::{Draft, NamespaceFacts, Open};
use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use std::path::PathBuf;

pub(crate) const CGROUP: u64 = 0x0200_0000;
pub(crate) const IPC: u64 = 0x0800_0000;
pub(crate) const MOUNT: u64 = 0x0002_0000;
pub(crate) const NET: u64 = 0x4000_0000;
pub(crate) const PID: u64 = 0x2000_0000;
pub(crate) const TIME: u64 = 0x0000_0080;
pub(crate) const USER: u64 = 0x1000_0000;
pub(crate) const UTS: u64 = 0x0400_0000;

/// All kinds, in the order in which they are joined, with their names in /proc/PID/ns.
pub(crate) const KINDS: [(u64, &str); 8] = [
    (USER, "user"),
    (IPC, "ipc"),
    (UTS, "uts"),
    (NET, "net"),
    (PID, "pid"),
    (MOUNT, "mnt"),
    (CGROUP, "cgroup"),
    (TIME, "time"),
];

/// The namespaces of a container, from `linux.namespaces`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) facts: NamespaceFacts,
    /// (flag, path) of those that are joined, in the order of `KINDS`.
    pub(crate) paths: Vec<(u64, PathBuf)>,
}

/// How the process gets from the caller's namespaces into the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    /// Made by the parent's clone3.
    clone: u64,
    /// Joined with the caller's rights; when a user namespace is joined too, those that fail are tried again after it.
    joins: u64,
    /// A user namespace is joined after `joins`, and after it those of `joins` that were refused before.
    join_user: bool,
    make: Make,
}

/// How to make the namespaces that have to wait for the joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    None,
    Unshare(u64),
    Fork(u64),
}

/// Reads `linux.namespaces`; each kind may occur once, and a path must be absolute.
pub(crate) fn read(list: &[LinuxNamespace]) -> Result<Namespaces> {
    let mut namespaces = Namespaces::default();
    for (i, namespace) in list.iter().enumerate() {
        let flag = flag_of(namespace.typ());
        if namespaces.facts.own(flag) {
            return Err(Error::invalid(format!(
                "linux.namespaces[{i}].type: malformed spec file: duplicated ns \"{}\"",
                name_of(flag)
            )));
        }
        match namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            None => namespaces.facts.new |= flag,
            Some(path) if !path.is_absolute() => {
                return Err(Error::invalid(format!("linux.namespaces[{i}].path: {path:?} is not absolute")));
            }
            Some(path) => {
                namespaces.facts.joined |= flag;
                namespaces.paths.push((flag, path.clone()));
            }
        }
    }
    namespaces.paths.sort_by_key(|(flag, _)| KINDS.iter().position(|(f, _)| f == flag));
    Ok(namespaces)
}

/// Appends the joins and the new namespaces that the clone cannot make. Returns the flags of the parent's clone3. The new ones of
/// `after_all` are left to the caller, which has to do something before. The `changed` ones must not be the host's.
pub(crate) fn append(namespaces: &Namespaces, changed: u64, draft: &mut Draft) -> u64 {
    let route = route(namespaces.facts);
    let slots: Vec<(u64, Slot)> = namespaces
        .paths
        .iter()
        .map(|(flag, path)| {
            let slot = draft.slot();
            let foreign = changed & flag != 0;
            draft.opens.push(Open::Namespace { slot, path: path.clone(), flag: *flag, foreign });
            (*flag, slot)
        })
        .collect();
    let of = |flags: u64| slots.iter().filter(move |(flag, _)| flags & flag != 0);
    if route.join_user {
        for (flag, ns) in of(route.joins) {
            draft.push(Step::TryJoin { ns: *ns, flag: *flag, name: name_of(*flag) });
        }
        for (flag, ns) in of(USER) {
            draft.push(Step::Join { ns: *ns, flag: *flag, name: name_of(*flag) });
        }
    }
    for (flag, ns) in of(route.joins) {
        draft.push(Step::Join { ns: *ns, flag: *flag, name: name_of(*flag) });
    }
    match route.make {
        Make::None => {}
        Make::Unshare(flags) => draft.push(Step::Unshare { flags }),
        Make::Fork(flags) => draft.push(Step::Fork { flags }),
    }
    route.clone
}

/// The new namespaces that the process makes when it has all others and is their root: a cgroup namespace begins at the cgroup of the
/// process that makes it, clocks are set first, and the queues of an ipc namespace (the root of mqueue) belong to that process's user.
pub(crate) fn after_all(facts: NamespaceFacts) -> u64 {
    facts.new & if facts.own(USER) { CGROUP | TIME | IPC } else { CGROUP | TIME }
}

/// The order. Without joins one clone3 makes everything, the user namespace first by the kernel's own rule. With joins, a user
/// namespace, new or joined, has to wait for them, and the other new namespaces for it, so that it owns them.
fn route(facts: NamespaceFacts) -> Route {
    let new = facts.new & !after_all(facts);
    let joins = facts.joined & !USER;
    let join_user = facts.joined & USER != 0;
    let late = if join_user || (joins != 0 && new & USER != 0) { new } else { 0 };
    let make = if (late | joins) & PID != 0 {
        Make::Fork(late)
    } else if late != 0 {
        Make::Unshare(late)
    } else {
        Make::None
    };
    Route { clone: new & !late, joins, join_user, make }
}

fn flag_of(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => MOUNT,
        LinuxNamespaceType::Cgroup => CGROUP,
        LinuxNamespaceType::Uts => UTS,
        LinuxNamespaceType::Ipc => IPC,
        LinuxNamespaceType::User => USER,
        LinuxNamespaceType::Pid => PID,
        LinuxNamespaceType::Network => NET,
        LinuxNamespaceType::Time => TIME,
    }
}

/// The name of a kind of namespace, as in /proc/PID/ns.
pub(crate) fn name_of(flag: u64) -> &'static str {
    KINDS.iter().find(|(f, _)| *f == flag).map_or("unknown", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind absent, new or joined: 3^8 sets.
    fn every_set() -> impl Iterator<Item = NamespaceFacts> {
        (0..3u32.pow(8)).map(|code| {
            let mut facts = NamespaceFacts::default();
            for (i, (flag, _)) in (0u32..).zip(KINDS) {
                match code / 3u32.pow(i) % 3 {
                    1 => facts.new |= flag,
                    2 => facts.joined |= flag,
                    _ => {}
                }
            }
            facts
        })
    }

    fn steps(facts: NamespaceFacts) -> (u64, Vec<Step>) {
        let paths = KINDS
            .iter()
            .filter(|(f, _)| facts.joined & f != 0)
            .map(|(f, n)| (*f, PathBuf::from(format!("/ns/{n}"))));
        let mut draft = Draft::new();
        let clone = append(&Namespaces { facts, paths: paths.collect() }, 0, &mut draft);
        (clone, draft.child)
    }

    #[test]
    fn every_namespace_is_made_once_or_joined_once() {
        for facts in every_set() {
            let (clone, steps) = steps(facts);
            let (mut made, mut joined) = (clone, 0);
            for step in &steps {
                match step {
                    Step::Join { flag, .. } => {
                        assert_eq!(joined & flag, 0, "{facts:?} {steps:?}");
                        joined |= flag;
                    }
                    Step::Unshare { flags } | Step::Fork { flags } => {
                        assert_eq!(made & flags, 0, "{facts:?} {steps:?}");
                        made |= flags;
                    }
                    Step::TryJoin { flag, .. } => assert_ne!(facts.joined & flag & !USER, 0),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(made | after_all(facts), facts.new, "{facts:?} {steps:?}");
            assert_eq!(made & after_all(facts), 0, "{facts:?} {steps:?}");
            assert_eq!(joined, facts.joined, "{facts:?} {steps:?}");
        }
    }

    #[test]
    fn new_namespaces_belong_to_the_containers_user_namespace() {
        for facts in every_set().filter(|f| f.own(USER)) {
            let (clone, steps) = steps(facts);
            let mut in_user = clone & USER != 0;
            assert!(in_user || clone == 0, "{facts:?}");
            for step in &steps {
                match step {
                    Step::Join { flag: USER, .. } => in_user = true,
                    Step::Unshare { flags } | Step::Fork { flags } if *flags != 0 => {
                        in_user |= flags & USER != 0;
                        assert!(in_user, "{facts:?} {steps:?}");
                    }
                    _ => {}
                }
            }
            assert!(in_user);
        }
    }

    #[test]
    fn a_join_is_tried_while_the_callers_rights_are_still_there() {
        for facts in every_set() {
            let (clone, steps) = steps(facts);
            let mut kept = clone & USER == 0;
            let mut tried = 0;
            for step in &steps {
                match step {
                    Step::Join { flag: USER, .. } => kept = false,
                    Step::TryJoin { flag, .. } => tried |= flag,
                    Step::Join { flag, .. } => assert!(kept || tried & flag != 0, "{facts:?} {steps:?}"),
                    Step::Unshare { flags } | Step::Fork { flags } if flags & USER != 0 => kept = false,
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn the_process_ends_up_in_its_pid_namespace_and_forks_only_for_that() {
        for facts in every_set() {
            let (clone, steps) = steps(facts);
            let forks = steps.iter().filter(|s| matches!(s, Step::Fork { .. })).count();
            let needed = facts.joined & PID != 0 || (facts.new & PID != 0 && clone & PID == 0);
            assert_eq!(forks, usize::from(needed), "{facts:?} {steps:?}");
            if facts.joined == 0 {
                assert!(steps.is_empty(), "{facts:?}: one clone is enough");
            }
        }
    }

    #[test]
    fn cgroup_and_time_namespaces_and_ipc_in_a_user_namespace_are_never_made_by_the_clone() {
        assert!(every_set().all(|facts| steps(facts).0 & (CGROUP | TIME) == 0));
        assert!(every_set().filter(|facts| facts.own(USER)).all(|facts| steps(facts).0 & IPC == 0));
    }

    #[test]
    fn a_kind_of_namespace_may_be_listed_once_and_its_path_is_absolute() {
        let parse = |json: &str| read(&serde_json::from_str::<Vec<LinuxNamespace>>(json).unwrap());
        let e = parse(r#"[{"type":"pid"},{"type":"pid","path":"/x"}]"#).unwrap_err();
        assert!(e.to_string().starts_with("linux.namespaces[1].type: "), "{e}");
        let e = parse(r#"[{"type":"pid"},{"type":"network","path":"run/x"}]"#).unwrap_err();
        assert!(e.to_string().starts_with("linux.namespaces[1].path: "), "{e}");
        let ok =
            parse(r#"[{"type":"mount","path":"/m"},{"type":"user","path":"/u"},{"type":"uts","path":""}]"#)
                .unwrap();
        assert_eq!(ok.facts, NamespaceFacts { new: UTS, joined: MOUNT | USER });
        assert_eq!(ok.paths, [(USER, PathBuf::from("/u")), (MOUNT, PathBuf::from("/m"))]);
    }
}
