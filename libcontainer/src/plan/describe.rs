//! A plan as text: one line for each step, the numbered list of all steps, and hints for steps that fail. `knarr plan`, golden tests
//! and errors use the same text.
//!
//! It only reads steps; it decides nothing.

use super::options;
use super::step::{FsOption, Gate, MountAttr, NewFs, ProcGuard, Source, Step};
use super::{ExecPlan, Open, Plan, ProcessPlan};
use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt;

/// CLONE_NEW* with the names of config.json.
const NAMESPACES: &[(i32, &str)] = &[
    (libc::CLONE_NEWUSER, "user"),
    (libc::CLONE_NEWCGROUP, "cgroup"),
    (libc::CLONE_NEWIPC, "ipc"),
    (libc::CLONE_NEWUTS, "uts"),
    (libc::CLONE_NEWNET, "network"),
    (libc::CLONE_NEWPID, "pid"),
    (libc::CLONE_NEWNS, "mount"),
    (0x80, "time"),
];

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_warnings(f, &self.process, &self.warnings)
    }
}

impl fmt::Display for ExecPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_warnings(f, &self.process, &self.warnings)
    }
}

fn with_warnings(f: &mut fmt::Formatter<'_>, process: &ProcessPlan, warnings: &[String]) -> fmt::Result {
    write!(f, "{process}")?;
    warnings.iter().try_for_each(|warning| writeln!(f, "   !  {warning}"))
}

impl fmt::Display for ProcessPlan {
    /// What the parent opens and clones as `p1`, `p2`, …, then the child's steps by the numbers that errors give.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parent: Vec<String> = self.opens.iter().map(open).collect();
        parent.push(match namespaces(self.clone_flags) {
            none if none.is_empty() => "clone".to_owned(),
            names => format!("clone with new namespaces: {names}"),
        });
        if self.clone_into_pids
            && let Some(clone) = parent.last_mut()
        {
            clone.push_str(" into the container's pid namespace");
        }
        parent.extend(
            self.parent.oom_score_adj.iter().map(|score| format!("set its oom_score_adj {}", text(score))),
        );
        for (i, line) in (1..).zip(&parent) {
            writeln!(f, "{:>4}  {line}", format!("p{i}"))?;
        }
        for (i, step) in (1..).zip(&self.child) {
            writeln!(f, "{i:>4}  {}", step.describe())?;
        }
        Ok(())
    }
}

fn open(open: &Open) -> String {
    match open {
        Open::Namespace { path, flag, foreign, .. } => {
            let condition = if *foreign { ", if it is not the caller's own" } else { "" };
            format!("open {} namespace {path:?}{condition}", namespaces(*flag))
        }
        Open::TargetRoot => "open the root of the container's process".to_owned(),
        Open::Tree { path, recursive, idmap, .. } => format!(
            "clone {} {path:?}{}",
            if *recursive { "tree" } else { "mount" },
            if idmap.is_some() { ", id-mapped" } else { "" }
        ),
        Open::Overlay { overlay, .. } => format!("make {overlay:?}"),
        Open::UserNamespace { maps, .. } => {
            let range = |kind: &str, maps: &[super::IdMap]| {
                let list: Vec<_> =
                    maps.iter().map(|m| format!("{}:{}:{}", m.inside, m.outside, m.count)).collect();
                format!("{kind} {}", list.join(","))
            };
            format!("make id map: {}, {}", range("uids", &maps.uids), range("gids", &maps.gids))
        }
    }
}

fn namespaces(flags: u64) -> String {
    let names: Vec<_> = NAMESPACES
        .iter()
        .filter(|(flag, _)| u64::from(flag.cast_unsigned()) & flags != 0)
        .map(|(_, name)| *name)
        .collect();
    names.join(", ")
}

impl Step {
    /// What the step does, on what: one line of the plan.
    pub(crate) fn describe(&self) -> String {
        match self {
            // Namespaces, and what is set in them.
            Step::Wait(gate) => format!("wait at gate: {}", of_gate(*gate)),
            Step::BecomeRoot { drop_groups: true } => {
                "become root of the user namespace, no groups".to_owned()
            }
            Step::BecomeRoot { drop_groups: false } => "become root of the user namespace".to_owned(),
            Step::Join { name, .. } => format!("join {name} namespace"),
            Step::TryJoin { name, .. } => format!("join {name} namespace, if permitted already"),
            Step::JoinTarget { flags } => format!("join the container's namespaces: {}", namespaces(*flags)),
            Step::Unshare { flags } => format!("unshare {}", namespaces(*flags)),
            Step::TimeNamespace { offsets } => {
                format!("new time namespace: {}", text(offsets).trim_end().replace('\n', ", "))
            }
            Step::Fork { flags } => match namespaces(*flags) {
                none if none.is_empty() => "continue in a child".to_owned(),
                names => format!("continue in a child with new namespaces: {names}"),
            },
            Step::LoopbackUp => "bring lo up".to_owned(),
            Step::Sysctl { file, value } => format!("write sysctl {} = {}", text(file), quoted(value)),
            Step::Hostname(name) => format!("set hostname {}", quoted(name)),
            Step::Domainname(name) => format!("set domainname {}", quoted(name)),

            // The root and its mounts.
            Step::HostPropagation { flags } => {
                format!("make the host's mounts {}", options::propagation_name(*flags))
            }
            Step::Root { path, propagation: flags, .. } => {
                format!("mount root {} on itself ({})", quoted(path), options::propagation_name(*flags))
            }
            Step::Bind { source, recursive, attr, target } => format!(
                "bind {} on {}{}{}",
                of_source(source),
                quoted(&target.path),
                parenthesised(&bind_options(source, *recursive, attr)),
                guard(target.proc)
            ),
            Step::Mount(fs) => mount(fs),
            Step::Remount { target, attr } => {
                format!("remount {}{}", quoted(&target.path), parenthesised(&options::names(attr)))
            }
            Step::OpenDir { path } => format!("open directory {}", quoted(path)),
            Step::Node { mode, major, minor, uid, gid, shown, .. } => {
                node(shown, *mode, (*major, *minor), (*uid, *gid))
            }
            Step::Link { to, shown, replace, .. } => {
                format!(
                    "link {} -> {}{}",
                    quoted(shown),
                    quoted(to),
                    if *replace { " (replacing)" } else { "" }
                )
            }
            Step::Directory { path, mode } => format!("make directory {} {mode:04o}", quoted(path)),
            Step::OpenNull => "open the host's /dev/null".to_owned(),
            Step::PrivateProc => "mount a private proc".to_owned(),
            Step::ReadOnlyPath { path } => format!("make read-only {}", quoted(path)),
            Step::Mask { path } => format!("mask {}", quoted(path)),
            Step::PivotRoot => "pivot_root, detach the host's tree".to_owned(),
            Step::MoveRoot => "move the root over /, chroot".to_owned(),
            Step::OpenRoot { path } => format!("open root {}", quoted(path)),
            Step::Chroot => "chroot".to_owned(),
            Step::RootPropagation { flags } => format!("make / {}", options::propagation_name(*flags)),
            Step::RootReadOnly => "make / read-only".to_owned(),

            // The process.
            Step::OomScoreAdj { value, .. } => format!("set oom_score_adj {}", text(value)),
            Step::Affinity { required: false, .. } => "run on every CPU that the cgroup allows".to_owned(),
            Step::Affinity { mask, .. } => format!("run on CPUs {}", bits(mask)),
            Step::MemoryPolicy { mode, nodes } => {
                format!("set memory policy {mode:#x} for nodes {}", bits(nodes))
            }
            Step::Undumpable => "make the process undumpable".to_owned(),
            Step::NewSession => "start a session".to_owned(),
            Step::Keyring { name, .. } => format!("join session keyring {}", quoted(name)),
            Step::Console { size, mount, .. } => format!(
                "make a terminal{}{}",
                size.map(|(rows, columns)| format!(" {columns}x{rows}")).unwrap_or_default(),
                if *mount { ", bind it on /dev/console" } else { "" }
            ),
            Step::Stdio => "take the terminal as stdin, stdout and stderr".to_owned(),
            Step::OwnNull => "open the container's /dev/null for streams on the caller's".to_owned(),
            Step::Label { what, value, .. } => format!("set {what} label {}", quoted(value)),
            Step::Rlimit(limit) => format!("set {} to {}:{}", limit.name, limit.soft, limit.hard),
            Step::Personality { domain } => format!("set personality {domain:#x}"),
            Step::NoNewPrivileges => "set no_new_privs".to_owned(),
            Step::Seccomp { bpf, listener, .. } => format!(
                "install seccomp filter, {} instructions{}",
                bpf.len(),
                if *listener { ", with a listener" } else { "" }
            ),
            Step::DropBounding { keep } => format!("reduce the bounding set to {keep:#x}"),
            Step::Ids(ids) => match &ids.groups {
                Some(groups) if !groups.is_empty() => {
                    format!("become user {}:{} with groups {groups:?}", ids.uid, ids.gid)
                }
                _ => format!("become user {}:{}", ids.uid, ids.gid),
            },
            Step::Capabilities(sets) => format!(
                "set capabilities effective {:#x} permitted {:#x} inheritable {:#x} ambient {:#x}",
                sets.effective, sets.permitted, sets.inheritable, sets.ambient
            ),
            Step::Umask(mask) => format!("set umask {mask:04o}"),
            Step::TryCwd(path) => format!("change directory to {}, if permitted", quoted(path)),
            Step::Cwd(path) => format!("change directory to {}", quoted(path)),
            Step::FindProgram => "find the program".to_owned(),
            Step::PassDescriptor { .. } => "pass a descriptor".to_owned(),
            Step::CloseFrom(first) => format!("close descriptors {first} and above at exec"),
            Step::Exec => "exec".to_owned(),
        }
    }
}

fn node(path: &CStr, mode: u32, (major, minor): (u32, u32), owner: (u32, u32)) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFBLK => 'b',
        libc::S_IFIFO => 'p',
        _ => 'c',
    };
    let owner = if owner == (0, 0) { String::new() } else { format!(" {}:{}", owner.0, owner.1) };
    format!("make node {} {kind} {major}:{minor} {:04o}{owner}", quoted(path), mode & 0o7777)
}

fn bits(mask: &[u64]) -> String {
    let numbers = (0..mask.len() * 64).filter(|n| mask[n / 64] >> (n % 64) & 1 == 1);
    numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(",")
}

fn of_gate(gate: Gate) -> &'static str {
    match gate {
        Gate::Mapped => "id maps and cgroups",
        Gate::Hooks => "hooks",
        Gate::Start => "start",
        Gate::Settings => "limits and scheduling",
    }
}

fn mount(fs: &NewFs) -> String {
    let own: Vec<_> = fs
        .options
        .iter()
        .map(|option| match option {
            FsOption::Flag(key) => text(key),
            FsOption::Text(key, value) => format!("{}={}", text(key), text(value)).into(),
        })
        .collect();
    let mut list = options::names(&fs.attr);
    list.extend(own.iter().map(Cow::as_ref));
    if fs.classic {
        list.push("by mount(2)");
    }
    if fs.copy_up.is_some() {
        list.push("tmpcopyup");
    }
    let or = fs.or_bind.as_deref().map(|path| format!(", or bind {}", quoted(path))).unwrap_or_default();
    format!("mount {} on {}{}{or}", text(&fs.fstype), quoted(&fs.target.path), parenthesised(&list))
}

fn of_source(source: &Source) -> String {
    match source {
        Source::Path(path) => quoted(path),
        Source::Tree(slot) => format!("prepared mount {}", slot.0),
        Source::Inside(path) | Source::InsideMapped { path, .. } => format!("{} of the root", quoted(path)),
        Source::PathOrTree { path, tree } => format!("{} (or prepared mount {})", quoted(path), tree.0),
    }
}

fn guard(guard: ProcGuard) -> &'static str {
    match guard {
        ProcGuard::SourceIsProcfs => ", if it is a procfs",
        ProcGuard::NotOnProcfs | ProcGuard::Allowed => "",
    }
}

fn bind_options(source: &Source, recursive: bool, attr: &MountAttr) -> Vec<&'static str> {
    let mut list = Vec::new();
    if recursive {
        list.push("rbind");
    }
    if matches!(source, Source::InsideMapped { .. }) {
        list.push("idmap");
    }
    list.extend(options::names(attr));
    list
}

fn parenthesised(list: &[&str]) -> String {
    if list.is_empty() { String::new() } else { format!(" ({})", list.join(",")) }
}

fn text(s: &CStr) -> Cow<'_, str> {
    s.to_string_lossy()
}

/// Quoted, unless it cannot be misread.
fn quoted(value: &CStr) -> String {
    let value = text(value);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%".contains(c);
    if !value.is_empty() && value.chars().all(plain) { value.into_owned() } else { format!("{value:?}") }
}

/// What a failed step was doing. `arg` is the detail in the child's frame. The text about capabilities is runc's.
pub(crate) fn failure(step: &Step, call: &str, arg: i32) -> String {
    match step {
        Step::Capabilities(_) if call == "prctl(PR_CAP_AMBIENT)" => {
            let name = u32::try_from(arg)
                .map(|n| super::caps::names_of(1u64.checked_shl(n).unwrap_or(0)))
                .unwrap_or_default();
            format!("can't raise ambient capability {name}")
        }
        Step::Bind { .. } | Step::Mount(_) | Step::Remount { .. } => {
            format!("error mounting: {}", step.describe())
        }
        _ => step.describe(),
    }
}

/// How this error of this step can be mended.
pub(crate) fn hint(step: &Step, errno: i32) -> Option<&'static str> {
    match (step, errno) {
        (Step::Rlimit(_), libc::EPERM) => Some("raising a hard limit needs CAP_SYS_RESOURCE"),
        (Step::Mount(fs), libc::ENOTDIR | libc::ELOOP) if fs.target.no_symlinks => {
            Some("proc and sysfs must be mounted on ordinary directory") // runc's text
        }
        (Step::Mount(fs), libc::EPERM) => of_refused_mount(&fs.fstype),
        (Step::Mount(fs), libc::ENOSPC) if fs.copy_up.is_some() => {
            Some("the tmpfs is smaller than what is copied into it: raise its size")
        }
        (Step::Mount(fs), libc::ELOOP) if fs.copy_up.is_some() => {
            Some("tmpcopyup copies directories at most 64 deep, and no magic links")
        }
        (Step::Node { .. }, libc::EEXIST) => {
            Some("a different file exists at this path: remove it, or mount a tmpfs on its directory")
        }
        (Step::Mount(_), libc::ENODEV) => Some("this kernel does not support the file system"),
        (Step::Mount(_), libc::EINVAL) => {
            Some("an option unknown to the file system, or an id that is not mapped; see dmesg")
        }
        (Step::Bind { target, .. }, libc::EPERM) if target.proc == ProcGuard::SourceIsProcfs => {
            Some("only a procfs may be mounted on /proc")
        }
        (Step::Bind { target, .. } | Step::Mount(NewFs { target, .. }), libc::EXDEV)
            if target.proc == ProcGuard::NotOnProcfs =>
        {
            Some("the destination leads into /proc, which cannot be mounted on")
        }
        (Step::Bind { attr, .. }, libc::EPERM) if attr.clear != 0 => Some(
            "flags locked by the host's mount cannot be cleared in a user namespace; leave out the option, or change the host's mount",
        ),
        (Step::Bind { source: Source::InsideMapped { .. }, .. }, libc::EINVAL) => {
            Some("this file system does not support id-mapped mounts")
        }
        (Step::Bind { source: Source::Path(_) | Source::PathOrTree { .. }, .. }, libc::EINVAL) => {
            Some("the source is unbindable, or has mounts below it, which require rbind in a user namespace")
        }
        (Step::Bind { .. }, libc::ENOENT) => Some("the source does not exist on the host"),
        (Step::Bind { .. } | Step::Mount(_) | Step::OpenDir { .. }, libc::EROFS) => {
            Some("the mount point does not exist on a read-only file system: create it first")
        }
        (Step::Bind { .. } | Step::Mount(_), libc::ENOTDIR) => {
            Some("source and target must both be directories or both be files")
        }
        (Step::Bind { .. } | Step::Mount(_) | Step::Root { .. }, libc::ENOSPC) => {
            Some("too many mounts: raise /proc/sys/fs/mount-max")
        }
        (Step::Root { .. }, libc::ENOENT) => Some("root.path does not exist"),
        (Step::Root { .. }, libc::EACCES) => Some(
            "the root user of the user namespace cannot search a directory above root.path: make it searchable (chmod o+x)",
        ),
        (
            Step::Unshare { .. } | Step::Fork { .. } | Step::TimeNamespace { .. },
            libc::ENOSPC | libc::EUSERS,
        ) => Some("too many namespaces: see /proc/sys/user/max_*_namespaces"),
        (Step::Ids(_), libc::EINVAL) => Some("the id is not mapped in the user namespace of the container"),
        (Step::Bind { source: Source::InsideMapped { .. }, .. }, libc::ENOSYS) => {
            Some("id-mapped mounts need Linux 5.12")
        }
        (Step::Bind { attr, .. } | Step::Remount { attr, .. }, libc::ENOSYS)
            if attr.rec_set | attr.rec_clear != 0 =>
        {
            Some("options for all mounts below (rro, rnosuid, …) need Linux 5.12")
        }
        (_, libc::ENOSYS) => Some("needs Linux 5.4, or a seccomp filter of the caller denies the call"),
        (Step::PivotRoot, libc::EINVAL) => Some("the host's root is a ramfs: use --no-pivot"),
        _ => None,
    }
}

fn of_refused_mount(fstype: &CStr) -> Option<&'static str> {
    match fstype.to_bytes() {
        b"proc" => Some(
            "in a user namespace proc needs a new pid namespace, and the caller's /proc must not be masked",
        ),
        b"sysfs" => Some(
            "in a user namespace sysfs needs a new network namespace, and the caller's /sys must not be masked",
        ),
        b"mqueue" => Some("in a user namespace mqueue needs a new ipc namespace"),
        _ => Some("a user namespace may not mount this file system"),
    }
}

#[cfg(test)]
mod tests;
